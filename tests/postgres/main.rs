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

use support::site::Tollhouse;

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
