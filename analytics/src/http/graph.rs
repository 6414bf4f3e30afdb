//! `GET /graph`: who calls whom, as JSON, for Graphviz, or as Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use ::http::HeaderMap;
use ::http::header::{CONTENT_TYPE, HeaderValue};
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::response::Response;
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::failure;
use super::question::caller;
use crate::error::QueryError;
use crate::format::{Encoder, Format};
use crate::query::{Engine, Protocol, Question};

/// Most edges that are drawn.
const EDGES_MAX: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    from: Option<String>,
    until: Option<String>,
    format: Option<String>,
}

/// Who calls whom.
#[derive(Debug, Serialize, Deserialize)]
struct Edge {
    caller: String,
    callee: String,
    requests: u64,
    requests_per_s: f64,
    errors: u64,
    error_rate: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    critical_share: Option<f64>,
}

pub(super) async fn draw(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let drawn = async {
        let (kind, draw): (_, fn(&[Edge]) -> String) = match wanted.format.as_deref().unwrap_or("json") {
            "json" => ("application/json", as_json),
            "dot" => ("text/vnd.graphviz", as_dot),
            "mermaid" => ("text/vnd.mermaid", as_mermaid),
            other => {
                let said = format!("format `{other}` is unknown: json, dot or mermaid");
                return Err(QueryError::BadRequest(said));
            }
        };
        let edges = edges(&engine, &wanted, &headers, peer).await?;
        let mut response = Response::new(Body::from(draw(&edges)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    };
    drawn.await.unwrap_or_else(|error| failure(&error))
}

async fn edges(
    engine: &Engine,
    wanted: &Wanted,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Result<Vec<Edge>, QueryError> {
    let caller = caller(engine, headers)?;
    let mut params = Vec::new();
    let mut bound = |given: &Option<String>, default: &str| match given {
        None => default.to_owned(),
        Some(text) => {
            params.push(ScalarValue::Utf8View(Some(text.clone())));
            format!("CAST(${} AS TIMESTAMP)", params.len())
        }
    };
    let (from, until) = (bound(&wanted.from, "now() - INTERVAL '1 hour'"), bound(&wanted.until, "now()"));
    let sql =
        format!("SELECT * FROM service_graph({from}, {until}) ORDER BY requests DESC LIMIT {EDGES_MAX}");
    let question = Question { sql, params, caller, protocol: Protocol::Http, client: peer.to_string() };
    let mut answer = engine.ask(question).await?;
    let mut encoder = Encoder::new(Format::Json, &answer.schema).inspect_err(|error| answer.fail(error))?;
    let mut json = Vec::new();
    while let Some(batch) = answer.next().await? {
        json.extend(encoder.batch(&batch)?);
    }
    json.extend(encoder.end()?);
    answer.sent(json.len() as u64);
    answer.finish();
    serde_json::from_slice(&json).map_err(|error| QueryError::Encode(error.to_string()))
}

fn as_json(edges: &[Edge]) -> String {
    let mut nodes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for edge in edges {
        nodes.entry(&edge.caller).or_default();
        let (requests, errors) = nodes.entry(&edge.callee).or_default();
        (*requests, *errors) = (*requests + edge.requests, *errors + edge.errors);
    }
    let nodes = nodes
        .into_iter()
        .map(|(id, (requests, errors))| json!({"id": id, "requests": requests, "errors": errors}));
    format!("{}\n", json!({"nodes": nodes.collect::<Vec<_>>(), "edges": edges}))
}

/// What stands at an edge.
fn label(edge: &Edge) -> String {
    let p95 = edge.p95_ms.map(|ms| format!(", p95 {ms:.1} ms")).unwrap_or_default();
    format!("{} requests, {:.2} % errors{p95}", edge.requests, 100.0 * edge.error_rate)
}

/// How thick an edge is: by the decimal logarithm of its requests.
fn width(edge: &Edge) -> f64 {
    1.0 + (edge.requests.max(1) as f64).log10()
}

/// The DOT language: names and labels are quoted strings, in which a quote and a backslash are escaped.
fn as_dot(edges: &[Edge]) -> String {
    let quoted = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        format!("\"{escaped}\"")
    };
    let mut out = String::from("digraph tollhouse {\n  rankdir=LR;\n  node [shape=box];\n");
    for edge in edges {
        let colour = if edge.error_rate > 0.0 { ", color=red" } else { "" };
        let (caller, callee, label) = (quoted(&edge.caller), quoted(&edge.callee), quoted(&label(edge)));
        // Writing to a String does not fail.
        let _fits =
            writeln!(out, "  {caller} -> {callee} [label={label}, penwidth={:.1}{colour}];", width(edge));
    }
    out + "}\n"
}

/// Mermaid's flow chart: nodes have ids of their own, and names are quoted, in which HTML's entities stand for what ends
/// them.
fn as_mermaid(edges: &[Edge]) -> String {
    let quoted = |text: &str| {
        let entity = |letter: char| match letter {
            '"' | '<' | '>' | '&' | '#' | ';' | '\\' | '`' => format!("#{};", u32::from(letter)),
            letter if letter.is_control() => " ".into(),
            letter => letter.to_string(),
        };
        format!("\"{}\"", text.chars().map(entity).collect::<String>())
    };
    let names: Vec<&str> = edges.iter().flat_map(|edge| [edge.caller.as_str(), &edge.callee]).collect();
    let numbers: BTreeMap<&str, usize> =
        names.into_iter().rev().enumerate().map(|(n, name)| (name, n)).collect();
    let mut out = String::from("flowchart LR\n");
    for (name, number) in &numbers {
        let _fits = writeln!(out, "  n{number}[{}]", quoted(name));
    }
    for edge in edges {
        let (caller, callee) = (numbers[edge.caller.as_str()], numbers[edge.callee.as_str()]);
        let _fits = writeln!(out, "  n{caller} -->|{}| n{callee}", quoted(&label(edge)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(caller: &str, callee: &str) -> Edge {
        Edge {
            caller: caller.into(),
            callee: callee.into(),
            requests: 100,
            requests_per_s: 1.0,
            errors: 5,
            error_rate: 0.05,
            p50_ms: Some(1.0),
            p95_ms: Some(2.25),
            p99_ms: None,
            critical_share: None,
        }
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        let edges = [edge("web", "a\"]; x -> y \\"), edge("a\"]; x -> y \\", "db\n--> evil")];
        let dot = as_dot(&edges);
        assert!(dot.contains(r#"  "web" -> "a\"]; x -> y \\" [label="100 requests, 5.00 % errors, p95 2.2 ms", penwidth=3.0, color=red];"#), "{dot}");
        assert_eq!(dot.lines().count(), 6);
        let mermaid = as_mermaid(&edges);
        assert_eq!(mermaid.lines().count(), 1 + 3 + 2, "{mermaid}");
        assert!(mermaid.contains("[\"a#34;]#59; x -#62; y #92;\"]"), "{mermaid}");
        let json: serde_json::Value = serde_json::from_str(&as_json(&edges)).unwrap();
        assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(json["edges"][0]["p99_ms"], serde_json::Value::Null);
    }
}
