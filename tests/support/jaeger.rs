//! A real Jaeger of its own for a test: it takes spans by OTLP, and says by its query API what it took.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::port::free_addr;
use super::tool::{self, Running};
use super::{client, eventually};

/// A running Jaeger, which keeps spans in memory.
pub struct Jaeger {
    query: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
    _process: Running,
}

impl Jaeger {
    /// Starts one with its log in `folder`. Every listener gets a port of its own, so that tests run side by side.
    pub fn start(folder: &Path) -> Self {
        let (query, grpc, http) = (free_addr(), free_addr(), free_addr());
        let mut command = Command::new(tool::jaeger());
        command.env("SPAN_STORAGE_TYPE", "memory").arg("--collector.otlp.enabled=true");
        for (flag, addr) in [
            ("query.http-server.host-port", query),
            ("query.grpc-server.host-port", free_addr()),
            ("collector.otlp.grpc.host-port", grpc),
            ("collector.otlp.http.host-port", http),
            ("collector.grpc-server.host-port", free_addr()),
            ("collector.http-server.host-port", free_addr()),
            ("admin.http.host-port", free_addr()),
            ("http-server.host-port", free_addr()),
            ("processor.jaeger-compact.server-host-port", free_addr()),
            ("processor.jaeger-binary.server-host-port", free_addr()),
            ("processor.zipkin-compact.server-host-port", free_addr()),
        ] {
            command.arg(format!("--{flag}={addr}"));
        }
        let log = folder.join("jaeger.log");
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let mut process = Running(command.spawn().unwrap());
        eventually("Jaeger to answer", || match client::get(query, "/api/services", &[]) {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => match process.0.try_wait().unwrap() {
                Some(status) => panic!("Jaeger ended, {status}: {}", std::fs::read_to_string(&log).unwrap()),
                None => Err(format!("{other:?}")),
            },
        });
        Self { query, grpc, http, _process: process }
    }

    /// The value of `collector.otlp` that exports here: `grpc` or `http`.
    pub fn otlp(&self, protocol: &str) -> Value {
        let intake = if protocol == "grpc" { self.grpc } else { self.http };
        json!({ "endpoint": format!("http://{intake}"), "protocol": protocol, "interval_ms": 100 })
    }

    /// Waits until a trace has exactly so many spans. More of them fails at once.
    pub fn spans(&self, trace: &str, count: usize) -> Vec<Value> {
        eventually("spans in Jaeger", || {
            let answer = self.ask(&format!("/api/traces/{trace}"))?;
            match answer["data"][0]["spans"].as_array() {
                Some(spans) if spans.len() == count => Ok(spans.clone()),
                Some(spans) if spans.len() > count => panic!("{} spans for {count}: {answer}", spans.len()),
                _ => Err(answer.to_string()),
            }
        })
    }

    /// What its query API answers.
    pub fn ask(&self, target: &str) -> Result<Value, String> {
        let reply = client::get(self.query, target, &[]).map_err(|error| error.to_string())?;
        serde_json::from_slice(&reply.body).map_err(|error| error.to_string())
    }
}

/// The value of a span's tag, or null.
pub fn tag<'a>(span: &'a Value, key: &str) -> &'a Value {
    let tags = span["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    tags.iter().find(|tag| tag["key"] == key).map_or(&Value::Null, |tag| &tag["value"])
}

/// The one span of a kind, `server` or `client`.
pub fn of_kind<'a>(spans: &'a [Value], kind: &str) -> &'a Value {
    let mut found = spans.iter().filter(|span| tag(span, "span.kind") == kind);
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        _ => panic!("not one span of kind {kind}: {spans:?}"),
    }
}
