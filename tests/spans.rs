//! A real Jaeger receives the spans and shows the trace: the client's parent, the gateway's server span, and a client
//! span for the attempt upstream.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::client;
use support::eventually;
use support::origin::Origin;
use support::site::Site;
use support::tool::{self, Running, free_addr};

const TRACE: &str = "7c5a1f0de2b94d36a1c8e07f5b6d2e91";
const CLIENT_SPAN: &str = "1122334455667788";

fn tag<'a>(span: &'a Value, key: &str) -> &'a Value {
    let tags = span["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    tags.iter().find(|tag| tag["key"] == key).map_or(&Value::Null, |tag| &tag["value"])
}

fn trace_in_jaeger(protocol: &str) {
    let origin = Origin::start();
    let (query, grpc, http) = (free_addr(), free_addr(), free_addr());
    let intake = if protocol == "grpc" { grpc } else { http };
    let site = Site::new(origin.addr).set(
        &["collector", "otlp"],
        json!({ "endpoint": format!("http://{intake}"), "protocol": protocol, "interval_ms": 100 }),
    );
    // Every listener gets a port of its own, so that tests run side by side.
    let mut command = Command::new(tool::jaeger());
    command.env("SPAN_STORAGE_TYPE", "memory");
    command.arg("--collector.otlp.enabled=true");
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
    let log = site.folder().join("jaeger.log");
    command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut jaeger = Running(command.spawn().unwrap());
    eventually("Jaeger to answer", || match client::get(query, "/api/services", &[]) {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => match jaeger.0.try_wait().unwrap() {
            Some(status) => panic!("Jaeger ended, {status}: {}", std::fs::read_to_string(&log).unwrap()),
            None => Err(format!("{other:?}")),
        },
    });

    let house = site.run();
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    let reply = house.get("/open/headers", &[("traceparent", &parent)]);
    assert_eq!(reply.status, 200);
    let upstream: Value = serde_json::from_slice(&reply.body).unwrap();
    let headers = upstream["headers"].as_array().unwrap();
    let sent =
        headers.iter().find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case("traceparent")).unwrap();
    let sent: Vec<_> = sent[1].as_str().unwrap().split('-').map(str::to_owned).collect();
    assert_eq!(sent[1], TRACE);

    let spans = eventually("two spans in Jaeger", || {
        let reply =
            client::get(query, &format!("/api/traces/{TRACE}"), &[]).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
        match answer["data"][0]["spans"].as_array() {
            Some(spans) if spans.len() == 2 => Ok(spans.clone()),
            _ => Err(answer.to_string()),
        }
    });
    let kind = |kind: &str| spans.iter().find(|span| tag(span, "span.kind") == kind).unwrap();
    let (server, attempt) = (kind("server"), kind("client"));
    assert_eq!(server["references"][0]["spanID"], CLIENT_SPAN, "{server}");
    assert_eq!(attempt["references"][0]["spanID"], server["spanID"], "{attempt}");
    assert_eq!(attempt["spanID"], sent[2].as_str(), "the upstream was told of the attempt's span");
    for span in [server, attempt] {
        assert_eq!(tag(span, "http.request.method"), "GET", "{span}");
        assert_eq!(tag(span, "http.response.status_code"), 200, "{span}");
    }
    house.rows(1);
    let row = &house.sql("SELECT encode(span_id, 'hex') AS span, duration_us FROM requests")[0];
    assert_eq!((&row["span"], &row["duration_us"]), (&server["spanID"], &server["duration"]));
}

#[test]
fn spans_arrive_in_jaeger_by_grpc() {
    trace_in_jaeger("grpc");
}

#[test]
fn spans_arrive_in_jaeger_by_http() {
    trace_in_jaeger("http");
}
