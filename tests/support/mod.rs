//! What the black-box tests share: the real binary in a folder of its own, origins that misbehave on request, an
//! HTTP client that sees every byte, and the external tools that `tests/run` installs.
//!
//! Nothing here sleeps for luck: what takes time is polled until a deadline.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used)]

pub mod bucket;

pub mod client;

pub mod doors;

pub mod jaeger;

pub mod load;

pub mod origin;

pub mod port;

pub mod search;

pub mod site;

pub mod terminal;

pub mod tool;

pub mod trace;

use std::time::{Duration, Instant};

/// How long a test waits for anything that must come.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `probe` answers something, and fails with `what` and the last refusal after the deadline.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(refusal) if Instant::now() > end => panic!("{what}: {refusal}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Whether the tests run at the length of the promises (`TESTS_LONG=1`) or at a fraction of it.
pub fn long() -> bool {
    std::env::var_os("TESTS_LONG").is_some_and(|value| value == "1")
}
