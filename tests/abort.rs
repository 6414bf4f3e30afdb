//! Exchanges that end early: the other side learns of it, and the row says who did it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use support::client::{Connection, get};
use support::eventually;
use support::origin::Origin;
use support::site::Site;

#[test]
fn a_client_that_leaves_cancels_the_upstream_call() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let mut connection = Connection::open(house.gateway()).unwrap();
    connection.send_head("GET", "/open/endless", &[]).unwrap();
    assert_eq!(connection.read_head().unwrap().0, 200);
    drop(connection);
    eventually("the cancelled upstream call", || match origin.seen.cancelled.load(Relaxed) {
        1 => Ok(()),
        other => Err(format!("{other} calls cancelled")),
    });
    house.rows(1);
    assert_eq!(house.sql("SELECT outcome FROM requests")[0]["outcome"], "client_closed");
}

#[test]
fn a_client_that_leaves_before_the_answer_is_recorded() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let mut connection = Connection::open(house.gateway()).unwrap();
    connection.send_head("GET", "/open/slow/1500", &[]).unwrap();
    eventually("the upstream call", || match origin.seen.requests.load(Relaxed) {
        1 => Ok(()),
        other => Err(format!("{other} calls")),
    });
    drop(connection);
    house.rows(1);
    assert_eq!(house.sql("SELECT outcome FROM requests")[0]["outcome"], "client_closed");
}

#[test]
fn an_upstream_that_resets_is_never_a_clean_end() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    get(house.gateway(), "/open/reset/1000", &[])
        .expect_err("half of the announced body must not look whole");
    house.rows(1);
    let rows = house.sql("SELECT outcome, status, response_bytes FROM requests");
    assert_eq!(rows[0]["outcome"], "upstream_reset", "{rows:?}");
    assert!(rows[0]["response_bytes"].as_u64().unwrap() <= 1000, "{rows:?}");
    // The gateway is none the worse for it.
    assert_eq!(house.get("/open/echo", &[]).status, 200);
}
