//! The listener over the life of a process: another process goes on with it, and one that ends says so.

use std::process::Command;

use super::raw::{self, Raw};
use super::support::origin::Origin;
use super::support::site::Site;

#[test]
fn another_process_goes_on_with_the_listener() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let first = site.run();
    let addr = first.addr("postgres");
    let mut before = Raw::open(addr);
    assert_eq!(before.rows("SELECT 1").unwrap().len(), 1);
    let mut command: Command = site.command("run");
    command.arg("--take-over");
    let second = site.launch("run", command);
    assert_eq!(second.addr("postgres"), addr);
    // The one before tells its clients, and whoever comes is let in.
    let rest = before.rest();
    assert_eq!(raw::error(&rest).unwrap().0, "57P01");
    assert!(first.ended().success());
    assert_eq!(Raw::open(addr).rows("SELECT 1").unwrap().len(), 1);
    assert!(second.terminate().success());
}

#[test]
fn an_end_lets_queries_end_and_tells_the_rest() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.start("analytics");
    let (mut idle, mut busy) = (Raw::open(house.addr("postgres")), Raw::open(house.addr("postgres")));
    // More than the client reads before the end comes.
    busy.send(&raw::query("SELECT value FROM generate_series(1, 1000000)"));
    assert_eq!(busy.reply().unwrap().0, b'T');
    let read = std::thread::spawn(move || busy.rest());
    assert!(house.terminate().success());
    assert_eq!(raw::error(&idle.rest()).unwrap().0, "57P01");
    let rest = read.join().unwrap();
    assert_eq!(rest.iter().filter(|(kind, _)| *kind == b'D').count(), 1_000_000);
    assert!(rest.iter().any(|(kind, body)| *kind == b'C' && body.starts_with(b"SELECT 1000000")));
}
