//! The page a scrape gets: published series, the ledger, the spans' account and the process itself.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use event::configuration::Configuration;
use event::connections::ConnectionStates;
use event::layout::{DataFolder, LedgerRow};
use event::rollup::STATUS_CLASSES;
use event::upstreams::UpstreamStates;

use super::family::{OVERFLOW, OVERFLOW_ROW, Snapshot};
use super::histogram::Histogram;
use super::process::Reading;
use super::text::{Format, Kind, Page, label, render_bounds};
use super::{METHODS, Published, Shared};
use crate::adapters::AdapterCount;
use crate::hosts::Account;

/// What a page says besides the series of events.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Start of the process, UTC microseconds.
    pub(crate) process_start_us: i64,
    /// The ledger as the collector last wrote it.
    pub(crate) ledger: Vec<LedgerRow>,
    /// What the gateway says of its upstreams; none when it says nothing any more.
    pub(crate) states: Option<UpstreamStates>,
    /// What it says of client connections.
    pub(crate) connections: Option<ConnectionStates>,
    /// What the gateway says of its configuration, once one has run.
    pub(crate) configuration: Option<Configuration>,
    /// What was uploaded to a bucket, where there is one.
    pub(crate) uploads: Option<crate::upload::Counts>,
    /// The Delta log, where one is written.
    pub(crate) delta: Option<crate::delta::Counts>,
    /// Merges and damage of the table's files, where there is a table.
    pub(crate) upkeep: Option<crate::upkeep::Counts>,
    /// What went between hosts.
    pub(crate) hosts: Arc<Account>,
    /// Whose disk is looked at.
    pub(crate) folder: DataFolder,
    /// Most bytes of the spool, where that is known.
    pub(crate) spool_bytes_max: Option<u64>,
    /// Most addresses of upstreams on a page.
    pub(crate) series_max: usize,
    /// The account of exported spans.
    pub(crate) spans: AdapterCount,
    /// Pages written before this one.
    pub(crate) scrapes: u64,
    /// How long the page before this one took, in microseconds.
    pub(crate) last_scrape_us: u64,
}

/// Writes one page. Holds the lock on the published series while it does.
pub(crate) fn render(shared: &Shared, context: &Context, format: Format) -> String {
    let reading = Reading::take();
    let published = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut page = Page::new(format, page_bytes(&published));
    http(&mut page, &published);
    upstreams(&mut page, &published);
    if let Some(states) = &context.states {
        super::targets::write(&mut page, states, context.series_max);
    }
    if let Some(states) = &context.connections {
        super::connections::write(&mut page, states);
    }
    events(&mut page, &context.ledger);
    if let Some(counts) = &context.uploads {
        super::bucket::write(&mut page, counts);
    }
    if let Some(counts) = &context.delta {
        super::delta::write(&mut page, counts);
    }
    if let Some(counts) = &context.upkeep {
        super::upkeep::write(&mut page, counts);
    }
    super::disk::write(&mut page, &context.folder, context.spool_bytes_max);
    spans(&mut page, &context.spans);
    super::hosts::write(&mut page, &context.hosts);
    if let Some(state) = &context.configuration {
        configuration(&mut page, state);
    }
    own(&mut page, &published, context);
    drop(published);
    process(&mut page, context, reading);
    page.finish()
}

/// A guess that is seldom too small: growing a page of megabytes copies it.
fn page_bytes(published: &Published) -> usize {
    const LINE_BYTES: usize = 160;
    let lines = published.bounds_us.len() + 4;
    let histograms =
        published.traffic.rows.len() + published.gateway.rows.len() + published.upstreams.rows.len();
    16 * 1024 + LINE_BYTES * (histograms * lines + published.requests.series + published.attempts.series)
}

fn http(page: &mut Page, published: &Published) {
    let bounds = render_bounds(&published.bounds_us);
    let traffic = &published.traffic;
    let labels = rendered(traffic, ["service", "route", "consumer"]);

    page.family("tollhouse_http_requests", Kind::Counter, None, "Requests, by what became of them.");
    let mut full = String::new();
    for (row, labels) in traffic.rows.iter().zip(&labels) {
        for count in &row.requests {
            full.clone_from(labels);
            label(&mut full, "method", METHODS[usize::from(count.method)]);
            label(&mut full, "status_class", STATUS_CLASSES[usize::from(count.status_class)]);
            label(&mut full, "source", count.source);
            page.integer(&full, count.count);
        }
    }
    if published.requests.overflowed > 0 {
        full.clear();
        for name in ["service", "route", "consumer", "method", "status_class", "source"] {
            label(&mut full, name, OVERFLOW);
        }
        page.integer(&full, published.requests.overflowed);
    }

    const DURATION: &str = "From the head of the request to the end of the response.";
    page.family("tollhouse_http_request_duration_seconds", Kind::Histogram, Some("seconds"), DURATION);
    histograms(page, traffic, &labels, &bounds, |row| &row.duration);

    let used = || traffic.rows.iter().zip(&labels).filter(|(row, _)| row.duration.count() > 0);
    page.family("tollhouse_http_request_bytes", Kind::Counter, Some("bytes"), "Bytes received from clients.");
    used().for_each(|(row, labels)| page.integer(labels, row.request_bytes));
    page.family("tollhouse_http_response_bytes", Kind::Counter, Some("bytes"), "Bytes sent to clients.");
    used().for_each(|(row, labels)| page.integer(labels, row.response_bytes));

    const GATEWAY: &str = "Time a request spent in the gateway itself, without waiting for the upstream.";
    page.family("tollhouse_http_gateway_duration_seconds", Kind::Histogram, Some("seconds"), GATEWAY);
    let labels = rendered(&published.gateway, ["service", "route"]);
    histograms(page, &published.gateway, &labels, &bounds, |row| &row.0);
}

fn upstreams(page: &mut Page, published: &Published) {
    let bounds = render_bounds(&published.bounds_us);
    let upstreams = &published.upstreams;
    let labels = rendered(upstreams, ["service", "upstream"]);

    const DURATION: &str = "Time spent waiting for the upstream, all attempts together.";
    page.family("tollhouse_http_upstream_duration_seconds", Kind::Histogram, Some("seconds"), DURATION);
    histograms(page, upstreams, &labels, &bounds, |row| &row.duration);

    page.family(
        "tollhouse_upstream_attempts",
        Kind::Counter,
        None,
        "Attempts at upstreams, by how they ended.",
    );
    let mut full = String::new();
    for (row, labels) in upstreams.rows.iter().zip(&labels) {
        for (outcome, count) in &row.attempts {
            full.clone_from(labels);
            label(&mut full, "outcome", outcome);
            page.integer(&full, *count);
        }
    }
    if published.attempts.overflowed > 0 {
        full.clear();
        for name in ["service", "upstream", "outcome"] {
            label(&mut full, name, OVERFLOW);
        }
        page.integer(&full, published.attempts.overflowed);
    }
}

/// The ledger: produced + recovered = stored + dropped + in flight, by sink, all nodes together.
fn events(page: &mut Page, ledger: &[LedgerRow]) {
    let mut totals: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let mut in_flight: BTreeMap<&str, u64> = BTreeMap::new();
    for row in ledger {
        let sink = row.sink.as_str();
        for (stage, events) in
            [("produced", row.produced), ("recovered", row.recovered), ("stored", row.stored)]
        {
            *totals.entry((stage, sink, "")).or_default() += events;
        }
        let mut unexplained = row.dropped;
        for (reason, events) in &row.reasons {
            *totals.entry(("dropped", sink, reason)).or_default() += events;
            unexplained = unexplained.saturating_sub(*events);
        }
        if unexplained > 0 {
            *totals.entry(("dropped", sink, "unknown")).or_default() += unexplained;
        }
        *in_flight.entry(sink).or_default() += row.in_flight;
    }
    page.family("tollhouse_events", Kind::Counter, None, "The ledger: events by stage, sink and reason.");
    let mut labels = String::new();
    for ((stage, sink, reason), events) in totals {
        labels.clear();
        label(&mut labels, "stage", stage);
        label(&mut labels, "sink", sink);
        label(&mut labels, "reason", reason);
        page.integer(&labels, events);
    }
    page.family(
        "tollhouse_events_in_flight",
        Kind::Gauge,
        None,
        "Events that have not reached the sink yet.",
    );
    for (sink, events) in in_flight {
        labels.clear();
        label(&mut labels, "sink", sink);
        page.integer(&labels, events);
    }
}

fn spans(page: &mut Page, spans: &AdapterCount) {
    page.family(
        "tollhouse_spans",
        Kind::Counter,
        None,
        "Spans by stage: accepted = delivered + dropped + queued.",
    );
    let mut labels = String::new();
    let fixed = [("accepted", "", spans.accepted), ("delivered", "", spans.delivered)];
    let dropped = spans.dropped.iter().map(|(reason, count)| ("dropped", *reason, *count));
    for (stage, reason, count) in fixed.into_iter().chain(dropped) {
        labels.clear();
        label(&mut labels, "stage", stage);
        label(&mut labels, "reason", reason);
        page.integer(&labels, count);
    }
    page.family("tollhouse_spans_queued", Kind::Gauge, None, "Spans waiting to be delivered.");
    page.integer("", spans.queued);
}

/// By the names that Prometheus has for its own.
fn configuration(page: &mut Page, state: &Configuration) {
    const SUCCESSFUL: &str = "Whether the gateway's last attempt to reload its configuration succeeded.";
    page.family("tollhouse_config_last_reload_successful", Kind::Gauge, None, SUCCESSFUL);
    page.integer("", state.successful.into());
    let name = "tollhouse_config_last_reload_success_timestamp_seconds";
    page.family(name, Kind::Gauge, Some("seconds"), "When the configuration in force was read.");
    page.float("", state.success_at_us as f64 / 1e6);
}

fn own(page: &mut Page, published: &Published, context: &Context) {
    let traffic = published.traffic.labels.len().saturating_sub(1) as u64;
    let gateway = published.gateway.labels.len().saturating_sub(1) as u64;
    let upstreams = published.upstreams.labels.len().saturating_sub(1) as u64;
    let families = [
        ("requests", published.requests.series as u64, published.requests.overflowed),
        ("request_duration", traffic, published.traffic.overflowed),
        ("gateway_duration", gateway, published.gateway.overflowed),
        ("upstream_duration", upstreams, published.upstreams.overflowed),
        ("upstream_attempts", published.attempts.series as u64, published.attempts.overflowed),
    ];
    let by_family = |name| {
        let mut labels = String::new();
        label(&mut labels, "family", name);
        labels
    };
    page.family("tollhouse_metrics_series", Kind::Gauge, None, "Label sets of a family, against series_max.");
    families.iter().for_each(|(name, series, _)| page.integer(&by_family(*name), *series));
    const OVERFLOWS: &str = "Times a label set beyond series_max went to the overflow series.";
    page.family("tollhouse_metrics_overflows", Kind::Counter, None, OVERFLOWS);
    families.iter().for_each(|(name, _, overflows)| page.integer(&by_family(*name), *overflows));
    page.family("tollhouse_metrics_scrapes", Kind::Counter, None, "Pages written before this one.");
    page.integer("", context.scrapes);
    const SCRAPE: &str = "Time it took to write the page before this one.";
    page.family("tollhouse_metrics_scrape_duration_seconds", Kind::Gauge, Some("seconds"), SCRAPE);
    page.float("", context.last_scrape_us as f64 / 1e6);
    page.family("tollhouse_build", Kind::Info, None, "The program that serves this page.");
    let mut labels = String::new();
    label(&mut labels, "version", env!("CARGO_PKG_VERSION"));
    page.integer(&labels, 1);
}

fn process(page: &mut Page, context: &Context, reading: Reading) {
    let seconds = Some("seconds");
    if let Some(cpu_seconds) = reading.cpu_seconds {
        page.family("process_cpu_seconds", Kind::Counter, seconds, "User and system CPU time.");
        page.float("", cpu_seconds);
    }
    page.family("process_start_time_seconds", Kind::Gauge, seconds, "Start of the process since the epoch.");
    page.float("", context.process_start_us as f64 / 1e6);
    let gauges: [(&str, Option<&str>, &str, Option<u64>); 5] = [
        ("process_resident_memory_bytes", Some("bytes"), "Resident memory.", reading.resident_bytes),
        ("process_virtual_memory_bytes", Some("bytes"), "Virtual memory.", reading.virtual_bytes),
        ("process_open_fds", None, "Open file descriptors.", reading.fds),
        ("process_max_fds", None, "Most file descriptors that may be open.", reading.fds_max),
        ("process_threads", None, "Threads of the process.", reading.threads),
    ];
    for (name, unit, help, value) in gauges {
        if let Some(value) = value {
            page.family(name, Kind::Gauge, unit, help);
            page.integer("", value);
        }
    }
}

/// The label set of every row, rendered once for all the families and buckets that carry it.
fn rendered<const N: usize, V>(snapshot: &Snapshot<N, V>, names: [&str; N]) -> Vec<String> {
    let render = |labels: &super::family::Labels<N>| {
        let mut rendered = String::new();
        for (name, value) in names.iter().zip(labels) {
            label(&mut rendered, name, value);
        }
        rendered
    };
    snapshot.labels.iter().map(|labels| render(labels)).collect()
}

/// All histograms of a family; rows that never saw a value are left out, the overflow row among them.
fn histograms<const N: usize, V>(
    page: &mut Page,
    snapshot: &Snapshot<N, V>,
    labels: &[String],
    bounds: &[String],
    of: impl Fn(&V) -> &Histogram,
) {
    debug_assert!(snapshot.labels.is_empty() || &*snapshot.labels[OVERFLOW_ROW][0] == OVERFLOW);
    for (row, labels) in snapshot.rows.iter().zip(labels) {
        let histogram = of(row);
        if histogram.count() > 0 {
            page.histogram(labels, histogram, bounds);
        }
    }
}
