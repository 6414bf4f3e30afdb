//! The tables of traffic by the minute and by the hour are `requests`, at every moment: while rows come in, while they are
//! sealed, after a start, and after `tollhouse rollup rebuild`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod equal;

use event::layout::{DataFolder, Manifest};
use serde_json::Value;
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, Site, Tollhouse};

/// Everything that both can say, asked in one statement: it has one snapshot.
fn sides(table: &str, keys: &str) -> String {
    let failed = "status >= 500 OR outcome IN ('connect_failed', 'no_healthy_upstream', 'upstream_reset')";
    format!(
        "SELECT 'rolled' AS side, {keys}, CAST(sum(requests) AS BIGINT) AS requests, \
         CAST(sum(errors) AS BIGINT) AS errors, sum(request_bytes) AS sent, sum(response_bytes) AS received, \
         sketch_percentile(latency_merge(duration_sketch), 0.9) AS p90, \
         sketch_percentile(latency_merge(gateway_sketch), 0.5) AS p50, \
         CAST(distinct_count(distinct_merge(clients_sketch)) AS BIGINT) AS clients FROM {table} GROUP BY {keys} \
         UNION ALL SELECT 'raw' AS side, {keys}, count(*), count(*) FILTER (WHERE {failed}), \
         sum(request_bytes), sum(response_bytes), latency_percentile(duration_us, 0.9), \
         latency_percentile(gateway_us, 0.5), count(DISTINCT client_ip) FROM (SELECT *, \
         CASE WHEN status IS NULL THEN 'none' ELSE concat(status / 100, 'xx') END AS status_class FROM requests) \
         GROUP BY {keys} ORDER BY side, {keys}"
    )
}

/// Asserts that both say the same, and gives how many requests there are.
fn assert_same(house: &Tollhouse) -> u64 {
    let mut requests = 0;
    for table in ["traffic_1m", "traffic_1h"] {
        for keys in ["service", "consumer, status_class", "service, route, consumer, status_class"] {
            let rows = house.sql(&sides(table, keys));
            let of = |side: &str| -> Vec<Value> {
                let mine = rows.iter().filter(|row| row["side"] == side).cloned();
                mine.map(|mut row| {
                    row.as_object_mut().unwrap().remove("side");
                    row
                })
                .collect()
            };
            assert_eq!(of("raw"), of("rolled"), "{table} by {keys}");
            requests = of("raw").iter().map(|row| row["requests"].as_u64().unwrap()).sum();
        }
    }
    requests
}

fn traffic(house: &Tollhouse, turns: u64) {
    for turn in 0..turns {
        house.get(&format!("/open/bytes/{}", turn * 100), &[]);
        house.get("/private/echo", &[("apikey", ALICE_KEY)]);
        house.get("/private/status/503", &[("apikey", ALICE_KEY)]);
        house.get("/private/echo", &[]);
        house.get("/nowhere", &[]);
    }
}

#[test]
fn traffic_adds_up_to_requests_at_every_moment() {
    let origin = Origin::start();
    // Some rows are sealed, some are hot, all the time.
    let site = Site::new(origin.addr).set(&["collector", "seal"], serde_json::json!({"rows_max": 20}));
    let house = site.run();
    for _ in 0..6 {
        traffic(&house, 5);
        assert_same(&house);
    }
    house.rows(150);
    assert_eq!(assert_same(&house), 150);
    eventually("sealed roll-ups", || {
        let found = "SELECT count(*) AS n FROM system.files WHERE kind LIKE 'rollup_1_' AND status = 'ok'";
        if house.number(found) > 3 { Ok(()) } else { Err("none".into()) }
    });
    assert_eq!(assert_same(&house), 150);
    let minutes =
        "SELECT count(*) AS n FROM traffic_1m WHERE time > now() - INTERVAL '2 hours' AND service = 'open'";
    assert!(house.number(minutes) > 0);

    let (code, errors) = site.ends("rollup", rebuild(&site));
    assert_eq!(code, 1);
    assert!(errors.contains("has a collector already"), "{errors}");
    assert!(house.terminate().success());

    // A folder of an older version has rows and no roll-ups: the command makes them.
    let folder = DataFolder::open(&site.data()).unwrap();
    let mut manifest = Manifest::load(&folder).unwrap();
    assert!(!manifest.rollups.is_empty());
    manifest.rollups.clear();
    manifest.store(&folder).unwrap();
    let analytics = site.start("analytics");
    assert_eq!(analytics.sql("SELECT sum(requests) AS n FROM traffic_1h")[0]["n"], Value::Null);
    let said = rebuild(&site).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && text.contains("150 requests"), "{text}");
    assert_eq!(assert_same(&analytics), 150);
    assert!(analytics.terminate().success());
    let house = site.run();
    traffic(&house, 2);
    house.rows(160);
    assert_eq!(assert_same(&house), 160);
    assert!(house.terminate().success());
}

fn rebuild(site: &Site) -> std::process::Command {
    let mut command = site.command("rollup");
    let program = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().skip(1).map(ToOwned::to_owned).collect();
    command = std::process::Command::new(program);
    command.args(["rollup", "rebuild"]).args(args);
    command
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let (code, errors) = site.ends("rollup", rebuild(&site));
    assert_eq!(code, 1);
    assert!(errors.contains("is no folder"), "{errors}");
    assert!(!site.data().exists());
}
