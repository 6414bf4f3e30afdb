//! Rows between hosts: gateways whose collectors send to collectors elsewhere. What clients received is held against
//! what those have, whatever breaks in between.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod wire;

mod journey;

mod kills;

mod partition;

mod failover;

mod door;

use serde_json::{Value, json};
use support::eventually;
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
        .set(&["spool", "segment_bytes"], (1 << 20).into())
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

/// Waits until a metric has at least a value.
pub fn reaches(house: &Tollhouse, metric: &str, labels: &[&str], least: f64) -> f64 {
    eventually(metric, || match house.metric(metric, labels) {
        value if value >= least => Ok(value),
        value => Err(format!("{value} of {least}: {}", house.log())),
    })
}
