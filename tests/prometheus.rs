//! A real Prometheus scrapes the gateway; what its API answers is what SQL answers.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site};
use support::tool;

#[test]
fn a_real_prometheus_agrees_with_sql() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let prometheus = tool::Prometheus::start(site.folder(), house.addr("metrics"));
    for _ in 0..40 {
        house.get("/open/bytes/1000", &[]);
        house.get("/private/echo", &[("apikey", ALICE_KEY)]);
    }
    for _ in 0..5 {
        house.get("/private/status/500", &[("apikey", BOB_KEY)]);
        house.get("/nowhere", &[]);
    }
    house.rows(90);
    eventually("Prometheus to have scraped all requests", || {
        let total = prometheus.number("sum(tollhouse_http_requests_total)")?;
        if total == 90.0 { Ok(()) } else { Err(format!("{total}")) }
    });
    for (query, statement) in [
        (
            "sum(tollhouse_http_requests_total{status_class=\"5xx\"})",
            "SELECT count(*) AS n FROM requests WHERE status >= 500",
        ),
        (
            "sum(tollhouse_http_requests_total{consumer=\"alice\"})",
            "SELECT count(*) AS n FROM requests WHERE consumer = 'alice'",
        ),
        ("sum(tollhouse_http_response_bytes_total)", "SELECT sum(response_bytes) AS n FROM requests"),
        ("sum(tollhouse_http_request_duration_seconds_count)", "SELECT count(*) AS n FROM requests"),
    ] {
        let stored = house.number(statement);
        eventually(query, || match prometheus.number(query)? {
            value if value == stored as f64 => Ok(()),
            value => Err(format!("{value}, and {statement}: {stored}")),
        });
    }
    // A rate needs two scrapes with a difference between them.
    house.get("/open/echo", &[]);
    eventually("a rate and a percentile", || {
        let rate = prometheus.number("sum(rate(tollhouse_http_requests_total[1m]))")?;
        let p99 = prometheus.number(
            "histogram_quantile(0.99, sum by (le) (rate(tollhouse_http_request_duration_seconds_bucket[1m])))",
        )?;
        if rate > 0.0 && p99 > 0.0 { Ok(()) } else { Err(format!("rate {rate}, p99 {p99}")) }
    });
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    house.get("/open/echo", &[]);
    house.rows(1);
    let mut check = Command::new(tool::promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(house.metrics().as_bytes()).unwrap();
    let result = check.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&result.stderr).into_owned();
    assert!(result.status.success() && complaints.is_empty(), "{}: {complaints}", result.status);
}
