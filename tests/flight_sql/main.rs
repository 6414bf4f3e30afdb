//! The Arrow Flight SQL door, with the drivers that people use and with calls that no driver makes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod clients;

mod entrance;

mod life;

use std::process::Command;

use serde_json::Value;
use support::client;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};
use support::tool::{output, python};

/// Requests of two consumers and of nobody, with the columns that they fill.
fn traffic(house: &Tollhouse) {
    for number in 0..6 {
        let path = format!("/private/status/{}", [200, 201, 404][number % 3]);
        client::get(house.gateway(), &path, &[("apikey", [ALICE_KEY, BOB_KEY][number % 2])]).unwrap();
    }
    client::exchange(house.gateway(), "POST", "/open/count", &[], &[b'u'; 5000]).unwrap();
    client::get(house.gateway(), "/nowhere", &[("user-agent", "a \"quoted\", {odd} one\\ é")]).unwrap();
}

/// The rows of [`traffic`], and those of alice.
const ROWS: u64 = 8;
const ALICES: u64 = 3;

/// A house with them.
fn house() -> (Origin, Site, Tollhouse) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    traffic(&house);
    house.rows(ROWS);
    (origin, site, house)
}

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

/// The rows of a statement over HTTP, with a token.
fn http(house: &Tollhouse, token: &str, statement: &str) -> Vec<Value> {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Accept", "application/json")];
    let reply = client::exchange(house.addr("sql"), "POST", "/sql", &headers, statement.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}
