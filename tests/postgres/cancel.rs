//! Queries that are ended: by their client, by its disappearance, by time, by memory; and others that go on meanwhile.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use serde_json::json;

use super::raw::{self, Raw};
use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::{psql, said};

/// Far more rows than anybody waits for.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 20000) a, generate_series(1, 1000000000) b \
                    WHERE (a.value * b.value) % 7 = 3";

fn house(settings: &[(&str, serde_json::Value)]) -> (Origin, Site, Tollhouse) {
    let origin = Origin::start();
    let mut site = Site::new(origin.addr);
    for (name, value) in settings {
        site = site.set(&["analytics", name], value.clone());
    }
    let house = site.start("analytics");
    (origin, site, house)
}

/// Waits until so many queries of this door have a status.
fn with_status(house: &Tollhouse, status: &str, count: u64) {
    eventually(status, || {
        let rows = house.try_sql(&format!(
            "SELECT count(*) AS n FROM system.queries WHERE protocol = 'postgresql' AND status = '{status}'"
        ))?;
        if rows[0]["n"] == count { Ok(()) } else { Err(format!("{rows:?}")) }
    });
}

#[test]
fn a_client_cancels_its_own_query_and_no_other() {
    let (_origin, _site, house) = house(&[]);
    let addr = house.addr("postgres");
    let (mut one, mut other) = (Raw::open(addr), Raw::open(addr));
    one.send(&raw::query(LONG));
    other.send(&raw::query(LONG));
    with_status(&house, "running", 2);
    let cancel = |key: &[u8]| {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(&[&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), key].concat()).unwrap();
        let mut closed = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut closed).unwrap();
        assert!(closed.is_empty());
    };
    // With a wrong secret nothing happens.
    let mut wrong = one.key.clone();
    wrong[7] ^= 1;
    cancel(&wrong);
    cancel(&one.key);
    let (code, message) = raw::error(&one.until_ready().unwrap()).unwrap();
    assert_eq!((code.as_str(), message.contains("user request")), ("57014", true), "{message}");
    with_status(&house, "running", 1);
    with_status(&house, "cancelled", 1);
    assert_eq!(one.rows("SELECT 1").unwrap(), [[Some("1".to_owned())]]);
    // A key that comes too late is for nothing that comes after.
    cancel(&one.key);
    assert_eq!(one.rows("SELECT 2").unwrap(), [[Some("2".to_owned())]]);
    cancel(&other.key);
    assert_eq!(raw::error(&other.until_ready().unwrap()).unwrap().0, "57014");
}

#[test]
fn psql_cancels_by_an_interrupt() {
    let (_origin, _site, house) = house(&[]);
    let mut command = psql(&house, "anybody", "");
    command.args(["-c", LONG]).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    with_status(&house, "running", 1);
    // SAFETY: no memory is involved, and the child has not been waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) }, 0);
    eventually("psql to end", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("57014") && stderr.contains("user request"), "{stderr}");
    with_status(&house, "cancelled", 1);
}

#[test]
fn a_client_that_goes_away_leaves_no_query() {
    let (_origin, _site, house) = house(&[]);
    let mut one = Raw::open(house.addr("postgres"));
    one.send(&raw::query(LONG));
    with_status(&house, "running", 1);
    drop(one);
    with_status(&house, "cancelled", 1);
    // Nor does one that does not read its answer, once its time is up.
    with_status(&house, "running", 0);
}

#[test]
fn time_rows_and_memory_end_in_an_error_of_their_kind_while_others_are_answered() {
    let (_origin, _site, house) = house(&[
        ("timeout_ms", json!(2_000)),
        ("rows_max", json!(10_000)),
        ("memory_bytes_max", json!(64 << 20)),
        ("spill_bytes_max", json!(1 << 20)),
    ]);
    let addr = house.addr("postgres");
    let mut cross = Raw::open(addr);
    cross.send(&raw::query(LONG));
    let mut beside = Raw::open(addr);
    assert_eq!(beside.rows("SELECT 1").unwrap(), [[Some("1".to_owned())]]);
    let (code, _) = raw::error(&cross.until_ready().unwrap()).unwrap();
    assert_eq!(code, "57014");
    let (code, message) = beside.rows("SELECT value FROM generate_series(1, 20000)").unwrap_err();
    assert_eq!(code, "54000", "{message}");
    let held = "SELECT cardinality(array_agg(value || ' is a text of some length that is held')) \
                FROM generate_series(1, 5000000)";
    let (code, message) = beside.rows(held).unwrap_err();
    assert!(["53200", "53100"].contains(&code.as_str()), "{code} {message}");
    // The client's own time is less.
    let (good, _, stderr) =
        said(psql(&house, "anybody", "").args(["-c", "SET statement_timeout = 200", "-c", LONG]));
    assert!(!good && stderr.contains("57014") && stderr.contains("statement timeout"), "{stderr}");
}

#[test]
fn turns_are_given_back_by_answers_that_nobody_fetches() {
    let (_origin, _site, house) =
        house(&[("timeout_ms", json!(1_500)), ("concurrency_max", json!(1)), ("queue_max", json!(0))]);
    let addr = house.addr("postgres");
    let mut holder = Raw::open(addr);
    holder.ask(&raw::query("BEGIN"));
    let sql = "SELECT value FROM generate_series(1, 100)";
    let begun = holder
        .ask(&[raw::parse("", sql), raw::bind("held", ""), raw::execute("held", 2), raw::sync()].concat());
    assert!(begun.iter().any(|(kind, _)| *kind == b's'), "suspended: {begun:?}");
    let mut other = Raw::open(addr);
    assert_eq!(other.rows("SELECT 1").unwrap_err().0, "53300");
    eventually("a turn", || other.rows("SELECT 1").map(|_| ()).map_err(|error| format!("{error:?}")));
    let late = holder.ask(&[raw::execute("held", 2), raw::sync()].concat());
    assert_eq!(raw::error(&late).unwrap().0, "57014");
}
