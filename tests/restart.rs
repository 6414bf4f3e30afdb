//! SIGTERM drains, and what was stored stays.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::client::{Connection, get};
use support::eventually;
use support::load::{Load, assert_exact, stored};
use support::origin::Origin;
use support::site::Site;

#[test]
fn requests_in_flight_are_answered_before_the_end() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let addr = house.gateway();
    let waiting: Vec<_> =
        (0..8).map(|_| std::thread::spawn(move || get(addr, "/open/slow/1000", &[]))).collect();
    eventually("requests at the origin", || {
        match origin.seen.requests.load(std::sync::atomic::Ordering::Relaxed) {
            8 => Ok(()),
            other => Err(format!("{other}")),
        }
    });
    assert!(house.terminate().success());
    for reply in waiting {
        assert_eq!(reply.join().unwrap().expect("a request in flight is answered").status, 200);
    }
    let house = site.run();
    house.rows(8);
    assert_eq!(house.number("SELECT count(*) AS n FROM requests WHERE outcome = 'ok'"), 8);
}

#[test]
fn two_runs_add_up_exactly() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let mut received = Vec::new();
    for _ in 0..2 {
        let house = site.run();
        let load = Load::start(house.gateway(), "/open/echo", 4);
        load.wait(2000);
        let ledger = load.stop();
        assert_eq!(ledger.failed, Vec::<String>::new());
        received.extend(ledger.received.into_iter().map(|(id, _)| id));
        assert!(house.terminate().success());
    }
    let house = site.run();
    let stored = stored(&house);
    assert_exact(&stored, received.iter().map(String::as_str));
    assert_eq!(stored.len(), received.len(), "rows without a response");
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let mut idle = Connection::open(house.gateway()).unwrap();
    assert_eq!(idle.exchange("GET", "/open/echo", &[], b"").unwrap().status, 200);
    assert!(house.terminate().success());
    idle.exchange("GET", "/open/echo", &[], b"").expect_err("the gateway has gone");
}
