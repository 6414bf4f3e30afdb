//! The store goes away under load and comes back.

use std::time::{Duration, Instant};

use super::support::bucket::{self, Front, Store};
use super::support::eventually;
use super::support::load::{Load, assert_exact, stored};
use super::support::origin::Origin;
use super::{bucket_metric, ids, reader, site, uploaded};

/// Most bytes that may wait for the bucket in these tests.
const BACKLOG: u64 = 1 << 20;
/// Bytes of one part of an upload, as few as may be.
const PART: u64 = 5 << 20;

#[test]
fn an_outage_under_load_loses_nothing_and_what_waits_is_bounded() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::start(folder.path());
    let mut section = store.section();
    section["backlog_bytes_max"] = BACKLOG.into();
    let first = site(&origin, section.clone());
    let house = first.run();
    let began = Instant::now();
    // Not all that the machine has: sealing, which is what is bounded, has its share of it.
    let load = Load::start_paced(house.gateway(), "/open/echo", 4, Duration::from_micros(500));
    eventually("a first upload", || match bucket_metric(&house, "uploaded_files_total") {
        0.0 => Err("nothing yet".into()),
        files => Ok(files),
    });
    store.stop();
    let went = Instant::now();
    eventually("the backlog to be full", || match bucket_metric(&house, "backlog_full") {
        1.0 => Ok(()),
        _ => Err(format!("{} bytes", bucket_metric(&house, "backlog_bytes"))),
    });
    // The gateway answers as before, and what comes now waits in the spool.
    load.wait(5_000);
    eventually("several tries", || match bucket_metric(&house, "failures_total") {
        failures if failures >= 3.0 => Ok(()),
        failures => Err(format!("{failures} failures")),
    });
    let sealed = bucket_metric(&house, "backlog_bytes") as u64;
    let ledger = house.sql("SELECT in_flight, dropped FROM system.ledger WHERE sink = 'parquet'");
    println!("{} s of outage: {sealed} bytes wait sealed, ledger {ledger:?}", went.elapsed().as_secs());
    // Beyond the bound comes only what was on its way to be sealed.
    assert!(sealed < 4 * BACKLOG, "{sealed} bytes wait");
    assert_eq!(ledger[0]["dropped"], 0);
    let ingested = load.done() as f64 / began.elapsed().as_secs_f64();
    let sent = ids(load);
    let before = bucket_metric(&house, "uploaded_bytes_total");
    store.resume();
    let back = Instant::now();
    uploaded(&house, sent.len() as u64);
    let took = back.elapsed().max(Duration::from_millis(1)).as_secs_f64();
    let bytes = bucket_metric(&house, "uploaded_bytes_total") - before;
    println!("{bytes} bytes and the spool's rest in {took:.1} s; {ingested:.0} requests per second came in");
    let (_folder, second) = reader(&origin, section);
    second.rows(sent.len() as u64);
    assert_exact(&stored(&second), sent.iter().map(String::as_str));
    assert_eq!(bucket_metric(&house, "backlog_full"), 0.0);
}

/// The store's own front answers, and refuses: what is up is not what is wanted.
#[test]
fn a_store_that_answers_503_for_a_while_costs_nothing_and_is_spoken_of_once() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let front = Front::of(&store, folder.path());
    let mut section = bucket::section(front.addr());
    section["backlog_bytes_max"] = BACKLOG.into();
    let first = site(&origin, section);
    let house = first.run();
    let load = Load::start_paced(house.gateway(), "/open/echo", 4, Duration::from_millis(1));
    eventually("a first upload", || match bucket_metric(&house, "uploaded_files_total") {
        0.0 => Err("nothing yet".into()),
        files => Ok(files),
    });
    let said = |what: &str| house.log().lines().filter(|line| line.contains(what)).count();
    let mut most = 0;
    for outage in 1..=2 {
        let (failures, refused) = (bucket_metric(&house, "failures_total"), front.refused());
        front.refuse(true);
        eventually("many refusals", || {
            let (failures, refused) =
                (bucket_metric(&house, "failures_total") - failures, front.refused() - refused);
            if failures >= 3.0 && refused >= 10 {
                Ok(())
            } else {
                Err(format!("{failures} rounds, {refused} answers"))
            }
        });
        // Load goes on all the while, and files are sealed that wait.
        load.wait(1_000);
        eventually("a backlog", || match bucket_metric(&house, "backlog_files") {
            files if files >= 2.0 => Ok(()),
            files => Err(format!("{files} files wait")),
        });
        most = most.max(bucket_metric(&house, "backlog_bytes") as u64);
        front.refuse(false);
        eventually("uploads again", || match said("files are uploaded again") {
            times if times == outage => Ok(()),
            times => Err(format!("said {times} times in outage {outage}")),
        });
    }
    assert!(most < 4 * BACKLOG, "{most} bytes waited");
    let sent = ids(load);
    uploaded(&house, sent.len() as u64);
    let ledger =
        house.sql("SELECT produced, stored, dropped, in_flight FROM system.ledger WHERE sink = 'parquet'");
    assert_eq!(
        (&ledger[0]["produced"], &ledger[0]["dropped"]),
        (&sent.len().into(), &0.into()),
        "{ledger:?}"
    );
    let (_folder, second) = reader(&origin, store.section());
    second.rows(sent.len() as u64);
    assert_exact(&stored(&second), sent.iter().map(String::as_str));
    assert_eq!(said("files wait on the local disk"), 2, "once for each outage: {}", house.log());
    assert!(house.log().contains("503"), "{}", house.log());
    println!("{} rows, {} answers of 503, at most {most} bytes waited", sent.len(), front.refused());
    assert!(house.terminate().success());
}

/// How quickly a backlog goes up, compared with how it came: with nothing to wait for but the store.
#[test]
fn a_backlog_goes_up_quicker_than_it_came() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::start(folder.path());
    let mut section = store.section();
    section["part_bytes"] = PART.into();
    let first = site(&origin, section)
        .set(
            &["collector", "seal"],
            serde_json::json!({ "interval_s": 10, "rows_max": 120_000, "grace_ms": 0 }),
        )
        .set(&["spool", "segment_bytes"], (32 << 20).into());
    let house = first.run();
    store.stop();
    let began = Instant::now();
    let load = Load::start(house.gateway(), "/open/echo", 4);
    load.wait(if super::support::long() { 500_000 } else { 150_000 });
    let came = began.elapsed().as_secs_f64();
    let sent = ids(load);
    house.rows(sent.len() as u64);
    eventually("all of it to be sealed", || {
        let hot = house.number("SELECT count(*) AS n FROM system.files WHERE kind = 'hot' AND rows > 0");
        if hot == 0 { Ok(()) } else { Err(format!("{hot} hot files")) }
    });
    store.resume();
    let back = Instant::now();
    uploaded(&house, sent.len() as u64);
    let went = back.elapsed().as_secs_f64();
    println!(
        "{} rows came in {came:.1} s and went up in {went:.1} s: {:.1} times as quick",
        sent.len(),
        came / went
    );
    // One that is larger than a part went up in several.
    let largest = house.number("SELECT max(bytes) AS n FROM system.files WHERE place = 'both'");
    assert!(largest > PART, "{largest} bytes");
    let (_folder, second) = reader(&origin, store.section());
    second.rows(sent.len() as u64);
    assert_exact(&stored(&second), sent.iter().map(String::as_str));
}

#[test]
fn analytics_answer_without_the_bucket_and_say_so() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::start(folder.path());
    let first = site(&origin, store.section());
    let house = first.run();
    for _ in 0..20 {
        house.get("/open/echo", &[]);
    }
    uploaded(&house, 20);
    let (_folder, second) = reader(&origin, store.section());
    second.rows(20);
    store.stop();
    // What it has seen it still knows of; but the rows are not here, and the error says where they are.
    let refused = eventually("an error that names an object", || {
        match second.try_sql("SELECT sum(duration_us), max(path) FROM requests") {
            Err(error) if error.contains("503") => Ok(error),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(refused.contains("collectors/") && refused.contains("does not answer"), "{refused}");
    eventually("the reader to notice", || {
        let known = second.sql("SELECT status FROM system.files WHERE kind = 'bucket'");
        match known.first().and_then(|row| row["status"].as_str()) {
            Some(status) if status.contains("old:") => Ok(()),
            _ => Err(format!("{known:?}")),
        }
    });
    // The machine that has the files on its disk answers all.
    assert_eq!(house.number("SELECT count(DISTINCT request_id) AS n FROM requests"), 20);
    store.resume();
    eventually("whole answers again", || {
        let known = second.sql("SELECT status FROM system.files WHERE kind = 'bucket'");
        if known.is_empty() { Ok(()) } else { Err(format!("{known:?}")) }
    });
    assert_eq!(second.number("SELECT count(DISTINCT request_id) AS n FROM requests"), 20);
}
