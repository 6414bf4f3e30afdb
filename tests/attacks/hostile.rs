//! Services that answer with anything but one good response. A client gets a whole response, a 502, or one that is
//! plainly cut; what a service smuggles behind its answer reaches nobody, on this connection or another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};

use super::reader::{self, Response, Tail, field};
use super::stand::{id_of, is_made, site_before};
use super::support::{DEADLINE, eventually};

/// Mutated responses.
const MUTATED: usize = 6_000;
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-View: none\r\n\r\nSMUGGLED";
/// How long a service waits before it says what nobody asked for.
const LATER: Duration = Duration::from_millis(20);

/// What a service does when it is asked.
#[derive(Debug, Clone)]
enum Act {
    /// Answers so, and ends the connection or not.
    Say(Vec<u8>, bool),
    /// Answers so, and says more a little later.
    AndLater(Vec<u8>, Vec<u8>),
}

/// What the client must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Get {
    Refusal,
    Cut,
    Whole(&'static str),
    /// One of these.
    Any,
}

/// A service that answers requests for `/honest` well, and others as its act says.
struct Service {
    addr: SocketAddr,
    act: Arc<Mutex<Act>>,
    /// How often it has said what nobody asked for.
    said: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let act = Arc::new(Mutex::new(Act::Say(Vec::new(), true)));
        let service = Self { addr: listener.local_addr().unwrap(), act, said: Arc::default() };
        let (act, said) = (Arc::clone(&service.act), Arc::clone(&service.said));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (act, said) = (Arc::clone(&act), Arc::clone(&said));
                // What breaks there is the gateway's choice.
                thread::spawn(move || drop(serve(stream.unwrap(), &act, &said)));
            }
        });
        service
    }
}

fn serve(mut stream: TcpStream, act: &Mutex<Act>, said: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut got, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let request = loop {
            if let Ok(request) = reader::request(&got, 0) {
                break request;
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => got.extend_from_slice(&buffer[..read]),
            }
        };
        got.drain(..request.end);
        if request.target == "/honest" {
            let id = field(&request.fields, "x-request-id").unwrap().escape_ascii().to_string();
            let body = if request.method == "HEAD" { "" } else { "honest" };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-View: {id}\r\n\r\n{body}");
            stream.write_all(head.as_bytes())?;
            continue;
        }
        let act = act.lock().unwrap().clone();
        match act {
            Act::Say(bytes, ends) => {
                stream.write_all(&bytes)?;
                if ends {
                    return Ok(());
                }
            }
            Act::AndLater(now, later) => {
                stream.write_all(&now)?;
                thread::sleep(LATER);
                stream.write_all(&later)?;
                said.fetch_add(1, Relaxed);
            }
        }
    }
}

/// A client's connection.
struct Client {
    stream: TcpStream,
    got: Vec<u8>,
    methods: Vec<String>,
    ended: bool,
}

impl Client {
    fn open(gateway: SocketAddr) -> Self {
        let stream = TcpStream::connect(gateway).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream, got: Vec::new(), methods: Vec::new(), ended: false }
    }

    /// Asks, and reads one response whole or to the end of the connection.
    fn ask(&mut self, method: &str, target: &str) -> (Vec<Response>, Tail) {
        self.methods.push(method.to_owned());
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a.com\r\n\r\n");
        let _may_be_closed = self.stream.write_all(text.as_bytes());
        let mut buffer = [0; 16 << 10];
        loop {
            let (found, tail) = reader::responses(&self.got, &self.methods, self.ended);
            if self.ended || found.len() >= self.methods.len() {
                return (found, tail);
            }
            match self.stream.read(&mut buffer) {
                Ok(read @ 1..) => self.got.extend_from_slice(&buffer[..read]),
                Ok(0) => self.ended = true,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.ended = true,
                Err(error) => panic!("{error}; so far {}", self.got.escape_ascii()),
            }
        }
    }
}

/// Whether a response is the service's to this very request.
fn is_honest(response: &Response) -> bool {
    field(&response.fields, "x-view") == Some(id_of(response).as_bytes())
}

/// Lets the service play an act before a client, then asks honestly, on this connection while it lasts and on another.
/// How many requests that were.
fn play(
    gateway: SocketAddr,
    service: &Service,
    method: &str,
    act: Act,
    expected: Get,
) -> Result<u64, String> {
    let late = matches!(act, Act::AndLater(..));
    let said = service.said.load(Relaxed) + usize::from(late);
    *service.act.lock().unwrap() = act;
    let mut client = Client::open(gateway);
    let (found, tail) = client.ask(method, "/act");
    let shown = || format!("{tail:?} {}", client.got.escape_ascii());
    let got = match (found.as_slice(), tail) {
        ([one], Tail::None) if is_made(one) && one.status == 502 => Get::Refusal,
        ([one], Tail::None) => match expected {
            Get::Whole(body) if one.body == body.as_bytes() => expected,
            Get::Any => Get::Any,
            _ => return Err(shown()),
        },
        ([], Tail::Cut) if client.ended => Get::Cut,
        _ => return Err(shown()),
    };
    if got != expected && expected != Get::Any {
        return Err(shown());
    }
    // What comes while the connection lies idle makes it useless. (What comes after the next request was sent cannot
    // be told from its answer: HTTP/1.1 has no numbers.)
    eventually("the later bytes", || match service.said.load(Relaxed) {
        count if count >= said => Ok(()),
        _ => Err("still to come".to_owned()),
    });
    // A service may say such a thing in its own answer, but not in another's.
    let first = found.into_iter().next();
    let mut asked = 1;
    if !client.ended && first.is_some_and(|first| !first.closes) {
        let (found, tail) = client.ask("GET", "/honest");
        asked += 1;
        let honest = found.get(1).is_some_and(|second| is_honest(second) && second.body == b"honest");
        if !honest || tail != Tail::None || found.len() != 2 {
            return Err(format!("the next request: {tail:?} {}", client.got.escape_ascii()));
        }
    }
    let mut other = Client::open(gateway);
    let (found, _) = other.ask("GET", "/honest");
    if found.len() != 1 || !is_honest(&found[0]) {
        return Err(format!("another client: {}", other.got.escape_ascii()));
    }
    Ok(asked + 1)
}

#[test]
fn a_bad_answer_is_a_refusal_or_a_cut() {
    let service = Service::start();
    let site = site_before(service.addr);
    let house = site.run();
    let mut events = 0;
    let mut plays = |method: &str, act: Act, expected: Get| {
        let shown = format!("{act:?}").chars().take(300).collect::<String>();
        let asked = play(house.gateway(), &service, method, act, expected);
        events += asked.unwrap_or_else(|fault| panic!("{shown} was to be {expected:?}: {fault}"));
    };
    let say = |text: &str, ends: bool| Act::Say(text.as_bytes().to_vec(), ends);
    let many = "X: y\r\n".repeat(200);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(70 << 10));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20_000);
    let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(1000)).repeat(200);
    for text in [
        "SSH-2.0-x\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
        "\0\0\0\0",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 \r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "XHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\0: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 204 No\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\nX: y\r\n",
        "HTTP/1.1 20",
        &many,
        &long,
        &interim,
        &hints,
    ] {
        plays("GET", say(text, true), Get::Refusal);
    }
    for text in [&interim, &hints, &long] {
        plays("GET", say(text, false), Get::Refusal);
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
    ] {
        plays("GET", say(text, true), Get::Cut);
    }
    for body in [
        "",
        "5\r\nhel",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nX: y",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "x\r\n",
        "5\r\nhello\r\n10000000000000000\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        "ffffffffffffffff\r\nhello",
    ] {
        plays("GET", say(&format!("{chunked}{body}"), true), Get::Cut);
    }
    // More than was asked for: the answer is whole, and what is behind it reaches nobody.
    for (method, text, body) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "ok"),
        ("GET", format!("{chunked}2\r\nok\r\n0\r\n\r\n"), "ok"),
        ("GET", format!("{chunked}2\r\nok\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nX: y\r\n\r\n"), "ok"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_owned(), ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_owned(), ""),
        ("HEAD", chunked.to_owned(), ""),
        ("GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "ok"),
    ] {
        plays(method, say(&text, false), Get::Whole(body));
        plays(method, say(&format!("{text}{SMUGGLED}"), false), Get::Whole(body));
        plays(method, Act::AndLater(text.into_bytes(), SMUGGLED.as_bytes().to_vec()), Get::Whole(body));
    }
    house.rows(events);
}

#[test]
fn mutated_responses_never_become_two() {
    let service = Service::start();
    let site = site_before(service.addr);
    let house = site.run();
    let mut rng = StdRng::seed_from_u64(0x7011_4006);
    let seeds = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: X\r\nX: y\r\nContent-Length: 2\r\n\r\nok",
    ];
    let morsels = [
        "\r\n",
        "\n",
        "\r",
        "\r\n\r\n",
        " ",
        "\t",
        "\0",
        ":",
        ",",
        ";",
        "0",
        "1",
        "5",
        "f",
        "-",
        "+",
        "chunked",
        "HTTP/1.0",
        "HTTP/1.1",
        "101",
        "100",
        "204",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "0\r\n\r\n",
        SMUGGLED,
    ];
    let mut events = 0;
    for round in 0..MUTATED {
        let mut bytes = seeds.choose(&mut rng).unwrap().as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..5) {
                0 => drop(bytes.drain(at..(at + rng.random_range(1..5)).min(bytes.len()))),
                1 if at < bytes.len() => bytes[at] = rng.next_u32().to_le_bytes()[0],
                2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
                _ => drop(bytes.splice(at..at, morsels.choose(&mut rng).unwrap().bytes())),
            }
        }
        if rng.random_bool(0.3) {
            bytes.extend_from_slice(SMUGGLED.as_bytes());
        }
        let method = if rng.random_bool(0.1) { "HEAD" } else { "GET" };
        let act = Act::Say(bytes.clone(), true);
        let asked = play(house.gateway(), &service, method, act, Get::Any);
        events += asked.unwrap_or_else(|fault| panic!("round {round}: {}: {fault}", bytes.escape_ascii()));
    }
    println!("{MUTATED} mutated responses, {events} requests");
    house.rows(events);
}

#[test]
fn a_tunnel_begins_with_its_101() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = site_before(listener.local_addr().unwrap());
    let house = site.run();
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (mut got, mut buffer) = (Vec::new(), [0; 8192]);
        while reader::request(&got, 0).is_err() {
            let read = stream.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..read]);
        }
        // Whatever came by itself would be here by then.
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let early = stream.read(&mut buffer).unwrap_or(0);
        let head = reader::request(&got, 0).unwrap();
        assert_eq!((head.end, early), (got.len(), 0), "tunnel bytes before the 101: {}", got.escape_ascii());
        assert_eq!(field(&head.fields, "connection"), Some(&b"upgrade"[..]));
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut tunnel = [0; 6];
        stream.read_exact(&mut tunnel).unwrap();
        assert_eq!(&tunnel, b"tunnel");
    });
    let mut client = TcpStream::connect(house.gateway()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let text = "GET /up HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\ntunnel";
    client.write_all(text.as_bytes()).unwrap();
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while !got.ends_with(b"hello") {
        let read = client.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", got.escape_ascii());
        got.extend_from_slice(&buffer[..read]);
    }
    assert!(got.starts_with(b"HTTP/1.1 101 "), "{}", got.escape_ascii());
    service.join().unwrap();
    drop(client);
    eventually("the tunnel's row", || match house.number("SELECT count(*) AS n FROM requests") {
        1 => Ok(()),
        rows => Err(format!("{rows} rows")),
    });
}
