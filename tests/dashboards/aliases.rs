//! The names of Istio and Kong: a real Prometheus records them, with every label that their official dashboards ask
//! for, and their numbers are those of Tollhouse's own metrics.

use serde_json::json;

use super::support::eventually;
use super::support::origin::Origin;
use super::support::port::free_addr;
use super::support::site::{ALICE_KEY, Site};
use super::support::tool::Prometheus;
use super::world::pool;

/// Metrics that Istio's dashboards of the mesh, a service and a workload ask for, with the labels that they select and
/// group by. Not there: sizes as histograms, TCP, and what control plane, proxies and Kubernetes say of themselves.
const OF_A_CALL: [&str; 9] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_cluster",
    "destination_service",
    "destination_workload",
    "destination_workload_namespace",
    "destination_cluster",
    "connection_security_policy",
];
const ISTIO: [(&str, &[&str]); 9] = [
    (
        "istio_requests_total",
        &["response_code", "request_protocol", "response_flags", "destination_canonical_service"],
    ),
    ("istio_request_duration_milliseconds_bucket", &["le"]),
    ("istio_request_duration_milliseconds_sum", &[]),
    ("istio_request_duration_milliseconds_count", &[]),
    ("istio_request_bytes_sum", &[]),
    ("istio_request_bytes_count", &[]),
    ("istio_response_bytes_sum", &[]),
    ("istio_response_bytes_count", &[]),
    ("istio_build", &["component", "tag"]),
];

/// The same of Kong's dashboard (7424). Not there: memory of Lua, and what nginx's connections are doing.
const KONG: [(&str, &[&str]); 8] = [
    (
        "kong_http_requests_total",
        &["service", "route", "code", "instance", "consumer", "source", "workspace"],
    ),
    ("kong_kong_latency_ms_bucket", &["service", "route", "le", "instance"]),
    ("kong_request_latency_ms_bucket", &["service", "route", "le", "instance"]),
    ("kong_upstream_latency_ms_bucket", &["service", "le", "instance"]),
    ("kong_bandwidth_bytes", &["direction", "service", "route", "instance"]),
    ("kong_upstream_target_health", &["upstream", "target", "address", "state", "subsystem"]),
    ("kong_nginx_connections_total", &["state", "instance"]),
    ("kong_nginx_requests_total", &["instance"]),
];

#[test]
fn names_of_istio_and_kong_have_their_labels_and_our_numbers() {
    let origin = Origin::start();
    let breaker = json!({});
    let site = pool(Site::new(origin.addr), origin.addr, free_addr(), &breaker);
    let house = site.run();
    for _ in 0..10 {
        house.get("/open/bytes/1000", &[]);
        house.get("/open/status/500", &[]);
        house.get("/private/slow/3", &[("apikey", ALICE_KEY)]);
        house.get("/pooled/status/200", &[]);
        house.get("/nowhere", &[]);
    }
    let rules = ["istio.rules", "kong.rules"].map(|name| super::text(&format!("prometheus/{name}.yaml")));
    let [istio, kong] = rules;
    let prometheus = Prometheus::watch(
        site.folder(),
        "200ms",
        &[house.addr("metrics")],
        &[("istio.yaml", istio), ("kong.yaml", kong)],
    );
    let calls = ISTIO.map(|(name, labels)| {
        let of_call: &[&str] = if name == "istio_build" { &[] } else { &OF_A_CALL };
        (name, [of_call, labels].concat())
    });
    for (name, labels) in calls.into_iter().chain(KONG.map(|(name, labels)| (name, labels.to_vec()))) {
        eventually(name, || {
            let series = prometheus.query(name)?;
            match labels
                .iter()
                .find(|label| !series.iter().any(|series| series["metric"][**label].is_string()))
            {
                _ if series.is_empty() => Err("no series".to_owned()),
                Some(label) => Err(format!("no series has {label}: {}", series[0])),
                None => Ok(()),
            }
        });
    }
    let requests = "tollhouse_http_requests_total";
    let duration = "tollhouse_http_request_duration_seconds";
    for (theirs, ours) in [
        ("sum(istio_requests_total{reporter=\"source\"})".to_owned(), format!("sum({requests})")),
        (
            "sum(istio_requests_total{reporter=\"destination\",response_code=~\"5..\"})".to_owned(),
            format!("sum({requests}{{status_class=\"5xx\"}})"),
        ),
        (
            "sum(istio_requests_total{reporter=\"source\",source_workload=\"alice\",destination_service=\"private\"})"
                .to_owned(),
            format!("sum({requests}{{consumer=\"alice\",service=\"private\"}})"),
        ),
        (
            "sum(istio_request_duration_milliseconds_bucket{reporter=\"source\",le=\"2.5\"})".to_owned(),
            format!("sum({duration}_bucket{{le=\"0.0025\"}})"),
        ),
        (
            "count(count by (le) (istio_request_duration_milliseconds_bucket))".to_owned(),
            format!("count(count by (le) ({duration}_bucket))"),
        ),
        (
            "sum(istio_request_duration_milliseconds_sum{reporter=\"destination\"}) / 1000".to_owned(),
            format!("sum({duration}_sum)"),
        ),
        (
            "sum(istio_response_bytes_sum{reporter=\"source\"})".to_owned(),
            "sum(tollhouse_http_response_bytes_total)".to_owned(),
        ),
        ("sum(kong_http_requests_total)".to_owned(), format!("sum({requests}{{service!=\"\"}})")),
        (
            "sum(kong_http_requests_total{code=~\"5..\",source=\"service\"})".to_owned(),
            format!("sum({requests}{{status_class=\"5xx\",source=\"upstream\"}})"),
        ),
        (
            "sum(kong_bandwidth_bytes{direction=\"egress\"})".to_owned(),
            "sum(tollhouse_http_response_bytes_total{service!=\"\"})".to_owned(),
        ),
        (
            "sum(kong_request_latency_ms_bucket{le=\"5\"})".to_owned(),
            format!("sum({duration}_bucket{{le=\"0.005\",service!=\"\"}})"),
        ),
        (
            "sum(kong_upstream_latency_ms_count)".to_owned(),
            "sum(tollhouse_http_upstream_duration_seconds_count)".to_owned(),
        ),
        ("sum(kong_nginx_requests_total)".to_owned(), format!("sum({requests})")),
        ("sum(kong_nginx_connections_total{state=\"accepted\"})".to_owned(), "sum(tollhouse_connections_accepted_total)".to_owned()),
    ] {
        // Recorded a moment ago, from what was scraped a moment before.
        eventually(&theirs, || {
            let (theirs, ours) = (prometheus.number(&theirs)?, prometheus.number(&ours)?);
            let same = (theirs - ours).abs() <= 1e-9 * ours.abs();
            if same && ours > 0.0 { Ok(()) } else { Err(format!("{theirs} and {ours}")) }
        });
    }
    // Kong's dashboard draws a target as -1 when it is fit and as 1 when it is not.
    let states = "sum(kong_upstream_target_health{state=\"healthy\",upstream=~\"pool\"}) by (upstream,target,address) * -1 + \
                  sum(kong_upstream_target_health{state=~\"(unhealthy|dns_error)\",upstream=~\"pool\"}) by (upstream,target,address)";
    eventually("the health of two targets", || {
        let series = prometheus.query(states)?;
        let mut values: Vec<&str> = series.iter().filter_map(|series| series["value"][1].as_str()).collect();
        values.sort_unstable();
        if values == ["-1", "1"] { Ok(()) } else { Err(format!("{series:?}")) }
    });
}
