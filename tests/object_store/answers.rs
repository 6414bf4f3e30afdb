//! A second machine answers from the bucket as the first one does from its disk.

use std::process::Command;

use serde_json::Value;

use super::support::bucket::Store;
use super::support::origin::Origin;
use super::support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};
use super::support::{client, eventually};
use super::{reader, site, uploaded};

/// Requests of every kind that is grouped by.
fn traffic(house: &Tollhouse) -> u64 {
    for number in 0..60 {
        let path = format!("/private/status/{}", [200, 201, 404, 500][number % 4]);
        client::get(house.gateway(), &path, &[("apikey", [ALICE_KEY, BOB_KEY][number % 2])]).unwrap();
        client::get(house.gateway(), &format!("/open/bytes/{}", number * 100), &[]).unwrap();
    }
    120
}

/// What is asked of both.
fn answers(house: &Tollhouse) -> Vec<Value> {
    let sums = "sum(requests) AS requests, sum(errors) AS errors, sum(response_bytes) AS sent, \
                sketch_percentile(latency_merge(duration_sketch), 0.9) AS p90, \
                distinct_count(distinct_merge(clients_sketch)) AS clients";
    [
        "SELECT service, route, consumer, status, count(*) AS n, sum(response_bytes) AS sent, \
         latency_percentile(duration_us, 0.5) AS p50, latency_percentile(duration_us, 0.99) AS p99 \
         FROM requests GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
            .to_owned(),
        "SELECT count(DISTINCT request_id) AS n, min(time) AS first, max(time) AS last FROM requests".to_owned(),
        "SELECT count(*) AS n FROM requests WHERE time < now() - INTERVAL '1 day'".to_owned(),
        format!("SELECT time, service, consumer, status_class, {sums} FROM traffic_1m GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"),
        format!("SELECT time, service, {sums} FROM traffic_1h GROUP BY 1, 2 ORDER BY 1, 2"),
    ]
    .iter()
    .map(|statement| Value::from(house.sql(statement)))
    .collect()
}

#[test]
fn a_second_machine_answers_the_same_from_the_bucket() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let first = site(&origin, store.section());
    let house = first.run();
    let expected = traffic(&house);
    uploaded(&house, expected);
    let (_folder, second) = reader(&origin, store.section());
    second.rows(expected);
    assert_eq!(answers(&second), answers(&house));
    let places = |house: &Tollhouse| house.sql("SELECT DISTINCT place, status FROM system.files ORDER BY 1");
    assert_eq!(places(&second), [serde_json::json!({ "place": "bucket", "status": "ok" })]);
    assert_eq!(places(&house)[0]["place"], "both");
    // What comes is seen, rows of the first machine's hot files by itself only.
    let expected = expected + traffic(&house);
    uploaded(&house, expected);
    second.rows(expected);
    assert_eq!(answers(&second), answers(&house));
    // The first machine is gone.
    drop(house);
    second.rows(expected);
}

/// The page about operations: its configuration works as it stands there, with the addresses of this machine.
#[test]
fn the_configuration_in_the_documentation_fills_a_bucket() {
    let page =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md"));
    let page = page.unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Logs in a bucket")).unwrap();
    let example = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let text = example
        .replace("https://s3.eu-central-1.amazonaws.com", &format!("http://{}", store.addr()))
        .replace("region: eu-central-1", "region: us-east-1\n    allow_http: \"true\"")
        .replace("http://127.0.0.1:3000", &format!("http://{}", origin.addr));
    assert_ne!(text, example, "it leads to this machine");
    let plain = Site::new(origin.addr);
    let mut command: Command = plain.command("run");
    plain.replace(&text);
    command
        .env("S3_KEY_ID", super::support::bucket::KEY)
        .env("S3_SECRET", super::support::bucket::SECRET)
        .env("TOLLHOUSE_GATEWAY__LISTEN", "[{name: gateway, address: '127.0.0.1:0'}]")
        .env("TOLLHOUSE_COLLECTOR__METRICS__LISTEN", "127.0.0.1:0")
        .env("TOLLHOUSE_COLLECTOR__SEAL__INTERVAL_S", "1")
        .env("TOLLHOUSE_OBJECT_STORE__SYNC_INTERVAL_S", "1")
        .env("TOLLHOUSE_ANALYTICS__LISTEN", "127.0.0.1:0")
        .env("TOLLHOUSE_ANALYTICS__POSTGRES__LISTEN", "127.0.0.1:0")
        .env("TOLLHOUSE_ANALYTICS__FLIGHT__LISTEN", "127.0.0.1:0");
    let house = plain.launch("run", command);
    assert_eq!(house.get("/open/echo", &[]).status, 200);
    house.rows(1);
    eventually("an object of rows", || {
        let objects = store.objects();
        match objects.iter().any(|name| name.contains("/requests/date=")) {
            true => Ok(()),
            false => Err(format!("{objects:?}")),
        }
    });
    assert!(!house.log().contains(super::support::bucket::SECRET), "a secret is in the log");
}
