//! A new process in the place of one that serves: no connection is refused or reset, no request fails, no event is lost
//! or stored twice, and the books balance over both.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod h2;

mod calm;

mod command;

mod faults;

use std::process::Command;

use serde_json::Value;
use support::eventually;
use support::site::{Site, Tollhouse};

/// The command line of a process that takes over.
fn taking(site: &Site, role: &str) -> Command {
    let mut command = site.command(role);
    command.arg("--take-over");
    command
}

/// A process that has taken over: it has said that it is ready.
fn take_over(site: &Site, role: &str) -> Tollhouse {
    site.launch(role, taking(site, role))
}

/// Waits until all that was produced is stored, and says what the books of the table are then.
fn settled(sql: &Tollhouse) -> Value {
    eventually("books that are settled", || {
        let rows = sql.try_sql("SELECT * FROM system.ledger WHERE sink = 'parquet'")?;
        let [row] = rows.as_slice() else { return Err(format!("{rows:?}")) };
        let number = |name: &str| row[name].as_u64().unwrap();
        let (came, went) = (
            number("produced") + number("recovered"),
            number("stored") + number("dropped") + number("in_flight"),
        );
        assert_eq!(came, went, "the books balance at any time: {row}");
        assert_eq!(number("dropped"), 0, "{row}");
        if number("in_flight") == 0 { Ok(row.clone()) } else { Err(row.to_string()) }
    })
}

/// The same once they name so many events: they are written a moment after the rows.
fn settled_at(sql: &Tollhouse, produced: usize) {
    eventually("books of all events", || {
        let row = settled(sql);
        if row["produced"].as_u64() == Some(produced as u64) { Ok(()) } else { Err(row.to_string()) }
    });
}

/// What the gateway that serves says of itself in the data folder.
fn state(site: &Site) -> Value {
    let text = std::fs::read_to_string(site.data().join("state/configuration.json")).unwrap();
    serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
}
