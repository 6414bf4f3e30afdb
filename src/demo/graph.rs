//! The call graph as text: edges from SQL in, a tree of lines out. Callers that nobody calls are the roots; a
//! callee that has been drawn before, or that would close a circle, is named again but not opened again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::paint::{Ink, Paint, count, micros, percent, safe, width};

/// One edge: requests from `caller` to `callee`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// A consumer or a service; an empty name is somebody unknown.
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
    let called: BTreeSet<&str> = edges.iter().map(|edge| edge.callee.as_str()).collect();
    let mut roots: Vec<(&str, u64)> = Vec::new();
    for edge in edges.iter().filter(|edge| !called.contains(edge.caller.as_str())) {
        match roots.iter_mut().find(|(name, _)| *name == edge.caller) {
            Some((_, requests)) => *requests += edge.requests,
            None => roots.push((&edge.caller, edge.requests)),
        }
    }
    // A circle that nobody enters from outside has no root: begin anywhere on it.
    if roots.is_empty() {
        roots.extend(edges.first().map(|edge| (edge.caller.as_str(), edge.requests)));
    }
    roots.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut drawing = Drawing { edges, opened: BTreeSet::new(), lines: Vec::new() };
    for (root, _) in roots {
        drawing.lines.push((title(root), None));
        drawing.branch(root, "");
    }
    drawing.finish(paint)
}

fn title(name: &str) -> String {
    if name.is_empty() { "(anonymous)".to_owned() } else { safe(name) }
}

struct Drawing<'a> {
    edges: &'a [Edge],
    opened: BTreeSet<&'a str>,
    lines: Vec<(String, Option<&'a Edge>)>,
}

impl<'a> Drawing<'a> {
    fn branch(&mut self, caller: &'a str, indent: &str) {
        self.opened.insert(caller);
        let mut edges: Vec<&'a Edge> = self.edges.iter().filter(|edge| edge.caller == caller).collect();
        edges.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.callee.cmp(&b.callee)));
        for (index, edge) in edges.iter().enumerate() {
            let last = index + 1 == edges.len();
            let has_more = self.edges.iter().any(|other| other.caller == edge.callee);
            let again = has_more && self.opened.contains(edge.callee.as_str());
            let (arm, below) = if last { ("└─▶ ", "    ") } else { ("├─▶ ", "│   ") };
            let note = if again { " ↑" } else { "" };
            self.lines.push((format!("{indent}{arm}{}{note}", title(&edge.callee)), Some(edge)));
            if !again {
                self.branch(&edge.callee, &format!("{indent}{below}"));
            }
        }
    }

    fn finish(self, paint: Paint) -> Vec<String> {
        let wide = self.lines.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        let line = |(name, edge): (String, Option<&Edge>)| match edge {
            None => paint.ink(Ink::Bold, &name),
            Some(edge) => {
                let errors = percent(edge.errors, edge.requests);
                let ink = if edge.errors == 0 { Ink::Dim } else { Ink::Yellow };
                let gap = " ".repeat(wide - width(&name));
                format!(
                    "{name}{gap}  {:>9} requests  {} errors  p99 {:>8}",
                    count(edge.requests),
                    paint.ink(ink, &format!("{errors:>7}")),
                    micros(edge.p99_us)
                )
            }
        };
        self.lines.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(caller: &str, callee: &str, requests: u64, errors: u64) -> Edge {
        Edge { caller: caller.into(), callee: callee.into(), requests, errors, p99_us: 1_500.0 }
    }

    #[test]
    fn a_tree_from_the_busiest_caller_down() {
        let edges = [
            edge("globex", "shop", 5, 0),
            edge("acme", "shop", 90, 9),
            edge("acme", "search", 10, 0),
            edge("shop", "orders", 30, 3),
            edge("orders", "payments", 30, 1),
        ];
        let lines = draw(Paint { colour: false }, &edges);
        assert_eq!(
            lines,
            [
                "acme",
                "├─▶ shop                     90 requests   10.0 % errors  p99   1.5 ms",
                "│   └─▶ orders               30 requests   10.0 % errors  p99   1.5 ms",
                "│       └─▶ payments         30 requests    3.3 % errors  p99   1.5 ms",
                "└─▶ search                   10 requests      0 % errors  p99   1.5 ms",
                "globex",
                "└─▶ shop ↑                    5 requests      0 % errors  p99   1.5 ms",
            ]
        );
    }

    #[test]
    fn circles_and_strange_names_end() {
        let lines = draw(Paint { colour: false }, &[edge("a", "b", 1, 0), edge("b", "a", 1, 0)]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let lines = draw(Paint { colour: false }, &[edge("", "x\x1b[2J", 1, 1)]);
        assert!(lines[0] == "(anonymous)" && !lines[1].contains('\x1b'), "{lines:?}");
        assert!(draw(Paint { colour: false }, &[]).is_empty());
        assert_eq!(draw(Paint { colour: false }, &[edge("me", "me", 2, 0)]).len(), 2);
    }
}
