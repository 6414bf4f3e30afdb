//! The PostgreSQL door, with the clients that people use and with one of our own that says what no client would.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod raw;

mod clients;

mod psql;

mod catalogue;

mod grafana;

mod cancel;

mod entrance;

mod attacks;

mod malformed;

mod life;

use std::process::{Command, Output};

use serde_json::{Value, json};
use support::client;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};

/// A token that may see everything.
const ALL: &str = "all-secret-0123456789";
/// One of a consumer.
const ALICE: &str = "alice-secret-0123456789";

/// A site whose service has tokens.
fn guarded(origin: &Origin) -> Site {
    Site::new(origin.addr).set(
        &["analytics", "tokens"],
        json!([
            { "name": "grafana", "secret": ALL },
            { "name": "alice", "secret": ALICE, "consumer": "alice" },
        ]),
    )
}

/// Requests of two consumers and of nobody, with the columns that they fill.
fn traffic(house: &Tollhouse) {
    for number in 0..6 {
        let path = format!("/private/status/{}", [200, 201, 404][number % 3]);
        client::get(house.gateway(), &path, &[("apikey", [ALICE_KEY, BOB_KEY][number % 2])]).unwrap();
    }
    client::exchange(house.gateway(), "POST", "/open/count", &[], &[b'u'; 5000]).unwrap();
    client::get(house.gateway(), "/nowhere", &[("user-agent", "a \"quoted\", {odd} one\\ é")]).unwrap();
}

/// The rows of [`traffic`].
const ROWS: u64 = 8;

/// psql with a statement for each `-c`; what it says is compared as it is, without headers or alignment.
fn psql(house: &Tollhouse, user: &str, password: &str) -> Command {
    let addr = house.addr("postgres");
    let mut command = Command::new("psql");
    command
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"])
        .env("PGHOST", addr.ip().to_string())
        .env("PGPORT", addr.port().to_string())
        .env("PGUSER", user)
        .env("PGPASSWORD", password)
        .env("PGDATABASE", "tollhouse")
        .env("PGCONNECT_TIMEOUT", "30")
        .env("PGCLIENTENCODING", "UTF8");
    command
}

/// Runs it to its end: whether that was good, and what it said on standard output and error.
fn said(command: &mut Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (`tests/run` installs tools)"));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (status.success(), text(&stdout), text(&stderr))
}

/// The rows of a statement over HTTP, with a token.
fn http(house: &Tollhouse, token: &str, statement: &str) -> Vec<Value> {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Accept", "application/json")];
    let reply = client::exchange(house.addr("sql"), "POST", "/sql", &headers, statement.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

/// Waits for the rows of [`traffic`] where tokens are needed.
fn arrived(house: &Tollhouse) {
    support::eventually("rows in requests", || {
        let rows = http(house, ALL, "SELECT count(*) AS n FROM requests");
        if rows[0]["n"] == ROWS { Ok(()) } else { Err(format!("{rows:?}")) }
    });
}
