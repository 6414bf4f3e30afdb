//! Two collectors: rows go to one of them at a time, and what both have is taken back at one.

use std::collections::HashSet;
use std::time::Duration;

use event::erasure::waiting;
use event::layout::DataFolder;
use serde_json::json;

use super::support::eventually;
use super::support::load::Load;
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::wire::{Mode, Wire};
use super::{centre, edge, reaches, settled};

/// How long an edge waits for an answer before it goes to the other collector. Long enough that a machine busy with other
/// tests keeps no collector from answering: one that is left for that reason would be in use again, with what it has.
const PATIENCE_MS: u64 = 3_000;

/// A collector that is quick to give up rows.
fn receiver(origin: &Origin) -> Site {
    centre(origin)
        .set(&["collector", "seal", "interval_s"], 1.into())
        .set(&["collector", "retention"], json!({ "grace_s": 0 }))
}

/// The requests of a collector's rows, and how many rows it has given up, once all orders are carried out.
fn counted(house: &Tollhouse, site: &Site) -> (HashSet<String>, u64) {
    let folder = DataFolder::existing(&site.data()).unwrap();
    eventually("rows that were taken back to be gone", || {
        let open = waiting(&folder).unwrap().len();
        if open == 0 { Ok(()) } else { Err(format!("{open} orders: {}", house.log())) }
    });
    let rows = house.sql("SELECT encode(request_id, 'hex') AS id FROM requests");
    let all: HashSet<String> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(all.len(), rows.len(), "two rows of one request in one collector");
    let gone = house.number("SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) AS n FROM system.erasures");
    (all, gone)
}

/// Both collectors together have each response once.
fn assert_once(houses: [(&Tollhouse, &Site); 2], received: &[(String, std::time::Instant)]) -> [u64; 2] {
    let [(a, gone_a), (b, gone_b)] = houses.map(|(house, site)| counted(house, site));
    let twice: Vec<_> = a.intersection(&b).collect();
    assert!(twice.is_empty(), "{} rows count in both, as {:?}", twice.len(), twice[0]);
    let lost: Vec<_> = received.iter().filter(|(id, _)| !a.contains(id) && !b.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} responses count in neither", lost.len(), received.len());
    assert_eq!(a.len() + b.len(), received.len());
    println!(
        "{} responses: {} in the first, {} in the second, {gone_a} and {gone_b} taken back",
        received.len(),
        a.len(),
        b.len()
    );
    [gone_a, gone_b]
}

#[test]
fn the_next_collector_takes_over_and_back_and_each_row_counts_once() {
    let origin = Origin::start();
    let (site_a, site_b) = (receiver(&origin), receiver(&origin));
    let (a, b) = (site_a.run(), site_b.run());
    let (to_a, to_b) = (Wire::to(a.addr("receive")), Wire::to(b.addr("receive")));
    let edge_site = edge(&origin, "edge-1", &[to_a.url(), to_b.url()])
        .set(&["collector", "forward", "ack_timeout_ms"], PATIENCE_MS.into())
        .set(&["collector", "forward", "failover_ms"], PATIENCE_MS.into());
    let edge = edge_site.run();
    let load = Load::start_paced(edge.gateway(), "/open/echo", 2, Duration::from_millis(1));
    load.wait(1_000);
    reaches(&edge, "tollhouse_forward_acknowledged_total", &[], 1.0);
    assert_eq!(b.number("SELECT count(*) AS n FROM requests"), 0, "one at a time");

    // The first gets rows and nobody hears of it.
    to_a.set(Mode::Mute);
    reaches(&edge, "tollhouse_forward_failovers_total", &[], 1.0);
    reaches(&b, "tollhouse_receive_rows_total", &[], 500.0);
    assert_eq!(edge.metric("tollhouse_forward_in_doubt", &[]), 1.0);
    // It answers again: what it has too much is taken back, while the second stays in use.
    to_a.set(Mode::Open);
    eventually("what is in doubt to be settled", || match edge.metric("tollhouse_forward_in_doubt", &[]) {
        0.0 => Ok(()),
        doubts => Err(format!("{doubts} in doubt: {}", edge.log())),
    });
    assert_eq!(edge.metric("tollhouse_forward_failovers_total", &[]), 1.0, "it sticks to the second");

    // And back: the second swallows, the first takes its place and is not asked to give up what it is sent now.
    to_b.set(Mode::Mute);
    reaches(&edge, "tollhouse_forward_failovers_total", &[], 2.0);
    load.wait(500);
    to_b.set(Mode::Open);
    eventually("what is in doubt to be settled", || match edge.metric("tollhouse_forward_in_doubt", &[]) {
        0.0 => Ok(()),
        doubts => Err(format!("{doubts} in doubt: {}", edge.log())),
    });
    assert_eq!(edge.metric("tollhouse_forward_failovers_total", &[]), 2.0, "it stays with the first");
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new(), "no request notices");
    settled(&edge, ledger.received.len() as u64);
    let [gone_a, gone_b] = assert_once([(&a, &site_a), (&b, &site_b)], &ledger.received);
    assert!(gone_a > 0 && gone_b > 0, "nothing was in doubt: is this test one?");
}

#[test]
fn an_edge_killed_while_rows_are_in_doubt_knows_it_after_the_start() {
    let origin = Origin::start();
    let (site_a, site_b) = (receiver(&origin), receiver(&origin));
    let (a, b) = (site_a.run(), site_b.run());
    let (to_a, to_b) = (Wire::to(a.addr("receive")), Wire::to(b.addr("receive")));
    let edge_site = edge(&origin, "edge-1", &[to_a.url(), to_b.url()])
        .set(&["collector", "forward", "ack_timeout_ms"], 300.into())
        .set(&["collector", "forward", "failover_ms"], 300.into());
    let edge = edge_site.run();
    let mut received = Vec::new();
    let mut send = |edge: &Tollhouse| {
        for _ in 0..200 {
            let reply = edge.get("/open/echo", &[]);
            assert_eq!(reply.status, 200);
            received.push((reply.request_id(), std::time::Instant::now()));
        }
    };
    send(&edge);
    settled(&edge, 200);
    to_a.set(Mode::Mute);
    send(&edge);
    reaches(&a, "tollhouse_receive_rows_total", &[], 201.0);
    // Killed before or after it goes to the other one; the start goes there in any case, as the first stays mute.
    edge.kill9();
    let edge = edge_site.run();
    send(&edge);
    reaches(&edge, "tollhouse_forward_failovers_total", &[], 1.0);
    reaches(&b, "tollhouse_receive_rows_total", &[], 1.0);
    edge.kill9();
    let edge = edge_site.run();
    to_a.set(Mode::Open);
    eventually("what is in doubt to be settled", || match edge.metric("tollhouse_forward_in_doubt", &[]) {
        0.0 => Ok(()),
        doubts => Err(format!("{doubts} in doubt: {}", edge.log())),
    });
    assert!(edge.terminate().success());
    assert_once([(&a, &site_a), (&b, &site_b)], &received);
}
