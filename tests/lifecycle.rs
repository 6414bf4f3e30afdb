//! Starts that must be refused, signals, and ends that come too early: never silently, with the right exit code.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;
use support::client::{Connection, get};
use support::eventually;
use support::origin::Origin;
use support::site::Site;

#[test]
fn a_taken_port_is_named_with_exit_code_1() {
    let origin = Origin::start();
    let house_site = Site::new(origin.addr);
    let house = house_site.run();
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    for (path, part) in [
        (vec!["gateway", "listen"], "gateway"),
        (vec!["collector", "metrics", "listen"], "metrics"),
        (vec!["analytics", "listen"], "sql"),
    ] {
        // The threads of a gateway share their port with each other, but not with another gateway.
        for taken in [house.addr(part), foreign.local_addr().unwrap()] {
            let value = match part {
                "gateway" => json!([{ "name": "gateway", "address": taken.to_string() }]),
                _ => taken.to_string().into(),
            };
            let site = Site::new(origin.addr).set(&path, value);
            let (code, errors) = site.refused("run");
            assert_eq!(code, 1, "{errors}");
            assert!(errors.contains(&taken.to_string()), "the address is named: {errors}");
            assert!(errors.contains("another process listens there"), "what to do is said: {errors}");
        }
    }
    assert_eq!(house.get("/open/echo", &[]).status, 200);
}

#[test]
fn a_data_folder_that_cannot_be_had_is_named_with_exit_code_1() {
    let origin = Origin::start();
    for role in ["run", "proxy", "collector", "analytics"] {
        let site = Site::new(origin.addr);
        // A file where the folder should be: refused to root too, which folder permissions are not.
        std::fs::write(site.data(), "a file").unwrap();
        let (code, errors) = site.refused(role);
        assert_eq!(code, 1, "{role}: {errors}");
        assert!(errors.contains("cannot use the data folder"), "{role}: {errors}");
        assert!(errors.contains(&site.data().display().to_string()), "{role}: {errors}");
        assert!(errors.contains("--data"), "{role}: what to do is said: {errors}");
    }
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_harms_nothing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    for round in 1..=3 {
        assert_eq!(house.get("/open/echo", &[]).status, 200);
        for (role, word) in [
            ("run", "in use by another process"),
            ("proxy", "in use by another process"),
            ("collector", "has a collector already"),
        ] {
            let (code, errors) = site.refused(role);
            assert_eq!(code, 1, "{role}: {errors}");
            assert!(errors.contains(word), "{role}: {errors}");
            assert!(errors.contains(&site.data().display().to_string()), "{role}: {errors}");
        }
        house.rows(round);
    }
    // Readers may be many.
    let second = site.start("analytics");
    second.rows(3);
    assert!(house.terminate().success());
    // A lock dies with its process.
    let house = site.run();
    house.rows(3);
}

#[test]
fn a_hangup_ends_nothing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    for role in ["run", "proxy", "collector", "analytics"] {
        let house = site.start(role);
        // The other one has log files opened anew elsewhere.
        for (signal, name) in [(libc::SIGHUP, "SIGHUP"), (libc::SIGUSR1, "SIGUSR1")] {
            house.signal(signal);
            eventually("a word about it", || {
                let log = house.log();
                if log.contains(name) { Ok(()) } else { Err(log) }
            });
        }
        if role == "run" {
            assert_eq!(house.get("/open/echo", &[]).status, 200);
            house.rows(1);
        }
        assert!(house.terminate().success(), "{role}");
    }
}

#[test]
fn a_second_signal_during_the_drain_ends_at_once() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let house = site.run();
        let mut waiting = Connection::open(house.gateway()).unwrap();
        let before = origin.seen.requests.load(Relaxed);
        waiting.send_head("GET", "/open/slow/20000", &[]).unwrap();
        eventually("the request at the origin", || {
            if origin.seen.requests.load(Relaxed) > before { Ok(()) } else { Err("not there".into()) }
        });
        house.signal(signal);
        // The drain has begun when nobody is taken in any more.
        eventually("a closed door", || match get(house.gateway(), "/open/echo", &[]) {
            Err(_) => Ok(()),
            Ok(reply) => Err(format!("{}", reply.status)),
        });
        // As `timeout` does, which signals a process and its group: that is one signal.
        house.signal(signal);
        eventually("a word about the echo", || {
            let log = house.log();
            if log.contains("taken for one") { Ok(()) } else { Err(log) }
        });
        // A later one is meant.
        let status = house.ends_by(signal);
        assert_eq!(status.code(), Some(code), "{status}");
    }
}

#[test]
fn an_end_without_anybody_to_read_it_is_still_a_good_end() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let mut command = site.command("run");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut byte = [0; 256];
    while !said.windows(6).any(|window| window == b"ready\n") {
        let taken = stdout.read(&mut byte).unwrap();
        assert!(taken > 0, "it ended: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&byte[..taken]);
    }
    drop(stdout);
    // SAFETY: no memory is involved. The child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGTERM) }, 0);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    assert!(!errors.contains("panicked"), "{errors}");
}

/// A shared object that makes a disk refuse what begins with a prefix, as soon as a file says so.
fn failing_disk(folder: &Path) -> std::path::PathBuf {
    support::tool::preload(folder, "disk", include_str!("support/disk.c"))
}

#[test]
fn a_disk_that_is_full_at_the_start_is_named_with_exit_code_1() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let library = failing_disk(site.folder());
    let mark = site.folder().join("full");
    std::fs::write(&mark, "").unwrap();
    for role in ["run", "proxy"] {
        let mut command = site.command(role);
        command.env("LD_PRELOAD", &library).env("DISK_FULL_MARK", &mark).env("DISK_PREFIX", site.data());
        let (code, errors) = site.ends(role, command);
        assert_eq!(code, 1, "{role}: {errors}");
        assert!(errors.contains("No space left on device"), "{role}: {errors}");
        assert!(errors.contains(&site.data().display().to_string()), "{role}: {errors}");
    }
}

#[test]
fn a_disk_that_fills_up_costs_no_request_and_every_drop_is_counted() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["spool", "segment_bytes"], (256 << 10).into())
        .set(&["spool", "bytes_max"], (4 << 20).into());
    let library = failing_disk(site.folder());
    let mark = site.folder().join("full");
    let mut command = site.command("run");
    command.env("LD_PRELOAD", &library).env("DISK_FULL_MARK", &mark).env("DISK_PREFIX", site.data());
    let house = site.launch("run", command);
    let mut sent = 0;
    let mut send = |more: u64| {
        let mut connection = Connection::open(house.gateway()).unwrap();
        for _ in 0..more {
            assert_eq!(connection.exchange("GET", "/open/echo", &[], b"").unwrap().status, 200);
        }
        sent += more;
        sent
    };
    house.rows(send(200));
    std::fs::write(&mark, "").unwrap();
    // Several times what the segments at hand hold.
    send(4000);
    eventually("the log's word on it", || {
        let log = house.log();
        if log.contains("the disk refuses") { Ok(()) } else { Err(log) }
    });
    std::fs::remove_file(&mark).unwrap();
    let sent = send(200);
    let row = eventually("settled books", || {
        let rows = house.try_sql(
            "SELECT produced, stored, dropped, in_flight, reasons FROM system.ledger WHERE sink = 'parquet'",
        )?;
        match rows.as_slice() {
            [row] if row["in_flight"] == 0 && row["produced"] == sent => Ok(row.clone()),
            _ => Err(format!("{sent} sent: {rows:?}")),
        }
    });
    let field = |name: &str| row[name].as_u64().unwrap();
    assert!(field("dropped") > 0 && row["reasons"].to_string().contains("disk_error"), "{row}");
    assert_eq!(field("produced"), field("stored") + field("dropped"), "{row}");
    house.rows(field("stored"));
    assert!(house.terminate().success());
}

#[test]
fn a_path_that_answers_nothing_names_those_that_do() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    for (listener, named) in [("metrics", "/metrics"), ("sql", "/sql")] {
        let reply = get(house.addr(listener), "/nothing", &[]).unwrap();
        assert_eq!(reply.status, 404);
        for path in [named, "/healthz", "/readyz"] {
            assert!(reply.text().contains(path), "{listener}: {}", reply.text());
            // Named is there: what `/sql` misses is its statement.
            assert_ne!(get(house.addr(listener), path, &[]).unwrap().status, 404, "{path}");
        }
    }
}
