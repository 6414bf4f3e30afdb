//! A large answer is streamed: its size does not show in the memory of the service. A process of its own, so that
//! nothing else is measured.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, reason = "shared with the tests in the folder `sql`")]
#[path = "sql/support.rs"]
mod support;

use std::io::Read;

use support::{house, send, serve};

/// What the engine may hold at one time, whatever the size of the answer.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

#[test]
fn a_large_answer_takes_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for (format, least) in
        [("ndjson", 600 << 20), ("csv", 500 << 20), ("arrow", 400 << 20), ("parquet", 5 << 20)]
    {
        let before = resident();
        let wide = "SELECT value, 'a text that makes the rows of this answer a good deal wider than they were' AS t, \
            now() AS n FROM generate_series(1, 5000000)";
        let mut socket = send(running.addr, "POST", &format!("/sql?format={format}"), &[], wide);
        let (mut piece, mut bytes, mut greatest) = (vec![0; 1 << 20], 0, 0);
        loop {
            let read = socket.read(&mut piece).unwrap();
            (bytes, greatest) = (bytes + read as u64, greatest.max(resident()));
            if read == 0 {
                break;
            }
        }
        assert!(bytes > least, "{format}: {bytes}");
        assert!(greatest < before + GROWTH_BYTES_MAX, "{format}: {before} bytes before, {greatest} at most");
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
