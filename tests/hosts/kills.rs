//! kill -9 of either side under load, at moments drawn at random; and an acknowledgement that a disk which refuses to
//! sync never lets out.

use std::time::{Duration, Instant};

use rand::Rng;

use super::support::eventually;
use super::support::load::{Load, assert_exact, stored};
use super::support::long;
use super::support::origin::Origin;
use super::support::tool::preload;
use super::wire::Wire;
use super::{all_arrived, centre, edge, reaches, settled, url};

/// Younger responses may be lost with the process.
const PROMISED_AFTER: Duration = Duration::from_millis(50);

fn a_while() -> u64 {
    rand::rng().random_range(1_500..5_000)
}

#[test]
fn kill_9_of_the_centre_loses_and_doubles_nothing() {
    let rounds = if long() { 50 } else { 4 };
    let origin = Origin::start();
    let site = centre(&origin);
    let mut house = site.run();
    let wire = Wire::to(house.addr("receive"));
    let edge_site = edge(&origin, "edge-1", &[wire.url()]);
    let edge = edge_site.run();
    let load = Load::start(edge.gateway(), "/open/echo", 2);
    for round in 0..rounds {
        load.wait(a_while());
        house.kill9();
        // A while without it.
        load.wait(500);
        house = site.run();
        wire.leads(house.addr("receive"));
        let row = &house.sql("SELECT count(*) AS n, count(DISTINCT request_id) AS ids FROM requests")[0];
        assert_eq!(row["n"], row["ids"], "round {round}");
    }
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new(), "no request notices");
    let rows = all_arrived(&edge, &house, &ledger.received);
    println!(
        "{rounds} kills of the centre: {rows} rows, {} sent, {} of them known to the last one, 0 lost, 0 double",
        edge.metric("tollhouse_forward_rows_total", &[]),
        house.metric("tollhouse_receive_duplicates_total", &[]),
    );
}

#[test]
fn kill_9_of_an_edge_loses_and_doubles_nothing() {
    let rounds = if long() { 50 } else { 4 };
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let edge_site = edge(&origin, "edge-1", &[url(&house)]);
    let (mut owed, mut received) = (Vec::new(), 0);
    for _ in 0..rounds {
        let edge = edge_site.run();
        let load = Load::start(edge.gateway(), "/open/echo", 2);
        load.wait(a_while());
        let killed = Instant::now();
        edge.kill9();
        let ledger = load.stop();
        received += ledger.received.len();
        let due = ledger.received.into_iter().filter(|(_, at)| killed.duration_since(*at) > PROMISED_AFTER);
        owed.extend(due.map(|(id, _)| id));
    }
    // What the last one left is sent by the next.
    let edge = edge_site.run();
    assert!(edge.terminate().success(), "a clean end sends all that is left");
    let stored = stored(&house);
    assert_exact(&stored, owed.iter().map(String::as_str));
    println!(
        "{rounds} kills of an edge: {received} responses, {} owed, {} rows, 0 lost, 0 double",
        owed.len(),
        stored.len()
    );
}

#[test]
fn nothing_is_acknowledged_while_the_disk_of_the_receiver_refuses_to_sync() {
    let origin = Origin::start();
    let site = centre(&origin);
    let mark = site.folder().join("refuse");
    let library = preload(site.folder(), "steps", include_str!("../support/steps.c"));
    let mut command = site.command("run");
    command
        .env("LD_PRELOAD", library)
        .env("STEPS_PREFIX", site.data())
        .env("STEPS_REFUSE", "1")
        .env("STEPS_REFUSE_MARK", &mark);
    let house = site.launch("run", command);
    let edge_site = edge(&origin, "edge-1", &[url(&house)]);
    let edge = edge_site.run();
    assert_eq!(edge.get("/open/echo", &[]).status, 200);
    let before = reaches(&edge, "tollhouse_forward_acknowledged_total", &[], 1.0);

    std::fs::write(&mark, "").unwrap();
    for _ in 0..100 {
        assert_eq!(edge.get("/open/echo", &[]).status, 200);
    }
    // The receiver has the rows, tries, and fails; and tries again.
    reaches(&house, "tollhouse_receive_rows_total", &[], 2.0);
    eventually("a sync that failed", || {
        let log = house.log();
        if log.contains("the disk refuses") { Ok(()) } else { Err(log) }
    });
    assert_eq!(
        edge.metric("tollhouse_forward_acknowledged_total", &[]),
        before,
        "not on disk, not acknowledged"
    );
    eventually("the books to say so", || {
        let rows = edge.try_sql("SELECT stored, in_flight FROM system.ledger WHERE sink = 'forward'")?;
        let waits = rows.len() == 1 && rows[0]["stored"] == 1 && rows[0]["in_flight"] == 100;
        if waits { Ok(()) } else { Err(format!("{rows:?}")) }
    });

    std::fs::remove_file(&mark).unwrap();
    settled(&edge, 101);
    house.rows(101);
}
