//! Who calls whom in a span of time, and the same in the shape of Grafana's node graph.

use super::{Report, percentiles};
use crate::views::failed;

/// `service_graph(from, until)`.
pub(super) const SERVICE_GRAPH: Report = Report {
    name: "service_graph",
    parameters: &[("from", Some("now() - INTERVAL '1 hour'")), ("until", Some("now()"))],
    sql: service_graph,
};

/// The caller is as in the view `call_graph`. `critical_share` is how much of the time that traces took, from their first
/// request to its end, was spent in the callee itself, while nothing that it called ran for it. Where no two calls ran at
/// the same time, the shares add up to 1.
fn service_graph() -> String {
    format!(
        "WITH spans AS (SELECT r.trace_id, r.parent_span_id, r.upstream_span_id, r.service, r.source_service, r.consumer, \
         CASE WHEN {failed} THEN 1 ELSE 0 END AS failed, r.duration_us, CAST(r.time AS BIGINT) AS begin_us, \
         CAST(r.time AS BIGINT) + r.duration_us AS end_us FROM requests r WHERE r.time >= $from AND r.time < $until), \
         callers AS (SELECT trace_id, upstream_span_id, max(service) AS service, min(begin_us) AS begin_us, \
         max(end_us) AS end_us FROM spans WHERE upstream_span_id IS NOT NULL GROUP BY 1, 2), \
         hops AS (SELECT s.*, p.service AS caller, p.upstream_span_id AS called_by, p.begin_us AS caller_begin_us, \
         p.end_us AS caller_end_us FROM spans s LEFT JOIN callers p \
         ON s.trace_id = p.trace_id AND s.parent_span_id = p.upstream_span_id), \
         covered AS (SELECT trace_id, called_by, sum(greatest(0, end_us - greatest(begin_us, reached))) AS covered_us \
         FROM (SELECT trace_id, called_by, begin_us, end_us, coalesce(max(end_us) OVER (PARTITION BY trace_id, called_by \
         ORDER BY begin_us, end_us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS reached \
         FROM (SELECT trace_id, called_by, greatest(begin_us, caller_begin_us) AS begin_us, \
         least(end_us, caller_end_us) AS end_us FROM hops WHERE called_by IS NOT NULL)) GROUP BY 1, 2), \
         whole AS (SELECT CAST(sum(duration_us) AS DOUBLE) AS us FROM hops WHERE called_by IS NULL) \
         SELECT caller, callee, requests, requests / seconds AS requests_per_s, errors, \
         errors / CAST(requests AS DOUBLE) AS error_rate, {percentiles}, own_us / nullif(us, 0) AS critical_share \
         FROM (SELECT coalesce(h.caller, h.source_service, h.consumer, 'anonymous') AS caller, \
         coalesce(h.service, 'none') AS callee, count(*) AS requests, CAST(sum(h.failed) AS BIGINT) AS errors, \
         latency_sketch(h.duration_us) AS latency, \
         sum(CAST(h.duration_us AS BIGINT) - coalesce(c.covered_us, 0)) AS own_us \
         FROM hops h LEFT JOIN covered c ON h.trace_id = c.trace_id AND h.upstream_span_id = c.called_by GROUP BY 1, 2) \
         CROSS JOIN whole CROSS JOIN (SELECT greatest(1e-6, (CAST(CAST($until AS TIMESTAMP) AS BIGINT) \
         - CAST(CAST($from AS TIMESTAMP) AS BIGINT)) / 1e9) AS seconds)",
        failed = failed(),
        percentiles = percentiles(""),
    )
}

/// `graph_nodes(from, until)`.
pub(super) const GRAPH_NODES: Report = Report {
    name: "graph_nodes",
    parameters: &[("from", Some("now() - INTERVAL '1 hour'")), ("until", Some("now()"))],
    sql: || {
        "SELECT id, id AS title, CAST(sum(requests_per_s) AS DOUBLE) AS mainstat, \
         CASE WHEN sum(requests) > 0 THEN sum(errors) / CAST(sum(requests) AS DOUBLE) END AS secondarystat, \
         coalesce(1 - sum(errors) / CAST(nullif(sum(requests), 0) AS DOUBLE), 1) AS arc__ok, \
         coalesce(sum(errors) / CAST(nullif(sum(requests), 0) AS DOUBLE), 0) AS arc__errors \
         FROM (SELECT callee AS id, requests, requests_per_s, errors FROM service_graph($from, $until) \
         UNION ALL SELECT caller, 0, 0.0, 0 FROM service_graph($from, $until)) GROUP BY id"
            .into()
    },
};

/// `graph_edges(from, until)`.
pub(super) const GRAPH_EDGES: Report = Report {
    name: "graph_edges",
    parameters: &[("from", Some("now() - INTERVAL '1 hour'")), ("until", Some("now()"))],
    sql: || {
        "SELECT caller || '->' || callee AS id, caller AS source, callee AS target, requests_per_s AS mainstat, \
         error_rate AS secondarystat, p95_ms AS detail__p95_ms, critical_share AS detail__critical_share \
         FROM service_graph($from, $until)"
            .into()
    },
};
