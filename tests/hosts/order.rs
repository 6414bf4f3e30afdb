//! By strace: an acknowledgement leaves a receiver only when the rows that it is for are on the receiver's disk.

use std::process::Command;

use super::support::origin::Origin;
use super::support::tool::output;
use super::support::trace::calls;
use super::{centre, edge, reaches, settled, url};

/// Batches that are sent, one after the acknowledgement of the other.
const BATCHES: u64 = 12;

#[test]
fn rows_are_synced_before_their_acknowledgement_is_sent() {
    let origin = Origin::start();
    let site = centre(&origin);
    let trace = site.folder().join("trace");
    let plain = site.command("run");
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-yy",
        "-s",
        "4096",
        "-e",
        "trace=fsync,fdatasync,write,writev,sendto,sendmsg",
        "-o",
    ]);
    command.arg(&trace).arg(plain.get_program()).args(plain.get_args());
    let house = site.launch("run", command);
    let edge_site = edge(&origin, "edge-1", &[url(&house)]);
    let edge = edge_site.run();
    for batch in 1..=BATCHES {
        assert_eq!(edge.get("/open/echo", &[]).status, 200);
        reaches(&edge, "tollhouse_forward_acknowledged_total", &[], batch as f64);
    }
    settled(&edge, BATCHES);
    house.rows(BATCHES);
    // strace passes the signal on to nobody: it is the house that is asked.
    let pid = output(Command::new("pgrep").arg("-P").arg(house.pid().to_string()));
    output(Command::new("kill").arg(pid.trim()));
    assert!(house.ended().success());

    let data = site.data().display().to_string();
    let text = std::fs::read_to_string(&trace).unwrap();
    let calls = calls(&text);
    let hot = |at: usize, sync: bool, end: &str| {
        let call = &calls[at];
        let path = call.path(&data).unwrap_or_default();
        call.name.ends_with("sync") == sync && path.starts_with("hot/") && path.ends_with(end)
    };
    let last =
        |from: usize, to: usize, sync: bool, end: &str| (from..to).rev().find(|at| hot(*at, sync, end));
    // `{"version":1,"lanes":{"0":5}}`: what a receiver says of a batch, and of nothing else.
    let says = r#"{\"version\":1,\"lanes\":{"#;
    let acknowledged: Vec<usize> = (0..calls.len())
        .filter(|at| calls[*at].text.contains("<TCP:") && calls[*at].text.contains(says))
        .collect();
    assert_eq!(acknowledged.len() as u64, BATCHES, "acknowledgements in the trace");
    let mut before = 0;
    for at in acknowledged {
        // Backwards: the line that makes the rows count, the rows, and the writing of both.
        let shown = || {
            calls[before..=at].iter().map(|call| format!("{} {}", call.name, call.text)).collect::<Vec<_>>()
        };
        let line =
            last(before, at, true, ".commits").unwrap_or_else(|| panic!("no synced line: {:#?}", shown()));
        let rows =
            last(before, line, true, ".arrow").unwrap_or_else(|| panic!("no synced rows: {:#?}", shown()));
        for end in [".arrow", ".commits"] {
            assert!(
                last(before, rows, false, end).is_some(),
                "{end} is written before it is synced: {:#?}",
                shown()
            );
        }
        before = at;
    }
}
