//! The addresses of upstreams on the page: gauges of one moment and counts of the gateway's present life, by the
//! picture that the gateway leaves. At most `series_max` addresses are on a page; how many are not is a figure of its own.

use std::collections::BTreeMap;

use event::upstreams::{CheckCounts, TargetCondition, TargetState, UpstreamStates};

use super::text::{Kind, Page, label};

/// Figures of one label set.
#[derive(Default)]
struct Figures {
    /// Whether all of it is given requests.
    healthy: bool,
    ejected: bool,
    weight: u64,
    active: u64,
    connections: u64,
    requests: u64,
    failures: u64,
    ejections: u64,
    checks: CheckCounts,
}

impl Figures {
    /// Two rows of one label set, such as services of one name and host, become one.
    fn add(&mut self, state: &TargetState) {
        self.healthy &= state.state.is_served();
        self.ejected |= state.state == TargetCondition::Ejected;
        self.weight += u64::from(state.weight);
        self.active += state.active;
        self.connections += state.connections;
        self.requests += state.requests;
        self.failures += state.failures;
        self.ejections += state.ejections;
        self.checks.success += state.checks.success;
        self.checks.failure += state.checks.failure;
        self.checks.ignored += state.checks.ignored;
    }
}

/// Writes the families of a picture.
pub(super) fn write(page: &mut Page, states: &UpstreamStates, series_max: usize) {
    let mut all: BTreeMap<String, Figures> = BTreeMap::new();
    let mut omitted = states.omitted;
    for state in &states.targets {
        let labels = labels(state);
        if let Some(figures) = all.get_mut(&labels) {
            figures.add(state);
        } else if all.len() < series_max {
            let mut figures = Figures { healthy: true, ..Figures::default() };
            figures.add(state);
            all.insert(labels, figures);
        } else {
            omitted += 1;
        }
    }
    type Read = fn(&Figures) -> u64;
    let families: [(&'static str, Kind, &str, Read); 8] = [
        (
            "tollhouse_upstream_target_healthy",
            Kind::Gauge,
            "Whether requests are given to the address: 0 when it is unhealthy, ejected or without an address.",
            |figures| figures.healthy.into(),
        ),
        (
            "tollhouse_upstream_target_ejected",
            Kind::Gauge,
            "Whether outlier detection has taken the address out.",
            |figures| figures.ejected.into(),
        ),
        ("tollhouse_upstream_target_weight", Kind::Gauge, "Share of the requests.", |figures| figures.weight),
        (
            "tollhouse_upstream_target_active_requests",
            Kind::Gauge,
            "Requests under way at the address.",
            |figures| figures.active,
        ),
        (
            "tollhouse_upstream_target_connections",
            Kind::Gauge,
            "Open connections to the address, idle ones too.",
            |figures| figures.connections,
        ),
        ("tollhouse_upstream_target_requests", Kind::Counter, "Tries sent to the address.", |figures| {
            figures.requests
        }),
        (
            "tollhouse_upstream_target_failures",
            Kind::Counter,
            "Tries without an answer, or with a status of 500 or above.",
            |figures| figures.failures,
        ),
        (
            "tollhouse_upstream_target_ejections",
            Kind::Counter,
            "Times that outlier detection has taken the address out.",
            |figures| figures.ejections,
        ),
    ];
    for (name, kind, help, read) in families {
        page.family(name, kind, None, help);
        all.iter().for_each(|(labels, figures)| page.integer(labels, read(figures)));
    }
    page.family(
        "tollhouse_upstream_target_checks",
        Kind::Counter,
        None,
        "Active checks, by what they showed.",
    );
    for (labels, figures) in &all {
        let CheckCounts { success, failure, ignored } = figures.checks;
        for (result, count) in [("success", success), ("failure", failure), ("ignored", ignored)] {
            let mut labels = labels.clone();
            label(&mut labels, "result", result);
            page.integer(&labels, count);
        }
    }
    let circuits = || {
        states.circuits.iter().take(series_max).map(|state| {
            let mut labels = String::new();
            label(&mut labels, "upstream", &state.upstream);
            label(&mut labels, "resource", &state.resource);
            (labels, state)
        })
    };
    const USED: &str = "What an upstream with a circuit breaker is given now.";
    page.family("tollhouse_upstream_circuit_used", Kind::Gauge, None, USED);
    circuits().for_each(|(labels, state)| page.integer(&labels, state.used));
    page.family("tollhouse_upstream_circuit_limit", Kind::Gauge, None, "What it may be given at once.");
    circuits().for_each(|(labels, state)| page.integer(&labels, state.most));
    const OVERFLOWS: &str = "Times that one more was asked for.";
    page.family("tollhouse_upstream_circuit_overflows", Kind::Counter, None, OVERFLOWS);
    circuits().for_each(|(labels, state)| page.integer(&labels, state.overflows));
    page.family(
        "tollhouse_upstream_targets_omitted",
        Kind::Gauge,
        None,
        "Addresses beyond gateway.upstream_states.rows_max or collector.metrics.series_max.",
    );
    page.integer("", omitted);
    const REPORT: &str = "When the gateway last said how its upstreams are.";
    page.family("tollhouse_upstream_report_timestamp_seconds", Kind::Gauge, Some("seconds"), REPORT);
    page.float("", states.at_us as f64 / 1e6);
}

fn labels(state: &TargetState) -> String {
    let mut labels = String::new();
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    label(&mut labels, "service", &or_empty(&state.service));
    label(&mut labels, "upstream", &or_empty(&state.upstream));
    label(&mut labels, "target", &state.target);
    label(&mut labels, "address", &or_empty(&state.address));
    labels
}
