//! Events to observe, a client for the metrics listener, and waiting with a deadline.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::adapters::{Adapters, MetricsConfig, OtlpConfig};
use event::layout::DataFolder;
use event::{Attempt, AttemptError, Draft, Outcome, RequestEvent, Source, Text};

/// Start of the process in all tests, UTC microseconds.
pub const START_US: i64 = 1_790_000_000_000_000;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn metrics_config() -> MetricsConfig {
    MetricsConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..MetricsConfig::default() }
}

/// Adapters on a port of their own, without a ledger.
pub fn start(metrics: &MetricsConfig, otlp: &OtlpConfig) -> (Adapters, SocketAddr) {
    Adapters::start(metrics, otlp, Arc::new(Mutex::new(Vec::new())), &empty_folder(), START_US).unwrap()
}

/// A data folder in which nothing is, nor will be.
pub fn empty_folder() -> DataFolder {
    DataFolder::open(tempfile::tempdir().unwrap().path()).unwrap()
}

/// Shows one event to the adapters.
pub fn observe(adapters: &mut Adapters, draft: &Draft) {
    adapters.observe(&RequestEvent::of_draft("node-1", 0, 1, draft));
}

/// A successful, unsampled GET of one second.
pub fn draft(service: &[u8], route: &[u8], consumer: &[u8]) -> Draft {
    let mut draft = Draft::new();
    draft.reset(START_US + 1_000_000);
    draft.text(Text::Method, b"GET");
    draft.text(Text::Service, service);
    draft.text(Text::Route, route);
    draft.text(Text::Consumer, consumer);
    draft.text(Text::Upstream, b"pool");
    let head = &mut draft.head;
    head.status = 200;
    head.source = Source::Upstream as u8;
    head.outcome = Outcome::Ok as u8;
    (head.duration_us, head.gateway_us, head.upstream_us) = (1_000_000, 40, 999_960);
    (head.request_bytes, head.response_bytes) = (100, 2_000);
    draft.attempt(&Attempt {
        addr: b"10.0.0.9:8080",
        status: 200,
        error: AttemptError::None,
        start_us: 20,
        duration_us: 999_960,
        reused: true,
        span_id: [7; 8],
    });
    draft
}

/// The same, sampled.
pub fn sampled(number: u8) -> Draft {
    let mut draft = draft(b"orders", b"orders-read", b"alice");
    draft.head.sampled = 1;
    draft.head.trace_id = [number.max(1); 16];
    draft.head.span_id = [number.max(1); 8];
    draft
}

/// One answer of the listener.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends bytes as they are and reads until the listener closes.
pub fn talk(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub fn get(address: SocketAddr, path: &str, accept: &str) -> Answer {
    talk(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"))
}

pub const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

/// Publishes, then scrapes until a page shows everything (a scrape that was reading may have delayed it).
pub fn scrape(adapters: &mut Adapters, address: SocketAddr, accept: &str) -> String {
    adapters.flush();
    let answer = get(address, "/metrics", accept);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}
