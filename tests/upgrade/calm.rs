//! Upgrades as they should go.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{Connection, get};
use crate::support::eventually;
use crate::support::load::{Load, assert_exact, stored};
use crate::support::origin::Origin;
use crate::support::site::{Site, Tollhouse};
use crate::{h2, settled, settled_at, take_over, taking};

/// Load of all kinds, and what it must find.
struct Clients {
    kept: Load,
    fresh: Load,
    h2: h2::Load,
}

impl Clients {
    fn start(house: &Tollhouse) -> Self {
        Self {
            kept: Load::start(house.gateway(), "/open/echo", 4),
            fresh: Load::start_fresh(house.gateway(), "/open/echo", 4),
            h2: h2::Load::start(house.gateway(), "/open/echo"),
        }
    }

    fn wait(&self, more: u64) {
        self.kept.wait(more);
        self.fresh.wait(more);
        self.h2.wait(more);
    }

    /// Ends the load: nothing failed, and each response is one row and each row a response. Says how many.
    fn check(self, sql: &Tollhouse) -> u64 {
        let (kept, fresh, h2) = (self.kept.stop(), self.fresh.stop(), self.h2.stop());
        assert_eq!((kept.failed, fresh.failed, h2.failed), (vec![], vec![], vec![]));
        let mut received: Vec<String> = h2.received;
        received.extend([kept.received, fresh.received].into_iter().flatten().map(|(id, _)| id));
        println!("{} requests, {} connections of HTTP/2", received.len(), h2.connections);
        sql.rows(received.len() as u64);
        assert_exact(&stored(sql), received.iter().map(String::as_str));
        received.len() as u64
    }
}

#[test]
fn five_upgrades_under_load_refuse_and_lose_nothing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 0}));
    let mut house = site.run();
    let addrs = ["gateway", "metrics", "sql"].map(|name| house.addr(name));
    let clients = Clients::start(&house);
    clients.wait(300);
    for _ in 0..5 {
        let begun = Instant::now();
        let next = take_over(&site, "run");
        let took = begun.elapsed();
        assert_eq!(addrs, ["gateway", "metrics", "sql"].map(|name| next.addr(name)));
        let old = std::mem::replace(&mut house, next);
        assert!(old.ended().success(), "the old process ends in order");
        println!("taken over after {took:?}, the old one gone after {:?}", begun.elapsed());
        clients.wait(300);
        settled_meanwhile(&house);
    }
    let answered = clients.check(&house);
    let books = settled(&house);
    // The books are of the life that serves and of the one before it.
    let lives = books["produced"].as_u64().unwrap();
    assert!(lives > 600 && lives < answered, "{books}");
    // Two lanes for each core, whatever the number of upgrades.
    let cores = std::thread::available_parallelism().unwrap().get();
    let lanes = std::fs::read_dir(site.data().join("spool")).unwrap();
    let lanes = lanes.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(lanes, 2 * cores);
    assert_eq!(house.metric("tollhouse_config_last_reload_successful", &[]), 1.0);
    assert!(house.terminate().success());
}

/// The books balance while there is load.
fn settled_meanwhile(house: &Tollhouse) {
    for row in house.sql("SELECT * FROM system.ledger WHERE sink = 'parquet'") {
        let number = |name: &str| row[name].as_u64().unwrap();
        let went = number("stored") + number("dropped") + number("in_flight");
        assert_eq!(number("produced") + number("recovered"), went, "{row}");
    }
}

#[test]
fn what_is_under_way_ends_well_and_what_waits_may_ask_once_more() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["gateway", "timeouts"], json!({"drain_timeout_ms": 4_000}))
        .set(&["upgrade"], json!({"idle_timeout_ms": 2_000}));
    let old = site.run();
    let addr = old.gateway();
    let slow = std::thread::spawn(move || get(addr, "/open/slow/2500", &[]));
    let mut idle: Vec<_> = (0..3).map(|_| Connection::open(addr).unwrap()).collect();
    for connection in &mut idle {
        assert_eq!(connection.exchange("GET", "/open/echo", &[], b"").unwrap().status, 200);
    }
    let mut socket = Connection::open(addr).unwrap();
    socket.send_head("GET", "/open/upgrade", &[("Connection", "Upgrade"), ("Upgrade", "websocket")]).unwrap();
    assert_eq!(socket.read_head().unwrap().0, 101);
    let mut silent: Vec<_> = (0..8).map(|_| Connection::open(addr).unwrap()).collect();
    eventually("the slow request at the origin", || {
        match origin.seen.requests.load(std::sync::atomic::Ordering::Relaxed) {
            5 => Ok(()),
            other => Err(other.to_string()),
        }
    });
    let new = take_over(&site, "run");
    let taken = Instant::now();
    for connection in silent.iter_mut().chain(&mut idle[..2]) {
        let reply =
            connection.exchange("GET", "/open/echo", &[], b"").expect("a connection may ask once more");
        assert_eq!(reply.status, 200);
    }
    let last = idle[0].exchange("GET", "/open/echo", &[], b"");
    last.expect_err("that was the last answer of its connection");
    let mut echo = [0; 5];
    socket.write(b"hello").unwrap();
    std::io::Read::read_exact(&mut socket.stream, &mut echo).unwrap();
    assert_eq!(&echo, b"hello", "a tunnel goes on");
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
    // One that asks nothing is closed in order before the rest is cut.
    let mut none = [0; 1];
    assert_eq!(std::io::Read::read(&mut idle[2].stream, &mut none).unwrap(), 0);
    assert!(taken.elapsed() > Duration::from_millis(1_500), "{:?}", taken.elapsed());
    assert!(old.ended().success());
    assert!(taken.elapsed() < Duration::from_secs(8), "{:?}", taken.elapsed());
    let cut = std::io::Read::read(&mut socket.stream, &mut none);
    assert!(matches!(cut, Ok(0) | Err(_)), "a tunnel is cut at the end of the drain: {cut:?}");
    new.rows(15);
    assert_eq!(new.number("SELECT count(*) AS n FROM requests WHERE status = 101"), 1);
    settled_at(&new, 15);
    assert!(new.terminate().success());
}

#[test]
fn a_second_upgrade_need_not_wait_for_the_end_of_the_first() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let mut houses = vec![site.run()];
    let addr = houses[0].gateway();
    let mut slow = Vec::new();
    for round in 1..=3 {
        slow.push(std::thread::spawn(move || get(addr, "/open/slow/4000", &[])));
        eventually("the slow request at the origin", || {
            match origin.seen.requests.load(std::sync::atomic::Ordering::Relaxed) {
                seen if seen == round => Ok(()),
                other => Err(other.to_string()),
            }
        });
        houses.push(take_over(&site, "run"));
    }
    let newest = houses.pop().unwrap();
    for request in slow {
        assert_eq!(request.join().unwrap().unwrap().status, 200);
    }
    for old in houses {
        assert!(old.ended().success());
    }
    newest.rows(3);
    // The books of all that wrote.
    settled_at(&newest, 3);
    assert!(newest.terminate().success());
}

#[test]
fn threads_and_listeners_may_be_others() {
    let origin = Origin::start();
    let listen = |names: &[&str]| {
        json!(names.iter().map(|name| json!({"name": name, "address": "127.0.0.1:0"})).collect::<Vec<_>>())
    };
    let mut site = Site::new(origin.addr).set(&["gateway", "threads"], 4.into());
    // The last is the one that the tests' client takes for `gateway`.
    site = site.set(&["gateway", "listen"], listen(&["second", "gateway"]));
    let mut house = site.run();
    let addr = house.gateway();
    for (threads, names) in [
        (1, vec!["second", "gateway"]),
        (3, vec!["gateway"]),
        (6, vec!["third", "gateway"]),
        (4, vec!["gateway"]),
    ] {
        site = site.set(&["gateway", "threads"], threads.into()).set(&["gateway", "listen"], listen(&names));
        let load = Load::start_fresh(addr, "/open/echo", 8);
        load.wait(200);
        let next = take_over(&site, "run");
        assert!(std::mem::replace(&mut house, next).ended().success());
        load.wait(400);
        let ledger = load.stop();
        assert_eq!(ledger.failed, Vec::<String>::new(), "{threads} threads");
    }
    assert_eq!(house.gateway(), addr);
    assert!(house.terminate().success());
}

#[test]
fn roles_apart_are_upgraded_without_the_others_noticing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let mut gateway = site.start("proxy");
    let collector = site.start("collector");
    let sql = site.start("analytics");
    let clients = Clients::start(&gateway);
    clients.wait(200);
    for _ in 0..3 {
        let next = take_over(&site, "proxy");
        assert!(std::mem::replace(&mut gateway, next).ended().success());
        clients.wait(200);
    }
    let answered = clients.check(&sql);
    settled(&sql);
    let counted = eventually("the metrics of all of them", || {
        let counted = collector.metric("tollhouse_http_requests_total", &[]);
        if counted >= answered as f64 { Ok(counted) } else { Err(counted.to_string()) }
    });
    assert_eq!(counted, answered as f64, "the collector has seen each event once");
    for house in [gateway, collector, sql] {
        assert!(house.terminate().success());
    }
}

#[test]
fn from_one_process_to_the_gateway_alone_and_back() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let all = site.run();
    assert_eq!(all.get("/open/echo", &[]).status, 200);
    let alone = take_over(&site, "proxy");
    assert!(all.ended().success());
    assert_eq!(alone.get("/open/echo", &[]).status, 200);
    let all = take_over(&site, "run");
    assert!(alone.ended().success());
    assert_eq!(all.get("/open/echo", &[]).status, 200);
    all.rows(3);
    settled(&all);
    assert!(all.terminate().success());
}

#[test]
fn without_anybody_to_take_over_from_it_is_a_start() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    for killed in [true, false] {
        let house = site.launch("run", taking(&site, "run"));
        assert!(house.log().contains("this is a start like any other"), "{}", house.log());
        assert_eq!(house.get("/open/echo", &[]).status, 200);
        // What a killed process leaves of its socket is nobody either.
        if killed {
            house.kill9();
        } else {
            assert!(house.terminate().success());
            assert!(!site.data().join("state/handover.sock").exists());
        }
    }
}
