//! Two sides of traffic beside one another.

use super::{Report, percentiles};
use crate::views::failed;

/// `compare_periods(from, until, other_from, other_until, by)`.
pub(super) const PERIODS: Report = Report {
    name: "compare_periods",
    parameters: &[
        ("from", None),
        ("until", None),
        ("other_from", None),
        ("other_until", None),
        ("by", Some("service")),
    ],
    sql: || both("r.time >= $from AND r.time < $until", "r.time >= $other_from AND r.time < $other_until"),
};

/// `compare_versions(version, other_version, since, by)`.
pub(super) const VERSIONS: Report = Report {
    name: "compare_versions",
    parameters: &[
        ("version", None),
        ("other_version", None),
        ("since", Some("now() - INTERVAL '1 day'")),
        ("by", Some("service")),
    ],
    sql: || {
        both(
            "r.config_version = $version AND r.time >= $since",
            "r.config_version = $other_version AND r.time >= $since",
        )
    },
};

/// `compare_canary(service, canary, stable, since, by)`.
pub(super) const CANARY: Report = Report {
    name: "compare_canary",
    parameters: &[
        ("service", None),
        ("canary", None),
        ("stable", None),
        ("since", Some("now() - INTERVAL '1 hour'")),
        ("by", Some("route")),
    ],
    sql: || {
        both(
            "r.service = $service AND r.service_version = $canary AND r.time >= $since",
            "r.service = $service AND r.service_version = $stable AND r.time >= $since",
        )
    },
};

/// `error_rate_z` is the two-proportion z-test with the pooled rate: beyond 1.96 or below -1.96 the difference of the rates
/// would come by chance once in twenty times.
fn both(one: &str, other: &str) -> String {
    let side = |condition: &str| {
        format!(
            "SELECT name, requests, errors, errors / CAST(requests AS DOUBLE) AS error_rate, {} FROM \
             (SELECT coalesce(CAST($by AS VARCHAR), 'none') AS name, count(*) AS requests, \
             count(*) FILTER (WHERE {}) AS errors, latency_sketch(r.duration_us) AS latency FROM requests r \
             WHERE {condition} GROUP BY 1)",
            percentiles(""),
            failed(),
        )
    };
    let pairs = ["error_rate", "p50_ms", "p95_ms", "p99_ms"]
        .map(|name| format!("a.{name}, b.{name} AS other_{name}"));
    format!(
        "SELECT name, requests, other_requests, errors, other_errors, error_rate, other_error_rate, \
         (error_rate - other_error_rate) / nullif(sqrt(pooled * (1 - pooled) * (1.0 / requests + 1.0 / other_requests)), 0) \
         AS error_rate_z, p50_ms, other_p50_ms, p95_ms, other_p95_ms, p99_ms, other_p99_ms \
         FROM (SELECT coalesce(a.name, b.name) AS name, coalesce(a.requests, 0) AS requests, \
         coalesce(b.requests, 0) AS other_requests, coalesce(a.errors, 0) AS errors, coalesce(b.errors, 0) AS other_errors, \
         (a.errors + b.errors) / CAST(a.requests + b.requests AS DOUBLE) AS pooled, {} \
         FROM ({}) a FULL JOIN ({}) b ON a.name = b.name)",
        pairs.join(", "),
        side(one),
        side(other),
    )
}
