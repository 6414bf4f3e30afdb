//! Objectives of services, and how quickly their budgets of errors burn.

use super::Report;
use crate::views::failed;

/// `slo_report(objective, period, by)`.
pub(super) const SLO_REPORT: Report = Report {
    name: "slo_report",
    parameters: &[
        ("objective", Some("0.999")),
        ("period", Some("INTERVAL '30 days'")),
        ("by", Some("service")),
    ],
    sql: slo_report,
};

/// Windows of burn rates.
const WINDOWS: [(&str, &str); 5] =
    [("5m", "5 minutes"), ("30m", "30 minutes"), ("1h", "1 hour"), ("6h", "6 hours"), ("3d", "3 days")];

/// A burn rate of 1 uses up the budget in just the period. The thresholds of `alert` are those of "The Site Reliability
/// Workbook" (2018), chapter 5, table 5-8, for 30 days.
fn slo_report() -> String {
    let burns = WINDOWS.map(|(name, interval)| {
        let within = format!("FILTER (WHERE minute >= now() - INTERVAL '{interval}')");
        format!(
            "coalesce(sum(errors) {within} / nullif(CAST(sum(requests) {within} AS DOUBLE), 0) / (1.0 - $objective), 0.0) \
             AS burn_{name}"
        )
    });
    format!(
        "SELECT name, requests, errors, 1.0 - errors / CAST(requests AS DOUBLE) AS availability, \
         $objective AS objective, (1.0 - $objective) * requests AS budget, \
         1.0 - errors / ((1.0 - $objective) * requests) AS budget_left, burn_5m, burn_30m, burn_1h, burn_6h, burn_3d, \
         CASE WHEN burn_1h > 14.4 AND burn_5m > 14.4 OR burn_6h > 6 AND burn_30m > 6 THEN 'page' \
         WHEN burn_3d > 1 AND burn_6h > 1 THEN 'ticket' ELSE 'none' END AS alert \
         FROM (SELECT name, CAST(sum(requests) AS BIGINT) AS requests, CAST(sum(errors) AS BIGINT) AS errors, {} \
         FROM (SELECT date_bin(INTERVAL '1 minute', r.time) AS minute, coalesce(CAST($by AS VARCHAR), 'none') AS name, \
         count(*) AS requests, count(*) FILTER (WHERE {}) AS errors FROM requests r \
         WHERE r.time >= now() - $period GROUP BY 1, 2) GROUP BY name)",
        burns.join(", "),
        failed(),
    )
}
