//! Bodies pass through; they do not gather inside, also when the other side does not read.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{ErrorKind, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use support::client::{Connection, find};
use support::origin::Origin;
use support::site::{Site, Tollhouse};
use support::{eventually, long};

/// Room for pools' and connections' buffers; a body kept in memory would take many times as much.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

fn size_bytes() -> u64 {
    if long() { 10 << 30 } else { 2 << 30 }
}

/// Memory of the process's own. What it has mapped, its program and the spool, is in pages of files: those come and go
/// with the disk's cache, and no body is ever in them.
struct Watch {
    start: u64,
    most: u64,
    resident_most: u64,
}

impl Watch {
    fn begin(house: &Tollhouse) -> Self {
        let start = house.memory_bytes("RssAnon");
        Self { start, most: start, resident_most: house.rss_bytes() }
    }

    fn look(&mut self, house: &Tollhouse) {
        self.most = self.most.max(house.memory_bytes("RssAnon"));
        self.resident_most = self.resident_most.max(house.rss_bytes());
    }

    fn end(self) {
        let growth = self.most - self.start;
        println!(
            "own memory: {} bytes at the start, {} at most; all resident: {} at most",
            self.start, self.most, self.resident_most
        );
        assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes from {}", self.start);
    }
}

/// A house that has answered once, under watch.
fn begin() -> (Origin, Site, Tollhouse, Watch) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    house.get("/open/echo", &[]);
    let watch = Watch::begin(&house);
    (origin, site, house, watch)
}

#[test]
fn a_large_upload_takes_no_memory() {
    let (_origin, _site, house, mut watch) = begin();
    let size = size_bytes();
    let mut connection = Connection::open(house.gateway()).unwrap();
    connection.send_head("POST", "/open/count", &[("Content-Length", &size.to_string())]).unwrap();
    let block = vec![b'u'; 1 << 20];
    for sent_mb in 0..size >> 20 {
        connection.write(&block).unwrap();
        if sent_mb % 64 == 0 {
            watch.look(&house);
        }
    }
    let (status, headers) = connection.read_head().unwrap();
    let mut answer = Vec::new();
    connection.read_body(&headers, |piece| answer.extend_from_slice(piece)).unwrap();
    assert_eq!((status, String::from_utf8(answer).unwrap()), (200, size.to_string()));
    watch.look(&house);
    watch.end();
    house.rows(2);
    assert_eq!(house.number("SELECT max(request_bytes) AS n FROM requests"), size);
}

#[test]
fn a_large_download_takes_no_memory() {
    let (_origin, _site, house, mut watch) = begin();
    let size = size_bytes();
    let mut connection = Connection::open(house.gateway()).unwrap();
    connection.send_head("GET", &format!("/open/bytes/{size}"), &[]).unwrap();
    let (status, headers) = connection.read_head().unwrap();
    assert_eq!(status, 200);
    let (mut received, mut looked) = (0, 0);
    connection
        .read_body(&headers, |piece| {
            received += piece.len() as u64;
            if received - looked > 64 << 20 {
                looked = received;
                watch.look(&house);
            }
        })
        .unwrap();
    assert_eq!(received, size);
    watch.look(&house);
    watch.end();
    house.rows(2);
    assert_eq!(house.number("SELECT max(response_bytes) AS n FROM requests"), size);
}

/// What a slow peer's sockets may hold on the way: the kernel's largest send and receive buffers, twice, and change.
const SOCKETS_BYTES_MAX: u64 = 64 << 20;

/// Waits until a count has stopped to grow, and gives it.
fn settled(what: &str, mut count: impl FnMut() -> u64) -> u64 {
    let (mut last, mut calm) = (0, 0);
    eventually(what, || {
        let now = count();
        calm = if now == last && now > 0 { calm + 1 } else { 0 };
        last = now;
        // Twenty looks of 20 ms without a byte.
        if calm >= 20 { Ok(now) } else { Err(format!("{now} bytes and growing")) }
    })
}

#[test]
fn clients_that_do_not_read_hold_the_upstream_back() {
    const CLIENTS: u64 = 20;
    const SIZE: u64 = 1 << 30;
    let (origin, _site, house, mut watch) = begin();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut connection = Connection::open(house.gateway()).unwrap();
            connection.send_head("GET", &format!("/open/bytes/{SIZE}"), &[]).unwrap();
            connection
        })
        .collect();
    let taken = settled("what the gateway takes in", || origin.seen.filled_bytes.load(Relaxed));
    assert!(taken < CLIENTS * SOCKETS_BYTES_MAX, "{taken} bytes were taken in for clients that read nothing");
    watch.look(&house);
    // One wakes up, and gets all of it.
    let mut awake = clients.pop().unwrap();
    let (status, headers) = awake.read_head().unwrap();
    assert_eq!((status, find(&headers, "content-length")), (200, Some(SIZE.to_string().as_str())));
    let mut received = 0;
    awake.read_body(&headers, |piece| received += piece.len() as u64).unwrap();
    assert_eq!(received, SIZE);
    watch.look(&house);
    // The others never do.
    drop(clients);
    house.rows(1 + CLIENTS);
    let closed = house.number("SELECT count(*) AS n FROM requests WHERE outcome = 'client_closed'");
    assert_eq!(closed, CLIENTS - 1);
    watch.look(&house);
    watch.end();
}

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back() {
    let (origin, _site, house, mut watch) = begin();
    let size: u64 = 256 << 20;
    let mut connection = Connection::open(house.gateway()).unwrap();
    connection.send_head("POST", "/open/deaf", &[("Content-Length", &size.to_string())]).unwrap();
    let block = vec![b'd'; 1 << 20];
    let socket = connection.stream.get_mut();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    let stuck = loop {
        match socket.write(&block) {
            Ok(taken) => sent += taken as u64,
            Err(error) => break error,
        }
        assert!(sent < size, "all was taken in for an upstream that reads nothing");
    };
    assert!(matches!(stuck.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stuck}");
    assert!(sent < SOCKETS_BYTES_MAX, "{sent} bytes were taken in for an upstream that reads nothing");
    watch.look(&house);
    // The upstream comes to itself, and gets every byte.
    origin.hear();
    socket.set_write_timeout(Some(support::DEADLINE)).unwrap();
    while sent < size {
        let piece = block.len().min(usize::try_from(size - sent).unwrap());
        sent += socket.write(&block[..piece]).unwrap() as u64;
    }
    let (status, headers) = connection.read_head().unwrap();
    let mut answer = Vec::new();
    connection.read_body(&headers, |piece| answer.extend_from_slice(piece)).unwrap();
    assert_eq!((status, String::from_utf8(answer).unwrap()), (200, size.to_string()));
    watch.look(&house);
    watch.end();
    house.rows(2);
    assert_eq!(house.number("SELECT max(request_bytes) AS n FROM requests"), size);
}
