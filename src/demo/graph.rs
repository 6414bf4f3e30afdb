//! The call graph as text: each edge once, under the one who calls. Those whom nobody calls come first, then the
//! services in the order in which requests reach them, so that the eye follows a request downwards.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::paint::{Ink, Paint, count, micros, percent, safe, table};

/// One edge: requests from `caller` to `callee`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// A consumer or a service.
    pub caller: String,
    /// The service called.
    pub callee: String,
    /// Requests.
    pub requests: u64,
    /// Of these, those where the callee failed.
    pub errors: u64,
    /// 99th percentile of the duration, microseconds.
    pub p99_us: f64,
}

/// Draws `edges`, the busiest first on each level.
pub fn draw(paint: Paint, edges: &[Edge]) -> Vec<String> {
    let mut rows = Vec::new();
    for caller in order(edges) {
        let called = of(edges, caller);
        for (index, edge) in called.iter().enumerate() {
            let (name, arm) = match (index, index + 1 == called.len()) {
                (0, true) => (paint.ink(Ink::Cyan, &safe(caller)), "───▶"),
                (0, false) => (paint.ink(Ink::Cyan, &safe(caller)), "─┬─▶"),
                (_, false) => (String::new(), " ├─▶"),
                (_, true) => (String::new(), " └─▶"),
            };
            let errors = percent(edge.errors, edge.requests);
            rows.push(vec![
                name,
                format!("{} {}", paint.ink(Ink::Dim, arm), safe(&edge.callee)),
                count(edge.requests),
                if edge.errors > 0 { paint.ink(Ink::Yellow, &errors) } else { errors },
                micros(edge.p99_us),
            ]);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    table(paint, 2, &["caller", "     callee", "requests", "errors", "p99"], &rows)
}

/// The edges of one caller, the busiest first.
fn of<'a>(edges: &'a [Edge], caller: &str) -> Vec<&'a Edge> {
    let mut called: Vec<&Edge> = edges.iter().filter(|edge| edge.caller == caller).collect();
    called.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.callee.cmp(&b.callee)));
    called
}

/// Every caller once: those whom nobody calls, then whom they call, and so on; last, what only circles reach.
fn order(edges: &[Edge]) -> Vec<&str> {
    let callees: BTreeSet<&str> = edges.iter().map(|edge| edge.callee.as_str()).collect();
    let mut callers: Vec<(&str, u64)> = Vec::new();
    for edge in edges {
        match callers.iter_mut().find(|(name, _)| *name == edge.caller) {
            Some((_, requests)) => *requests += edge.requests,
            None => callers.push((&edge.caller, edge.requests)),
        }
    }
    callers.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut order: Vec<&str> =
        callers.iter().map(|(name, _)| *name).filter(|name| !callees.contains(name)).collect();
    let mut next = 0;
    while order.len() < callers.len() {
        match order.get(next).copied() {
            Some(caller) => {
                next += 1;
                for edge in of(edges, caller) {
                    let calls = callers.iter().any(|(name, _)| *name == edge.callee);
                    if calls && !order.contains(&edge.callee.as_str()) {
                        order.push(&edge.callee);
                    }
                }
            }
            // What is left calls in a circle that nobody enters from outside: begin with its busiest.
            None => order.extend(callers.iter().map(|(name, _)| *name).find(|name| !order.contains(name))),
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint { colour: false };

    fn edge(caller: &str, callee: &str, requests: u64, errors: u64) -> Edge {
        Edge { caller: caller.into(), callee: callee.into(), requests, errors, p99_us: 1_500.0 }
    }

    #[test]
    fn every_edge_stands_once_from_the_outside_in() {
        let edges = [
            edge("orders", "payments", 30, 1),
            edge("globex", "shop", 5, 0),
            edge("acme", "search", 10, 0),
            edge("shop", "orders", 30, 3),
            edge("acme", "shop", 1_090, 9),
            edge("acme", "none", 2, 0),
        ];
        assert_eq!(
            draw(PLAIN, &edges),
            [
                "caller       callee    requests  errors     p99",
                "acme    ─┬─▶ shop         1,090   0.8 %  1.5 ms",
                "         ├─▶ search          10     0 %  1.5 ms",
                "         └─▶ none             2     0 %  1.5 ms",
                "globex  ───▶ shop             5     0 %  1.5 ms",
                "shop    ───▶ orders          30  10.0 %  1.5 ms",
                "orders  ───▶ payments        30   3.3 %  1.5 ms",
            ]
        );
    }

    #[test]
    fn circles_and_strange_names_end() {
        let lines = draw(PLAIN, &[edge("a", "b", 1, 0), edge("b", "a", 1, 0), edge("b", "b", 3, 0)]);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[1].starts_with('b') && lines[3].starts_with('a'), "{lines:?}");
        let lines = draw(PLAIN, &[edge("x\x1b[2J", "y\n", 1, 1)]);
        assert!(!lines.concat().contains(['\x1b', '\n']), "{lines:?}");
        assert!(draw(PLAIN, &[]).is_empty());
    }
}
