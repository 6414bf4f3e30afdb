//! The tests' own tools, tried on each other without a gateway in between: a client that did not see a cut, or an
//! origin that miscounted, would make every other test worthless.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;

use support::client::{self, Connection};
use support::eventually;
use support::origin::Origin;
use support::site::sum;

#[test]
fn the_origin_answers_as_its_path_says() {
    let origin = Origin::start();
    let mut connection = Connection::open(origin.addr).unwrap();
    assert_eq!(connection.exchange("POST", "/echo", &[], b"said").unwrap().body, b"said");
    assert_eq!(connection.exchange("GET", "/status/503", &[], b"").unwrap().status, 503);
    assert_eq!(connection.exchange("GET", "/bytes/300000", &[], b"").unwrap().body.len(), 300_000);
    assert_eq!(connection.exchange("GET", "/chunks/3", &[], b"").unwrap().text(), "chunkchunkchunk");
    let head = connection.exchange("HEAD", "/bytes/7", &[], b"").unwrap();
    assert_eq!((head.header("content-length"), head.body.len()), (Some("7"), 0));
    assert_eq!(connection.exchange("POST", "/count", &[], &[b'y'; 70_000]).unwrap().text(), "70000");
    assert_eq!(origin.seen.requests.load(Relaxed), 6);
    assert_eq!(origin.seen.body_bytes.load(Relaxed), 70_004);
}

#[test]
fn the_client_reports_a_body_that_was_cut() {
    let origin = Origin::start();
    let error = client::get(origin.addr, "/reset/1000", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn the_origin_sees_that_its_client_went_away() {
    let origin = Origin::start();
    let mut connection = Connection::open(origin.addr).unwrap();
    connection.send_head("GET", "/endless", &[]).unwrap();
    connection.read_head().unwrap();
    drop(connection);
    eventually("the origin's cancelled count", || match origin.seen.cancelled.load(Relaxed) {
        1 => Ok(()),
        other => Err(format!("{other}")),
    });
}

#[test]
fn samples_are_summed_by_whole_name_and_label() {
    let text = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3 1700000000\na_total_more 9\n";
    assert_eq!(sum(text, "a_total", &[]), 5.0);
    assert_eq!(sum(text, "a_total", &["x=\"2\""]), 3.0);
}
