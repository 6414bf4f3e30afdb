//! What no client says: wrong lengths, messages out of turn, thousands of prepared statements, random bytes. Nobody is hung,
//! nothing panics, and memory stays what it is.

use std::net::Shutdown;

use serde_json::json;

use super::raw::{self, Raw, message, query, startup, sync};
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};

fn house() -> (Origin, Site, Tollhouse) {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(
        &["analytics", "postgres"],
        json!({ "listen": "127.0.0.1:0", "startup_timeout_ms": 2_000, "prepared_bytes_max": 1 << 20 }),
    );
    let house = site.start("analytics");
    (origin, site, house)
}

/// It still answers, and has not panicked.
fn sane(house: &Tollhouse) {
    assert_eq!(Raw::open(house.addr("postgres")).rows("SELECT 1").unwrap(), [[Some("1".to_owned())]]);
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn lengths_that_are_none_end_the_connection() {
    let (_origin, _site, house) = house();
    let addr = house.addr("postgres");
    // Before anybody has said who it is.
    for bytes in [
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 3],
        vec![0xff; 8],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        vec![0, 0, 0x40, 0, 0, 3, 0, 0],
        vec![0, 0, 0, 9, 0, 3, 0, 0, 1],
        vec![0, 0, 0, 8, 0, 0, 0, 0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut raw = Raw::connect(addr);
        raw.send(&bytes);
        let rest = raw.rest();
        assert!(rest.iter().all(|(kind, _)| *kind == b'E'), "{bytes:?}: {rest:?}");
    }
    // And after.
    for bytes in [
        b"Q\0\0\0\0".to_vec(),
        b"Q\0\0\0\x03".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        b"Q\x7f\xff\xff\xff".to_vec(),
        b"P\x00\x10\x00\x00".to_vec(),
        message(b'Q', b"SELECT 1"),
        message(b'Q', b"SELECT 1\0\0"),
        message(b'z', b""),
        message(b'B', b"\0\0\xff\xff"),
        message(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
        message(b'E', b"\0\0"),
        message(b'D', b"Q\0"),
        message(b'p', b"secret\0"),
    ] {
        let mut raw = Raw::open(addr);
        raw.send(&bytes);
        let rest = raw.rest();
        let code = raw::error(&rest).map(|(code, _)| code);
        assert!(matches!(code.as_deref(), Some("08P01" | "54000")), "{bytes:?}: {rest:?}");
    }
    sane(&house);
}

#[test]
fn a_start_that_stops_at_any_byte_is_given_up() {
    let (_origin, _site, house) = house();
    let whole = startup(&[("user", "raw"), ("application_name", "x")]);
    for end in 0..whole.len() {
        let mut raw = Raw::connect(house.addr("postgres"));
        raw.send(&whole[..end]);
        raw.stream.get_ref().shutdown(Shutdown::Write).unwrap();
        assert!(raw.rest().is_empty(), "{end}");
    }
    sane(&house);
}

#[test]
fn errors_skip_to_the_next_sync() {
    let (_origin, _site, house) = house();
    let mut raw = Raw::open(house.addr("postgres"));
    let good = [raw::parse("", "SELECT 7"), raw::bind("", ""), raw::execute("", 0)].concat();
    let replies = raw.ask(&[raw::parse("", "SELEC"), good.clone(), sync()].concat());
    assert_eq!(replies.iter().map(|(kind, _)| *kind as char).collect::<String>(), "EZ");
    let replies = raw.ask(&[good.clone(), sync()].concat());
    assert_eq!(replies.iter().map(|(kind, _)| *kind as char).collect::<String>(), "12DCZ");
    // Names that there are not, or that are taken.
    for (messages, code) in [
        (raw::bind("", "nope"), "26000"),
        (raw::execute("nope", 0), "34000"),
        (message(b'D', b"Snope\0"), "26000"),
        ([raw::parse("a", "SELECT 1"), raw::parse("a", "SELECT 1")].concat(), "42P05"),
        (raw::parse("", "SELECT 1; SELECT 2"), "42601"),
        (message(b'B', b"\0a\0\0\0\0\x01\0\0\0\x011\0\0"), ""),
        (message(b'F', b"\0\0\0\0"), "0A000"),
    ] {
        let replies = raw.ask(&[messages, sync()].concat());
        let found = raw::error(&replies).map(|(code, _)| code).unwrap_or_default();
        assert_eq!(found, code);
        // The old function call is answered by itself, and so is its Sync.
        if code == "0A000" {
            raw.until_ready().unwrap();
        }
    }
    // Text that is no UTF-8 is an error of its own message only.
    assert_eq!(raw::error(&raw.ask(&message(b'Q', b"SELECT '\xff'\0"))).unwrap().0, "22021");
    assert_eq!(raw.rows("SELECT 1").unwrap(), [[Some("1".to_owned())]]);
    // Data of a COPY that was refused is passed over.
    let mut copy = query("COPY requests FROM STDIN");
    copy.extend(message(b'd', b"1\t2\n"));
    copy.extend(message(b'c', b""));
    assert_eq!(raw::error(&raw.ask(&copy)).unwrap().0, "42501");
    assert_eq!(raw.rows("SELECT 1").unwrap(), [[Some("1".to_owned())]]);
    sane(&house);
}

#[test]
fn what_is_prepared_has_a_bound() {
    let (_origin, _site, house) = house();
    let mut raw = Raw::open(house.addr("postgres"));
    raw.rows("SELECT 1").unwrap();
    let before = house.rss_bytes();
    let mut refused = 0;
    for number in 0..10_000 {
        raw.send(&raw::parse(&format!("s{number}"), "SELECT 1"));
        if number % 100 == 99 {
            let replies = raw.ask(&sync());
            refused += usize::from(raw::error(&replies).is_some_and(|(code, _)| code == "53200"));
        }
    }
    assert!(refused > 50, "{refused} of 100 hundreds");
    let grown = house.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    raw.rows("DEALLOCATE ALL").unwrap();
    assert!(raw::error(&raw.ask(&[raw::parse("again", "SELECT 1"), sync()].concat())).is_none());
    // Portals, likewise.
    raw.rows("BEGIN").unwrap();
    let many: Vec<u8> = (0..100).flat_map(|number| raw::bind(&format!("p{number}"), "again")).collect();
    assert_eq!(raw::error(&raw.ask(&[many, sync()].concat())).unwrap().0, "53200");
    sane(&house);
}

#[test]
fn random_bytes_hang_nobody() {
    let (_origin, _site, house) = house();
    let addr = house.addr("postgres");
    // A fixed sequence: what fails once fails again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    sane(&house);
    let before = house.rss_bytes();
    for round in 0..300 {
        let open = round % 3 > 0;
        let mut raw = if open { Raw::open(addr) } else { Raw::connect(addr) };
        let bytes: Vec<u8> = match round % 3 {
            // A good message with some bytes changed.
            2 => {
                let mut bytes = [
                    raw::parse("s", "SELECT 1, $1"),
                    message(b'B', b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x01x\0\0"),
                    raw::execute("", 0),
                    sync(),
                ]
                .concat();
                for _ in 0..3 {
                    let at = usize::try_from(next()).unwrap() % bytes.len();
                    bytes[at] = next().to_le_bytes()[0];
                }
                bytes
            }
            _ => (0..64).flat_map(|_| next().to_le_bytes()).collect(),
        };
        // The server may close before all is written.
        let _closed = std::io::Write::write_all(raw.stream.get_mut(), &bytes);
        let _closed = raw.stream.get_ref().shutdown(Shutdown::Write);
        raw.rest();
    }
    let grown = house.rss_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    sane(&house);
}
