//! The views over `requests`, as SQL. A view is planned only when a query names it.
//!
//! An *error* is a status of 500 or above, or an outcome in which the gateway could not get an answer from the
//! service, whatever status the client saw. A client that went away is not an error. Percentiles are milliseconds
//! within 1 % ([`crate::functions`]).

use event::Outcome;

/// What is an error, as `event::rollup::is_error` says it.
pub(crate) fn failed() -> String {
    let failures = Outcome::ALL.iter().filter(|outcome| outcome.is_failure());
    let words: Vec<String> = failures.map(|outcome| format!("'{}'", outcome.as_str())).collect();
    format!("r.status >= 500 OR r.outcome IN ({})", words.join(", "))
}

/// Name and definition of each view.
#[must_use]
pub(crate) fn all() -> Vec<(&'static str, String)> {
    vec![
        ("consumers", traffic("coalesce(r.consumer, 'anonymous') AS consumer", &["consumer"])),
        ("services", traffic("coalesce(r.service, 'none') AS service", &["service"])),
        (
            "routes",
            traffic(
                "coalesce(r.service, 'none') AS service, coalesce(r.route, 'none') AS route",
                &["service", "route"],
            ),
        ),
        ("upstreams", upstreams()),
        ("errors", errors()),
        ("slow_requests", slow_requests()),
        ("call_graph", call_graph()),
        ("traces", traces()),
    ]
}

fn traffic(keys: &str, names: &[&str]) -> String {
    let names = names.join(", ");
    format!(
        "SELECT {names}, requests, errors, errors / CAST(requests AS DOUBLE) AS error_rate, request_bytes, \
         response_bytes, {} FROM (SELECT {keys}, count(*) AS requests, \
         count(*) FILTER (WHERE {}) AS errors, sum(r.request_bytes) AS request_bytes, \
         sum(r.response_bytes) AS response_bytes, latency_sketch(r.duration_us) AS latency \
         FROM requests r GROUP BY 1{})",
        percentiles(&["50", "90", "95", "99"]),
        failed(),
        if names.contains(',') { ", 2" } else { "" },
    )
}

fn percentiles(wanted: &[&str]) -> String {
    let each = wanted.iter().map(|p| format!("sketch_percentile(latency, 0.{p}) / 1000.0 AS p{p}_ms"));
    each.collect::<Vec<_>>().join(", ")
}

/// Each address that requests went to, by the attempts of all of them. An attempt failed when it had no whole answer, or a
/// status of 500 or above.
fn upstreams() -> String {
    format!(
        "SELECT target AS upstream, address, attempts, failures, failures / CAST(attempts AS DOUBLE) AS failure_rate, \
         reused / CAST(attempts AS DOUBLE) AS reuse_rate, {} FROM (\
         SELECT target, a['addr'] AS address, count(*) AS attempts, \
         count(*) FILTER (WHERE a['error'] IS NOT NULL OR a['status'] >= 500) AS failures, \
         count(*) FILTER (WHERE a['connection_reused']) AS reused, \
         latency_sketch(a['duration_us']) AS latency FROM (\
         SELECT coalesce(r.upstream, r.service, 'none') AS target, unnest(r.attempts) AS a \
         FROM requests r) GROUP BY 1, 2)",
        percentiles(&["50", "95", "99"]),
    )
}

/// The requests that failed by the service's fault.
fn errors() -> String {
    format!(
        "SELECT r.time, r.service, r.route, r.consumer, r.method, r.host, r.path, r.status, r.outcome, r.error, \
         r.upstream_addr, r.duration_us / 1000.0 AS duration_ms, r.request_id, r.trace_id FROM requests r WHERE {}",
        failed()
    )
}

/// The requests that took longer than 99 of 100 of their route.
fn slow_requests() -> String {
    "SELECT r.time, r.service, r.route, r.consumer, r.method, r.path, r.status, r.duration_us / 1000.0 AS duration_ms, \
     r.upstream_us / 1000.0 AS upstream_ms, r.gateway_us / 1000.0 AS gateway_ms, p.p99_ms, r.upstream_addr, \
     r.request_id, r.trace_id FROM requests r JOIN (SELECT service, route, \
     latency_percentile(duration_us, 0.99) / 1000.0 AS p99_ms FROM requests GROUP BY 1, 2) p \
     ON (r.service IS NOT DISTINCT FROM p.service) AND (r.route IS NOT DISTINCT FROM p.route) \
     WHERE r.duration_us / 1000.0 > p.p99_ms"
        .into()
}

/// A row for each trace; `trace(id)` shows one as a tree.
fn traces() -> String {
    format!(
        "SELECT trace_id, time, duration_us, hops, errors, services, service, route, consumer FROM (\
         SELECT r.trace_id, min(r.time) AS time, \
         CAST(max(r.begin_us + r.duration_us) - min(r.begin_us) AS BIGINT) AS duration_us, count(*) AS hops, count(*) FILTER (WHERE {}) AS errors, \
         count(DISTINCT r.service) AS services, first_value(r.service ORDER BY r.time) AS service, \
         first_value(r.route ORDER BY r.time) AS route, first_value(r.consumer ORDER BY r.time) AS consumer \
         \
         FROM (SELECT *, CAST(time AS BIGINT) AS begin_us FROM requests WHERE trace_id IS NOT NULL) r \
         GROUP BY r.trace_id)",
        failed()
    )
}

/// Who calls whom. The caller is the service of the request whose upstream span is this one's parent; else the
/// named source service; else the consumer; else `anonymous`. Parents are made distinct first, so that a count is
/// exact even when a span id was used twice.
fn call_graph() -> String {
    format!(
        "SELECT caller, callee, requests, errors, errors / CAST(requests AS DOUBLE) AS error_rate, {} FROM (\
         SELECT coalesce(p.service, r.source_service, r.consumer, 'anonymous') AS caller, \
         coalesce(r.service, 'none') AS callee, count(*) AS requests, \
         count(*) FILTER (WHERE {}) AS errors, latency_sketch(r.duration_us) AS latency \
         FROM requests r LEFT JOIN (SELECT trace_id, upstream_span_id, max(service) AS service FROM requests \
         WHERE upstream_span_id IS NOT NULL AND service IS NOT NULL GROUP BY 1, 2) p \
         ON r.trace_id = p.trace_id AND r.parent_span_id = p.upstream_span_id GROUP BY 1, 2)",
        percentiles(&["50", "95", "99"]),
        failed()
    )
}
