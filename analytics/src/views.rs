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
        ("call_graph", call_graph()),
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
