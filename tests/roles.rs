//! The three roles as processes of their own on one data folder answer as one process does, whatever the order in
//! which they start and end.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::client::{self, Connection};
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};

/// Traffic with every column that does not depend on time.
fn traffic(gateway: std::net::SocketAddr) -> u64 {
    for number in 0..20 {
        let path = format!("/private/status/{}", [200, 201, 404, 500][number % 4]);
        client::get(gateway, &path, &[("apikey", [ALICE_KEY, BOB_KEY][number % 2])]).unwrap();
    }
    client::exchange(gateway, "POST", "/open/count", &[], &[b'u'; 5000]).unwrap();
    client::get(gateway, "/private/echo", &[("apikey", "nobody's")]).unwrap();
    client::get(gateway, "/nowhere", &[]).unwrap();
    client::get(gateway, "/open/reset/10", &[]).unwrap_err();
    // Two of one connection.
    let mut connection = Connection::open(gateway).unwrap();
    connection.exchange("GET", "/open/bytes/70000", &[], b"").unwrap();
    connection.exchange("HEAD", "/open/bytes/70000", &[], b"").unwrap();
    26
}

/// What both houses must say alike: rows, metrics, books.
fn answers(sql: &Tollhouse, metrics: &Tollhouse, expected: u64) -> Vec<Value> {
    sql.rows(expected);
    let mut said = Vec::new();
    for statement in [
        "SELECT method, path, status, service, route, consumer, outcome, source, upstream_status, \
         cardinality(attempts) AS attempts, count(*) AS n, sum(request_bytes) AS received, \
         sum(response_bytes) AS sent FROM requests GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 \
         ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
        "SELECT consumer, requests, errors FROM consumers ORDER BY consumer",
        "SELECT service, requests, errors FROM services ORDER BY service",
        "SELECT route, requests, errors FROM routes ORDER BY route",
        "SELECT caller, callee, requests FROM call_graph ORDER BY 1, 2",
    ] {
        let rows = sql.sql(statement);
        assert!(!rows.is_empty(), "no rows: {statement}");
        said.push(rows.into());
    }
    let row = eventually("a settled ledger", || {
        let rows = sql.try_sql(
            "SELECT produced, stored, dropped, in_flight FROM system.ledger WHERE sink = 'parquet'",
        )?;
        match rows.as_slice() {
            [row] if row["stored"] == expected => Ok(row.clone()),
            _ => Err(format!("{rows:?}")),
        }
    });
    said.push(row);
    let tries = sql.number("SELECT sum(cardinality(attempts)) AS n FROM requests");
    said.push(eventually("the upstreams' state", || {
        let rows = sql.try_sql(
            "SELECT service, upstream, state, sum(requests) AS requests, sum(failures) AS failures \
             FROM system.upstreams GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        )?;
        let counted: u64 = rows.iter().filter_map(|row| row["requests"].as_u64()).sum();
        if counted == tries { Ok(rows.into()) } else { Err(format!("{rows:?} for {tries} tries")) }
    }));
    for (name, labels) in [
        ("tollhouse_http_requests_total", vec![]),
        ("tollhouse_http_requests_total", vec!["consumer=\"bob\"", "status_class=\"5xx\""]),
        ("tollhouse_http_requests_total", vec!["source=\"gateway\""]),
        ("tollhouse_http_request_bytes_total", vec![]),
        ("tollhouse_http_response_bytes_total", vec!["service=\"open\""]),
        ("tollhouse_upstream_attempts_total", vec![]),
        ("tollhouse_upstream_target_healthy", vec![]),
        ("tollhouse_upstream_target_requests_total", vec![]),
        ("tollhouse_upstream_target_failures_total", vec![]),
    ] {
        let value = eventually(name, || match metrics.metric(name, &labels) {
            0.0 => Err(format!("no {name} {labels:?}")),
            value => Ok(value),
        });
        said.push(serde_json::json!([name, labels, value]));
    }
    said
}

#[test]
fn three_processes_answer_as_one_does() {
    let origin = Origin::start();
    let whole_site = Site::new(origin.addr);
    let whole = whole_site.run();
    let expected = traffic(whole.gateway());
    let said = answers(&whole, &whole, expected);

    let site = Site::new(origin.addr);
    // Against the stream: each begins on a folder where nothing is yet.
    let analytics = site.start("analytics");
    assert_eq!(analytics.number("SELECT count(*) AS n FROM requests"), 0);
    let collector = site.start("collector");
    let proxy = site.start("proxy");
    assert_eq!(traffic(proxy.gateway()), expected);
    assert_eq!(answers(&analytics, &collector, expected), said);

    // The collector ends first, and the rows of what it no longer sees come with the next one.
    assert!(collector.terminate().success());
    assert_eq!(client::get(proxy.gateway(), "/open/echo", &[]).unwrap().status, 200);
    assert!(proxy.terminate().success());
    assert_eq!(analytics.number("SELECT count(*) AS n FROM requests"), expected);
    let collector = site.start("collector");
    analytics.rows(expected + 1);
    assert!(analytics.terminate().success());
    assert!(collector.terminate().success());

    // What three processes wrote, one reads on.
    let whole = site.run();
    whole.rows(expected + 1);
    assert_eq!(whole.get("/open/echo", &[]).status, 200);
    whole.rows(expected + 2);
}

#[test]
fn a_relative_data_folder_is_one_of_the_working_directory() {
    let origin = Origin::start();
    // One row per hot file, so that answers come from Parquet too.
    let site = Site::new(origin.addr).set(&["collector", "seal", "rows_max"], 1.into());
    let mut command = site.command("run");
    // The last `--data` would be an error, so this one takes the place of the absolute one.
    let mut relative = std::process::Command::new(command.get_program());
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    relative
        .args(args.iter().map(|arg| if Path::new(arg) == site.data() { "data".into() } else { arg.clone() }));
    relative.current_dir(site.folder());
    command = relative;
    let house = site.launch("run", command);
    for _ in 0..3 {
        assert_eq!(house.get("/open/echo", &[]).status, 200);
    }
    house.rows(3);
    eventually("rows in Parquet", || {
        let files = house
            .number("SELECT count(*) AS n FROM system.files WHERE path LIKE '%.parquet' AND status = 'ok'");
        if files > 0 { Ok(()) } else { Err("no Parquet file".into()) }
    });
    house.rows(3);
    assert_eq!(house.number("SELECT count(DISTINCT request_id) AS n FROM requests"), 3);
    assert!(site.data().join("requests").is_dir());
}
