//! Rows between hosts: gateways whose collectors send to collectors elsewhere. What clients received is held against
//! what those have, whatever breaks in between.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod wire;

mod journey;

mod kills;

mod order;

mod partition;

mod failover;

mod door;

use std::collections::HashSet;
use std::time::Instant;

use serde_json::{Value, json};
use support::eventually;
use support::load::{assert_exact, stored};
use support::origin::Origin;
use support::site::{Site, Tollhouse};

/// What lets a sender in.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A host that has what others send. Small hot files, so that rows are sealed too.
pub fn centre(origin: &Origin) -> Site {
    Site::new(origin.addr)
        .set(&["node"], "centre".into())
        .set(&["collector", "receive"], json!({ "listen": "127.0.0.1:0", "tokens": [TOKEN] }))
        .set(&["collector", "seal"], json!({ "rows_max": 5000, "grace_ms": 500 }))
}

/// A host that keeps nothing but its spool.
pub fn edge(origin: &Origin, node: &str, to: &[String]) -> Site {
    Site::new(origin.addr)
        .set(&["node"], node.into())
        .set(&["collector", "flush_interval_ms"], 20.into())
        .set(&["collector", "forward"], json!({ "to": to, "token": TOKEN, "retry_interval_ms": 100 }))
}

/// The address of a process that other hosts send to.
pub fn url(centre: &Tollhouse) -> String {
    format!("grpc://{}", centre.addr("receive"))
}

/// Waits until the books of an edge balance with nothing on the way and so many events stored elsewhere.
pub fn settled(edge: &Tollhouse, expected: u64) -> Value {
    eventually("a settled ledger", || {
        let rows = edge.try_sql("SELECT * FROM system.ledger WHERE sink = 'forward'")?;
        match rows.as_slice() {
            [row] if row["stored"] == expected && row["in_flight"] == 0 => Ok(row.clone()),
            _ => Err(format!("{rows:?}, {expected} expected")),
        }
    })
}

/// Waits until an edge has sent all that it recorded of what clients received, and gives how much that is. A disk that is
/// slow to make segments makes it drop some, and count them; each other one is a row in the centre, once.
pub fn all_arrived(edge: &Tollhouse, house: &Tollhouse, received: &[(String, Instant)]) -> u64 {
    let row = eventually("all that was recorded to be sent", || {
        let rows = edge.try_sql("SELECT * FROM system.ledger WHERE sink = 'forward'")?;
        match rows.as_slice() {
            [row] if row["produced"] == received.len() && row["in_flight"] == 0 => Ok(row.clone()),
            _ => Err(format!("{rows:?} for {} responses", received.len())),
        }
    });
    let (sent, dropped) = (row["stored"].as_u64().unwrap(), row["dropped"].as_u64().unwrap());
    assert_eq!(sent + dropped, received.len() as u64, "{row}");
    assert!(dropped < sent, "too little was recorded for this test: {row}");
    house.rows(sent);
    let stored = stored(house);
    let ids: HashSet<&str> = received.iter().map(|(id, _)| id.as_str()).collect();
    match dropped {
        0 => assert_exact(&stored, ids.iter().copied()),
        _ => assert_exact(&stored, []),
    }
    assert!(stored.keys().all(|id| ids.contains(id.as_str())), "a row that no client has seen");
    println!("{} responses, {dropped} dropped, {sent} rows", received.len());
    sent
}

/// Waits until a metric has at least a value.
pub fn reaches(house: &Tollhouse, metric: &str, labels: &[&str], least: f64) -> f64 {
    eventually(metric, || match house.metric(metric, labels) {
        value if value >= least => Ok(value),
        value => Err(format!("{value} of {least}: {}", house.log())),
    })
}
