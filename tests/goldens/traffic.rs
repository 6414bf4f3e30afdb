//! Two hours of a day in March, the same each time: a shop of three services that call one another through the gateway.
//!
//! `web` is called by consumers and calls `orders`, which calls `stock`. Everything about a request follows from its number,
//! so that an answer can be worked out by hand.

use event::layout::DataFolder;
use event::spool::{Spool, SpoolConfig, Writer};
use event::{Attempt, AttemptError, AuthMethod, Draft, Outcome, Source, Text, ip_bytes};

/// 2026-03-10, 10:00 UTC, in microseconds since 1970.
pub const START_US: i64 = 1_773_136_800_000_000;
/// Traces, one a minute.
const TRACES: u64 = 120;
/// Requests that need a key and have none, one a quarter of an hour.
const REFUSED: u64 = 8;
/// All requests: three hops in each trace, and the refused ones.
pub const ROWS: u64 = 3 * TRACES + REFUSED;

const CONSUMERS: [&str; 3] = ["acme", "birch", "cedar"];
const SERVICES: [&str; 3] = ["web", "orders", "stock"];

/// Leaves all of it in the spool of a data folder, as a gateway does that was stopped.
pub fn write(folder: &DataFolder) {
    let (spool, mut writers) = Spool::open(&SpoolConfig::default(), &folder.spool(), "test", 1).unwrap();
    let writer = &mut writers[0];
    for number in 0..TRACES {
        trace(writer, number);
    }
    for number in 0..REFUSED {
        refused(writer, number);
    }
    drop(writers);
    spool.close();
}

/// An id of eight bytes that reads as the two numbers: the trace and the hop.
fn span(trace: u64, hop: u64) -> [u8; 8] {
    (trace << 8 | hop).to_be_bytes()
}

/// Hops take 10, 6 and 3 ms, and a tenth of a millisecond more with each trace. In every tenth trace `stock` answers 500, and
/// what calls it answers 502 for it; in every sixteenth `orders` is tried twice, since one of its two addresses resets.
fn trace(writer: &mut Writer, number: u64) {
    for hop in 0..3_u64 {
        let start_us = START_US + 60_000_000 * number as i64 + 1_000 * hop as i64;
        let duration_us = [10_000, 6_000, 3_000][hop as usize] + 100 * number as u32;
        let fails = number % 10 == 9;
        let status = match (fails, hop) {
            (true, 2) => 500,
            (true, _) => 502,
            (false, _) => 200,
        };
        let mut draft = Draft::new();
        draft.reset(start_us);
        let head = &mut draft.head;
        head.request_id[..8].copy_from_slice(&span(number + 1, hop));
        head.trace_id[8..].copy_from_slice(&(number + 1).to_be_bytes());
        head.span_id = span(number + 1, 2 * hop + 1);
        head.upstream_span_id = span(number + 1, 2 * hop + 2);
        if hop > 0 {
            head.parent_span_id = span(number + 1, 2 * hop);
        }
        head.config_version = 1 + number / 60;
        head.status = status;
        head.upstream_status = status;
        head.outcome = Outcome::Ok as u8;
        head.source = Source::Upstream as u8;
        head.auth_method = if hop == 0 { AuthMethod::KeyAuth } else { AuthMethod::None } as u8;
        head.sampled = 1;
        head.duration_us = duration_us;
        head.gateway_us = 50;
        head.upstream_us = duration_us - 50;
        head.request_bytes = if hop == 1 { 200 } else { 0 };
        head.response_bytes = 1_000 + 10 * number;
        head.client_ip = ip_bytes([10, 0, hop as u8, (number % 5) as u8].into());
        head.peer_ip = head.client_ip;
        let service = SERVICES[hop as usize];
        draft.text(Text::Listener, b"http");
        draft.text(Text::Method, if hop == 1 { b"POST" } else { b"GET" });
        draft.text(Text::Host, b"shop.example");
        draft.text(Text::Path, format!("/{service}/{}", number % 4).as_bytes());
        draft.text(Text::Service, service.as_bytes());
        draft.text(Text::Route, format!("{service}-all").as_bytes());
        draft.text(Text::Upstream, service.as_bytes());
        match hop {
            0 => draft.text(Text::Consumer, CONSUMERS[(number % 3) as usize].as_bytes()),
            _ => draft.text(Text::SourceService, SERVICES[hop as usize - 1].as_bytes()),
        };
        if hop == 1 {
            draft.text(Text::ServiceVersion, if number.is_multiple_of(4) { b"canary" } else { b"stable" });
        }
        let addr = |last: u64| format!("10.1.{hop}.{last}:8080");
        let (own, other) = (addr(number % 2), addr(1 - number % 2));
        let mut attempt = Attempt {
            addr: other.as_bytes(),
            status: event::ABSENT_U16,
            error: AttemptError::Reset,
            start_us: 20,
            duration_us: 30,
            reused: true,
            span_id: span(number + 1, 2 * hop + 2),
        };
        if hop == 1 && number.is_multiple_of(16) {
            draft.attempt(&attempt);
        }
        attempt = Attempt {
            addr: own.as_bytes(),
            status,
            error: AttemptError::None,
            duration_us: duration_us - 50,
            ..attempt
        };
        draft.attempt(&attempt);
        draft.text(Text::UpstreamAddr, own.as_bytes());
        writer.append(&draft).unwrap();
    }
}

fn refused(writer: &mut Writer, number: u64) {
    let mut draft = Draft::new();
    draft.reset(START_US + 900_000_000 * number as i64 + 30_000_000);
    let head = &mut draft.head;
    head.request_id[..8].copy_from_slice(&span(1_000 + number, 0));
    head.trace_id[8..].copy_from_slice(&(1_000 + number).to_be_bytes());
    head.span_id = span(1_000 + number, 1);
    head.config_version = 1 + number / 4;
    head.status = 401;
    head.outcome = Outcome::Unauthenticated as u8;
    head.source = Source::Gateway as u8;
    head.duration_us = 40;
    head.gateway_us = 40;
    head.response_bytes = 45;
    head.client_ip = ip_bytes([10, 9, 9, 9].into());
    head.peer_ip = head.client_ip;
    draft.text(Text::Listener, b"http");
    draft.text(Text::Method, b"GET");
    draft.text(Text::Host, b"shop.example");
    draft.text(Text::Path, b"/web/0");
    draft.text(Text::Service, b"web");
    draft.text(Text::Route, b"web-all");
    writer.append(&draft).unwrap();
}
