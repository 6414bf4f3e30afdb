//! A real Jaeger receives the spans and shows the trace: the client's parent, the gateway's server span, and a client
//! span for each attempt upstream.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use serde_json::{Value, json};
use support::jaeger::{Jaeger, of_kind, tag};
use support::origin::Origin;
use support::port::free_addr;
use support::site::Site;

const TRACE: &str = "7c5a1f0de2b94d36a1c8e07f5b6d2e91";
const CLIENT_SPAN: &str = "1122334455667788";

fn trace_in_jaeger(protocol: &str) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let jaeger = Jaeger::start(site.folder());
    let site = site.set(&["collector", "otlp"], jaeger.otlp(protocol));
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

    let spans = jaeger.spans(TRACE, 2);
    let (server, attempt) = (of_kind(&spans, "server"), of_kind(&spans, "client"));
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

#[test]
fn each_attempt_has_a_span_and_those_that_failed_say_so() {
    let origin = Origin::start();
    let dead = free_addr();
    let site = Site::new(origin.addr);
    let jaeger = Jaeger::start(site.folder());
    let site = site
        .set(&["collector", "otlp"], jaeger.otlp("grpc"))
        .set(
            &["upstreams"],
            json!([{ "name": "mixed", "targets": [
                { "target": dead.to_string() }, { "target": origin.addr.to_string() },
            ] }]),
        )
        .set(
            &["services"],
            json!([{ "name": "mixed", "host": "mixed", "retries": 3,
                     "routes": [{ "name": "mixed-route", "paths": ["/mixed"] }] }]),
        );
    let house = site.run();
    // Round-robin meets the dead target with one of two requests.
    let mut retried = None;
    for number in 0..2 {
        let trace = format!("{}{number}", &TRACE[..31]);
        let parent = format!("00-{trace}-{CLIENT_SPAN}-01");
        assert_eq!(house.get("/mixed/echo", &[("traceparent", &parent)]).status, 200);
        house.rows(number + 1);
        let asked = format!("SELECT attempts FROM requests WHERE encode(trace_id, 'hex') = '{trace}'");
        let attempts = house.sql(&asked)[0]["attempts"].as_array().unwrap().clone();
        let spans = jaeger.spans(&trace, 1 + attempts.len());
        if attempts.len() == 2 {
            retried = Some((attempts, spans));
        }
    }
    let (attempts, spans) = retried.expect("one request met the dead target and was tried again");
    let server = of_kind(&spans, "server");
    let mut tries: Vec<_> = spans.iter().filter(|span| tag(span, "span.kind") == "client").collect();
    tries.sort_by_key(|span| span["startTime"].as_u64());
    for (attempt, span) in attempts.iter().zip(&tries) {
        assert_eq!(span["references"][0]["spanID"], server["spanID"], "{span}");
        assert_eq!(span["duration"], attempt["duration_us"], "{span} {attempt}");
        let start = server["startTime"].as_u64().unwrap() + attempt["start_us"].as_u64().unwrap();
        assert_eq!(span["startTime"], start, "{span} {attempt}");
    }
    assert_eq!(attempts[0]["error"], "connect_failed", "{attempts:?}");
    assert_eq!(
        (tag(tries[0], "error"), tag(tries[0], "error.type")),
        (&true.into(), &"connect_failed".into())
    );
    assert_eq!(tag(tries[0], "server.port"), dead.port());
    assert_eq!(
        (tag(tries[1], "error"), tag(tries[1], "http.response.status_code")),
        (&Value::Null, &200.into())
    );
    assert_eq!(tag(tries[1], "http.request.resend_count"), 1);
    assert_eq!(tag(server, "error"), &Value::Null, "the answer was good in the end");
}
