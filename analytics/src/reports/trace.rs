//! One trace as a tree of hops.

use super::Report;

/// Deepest tree that is followed.
const DEPTH_MAX: u8 = 64;

/// `trace(id)`.
pub(super) const TRACE: Report = Report { name: "trace", parameters: &[("id", None)], sql: trace };

/// `n` numbers the hops so that each stands below its parent. A hop's parent is the one whose upstream span it names. Its own time is the part of its duration in which none of the
/// hops below it ran: these may overlap, so each adds what reaches beyond all that began before it.
fn trace() -> String {
    format!(
        "WITH RECURSIVE spans AS (SELECT r.time, r.node, r.service, r.route, r.consumer, r.method, r.path, r.status, \
         r.outcome, r.duration_us, r.span_id, r.parent_span_id, r.upstream_span_id, \
         CAST(r.time AS BIGINT) AS begin_us, CAST(r.time AS BIGINT) + r.duration_us AS end_us \
         FROM requests r WHERE r.trace_id = $id), \
         tree AS (SELECT s.span_id, 0 AS depth, CAST(s.begin_us AS VARCHAR) || encode(s.span_id, 'hex') AS place \
         FROM spans s LEFT JOIN spans p ON s.parent_span_id = p.upstream_span_id WHERE p.span_id IS NULL \
         UNION ALL SELECT s.span_id, t.depth + 1, t.place || '/' || CAST(s.begin_us AS VARCHAR) || encode(s.span_id, 'hex') \
         FROM tree t JOIN spans p ON p.span_id = t.span_id JOIN spans s ON s.parent_span_id = p.upstream_span_id \
         WHERE t.depth < {DEPTH_MAX}), \
         below AS (SELECT p.span_id, greatest(c.begin_us, p.begin_us) AS begin_us, least(c.end_us, p.end_us) AS end_us \
         FROM spans p JOIN spans c ON c.parent_span_id = p.upstream_span_id), \
         covered AS (SELECT span_id, sum(greatest(0, end_us - greatest(begin_us, reached))) AS covered_us \
         FROM (SELECT *, coalesce(max(end_us) OVER (PARTITION BY span_id ORDER BY begin_us, end_us \
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS reached FROM below) GROUP BY span_id) \
         SELECT row_number() OVER (ORDER BY t.place) AS n, t.depth, s.time, s.node, s.service, s.route, \
         s.consumer, s.method, s.path, s.status, s.outcome, s.duration_us, \
         CAST(s.duration_us AS BIGINT) - coalesce(c.covered_us, 0) AS self_us, s.span_id, s.parent_span_id \
         FROM tree t JOIN spans s ON s.span_id = t.span_id LEFT JOIN covered c ON c.span_id = s.span_id"
    )
}
