//! Raw sockets against a running gateway with an origin that keeps every byte it gets: for each way of smuggling a
//! request, lying about the host, or breaking a chunk, the client gets the status and the connection is closed, and
//! the origin has received nothing of it.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use event::spool::{Spool, SpoolConfig};
use proxy::config::{Entities, GatewayConfig, Listen, Route, Service};

/// No wait of a test is longer; none is meant to be reached.
const DEADLINE: Duration = Duration::from_secs(10);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that records all bytes of all connections and answers each request head with `ok`.
#[derive(Clone)]
struct Origin {
    addr: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self { addr: listener.local_addr().unwrap(), bytes: Arc::default() };
        let bytes = Arc::clone(&origin.bytes);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let bytes = Arc::clone(&bytes);
                thread::spawn(move || record(stream.unwrap(), &bytes));
            }
        });
        origin
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

fn record(mut stream: TcpStream, bytes: &Mutex<Vec<u8>>) {
    let (mut piece, mut unanswered) = ([0; 4096], Vec::new());
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        bytes.lock().unwrap().extend_from_slice(&piece[..len]);
        unanswered.extend_from_slice(&piece[..len]);
        while let Some(end) = unanswered.windows(4).position(|four| four == b"\r\n\r\n") {
            unanswered.drain(..end + 4);
            if stream.write_all(OK).is_err() {
                return;
            }
        }
    }
}

/// A gateway of one thread whose only route leads to the origin.
struct Gateway {
    addr: SocketAddr,
    running: proxy::Running,
    spool: Spool,
    _folder: tempfile::TempDir,
}

impl Gateway {
    fn start(origin: SocketAddr) -> Self {
        let gateway = GatewayConfig {
            listen: vec![Listen { address: "127.0.0.1:0".into(), ..Listen::default() }],
            threads: 1,
            ..GatewayConfig::default()
        };
        let service = Service {
            name: Some("origin".into()),
            url: Some(format!("http://{origin}")),
            routes: vec![Route { name: Some("all".into()), paths: vec!["/".into()], ..Route::default() }],
            ..Service::default()
        };
        let entities = Entities { services: vec![service], ..Entities::default() };
        let plan = proxy::validate(&gateway, &entities).expect("the configuration is good");
        let folder = tempfile::tempdir().unwrap();
        let (spool, writers) =
            Spool::open(&SpoolConfig::default(), folder.path(), "test", plan.threads()).unwrap();
        let running = proxy::start(plan, writers).unwrap();
        Self { addr: running.listeners[0].addr, running, spool, _folder: folder }
    }

    fn stop(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.running.drain(DEADLINE));
        self.spool.close();
    }
}

/// Sends the bytes and reads until the gateway closes. A gateway that keeps the connection open fails the test.
fn send(gateway: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut got = Vec::new();
    match stream.read_to_end(&mut got) {
        Ok(_) => {}
        // The gateway may close with bytes of ours unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed: {error}; so far {:?}", String::from_utf8_lossy(&got)),
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// A good request on a connection of its own, answered by the origin: whatever was forwarded before it has arrived.
fn probe(gateway: SocketAddr) {
    let got = send(gateway, &[b"GET /probe HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n"]);
    assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("ok"), "{got}");
}

/// Requests that must be refused, each with its status. `SECRET` stands where something could be smuggled.
fn attacks() -> Vec<(String, u16)> {
    let mut attacks = Vec::new();
    let mut add = |request: &str, status: u16| attacks.push((request.to_owned(), status));
    let smuggled = "GET /SECRET HTTP/1.1\r\nHost: a.com\r\n\r\n";
    let mut post = |lines: &str, body: &str| {
        add(&format!("POST /SECRET HTTP/1.1\r\nHost: a.com\r\n{lines}\r\n{body}{smuggled}"), 400);
    };
    // CL.TE, TE.CL, TE.TE, doubled and differing lengths.
    post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n");
    post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n");
    for coding in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "\tchunked",
        "chunked ",
        "\x0bchunked",
        "\"chunked\"",
    ] {
        post(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n");
    }
    post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", "0\r\n\r\n");
    post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n");
    post("X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n");
    post("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n");
    post("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n");
    post("Content-Length: 0\r\nContent-Length: 0\r\n", "");
    post("Content-Length: 0\r\nContent-Length: 5\r\n", "");
    for length in ["0, 0", "+0", "-1", "0x0", "00", "", "18446744073709551616", "1_0", "\"0\""] {
        post(&format!("Content-Length: {length}\r\n"), "");
    }
    // Chunks.
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\nContent-Length: 9\r\n\r\n",
        "0\r\nHost: b.com\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "\r\n",
    ] {
        post("Transfer-Encoding: chunked\r\n", body);
    }
    add("POST /SECRET HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    // Host and target.
    add("GET /SECRET HTTP/1.1\r\n\r\n", 400);
    add("GET /SECRET HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n", 400);
    for host in
        ["", "u@a.com", "a.com/x", "a.com b.com", "a.com,b.com", "a.com:x", "a.com:99999", "[::1", "a\\b"]
    {
        add(&format!("GET /SECRET HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    add("GET http://b.com/SECRET HTTP/1.1\r\nHost: a.com\r\n\r\n", 400);
    add("GET http://a.com:81/SECRET HTTP/1.1\r\nHost: a.com\r\n\r\n", 400);
    add("GET http://u@a.com/SECRET HTTP/1.1\r\nHost: a.com\r\n\r\n", 400);
    add("GET * HTTP/1.1\r\nHost: a.com\r\nX: SECRET\r\n\r\n", 400);
    add("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\nX: SECRET\r\n\r\n", 405);
    // Syntax.
    add("GET /SECRET HTTP/1.1\nHost: a.com\n\n", 400);
    add("GET  /SECRET HTTP/1.1\r\nHost: a.com\r\n\r\n", 400);
    add("GET /SECRET HTTP/1.1\r\n Host: a.com\r\n\r\n", 400);
    add("GET /SECRET#x HTTP/1.1\r\nHost: a.com\r\n\r\n", 400);
    add("GET /SECRET HTTP/1.2\r\nHost: a.com\r\n\r\n", 400);
    add("GET /SECRET HTTP/1.1\r\nHost: a.com\r\nX: \0\r\n\r\n", 400);
    add("GET /SECRET HTTP/1.1\r\nHost: a.com\r\n: x\r\n\r\n", 400);
    // Bounds.
    add(&format!("GET /SECRET{} HTTP/1.1\r\nHost: a.com\r\n\r\n", "a".repeat(9_000)), 414);
    add(&format!("GET /SECRET HTTP/1.1\r\nHost: a.com\r\n{}\r\n", "X: y\r\n".repeat(1000)), 431);
    add(&format!("GET /SECRET HTTP/1.1\r\nHost: a.com\r\nX: {}\r\n\r\n", "y".repeat(40_000)), 431);
    attacks
}

#[test]
fn attacks_are_refused_closed_and_never_forwarded() {
    let origin = Origin::start();
    let gateway = Gateway::start(origin.addr);
    for (attack, status) in attacks() {
        let got = send(gateway.addr, &[attack.as_bytes()]);
        let shown: String = attack.chars().take(200).collect();
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} got {got:?}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "one answer, then the end: {shown:?} got {got:?}");
        probe(gateway.addr);
        assert!(!origin.seen().contains("SECRET"), "{shown:?} was forwarded");
    }
    gateway.stop();
}

#[test]
fn an_attack_behind_a_good_request_spoils_only_itself() {
    let origin = Origin::start();
    let gateway = Gateway::start(origin.addr);
    let good = "GET /good HTTP/1.1\r\nHost: a.com\r\n\r\n";
    for (attack, status) in attacks() {
        let got = send(gateway.addr, &[good.as_bytes(), attack.as_bytes()]);
        let shown: String = attack.chars().take(200).collect();
        assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("\r\n\r\nok"), "{shown:?} got {got:?}");
        assert!(got.contains(&format!("HTTP/1.1 {status} ")), "{shown:?} got {got:?}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 2, "{shown:?} got {got:?}");
    }
    probe(gateway.addr);
    assert!(!origin.seen().contains("SECRET"));
    gateway.stop();
}

#[test]
fn a_body_that_breaks_on_the_way_never_looks_whole_to_the_origin() {
    let origin = Origin::start();
    let gateway = Gateway::start(origin.addr);
    let head = "POST /streamed HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = TcpStream::connect(gateway.addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"5\r\nhello\r\n").unwrap();
    stream.write_all(b"5;x\r\nSECRET\r\n0\r\n\r\n").unwrap();
    let mut got = Vec::new();
    match stream.read_to_end(&mut got) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    probe(gateway.addr);
    let seen = origin.seen();
    assert!(!seen.contains("SECRET") && !seen.contains("\r\n0\r\n"), "{seen}");
    gateway.stop();
}

#[test]
fn bytes_sent_before_the_101_are_not_requests() {
    let origin = Origin::start();
    let gateway = Gateway::start(origin.addr);
    // The origin makes no upgrade, so what was sent too early is read by the usual rules: here it is no request.
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let got = send(gateway.addr, &[format!("{upgrade}\u{1}\u{2}SECRET").as_bytes()]);
    assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("HTTP/1.1 400 "), "{got}");
    probe(gateway.addr);
    assert!(!origin.seen().contains("SECRET"));
    gateway.stop();
}
