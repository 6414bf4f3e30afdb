//! `GET /openapi.json`: what this door answers, as OpenAPI 3.1 says it.

use ::http::header::{CONTENT_TYPE, HeaderValue};
use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

pub(super) async fn document() -> Response {
    let mut response = Response::new(Body::from(written().to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn written() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollhouse analytics",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "SQL over the recorded requests, live rows included. Only statements that read are answered.",
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The secret of one of analytics.tokens."},
                "basic": {"type": "http", "scheme": "basic", "description": "The same as the password."},
            },
            "parameters": parameters(),
            "headers": headers(),
            "responses": responses(),
            "schemas": schemas(),
        },
    })
}

fn paths() -> Value {
    let form = json!([reference("parameters", "format"), reference("parameters", "page_rows")]);
    let with = |more: Value| {
        let mut all = vec![more];
        all.extend(form.as_array().into_iter().flatten().cloned());
        Value::from(all)
    };
    let q = json!({"name": "q", "in": "query", "required": true, "schema": {"type": "string"}, "description": "The statement."});
    let text = |description: &str| json!({"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}});
    let health = |summary: &str| json!({"get": {"summary": summary, "security": [{}], "responses": {"200": text("Yes."), "default": reference("responses", "error")}}});
    json!({
        "/sql": {
            "get": {
                "summary": "Answers a statement.", "operationId": "askByGet",
                "parameters": with(q), "responses": answers("answer"),
            },
            "post": {
                "summary": "Answers a statement.", "operationId": "ask", "parameters": form,
                "requestBody": {"required": true, "content": {
                    "application/json": {"schema": reference("schemas", "Question")},
                    "text/plain": {"schema": {"type": "string"}},
                }},
                "responses": answers("answer"),
            },
        },
        "/queries/{id}": {
            "parameters": [reference("parameters", "id")],
            "get": {"summary": "How far a query is.", "operationId": "progress", "responses": answers("progress")},
            "delete": {
                "summary": "Cancels a query.", "operationId": "cancel",
                "responses": {
                    "200": reference("responses", "progress"), "202": reference("responses", "progress"),
                    "default": reference("responses", "error"),
                },
            },
        },
        "/queries/{id}/next": {
            "parameters": [reference("parameters", "id")],
            "get": {"summary": "The next page of an answer.", "operationId": "next", "responses": answers("answer")},
        },
        "/graph": {"get": {
            "summary": "Who calls whom.", "operationId": "graph",
            "parameters": [
                {"name": "from", "in": "query", "schema": {"type": "string"}, "description": "An hour ago without it."},
                {"name": "until", "in": "query", "schema": {"type": "string"}, "description": "Now without it."},
                {"name": "format", "in": "query", "schema": {"enum": ["json", "dot", "mermaid"]}},
            ],
            "responses": {
                "200": {"description": "The graph.", "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/vnd.graphviz": {"schema": {"type": "string"}},
                    "text/vnd.mermaid": {"schema": {"type": "string"}},
                }},
                "default": reference("responses", "error"),
            },
        }},
        "/session": {"get": {
            "summary": "Who one is by one's token, and what one may see.", "operationId": "session",
            "responses": answers("session"),
        }},
        "/openapi.json": {"get": {
            "summary": "This document.", "security": [{}],
            "responses": {"200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}}},
        }},
        "/healthz": health("Whether the service runs."),
        "/readyz": health("Whether the data folder can be read."),
    })
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

fn answers(good: &str) -> Value {
    json!({"200": reference("responses", good), "default": reference("responses", "error")})
}

fn parameters() -> Value {
    json!({
        "format": {
            "name": "format", "in": "query", "schema": {"enum": ["json", "ndjson", "csv", "arrow", "parquet"]},
            "description": "In the place of the header Accept.",
        },
        "page_rows": {
            "name": "page_rows", "in": "query", "schema": {"type": "integer", "minimum": 1},
            "description": "Rows of a page. Where there are more, X-Tollhouse-Next says where the next page is.",
        },
        "id": {
            "name": "id", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 1},
            "description": "As X-Tollhouse-Query-Id and system.queries say it.",
        },
    })
}

fn headers() -> Value {
    let header =
        |kind: &str, description: &str| json!({"schema": {"type": kind}, "description": description});
    json!({
        "query_id": header("integer", "The query's id in system.queries."),
        "next": header("string", "Where the next page is."),
        "partial": header("string", "Files that are damaged and were left out."),
    })
}

fn responses() -> Value {
    let json = |schema: &str| json!({"application/json": {"schema": reference("schemas", schema)}});
    let bytes = json!({"schema": {}});
    json!({
        "answer": {
            "description": "The rows, in the wanted format.",
            "headers": {
                "X-Tollhouse-Query-Id": reference("headers", "query_id"),
                "X-Tollhouse-Next": reference("headers", "next"),
                "X-Tollhouse-Partial": reference("headers", "partial"),
            },
            "content": {
                "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
                "application/x-ndjson": bytes, "text/csv": bytes, "application/vnd.apache.arrow.stream": bytes,
                "application/vnd.apache.parquet": bytes,
            },
        },
        "progress": {"description": "A query.", "content": json("Query")},
        "session": {"description": "Who asks.", "content": json("Session")},
        "error": {"description": "Why there is no answer.", "content": json("Error")},
    })
}

fn schemas() -> Value {
    json!({
        "Question": {
            "type": "object", "required": ["query"], "additionalProperties": false,
            "properties": {
                "query": {"type": "string", "description": "One statement that only reads."},
                "params": {
                    "type": "array", "items": {"type": ["string", "number", "boolean", "null"]},
                    "description": "The values of $1, $2 ...",
                },
            },
        },
        "Query": {
            "type": "object",
            "required": ["id", "status", "user", "protocol", "started", "elapsed_ms", "rows", "bytes", "error"],
            "properties": {
                "id": {"type": "integer"},
                "status": {"enum": ["running", "ok", "failed", "cancelled"]},
                "user": {"type": "string"},
                "protocol": {"enum": ["http", "postgresql", "flight_sql"]},
                "started": {"type": ["string", "null"], "format": "date-time"},
                "elapsed_ms": {"type": "integer"},
                "rows": {"type": "integer", "description": "Made so far."},
                "bytes": {"type": "integer", "description": "Sent so far."},
                "error": {"type": ["string", "null"]},
            },
        },
        "Session": {
            "type": "object",
            "required": ["name", "tokens", "consumer", "workspace", "system", "timeout_ms", "rows_max", "version"],
            "properties": {
                "name": {"type": "string", "description": "Of the token; anonymous without one."},
                "tokens": {"type": "boolean", "description": "Whether a token is needed."},
                "consumer": {"type": ["string", "null"], "description": "Whose rows there are, when it is one consumer's."},
                "workspace": {"type": ["string", "null"], "description": "The same of a workspace."},
                "system": {"type": "boolean", "description": "Whether the schemas system and config may be read."},
                "timeout_ms": {"type": "integer", "description": "Longest time that a query may take."},
                "rows_max": {"type": "integer", "description": "Most rows that an answer may have."},
                "version": {"type": "string", "description": "Of Tollhouse."},
            },
        },
        "Error": {
            "type": "object", "required": ["error"],
            "properties": {"error": {
                "type": "object", "required": ["message", "code", "line", "column"],
                "properties": {
                    "message": {"type": "string"}, "code": {"type": "string"},
                    "line": {"type": ["integer", "null"]}, "column": {"type": ["integer", "null"]},
                },
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The routes as the router has them are in the source of this folder, so that none is forgotten.
    #[test]
    fn every_route_is_described() {
        let routes: Vec<&str> = include_str!("mod.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once('"').map(|(path, _)| path))
            .collect();
        let document = written();
        let described: Vec<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(routes.len() > 5, "{routes:?}");
        assert_eq!(routes, described);
        let line = |path: &str| {
            let route = format!(".route(\"{path}\", ");
            include_str!("mod.rs").lines().find(|line| line.contains(&route)).unwrap()
        };
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in ["get", "post", "delete"] {
                assert_eq!(
                    line(path).contains(&format!("{method}(")),
                    item.get(method).is_some(),
                    "{method} {path}"
                );
            }
        }
    }
}
