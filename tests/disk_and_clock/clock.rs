//! A clock that jumps (libfaketime): times are wrong then, but no row is lost, and none is there twice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::send;
use super::support::eventually;
use super::support::load::{assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::support::tool::find_library;

/// The binary with a clock that is set by [`set`].
fn with_a_clock(site: &Site, role: &str) -> Tollhouse {
    let mut command: Command = site.command(role);
    command.env("LD_PRELOAD", find_library("libfaketimeMT.so.1"));
    // Only the clock on the wall: the time between two moments goes on as it does.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    command.env("FAKETIME_TIMESTAMP_FILE", clock(site.folder()));
    site.launch(role, command)
}

fn clock(folder: &Path) -> PathBuf {
    folder.join("clock")
}

/// Sets the clock so many hours from now, for processes that run too.
fn set(site: &Site, hours: i32) {
    let next = site.folder().join("clock.next");
    std::fs::write(&next, format!("{hours:+}h\n")).unwrap();
    std::fs::rename(next, clock(site.folder())).unwrap();
}

fn exact(house: &Tollhouse, sent: &[String]) {
    house.rows(sent.len() as u64);
    assert_exact(&stored(house), sent.iter().map(String::as_str));
}

#[test]
fn a_clock_that_jumps_by_an_hour_costs_no_row() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["collector", "seal"], serde_json::json!({ "rows_max": 500, "grace_ms": 0 }));
    set(&site, 0);
    let house = with_a_clock(&site, "run");
    let mut sent = Vec::new();
    for hours in [0, 1, 0, -1, 0] {
        set(&site, hours);
        // The gateway looks at the clock now and then, not for each request.
        eventually("a row of that hour", || {
            sent.extend(send(&house, 1));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let then = i64::try_from(now).unwrap() + 3_600 * i64::from(hours);
            let near = format!(
                "SELECT count(*) AS n FROM requests WHERE abs(extract(epoch FROM time) - {then}) < 1200"
            );
            if house.number(&near) > 0 { Ok(()) } else { Err(format!("none at {hours:+} h")) }
        });
        sent.extend(send(&house, 600));
    }
    exact(&house, &sent);
    let hours = house.number(
        "SELECT CAST((extract(epoch FROM max(time)) - extract(epoch FROM min(time))) / 3600 AS BIGINT UNSIGNED) \
         AS n FROM requests",
    );
    assert!(hours >= 1, "the clock did not jump");
    assert!(house.terminate().success());
    exact(&site.run(), &sent);
}

/// Each life of the gateway begins an hour before the end of the last one.
#[test]
fn a_start_in_the_past_costs_no_row() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["spool", "segment_bytes"], (512 << 10).into());
    let mut sent = Vec::new();
    for hours in [1, 0, -1] {
        set(&site, hours);
        let house = with_a_clock(&site, "run");
        sent.extend(send(&house, 1500));
        exact(&house, &sent);
        assert!(house.terminate().success());
    }
    exact(&site.run(), &sent);
}
