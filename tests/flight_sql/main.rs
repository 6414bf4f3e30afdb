//! The Arrow Flight SQL door, with the drivers that people use and with calls that no driver makes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod clients;

mod entrance;

mod life;

use std::process::Command;

use support::site::Tollhouse;
use support::tool::{output, python};

/// Does one part of `clients.py`, which ends well or says why not.
fn adbc(house: &Tollhouse, part: &str, more: &[&str]) -> String {
    adbc_at(house, part, "grpc", more)
}

fn adbc_at(house: &Tollhouse, part: &str, scheme: &str, more: &[&str]) -> String {
    let (addr, sql) = (house.addr("flight"), house.addr("sql"));
    // Certificates are for a name.
    let host = if scheme == "grpc" { "127.0.0.1" } else { "localhost" };
    let mut command = Command::new(python());
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flight_sql/clients.py"))
        .arg(part)
        .arg(format!("{scheme}://{host}:{}", addr.port()))
        .arg(format!("http://{sql}/sql"))
        .args(more);
    let said = output(&mut command);
    assert!(said.trim().ends_with("done"), "{said}");
    said
}
