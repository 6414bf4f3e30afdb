//! One request is one response, one row, one increment and one span, with equal values in each.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use serde_json::Value;
use support::client;
use support::eventually;
use support::jaeger::{Jaeger, of_kind, tag};
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn response_row_metric_and_span_agree() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let jaeger = Jaeger::start(site.folder());
    let site = site.set(&["collector", "otlp"], jaeger.otlp("grpc"));
    let house = site.run();
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("apikey", ALICE_KEY), ("traceparent", parent.as_str()), ("User-Agent", "journey/1")];
    let reply = client::exchange(house.gateway(), "POST", "/private/echo", &headers, b"five!").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "five!"));
    house.rows(1);

    let rows = house.sql(
        "SELECT encode(request_id, 'hex') AS request_id, encode(trace_id, 'hex') AS trace_id, \
         encode(parent_span_id, 'hex') AS parent, encode(span_id, 'hex') AS span, \
         CAST(arrow_cast(time, 'Int64') AS BIGINT) AS time_us, method, path, status, service, route, consumer, \
         outcome, source, client_ip, user_agent, request_bytes, response_bytes, duration_us, gateway_us, \
         upstream_us, attempts FROM requests",
    );
    let row = &rows[0];
    assert_eq!(row["request_id"], reply.request_id().as_str());
    assert_eq!(row["trace_id"], TRACE);
    assert_eq!(row["parent"], "00f067aa0ba902b7");
    for (column, value) in [
        ("method", "POST"),
        ("path", "/private/echo"),
        ("service", "private"),
        ("route", "private-route"),
        ("consumer", "alice"),
        ("outcome", "ok"),
        ("source", "upstream"),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    assert_eq!(
        (&row["status"], &row["request_bytes"], &row["response_bytes"]),
        (&200.into(), &5.into(), &5.into())
    );
    let duration_us = row["duration_us"].as_u64().unwrap();
    assert!(duration_us > 0 && row["gateway_us"].as_u64().unwrap() <= duration_us, "{row}");

    let labels = [
        "service=\"private\"",
        "route=\"private-route\"",
        "consumer=\"alice\"",
        "method=\"POST\"",
        "status_class=\"2xx\"",
        "source=\"upstream\"",
    ];
    eventually("the metrics", || match house.metric("tollhouse_http_requests_total", &labels) {
        1.0 => Ok(()),
        other => Err(format!("{other} requests in\n{}", house.metrics())),
    });
    assert_eq!(house.metric("tollhouse_http_requests_total", &[]), 1.0);
    assert_eq!(house.metric("tollhouse_http_request_bytes_total", &labels[..3]), 5.0);
    assert_eq!(house.metric("tollhouse_http_response_bytes_total", &labels[..3]), 5.0);
    assert_eq!(house.metric("tollhouse_http_request_duration_seconds_count", &labels[..3]), 1.0);
    let seconds = house.metric("tollhouse_http_request_duration_seconds_sum", &labels[..3]);
    assert!(
        (seconds - duration_us as f64 / 1e6).abs() < 1e-6,
        "{seconds} s in metrics, {duration_us} µs in the row"
    );

    let spans = jaeger.spans(TRACE, 2);
    let (server, attempt) = (of_kind(&spans, "server"), of_kind(&spans, "client"));
    for (what, span, row) in [
        ("trace id", &server["traceID"], &row["trace_id"]),
        ("span id", &server["spanID"], &row["span"]),
        ("parent", &server["references"][0]["spanID"], &row["parent"]),
        ("start", &server["startTime"], &row["time_us"]),
        ("duration", &server["duration"], &row["duration_us"]),
        ("request id", tag(server, "tollhouse.request_id"), &row["request_id"]),
        ("method", tag(server, "http.request.method"), &row["method"]),
        ("path", tag(server, "url.path"), &row["path"]),
        ("status", tag(server, "http.response.status_code"), &row["status"]),
        ("service", tag(server, "tollhouse.service"), &row["service"]),
        ("route", tag(server, "http.route"), &row["route"]),
        ("consumer", tag(server, "tollhouse.consumer"), &row["consumer"]),
        ("outcome", tag(server, "tollhouse.outcome"), &row["outcome"]),
        ("client", tag(server, "client.address"), &row["client_ip"]),
        ("user agent", tag(server, "user_agent.original"), &row["user_agent"]),
        ("request bytes", tag(server, "http.request.body.size"), &row["request_bytes"]),
        ("response bytes", tag(server, "http.response.body.size"), &row["response_bytes"]),
        ("upstream's duration", &attempt["duration"], &row["attempts"][0]["duration_us"]),
        ("upstream's status", tag(attempt, "http.response.status_code"), &row["attempts"][0]["status"]),
    ] {
        assert!(!row.is_null(), "the row has no {what}: {rows:?}");
        assert_eq!(span, row, "{what}: in the span, in the row");
    }
    assert_eq!(attempt["references"][0]["spanID"], server["spanID"]);
    // The metric's example of such a request is this one.
    let page = client::get(house.addr("metrics"), "/metrics", &[("Accept", "application/openmetrics-text")]);
    let page = page.unwrap().text();
    let bucket = |line: &&str| {
        line.starts_with("tollhouse_http_request_duration_seconds_bucket{") && line.contains(TRACE)
    };
    let exemplar = page.lines().find(bucket).unwrap_or_else(|| panic!("no exemplar of the trace in\n{page}"));
    assert!(labels[..3].iter().all(|label| exemplar.contains(label)), "{exemplar}");
}

#[test]
fn every_kind_of_answer_is_recorded_with_its_reason() {
    let origin = Origin::start();
    let dead = support::port::free_addr();
    let site = Site::new(origin.addr);
    let site = site.set(
        &["services"],
        serde_json::json!([
            { "name": "open", "url": format!("http://{}", origin.addr),
              "routes": [{ "name": "open-route", "paths": ["/open"] }] },
            { "name": "private", "url": format!("http://{}", origin.addr),
              "routes": [{ "name": "private-route", "paths": ["/private"] }],
              "plugins": [{ "name": "key-auth" }] },
            { "name": "dead", "url": format!("http://{dead}"), "retries": 1,
              "routes": [{ "name": "dead-route", "paths": ["/dead"] }] },
            { "name": "hasty", "url": format!("http://{}", origin.addr), "read_timeout": 100, "retries": 0,
              "routes": [{ "name": "hasty-route", "paths": ["/hasty"] }] },
        ]),
    );
    let house = site.run();
    let cases: [(&str, Option<&str>, u16, &str, &str); 7] = [
        ("/open/echo", None, 200, "ok", "upstream"),
        ("/open/status/503", None, 503, "ok", "upstream"),
        ("/nowhere", None, 404, "no_route", "gateway"),
        ("/private/echo", None, 401, "unauthenticated", "gateway"),
        ("/private/echo", Some("no such key"), 401, "unauthenticated", "gateway"),
        ("/private/echo", Some(BOB_KEY), 200, "ok", "upstream"),
        ("/hasty/slow/2000", None, 504, "upstream_timeout", "gateway"),
    ];
    let mut expected = Vec::new();
    for (target, key, status, outcome, source) in cases {
        let headers: Vec<_> = key.map(|key| ("apikey", key)).into_iter().collect();
        let reply = house.get(target, &headers);
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
        expected.push((reply.request_id(), u64::from(status), outcome, source));
    }
    let reply = house.get("/dead/echo", &[]);
    assert!([502, 503].contains(&reply.status), "{}", reply.status);
    expected.push((reply.request_id(), u64::from(reply.status), "connect_failed", "gateway"));
    house.rows(8);

    let rows = house.sql("SELECT encode(request_id, 'hex') AS id, status, outcome, source FROM requests");
    for (id, status, outcome, source) in expected {
        let row =
            rows.iter().find(|row| row["id"] == id.as_str()).unwrap_or_else(|| panic!("no row for {id}"));
        assert_eq!(row["status"], status, "{row}");
        assert_eq!((&row["outcome"], &row["source"]), (&Value::from(outcome), &Value::from(source)), "{row}");
    }
    eventually("as many requests in metrics", || match house.metric("tollhouse_http_requests_total", &[]) {
        8.0 => Ok(()),
        other => Err(format!("{other}")),
    });
}
