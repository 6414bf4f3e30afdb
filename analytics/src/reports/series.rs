//! Traffic by steps of time without gaps, and what is unusual in it.

use super::{Report, percentiles};
use crate::views::failed;

/// `traffic_series(from, until, step, by)`.
pub(super) const TRAFFIC_SERIES: Report = Report {
    name: "traffic_series",
    parameters: &[
        ("from", None),
        ("until", Some("now()")),
        ("step", Some("INTERVAL '1 minute'")),
        ("by", Some("'all'")),
    ],
    sql: traffic_series,
};

fn traffic_series() -> String {
    format!(
        "SELECT s.time, n.name, coalesce(t.requests, 0) AS requests, coalesce(t.errors, 0) AS errors, \
         t.errors / CAST(t.requests AS DOUBLE) AS error_rate, coalesce(t.request_bytes, 0) AS request_bytes, \
         coalesce(t.response_bytes, 0) AS response_bytes, {} \
         FROM (SELECT arrow_cast(value, 'Timestamp(Microsecond, Some(\"UTC\"))') AS time \
         FROM generate_series(date_bin($step, CAST($from AS TIMESTAMPTZ)), CAST($until AS TIMESTAMPTZ) - INTERVAL '1 microsecond', $step)) s \
         CROSS JOIN (SELECT coalesce(CAST($by AS VARCHAR), 'none') AS name FROM requests r \
         WHERE r.time >= date_bin($step, CAST($from AS TIMESTAMPTZ)) AND r.time < $until GROUP BY 1) n \
         LEFT JOIN (SELECT date_bin($step, r.time) AS time, coalesce(CAST($by AS VARCHAR), 'none') AS name, \
         count(*) AS requests, count(*) FILTER (WHERE {}) AS errors, sum(r.request_bytes) AS request_bytes, \
         sum(r.response_bytes) AS response_bytes, latency_sketch(r.duration_us) AS latency FROM requests r \
         WHERE r.time >= date_bin($step, CAST($from AS TIMESTAMPTZ)) AND r.time < $until GROUP BY 1, 2) t \
         ON t.time = s.time AND t.name = n.name",
        percentiles("t."),
        failed(),
    )
}

/// `anomalies(from, until, step, by, threshold)`.
pub(super) const ANOMALIES: Report = Report {
    name: "anomalies",
    parameters: &[
        ("from", None),
        ("until", Some("now()")),
        ("step", Some("INTERVAL '1 minute'")),
        ("by", Some("service")),
        ("threshold", Some("3.5")),
    ],
    sql: anomalies,
};

/// The modified z-score of B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle Outliers" (1993): the distance from
/// the median in units of the median absolute deviation, or of the mean absolute deviation where more than half of the
/// values are the same.
fn anomalies() -> String {
    "WITH series AS (SELECT time, name, CAST(requests AS DOUBLE) AS requests, error_rate, p95_ms \
     FROM traffic_series($from, $until, $step, $by)), \
     measures AS (SELECT time, name, 'requests' AS measure, requests AS value FROM series \
     UNION ALL SELECT time, name, 'error_rate', error_rate FROM series WHERE error_rate IS NOT NULL \
     UNION ALL SELECT time, name, 'p95_ms', p95_ms FROM series WHERE p95_ms IS NOT NULL), \
     middles AS (SELECT name, measure, median(value) AS expected FROM measures GROUP BY 1, 2), \
     away AS (SELECT m.time, m.name, m.measure, m.value, c.expected, m.value - c.expected AS distance \
     FROM measures m JOIN middles c ON m.name = c.name AND m.measure = c.measure), \
     spreads AS (SELECT name, measure, median(abs(distance)) AS mad, avg(abs(distance)) AS mean_ad FROM away GROUP BY 1, 2) \
     SELECT time, name, measure, value, expected, score FROM (SELECT a.*, \
     CASE WHEN mad > 0 THEN 0.6745 * distance / mad WHEN mean_ad > 0 THEN distance / (1.253314 * mean_ad) END AS score \
     FROM away a JOIN spreads s ON a.name = s.name AND a.measure = s.measure) WHERE abs(score) > $threshold"
        .into()
}
