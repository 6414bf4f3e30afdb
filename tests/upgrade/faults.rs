//! Upgrades that fail, at each step: the process that serves goes on as if nothing had been, and what counted stays.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::load::{Load, assert_exact, stored};
use crate::support::origin::Origin;
use crate::support::site::{Site, Tollhouse};
use crate::support::tool::Running;
use crate::{settled, settled_at, state, take_over, taking};

/// A line in the log of the old process.
fn logged(house: &Tollhouse, words: &str) {
    eventually("a line in the log", || {
        let log = house.log();
        if log.contains(words) { Ok(()) } else { Err(format!("no `{words}` in {log}")) }
    });
}

/// A process that takes over and stays where it opens the spool: it has been given the files, and serves nothing yet.
fn stuck(site: &Site) -> Running {
    let path = site.data().join("spool/bank-1.lock");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // Whoever opens such a file to write waits for somebody who reads.
    // SAFETY: a string that ends with a zero, and a plain number.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "{}", std::io::Error::last_os_error());
    let mut command = taking(site, "run");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Running(command.spawn().unwrap())
}

fn unstick(site: &Site) {
    std::fs::remove_file(site.data().join("spool/bank-1.lock")).unwrap();
}

fn said(running: &mut Running) -> String {
    let mut text = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_wrong_configuration_or_a_taken_port_leaves_the_old_process_as_it_was() {
    let origin = Origin::start();
    let mut site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 0}));
    let house = site.run();
    let load = Load::start_fresh(house.gateway(), "/open/echo", 4);
    load.wait(100);
    let good = site.config()["gateway"].clone();
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap().to_string();
    for (gateway, words) in [
        (json!({"listen": [{"name": "gateway", "addres": "127.0.0.1:0"}]}), "addres"),
        (
            json!({"listen": [{"name": "gateway", "address": "127.0.0.1:0"}, {"name": "more", "address": taken}]}),
            "another process listens there",
        ),
    ] {
        site = site.set(&["gateway"], gateway);
        let (code, errors) = site.ends("run", taking(&site, "run"));
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains(words), "{errors}");
        load.wait(100);
    }
    logged(&house, "this process serves on");
    site = site.set(&["gateway"], good);
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    house.rows(ledger.received.len() as u64);
    settled_at(&house, ledger.received.len());
    // The next one finds everything in order.
    let next = take_over(&site, "run");
    assert!(house.ended().success());
    next.rows(ledger.received.len() as u64);
    assert!(next.terminate().success());
}

#[test]
fn a_new_process_that_is_killed_or_stuck_before_it_serves_changes_nothing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["reload"], json!({"watch_interval_ms": 0}))
        .set(&["upgrade"], json!({"timeout_ms": 1_500}));
    let house = site.run();
    let load = Load::start_fresh(house.gateway(), "/open/echo", 4);
    load.wait(100);
    let mut first = stuck(&site);
    logged(&house, "a process asks to take over");
    // While one is at it, another is told so.
    let (code, errors) = site.ends("run", taking(&site, "run"));
    assert!(code == 1 && errors.contains("another process is taking over at this moment"), "{errors}");
    assert!(errors.contains(&format!("({})", house.pid())), "{errors}");
    load.wait(100);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    logged(&house, "not handed over: this process serves on");
    load.wait(100);
    unstick(&site);
    // One that is too slow has missed its time: it must not serve beside the other when it wakes.
    let mut late = stuck(&site);
    logged(&house, "has not answered within");
    let wakes = site.data().join("spool/bank-1.lock");
    let reader = std::thread::spawn(move || std::fs::File::open(wakes));
    let status = late.0.wait().unwrap();
    drop(reader.join().unwrap());
    assert_eq!(status.code(), Some(1), "{}", said(&mut late));
    load.wait(100);
    unstick(&site);
    assert_eq!(state(&site)["pid"], house.pid());
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    house.rows(ledger.received.len() as u64);
    settled_at(&house, ledger.received.len());
    let next = take_over(&site, "run");
    assert!(house.ended().success());
    assert!(next.terminate().success());
}

#[test]
fn kill_9_at_random_moments_of_an_upgrade_loses_nothing_that_counted() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["collector", "seal", "rows_max"], 2000.into())
        .set(&["spool", "segment_bytes"], (1 << 20).into());
    let mut owed: Vec<String> = Vec::new();
    for round in 0..8_u64 {
        let house = site.run();
        let load = Load::start(house.gateway(), "/open/echo", 4);
        load.wait(1_000);
        let mut command = taking(&site, "run");
        let mut next = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        // From before it knocks to after the old one has gone.
        let begun = Instant::now();
        eventually("the moment", || match begun.elapsed() > Duration::from_millis(round * 40) {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        });
        let killed = Instant::now();
        next.0.kill().unwrap();
        house.kill9();
        next.0.wait().unwrap();
        let due = |at: Instant| killed.saturating_duration_since(at) > Duration::from_millis(50);
        owed.extend(load.stop().received.into_iter().filter(|(_, at)| due(*at)).map(|(id, _)| id));
    }
    let house = site.run();
    let books = settled(&house);
    assert_eq!(books["produced"], 0, "{books}");
    assert_exact(&stored(&house), owed.iter().map(String::as_str));
    assert!(house.terminate().success());
}

#[test]
fn an_old_process_that_is_killed_while_it_drains_takes_only_what_it_had_not_answered() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let mut house = site.run();
    let addr = house.gateway();
    let mut answered = Vec::new();
    for _ in 0..3 {
        let load = Load::start(addr, "/open/echo", 4);
        load.wait(500);
        // Holds the old one in its drain.
        let slow = std::thread::spawn(move || crate::support::client::get(addr, "/open/slow/20000", &[]));
        eventually("the slow request at the gateway", || {
            let rows = house.try_sql("SELECT sum(active) AS n FROM system.upstreams")?;
            match rows.first().and_then(|row| row["n"].as_u64()) {
                Some(1..) => Ok(()),
                _ => Err(format!("{rows:?}")),
            }
        });
        let next = take_over(&site, "run");
        load.wait(500);
        std::mem::replace(&mut house, next).kill9();
        assert!(slow.join().unwrap().is_err(), "its gateway was killed");
        load.wait(500);
        let ledger = load.stop();
        assert_eq!(ledger.failed, Vec::<String>::new());
        answered.extend(ledger.received.into_iter().map(|(id, _)| id));
        settled(&house);
    }
    house.rows(answered.len() as u64);
    assert_exact(&stored(&house), answered.iter().map(String::as_str));
    assert!(house.terminate().success());
}

#[test]
fn strangers_and_broken_visitors_change_nothing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["upgrade"], json!({"timeout_ms": 1_000}));
    let house = site.run();
    let door = site.data().join("state/handover.sock");
    let say = |message: &Value| {
        let mut stream = UnixStream::connect(&door).unwrap();
        let json = message.to_string();
        stream.write_all(&u32::try_from(json.len()).unwrap().to_le_bytes()).unwrap();
        stream.write_all(json.as_bytes()).unwrap();
        stream
    };
    let hello =
        |protocol: u32| json!({"hello": {"protocol": protocol, "version": "9.9", "wants": "take_over"}});
    // Another protocol is refused in words.
    let mut refused = Vec::new();
    say(&hello(7)).read_to_end(&mut refused).unwrap();
    let text = String::from_utf8_lossy(&refused[4..]).into_owned();
    assert!(text.contains("refused") && text.contains("needs a restart"), "{text}");
    // Gone at once, gone after the offer, silent, and out of turn.
    drop(UnixStream::connect(&door).unwrap());
    drop(say(&hello(1)));
    logged(&house, "not handed over");
    let mut silent = say(&hello(1));
    let mut offered = [0; 4];
    silent.read_exact(&mut offered).unwrap();
    logged(&house, "has not answered within");
    drop(say(&json!("serving")));
    for _ in 0..100 {
        drop(UnixStream::connect(&door).unwrap().write_all(&[255; 64]));
    }
    assert_eq!(house.get("/open/echo", &[]).status, 200);
    let next = take_over(&site, "run");
    assert!(house.ended().success());
    next.rows(1);
    assert!(next.terminate().success());
}
