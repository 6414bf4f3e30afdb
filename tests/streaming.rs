//! Bodies pass through; they do not gather inside.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::client::Connection;
use support::long;
use support::origin::Origin;
use support::site::{Site, Tollhouse};

/// Room for sockets' and pools' buffers; a body kept in memory would take ten times as much.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

fn size_bytes() -> u64 {
    if long() { 10 << 30 } else { 2 << 30 }
}

struct Watch {
    start: u64,
    most: u64,
}

impl Watch {
    fn begin(house: &Tollhouse) -> Self {
        let start = house.rss_bytes();
        Self { start, most: start }
    }

    fn look(&mut self, house: &Tollhouse) {
        self.most = self.most.max(house.rss_bytes());
    }

    fn end(self) {
        let growth = self.most - self.start;
        assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes from {}", self.start);
    }
}

#[test]
fn a_large_upload_takes_no_memory() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    house.get("/open/echo", &[]);
    let mut watch = Watch::begin(&house);
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
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    house.get("/open/echo", &[]);
    let mut watch = Watch::begin(&house);
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
