//! Files that leave the local disk, and the bucket.

use serde_json::{Value, json};

use super::support::bucket::{Store, files};
use super::support::eventually;
use super::support::load::{assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::Tollhouse;
use super::{reader, send, site, uploaded};

fn answers(house: &Tollhouse) -> Vec<Value> {
    [
        "SELECT route, status, count(*) AS n, latency_percentile(duration_us, 0.9) AS p90, sum(response_bytes) AS sent \
         FROM requests GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT time, service, sum(requests) AS n FROM traffic_1m GROUP BY 1, 2 ORDER BY 1, 2",
    ]
    .map(|statement| Value::from(house.sql(statement)))
    .to_vec()
}

#[test]
fn files_leave_the_disk_and_answers_stay_the_same() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let plain = site(&origin, store.section()).set(&["collector", "retention"], json!({ "grace_s": 0 }));
    let house = plain.run();
    let sent = send(&house, 2_500);
    uploaded(&house, sent.len() as u64);
    let said = answers(&house);
    assert!(house.terminate().success());
    let mut section = store.section();
    section["local_bytes_max"] = 0.into();
    let tight = plain.set(&["object_store"], section);
    let house = tight.run();
    eventually("the disk to be empty", || {
        let left = [files(&tight.data().join("requests")), files(&tight.data().join("rollups"))].concat();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let places = house.sql("SELECT DISTINCT place FROM system.files WHERE kind <> 'hot'");
    assert_eq!(places, [json!({ "place": "bucket" })]);
    assert_eq!(answers(&house), said);
    assert_exact(&stored(&house), sent.iter().map(String::as_str));
    // Nothing is missing to who looks after the folder, nor to a start.
    assert!(house.terminate().success());
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args(["storage", "check", "--deep", "--data"])
        .arg(tight.data())
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let house = tight.run();
    assert_eq!(answers(&house), said);
    let more = send(&house, 500);
    house.rows((sent.len() + more.len()) as u64);
    let (_folder, second) = reader(&origin, store.section());
    second.rows((sent.len() + more.len()) as u64);
}

#[test]
fn retention_deletes_objects_too() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let most = 1 << 20;
    let site = site(&origin, store.section())
        .set(&["collector", "retention"], json!({ "grace_s": 0, "bytes_max": most }))
        .set(&["collector", "compaction"], json!({ "enabled": false }));
    let house = site.run();
    let mut sent = 0;
    // Retention may be quicker than the way to the bucket: rows that are gone need not have been objects.
    eventually("files that are too many, in the bucket too", || {
        sent += send(&house, 3_000).len() as u64;
        let rows = house.number("SELECT count(*) AS n FROM requests");
        let deleted = super::bucket_metric(&house, "deleted_objects_total");
        if rows < sent.saturating_sub(4_000) && deleted > 0.0 {
            Ok(())
        } else {
            Err(format!("{rows} of {sent} rows, {deleted} objects deleted"))
        }
    });
    eventually("the bucket to hold what the table names", || {
        let named = house.number("SELECT count(*) AS n FROM system.files WHERE place = 'both'");
        let there = store.objects().iter().filter(|name| name.ends_with(".parquet")).count() as u64;
        let hot = house.number("SELECT count(*) AS n FROM system.files WHERE place = 'local' AND rows > 0");
        if named == there && hot == 0 {
            Ok(())
        } else {
            Err(format!("{named} are named, {there} are there, {hot} wait"))
        }
    });
    let rows = store.objects().into_iter().filter(|name| name.contains("/requests/")).count();
    assert!(rows > 0 && store.bytes() < 3 * most, "{} bytes in the bucket", store.bytes());
    let (_folder, second) = reader(&origin, store.section());
    // What is deleted meanwhile is gone for both, for one of them a moment later.
    eventually("the same rows for who reads the bucket", || {
        let count = "SELECT count(*) AS n FROM requests WHERE sequence >= 0";
        let (theirs, ours) = (second.number(count), house.number(count));
        if theirs == ours {
            Ok(())
        } else {
            Err(format!("{theirs} rows in the bucket, {ours} where they are from"))
        }
    });
}

#[test]
fn a_file_that_is_lost_on_the_disk_is_read_in_the_bucket() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let site = site(&origin, store.section());
    let house = site.run();
    let sent = send(&house, 1_000);
    uploaded(&house, sent.len() as u64);
    let said = answers(&house);
    let lost = site.data().join("requests");
    let lost: Vec<_> = files(&lost).iter().map(|file| lost.join(file)).collect();
    std::fs::remove_file(&lost[0]).unwrap();
    if let Some(damaged) = lost.get(1) {
        std::fs::write(damaged, b"no Parquet").unwrap();
    }
    // Who has it open goes on with it; a start finds out.
    assert!(house.terminate().success());
    let analytics = site.start("analytics");
    assert_eq!(answers(&analytics), said);
    let repair = std::process::Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args(["storage", "repair", "--data"])
        .arg(site.data())
        .output()
        .unwrap();
    assert!(repair.status.success(), "{repair:?}");
    assert_eq!(answers(&analytics), said);
    let house = site.run();
    assert_eq!(answers(&house), said);
    assert_exact(&stored(&house), sent.iter().map(String::as_str));
    let (_folder, second) = reader(&origin, store.section());
    second.rows(sent.len() as u64);
}

#[test]
fn a_reader_whose_files_were_merged_meanwhile_finds_the_merged_ones() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let site = site(&origin, store.section())
        .set(&["collector", "retention"], json!({ "grace_s": 0 }))
        .set(&["collector", "compaction"], json!({ "files_min": 2 }));
    let house = site.run();
    let mut sent = send(&house, 200);
    uploaded(&house, sent.len() as u64);
    // It looks once, and then not again for as long as this test takes.
    let mut section = store.section();
    section["poll_interval_s"] = 3_600.into();
    let (_folder, second) = reader(&origin, section);
    second.rows(sent.len() as u64);
    let seen = second.sql("SELECT path FROM system.files WHERE kind = 'parquet'");
    eventually("what it saw to be merged and deleted", || {
        sent.extend((0..5).map(|_| house.get("/open/echo", &[]).request_id()));
        let objects = store.objects();
        let there = |row: &Value| objects.iter().any(|name| name.ends_with(row["path"].as_str().unwrap()));
        let left = seen.iter().filter(|row| there(row)).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} of {}", seen.len())) }
    });
    uploaded(&house, sent.len() as u64);
    assert_exact(&stored(&second), sent.iter().map(String::as_str));
}
