//! Promise 1: kill -9 of the whole process under load. Every response that a client had received whole 50 ms before
//! has exactly one row after the restart.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use support::load::{Load, assert_exact, stored};
use support::long;
use support::origin::Origin;
use support::site::Site;

#[test]
fn kill_9_under_load_loses_and_doubles_nothing() {
    let rounds = if long() { 20 } else { 5 };
    let origin = Origin::start();
    // Small hot files, so that kills also meet the sealing into Parquet.
    let site = Site::new(origin.addr).set(&["collector", "seal", "rows_max"], 2000.into());
    let mut owed: Vec<String> = Vec::new();
    for round in 0..rounds {
        let house = site.run();
        let load = Load::start(house.gateway(), "/open/echo", 8);
        // Enough to last longer than 50 ms, and not the same moment of the collector's round each time.
        load.wait(5000 + 137 * round);
        // Taken before the signal: what is older than this by 50 ms was older still when the process died.
        let killed = Instant::now();
        house.kill9();
        let ledger = load.stop();
        let before = ledger.received.len();
        let due = ledger
            .received
            .into_iter()
            .filter(|(_, at)| killed.duration_since(*at) > Duration::from_millis(50));
        owed.extend(due.map(|(id, _)| id));
        assert!(before > 0 && !owed.is_empty(), "round {round} had no load");

        let house = site.run();
        // The ledger is checked once the collector has caught up with what the kill left.
        support::eventually("recovered rows", || {
            let rows = house.try_sql("SELECT count(*) AS n FROM requests")?;
            let rows = rows[0]["n"].as_u64().unwrap_or(0);
            if rows >= owed.len() as u64 { Ok(()) } else { Err(format!("{rows} rows, {} owed", owed.len())) }
        });
        // Rows in excess of `owed` (responses within the 50 ms) may stand in for late ones in that count, so the
        // verdict waits for the spool to be empty: the clean end drains it.
        assert!(house.terminate().success());
        let house = site.run();
        assert_exact(&stored(&house), owed.iter().map(String::as_str));
        house.kill9();
    }
}
