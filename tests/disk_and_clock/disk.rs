//! A real disk that is full: a small file system of the process's own (tmpfs in a mount namespace).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::eventually;
use super::support::load::{Load, assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::{ids, send};

/// Most that rows may take to be there once the disk has room again.
const RECOVERY: Duration = Duration::from_secs(5);

/// The binary with a data folder of so many MiB.
fn on_a_small_disk(site: &Site, mib: u32) -> Tollhouse {
    std::fs::create_dir_all(site.data()).unwrap();
    let plain = site.command("run");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "--propagation", "private", "sh", "-c"]);
    command.arg(r#"mount -t tmpfs -o "size=$1m" tmpfs "$2" && shift 2 && exec "$@""#);
    command.arg("sh").arg(mib.to_string()).arg(site.data()).arg(plain.get_program()).args(plain.get_args());
    site.launch("run", command)
}

/// A path as the process sees it.
fn inside(house: &Tollhouse, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", house.pid()));
    root.join(path.strip_prefix("/").unwrap())
}

/// Writes until the disk takes no more.
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![0; piece]).is_ok() {}
    }
}

#[test]
fn a_full_disk_changes_no_answer_and_rows_come_within_seconds_of_its_end() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["spool", "segment_bytes"], (256 << 10).into())
        .set(&["spool", "bytes_max"], (4 << 20).into())
        .set(&["collector", "seal"], serde_json::json!({ "rows_max": 2000, "grace_ms": 100 }));
    let house = on_a_small_disk(&site, 24);
    let filler = inside(&house, &site.data().join("filler"));

    let before = Instant::now();
    let load = Load::start(house.gateway(), "/open/echo", 4);
    load.wait(4000);
    let full = Instant::now();
    fill(&filler);
    eventually("the log's word on it", || {
        // What sealing and retention give back is taken as well.
        fill(&filler);
        let log = house.log();
        if log.contains("No space left on device") { Ok(()) } else { Err(log) }
    });
    // Several times what the spool holds.
    for _ in 0..4 {
        load.wait(8000);
        fill(&filler);
    }
    let over = Instant::now();
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new(), "a full disk touches no request");
    let (usual, meanwhile) = (ledger.p99(before, full), ledger.p99(full, over));
    println!("p99 {usual:?} before, {meanwhile:?} while the disk was full");
    assert!(meanwhile < usual * 3 + Duration::from_millis(25), "{usual:?} before, {meanwhile:?} meanwhile");
    let mut sent = ledger.received.len() as u64;

    std::fs::remove_file(&filler).unwrap();
    let room = Instant::now();
    // The first that come may find no segment yet; what counts is when rows are stored again.
    loop {
        let late = send(&house, 1);
        sent += late.len() as u64;
        let found = house.number(&format!(
            "SELECT count(*) AS n FROM requests WHERE encode(request_id, 'hex') = '{}'",
            late[0]
        ));
        if found > 0 {
            break;
        }
        assert!(room.elapsed() < RECOVERY, "no row {:?} after there was room", room.elapsed());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!("a row again {:?} after there was room", room.elapsed());
    let row = eventually("settled books", || {
        let rows = house.try_sql(
            "SELECT produced, stored, dropped, in_flight, reasons FROM system.ledger WHERE sink = 'parquet'",
        )?;
        let settled = rows.iter().find(|row| row["in_flight"] == 0 && row["produced"] == sent);
        settled.cloned().ok_or_else(|| format!("{sent} sent: {rows:?}"))
    });
    let field = |name: &str| row[name].as_u64().unwrap();
    assert!(field("dropped") > 0, "the disk never refused: {row}");
    assert_eq!(field("produced"), field("stored") + field("dropped"), "{row}");
    house.rows(field("stored"));
    assert_exact(&stored(&house), []);
    assert!(house.terminate().success());
}

#[test]
fn a_disk_that_is_full_for_a_moment_costs_nothing_at_all() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["spool", "segment_bytes"], (4 << 20).into());
    let house = on_a_small_disk(&site, 64);
    let filler = inside(&house, &site.data().join("filler"));
    let mut sent = send(&house, 500);
    house.rows(sent.len() as u64);
    fill(&filler);
    // Fewer than the segments at hand take: they wait there.
    let load = Load::start(house.gateway(), "/open/echo", 4);
    load.wait(2000);
    sent.extend(ids(load));
    std::fs::remove_file(&filler).unwrap();
    house.rows(sent.len() as u64);
    assert_exact(&stored(&house), sent.iter().map(String::as_str));
    assert!(house.terminate().success());
}
