//! What a disk and a clock can do to a process, each against the real binary under load, and each held against the
//! client's own ledger: what was sent is stored or was dropped by a named reason, and nothing is stored twice.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod steps;

mod disk;

mod clock;

use support::load::Load;
use support::site::Tollhouse;

/// Sends so many requests, or a few more, none of which may fail; their ids.
fn send(house: &Tollhouse, requests: u64) -> Vec<String> {
    let load = Load::start(house.gateway(), "/open/echo", 4);
    load.wait(requests);
    ids(load)
}

/// Ends a load that no request of may have failed; the ids of its responses.
fn ids(load: Load) -> Vec<String> {
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    ledger.received.into_iter().map(|(id, _)| id).collect()
}
