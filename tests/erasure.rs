//! `tollhouse erase`: after it nothing of a consumer is in any file, everything of others is there, and roll-ups still add
//! up to rows.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use event::erasure::{LaneRange, Order, Subject, waiting};
use event::layout::{DataFolder, Manifest};
use serde_json::{Value, json};
use support::eventually;
use support::origin::Origin;
use support::search::has_consumer;
use support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};

/// A site that seals files of a few rows, and deletes what left the table at once.
fn site(origin: &Origin) -> Site {
    Site::new(origin.addr)
        .set(&["collector", "seal"], json!({"rows_max": 20, "interval_s": 1, "grace_ms": 0}))
        .set(&["collector", "retention"], json!({"grace_s": 0}))
}

/// Exit code, standard output and standard error of `tollhouse erase`.
fn erase(site: &Site, args: &[&str]) -> (i32, String, String) {
    // As `docs/operations.md` says it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.args(["erase", "--data", "data"]).args(args).current_dir(site.folder()).env_clear();
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn order(consumer: &str, at_us: i64) -> Order {
    Order::new(Subject::Consumer(consumer.into()), at_us)
}

/// Requests of both, each `turns` times.
fn traffic(house: &Tollhouse, turns: u64) {
    for turn in 0..turns {
        assert_eq!(house.get(&format!("/private/bytes/{turn}"), &[("apikey", ALICE_KEY)]).status, 200);
        assert_eq!(house.get("/private/echo", &[("apikey", BOB_KEY)]).status, 200);
        assert_eq!(house.get("/open/echo", &[]).status, 200);
    }
}

fn rows_of(house: &Tollhouse, consumer: &str) -> u64 {
    house.number(&format!("SELECT count(*) AS n FROM requests WHERE consumer = '{consumer}'"))
}

/// Rows and roll-ups say the same of each consumer.
fn assert_reconciled(house: &Tollhouse) {
    for table in ["traffic_1m", "traffic_1h"] {
        let asked = format!(
            "SELECT consumer, CAST(sum(requests) AS BIGINT) AS requests, sum(response_bytes) AS bytes \
             FROM {table} GROUP BY consumer EXCEPT SELECT consumer, count(*), sum(response_bytes) \
             FROM requests GROUP BY consumer"
        );
        assert_eq!(house.sql(&asked), Vec::<Value>::new(), "{table}");
        let total = format!("SELECT CAST(sum(requests) AS BIGINT) AS n FROM {table}");
        assert_eq!(house.number(&total), house.number("SELECT count(*) AS n FROM requests"), "{table}");
    }
}

/// The files of the table, its roll-ups and its state that have these bytes somewhere.
fn files_with(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Segments of the spool are written to again; what they held is not cleared before.
            if !path.ends_with("spool") {
                found.extend(files_with(&path, name));
            }
        // A socket holds nothing to read. The gateway is still configured to know the consumer, and says so there.
        } else if path.is_file() && !path.ends_with("state/in-force.json") && has_consumer(&path, name) {
            found.push(path);
        }
    }
    found
}

#[test]
fn nothing_of_the_consumer_is_left_and_all_of_the_others_is() {
    let origin = Origin::start();
    let site = site(&origin);
    let house = site.run();
    traffic(&house, 30);
    house.rows(90);
    let (code, out, errors) = erase(&site, &["--consumer", "alice", "--yes", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&said["done"], &said["rows"]), (&json!(true), &json!(30)), "{said}");
    assert!(said["files"].as_u64().unwrap() >= 3, "{said}");
    assert_eq!([rows_of(&house, "alice"), rows_of(&house, "bob")], [0, 30]);
    house.rows(60);
    assert_reconciled(&house);
    assert_eq!(files_with(&site.data(), "alice"), Vec::<PathBuf>::new());
    assert!(!files_with(&site.data(), "bob").is_empty(), "the search finds what is there");
    let known = house.sql("SELECT rows, done_at IS NOT NULL AS done, set_aside FROM system.erasures");
    assert_eq!(known, [json!({"rows": 30, "done": true, "set_aside": 0})]);
    let folder = DataFolder::existing(&site.data()).unwrap();
    assert!(waiting(&folder).unwrap().is_empty(), "the order, which names her, is gone");
    assert!(!house.log().contains("alice"), "{}", house.log());

    // What comes after the order is recorded as ever, and nobody of that name is nothing to do.
    traffic(&house, 1);
    house.rows(63);
    let (code, out, _) = erase(&site, &["--consumer", "nobody", "--yes"]);
    assert!(code == 0 && out.starts_with("erased: 0 rows; 0 files"), "{out}");
    assert_eq!([rows_of(&house, "alice"), rows_of(&house, "bob")], [1, 31]);
    assert_reconciled(&house);
    assert!(house.terminate().success());
}

#[test]
fn an_order_waits_for_a_collector_and_for_what_is_in_the_spool() {
    let origin = Origin::start();
    let site = site(&origin);
    let gateway = site.start("proxy");
    traffic(&gateway, 50);
    // Orders beside it that nobody has rows for, and one that is no order.
    let folder = DataFolder::existing(&site.data()).unwrap();
    for number in 0..300 {
        order(&format!("nobody-{number}"), 1_000 + number).give(&folder).unwrap();
    }
    std::fs::write(folder.erasures().join("0.order"), "garbage").unwrap();
    let (code, out, errors) = erase(&site, &["--consumer", "alice", "--yes"]);
    assert!(code == 0 && out.starts_with("order ") && errors.contains("no collector"), "{out}{errors}");
    let collector = site.start("collector");
    let analytics = site.start("analytics");
    eventually("all orders", || {
        let open = waiting(&folder).unwrap().len();
        if open == 1 { Ok(()) } else { Err(format!("{open} orders wait")) }
    });
    analytics.rows(100);
    assert_eq!([rows_of(&analytics, "alice"), rows_of(&analytics, "bob")], [0, 50]);
    assert_reconciled(&analytics);
    assert_eq!(analytics.number("SELECT max(rows) AS n FROM system.erasures"), 50);
    assert_eq!(analytics.number("SELECT count(*) AS n FROM system.erasures WHERE done_at IS NOT NULL"), 301);
    let said = collector.log();
    assert_eq!(said.matches("left alone").count(), 1, "{said}");
    for part in [gateway, collector, analytics] {
        assert!(part.terminate().success());
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_and_counts_each_row_once() {
    let origin = Origin::start();
    let site = site(&origin);
    let house = site.run();
    traffic(&house, 60);
    house.rows(180);
    assert!(house.terminate().success());
    let folder = DataFolder::existing(&site.data()).unwrap();
    order("alice", 7).give(&folder).unwrap();
    let mut done = false;
    for round in 0..40_u64 {
        let house = site.start("collector");
        // Later in each life, so that some are killed in each stage.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(150 * round) && !done {
            done = waiting(&folder).unwrap().is_empty();
            std::thread::sleep(Duration::from_millis(5));
        }
        house.kill9();
        if done {
            break;
        }
    }
    assert!(done, "{:?}", Manifest::load(&folder).unwrap().erasures);
    let house = site.run();
    house.rows(120);
    assert_eq!([rows_of(&house, "alice"), rows_of(&house, "bob")], [0, 60]);
    assert_reconciled(&house);
    assert_eq!(house.number("SELECT rows AS n FROM system.erasures"), 60);
    assert_eq!(files_with(&site.data(), "alice"), Vec::<PathBuf>::new());
    assert!(house.terminate().success());
}

#[test]
fn rows_of_a_lane_go_by_their_sequences_and_roll_ups_are_made_anew() {
    let origin = Origin::start();
    let site = site(&origin).set(&["gateway", "threads"], json!(2));
    let house = site.run();
    traffic(&house, 40);
    house.rows(120);
    let lanes = house.sql(
        "SELECT core, sequence FROM (SELECT core, sequence, row_number() OVER (PARTITION BY core ORDER BY sequence) \
         AS place, count(*) OVER (PARTITION BY core) AS of FROM requests) WHERE of >= 20 AND place IN (6, 15) \
         ORDER BY core, sequence",
    );
    let (core, first, last) =
        (lanes[0]["core"].as_u64().unwrap(), lanes[0]["sequence"].clone(), lanes[1]["sequence"].clone());
    let (first, last) = (first.as_u64().unwrap(), last.as_u64().unwrap());
    let range = LaneRange { node: "test".into(), core: u16::try_from(core).unwrap(), first, last };
    let folder = DataFolder::existing(&site.data()).unwrap();
    // The same lane of another node is another lane.
    let other = LaneRange { node: "other".into(), first: 0, last: u64::MAX, ..range.clone() };
    for (at_us, range) in [(7, range), (8, other)] {
        Order::new(Subject::Lane(range), at_us).give(&folder).unwrap();
    }
    order("bob", 9).give(&folder).unwrap();
    let in_range = format!("core = {core} AND sequence BETWEEN {first} AND {last}");
    let bobs = "consumer = 'bob'";
    let count = |of: &str| house.number(&format!("SELECT count(*) AS n FROM requests WHERE {of}"));
    assert_eq!(count(&in_range), 10);
    let both = count(&format!("{in_range} AND {bobs}"));
    eventually("the end of the orders", || {
        let open = waiting(&folder).unwrap().len();
        if open == 0 { Ok(()) } else { Err(format!("{open} orders wait")) }
    });
    assert_eq!([count(&in_range), count(bobs)], [0, 0]);
    house.rows(120 - 10 - 40 + both);
    assert_reconciled(&house);
    assert_eq!(house.number("SELECT CAST(sum(rows) AS BIGINT) AS n FROM system.erasures"), 50 - both);
    assert!(house.terminate().success());
}

#[test]
fn a_damaged_file_holds_the_order_up_until_it_is_set_aside() {
    let origin = Origin::start();
    let site = site(&origin);
    let house = site.run();
    traffic(&house, 10);
    house.rows(30);
    assert!(house.terminate().success());
    let folder = DataFolder::existing(&site.data()).unwrap();
    let damaged = folder.root().join(&Manifest::load(&folder).unwrap().files[0].path);
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    order("alice", 7).give(&folder).unwrap();
    let collector = site.start("collector");
    eventually("a complaint", || {
        let log = collector.log();
        let says = log.contains("rows that are to be erased are still there") && log.contains("is damaged");
        if says { Ok(()) } else { Err(log) }
    });
    assert_eq!(waiting(&folder).unwrap().len(), 1);
    assert!(collector.terminate().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.args(["storage", "repair", "--data"]).arg(site.data()).current_dir(site.folder());
    assert!(command.output().unwrap().status.success());
    let collector = site.start("collector");
    eventually("the end of the order", || {
        if waiting(&folder).unwrap().is_empty() { Ok(()) } else { Err("it waits".into()) }
    });
    assert_eq!(Manifest::load(&folder).unwrap().erasures[0].set_aside, 1, "who ordered it is told");
    assert!(collector.terminate().success());
}

#[test]
fn what_is_missing_is_said() {
    let origin = Origin::start();
    let site = site(&origin);
    let (code, _, errors) = erase(&site, &["--consumer", "alice", "--yes"]);
    assert_eq!(code, 1, "{errors}");
    assert!(!site.data().exists(), "looking is not making: {errors}");
    DataFolder::open(&site.data()).unwrap();
    let (code, _, errors) = erase(&site, &["--consumer", "alice"]);
    assert!(code == 2 && errors.contains("--yes"), "{code} {errors}");
    let (code, _, errors) = erase(&site, &["--consumer", "", "--yes"]);
    assert!(code == 2 && errors.contains("empty"), "{code} {errors}");
    let (code, _, errors) = erase(&site, &["--yes"]);
    assert!(code == 2 && errors.contains("--consumer"), "{code} {errors}");
    assert!(waiting(&DataFolder::existing(&site.data()).unwrap()).unwrap().is_empty());
}
