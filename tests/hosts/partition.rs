//! A network that ends, heals, or swallows what is said.

use super::support::eventually;
use super::support::load::Load;
use super::support::origin::Origin;
use super::support::site::Tollhouse;
use super::wire::{Mode, Wire};
use super::{all_arrived, centre, edge, reaches, settled};

/// Events that wait in the spool, as the books say.
fn waiting(edge: &Tollhouse) -> Result<u64, String> {
    let rows = edge.try_sql("SELECT in_flight FROM system.ledger WHERE sink = 'forward'")?;
    rows.first().and_then(|row| row["in_flight"].as_u64()).ok_or_else(|| format!("{rows:?}"))
}

#[test]
fn while_the_network_is_cut_only_the_spool_grows_and_then_all_arrives_once() {
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let wire = Wire::to(house.addr("receive"));
    let edge_site = edge(&origin, "edge-1", &[wire.url()]);
    let edge = edge_site.run();
    let load = Load::start(edge.gateway(), "/open/echo", 2);
    load.wait(1_000);
    reaches(&edge, "tollhouse_forward_acknowledged_total", &[], 1.0);
    wire.set(Mode::Cut);
    load.wait(8_000);
    let held = eventually("events that wait in the spool", || match waiting(&edge)? {
        held if held > 5_000 => Ok(held),
        held => Err(format!("{held} wait")),
    });
    // Metrics go on though nothing is sent.
    let seen = reaches(&edge, "tollhouse_http_requests_total", &[], 8_000.0);
    let behind = house.number("SELECT count(*) AS n FROM requests");
    assert!((behind as f64) < seen - 3_000.0, "{behind} of {seen} rows came through a cut network");
    wire.set(Mode::Open);
    load.wait(1_000);
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new(), "no request notices");
    let rows = all_arrived(&edge, &house, &ledger.received);
    println!("{held} events waited in the spool");
    assert_eq!(edge.metric("tollhouse_http_requests_total", &[]), rows as f64, "counted once");
}

#[test]
fn a_black_hole_is_left_after_the_time_out() {
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let wire = Wire::to(house.addr("receive"));
    let edge_site =
        edge(&origin, "edge-1", &[wire.url()]).set(&["collector", "forward", "ack_timeout_ms"], 200.into());
    let edge = edge_site.run();
    assert_eq!(edge.get("/open/echo", &[]).status, 200);
    settled(&edge, 1);
    // First in the midst of a connection, which is given up; then connections that are taken and never answered.
    wire.set(Mode::Stalled);
    for _ in 0..50 {
        assert_eq!(edge.get("/open/echo", &[]).status, 200);
    }
    reaches(&edge, "tollhouse_forward_failures_total", &["reason=\"timeout\""], 3.0);
    assert!(edge.log().contains("no answer within"), "{}", edge.log());
    wire.set(Mode::Open);
    settled(&edge, 51);
    house.rows(51);
}

#[test]
fn acknowledgements_that_are_lost_make_no_second_row() {
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let wire = Wire::to(house.addr("receive"));
    let edge_site =
        edge(&origin, "edge-1", &[wire.url()]).set(&["collector", "forward", "ack_timeout_ms"], 200.into());
    let edge = edge_site.run();
    assert_eq!(edge.get("/open/echo", &[]).status, 200);
    settled(&edge, 1);
    wire.set(Mode::Mute);
    for _ in 0..50 {
        assert_eq!(edge.get("/open/echo", &[]).status, 200);
    }
    reaches(&house, "tollhouse_receive_rows_total", &[], 2.0);
    reaches(&edge, "tollhouse_forward_failures_total", &["reason=\"timeout\""], 1.0);
    wire.set(Mode::Open);
    settled(&edge, 51);
    house.rows(51);
    let again = house.metric("tollhouse_receive_duplicates_total", &[]);
    assert!(again > 0.0, "nothing was sent twice: is this test one?");
}
