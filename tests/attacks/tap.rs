//! The byte recorder behind the gateway. It keeps every byte that the gateway sends upstream, reads it to the letter,
//! and shows the very same bytes of each whole request to nginx and to HAProxy, one after the other, before the
//! gateway gets the answer of one of them. So whatever the gateway forwards has three readers besides the gateway, and
//! they must agree.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use super::origins::Origin;
use super::reader::{self, Request, Response, Rest, Tail, all, field};
use super::support::DEADLINE;
use super::support::site::ALICE_KEY;

/// What came through.
#[derive(Default)]
pub struct Seen {
    /// Whole requests by the id that the gateway gave them; more than one where it tried again.
    pub requests: HashMap<String, Vec<Request>>,
    /// How many there were.
    pub whole: usize,
    /// Heads of requests that never became whole.
    pub broken: Vec<(String, String)>,
    /// What ought not to be: the readers disagree, or a forwarded head says what it must not.
    pub faults: Vec<String>,
    /// How often an origin answered a request with a refusal.
    pub refused: HashMap<String, usize>,
    /// Every byte, where the test wants them.
    pub bytes: Vec<u8>,
}

/// A running recorder.
pub struct Tap {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    /// Requests sent to each origin.
    pub sent: Arc<[AtomicUsize; 2]>,
}

impl Tap {
    /// Records in front of nginx and HAProxy, answering by each in turn. `keeps_bytes` says whether to keep all bytes.
    pub fn start(origins: [&Origin; 2], keeps_bytes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, sent) = (Arc::<Mutex<Seen>>::default(), Arc::<[AtomicUsize; 2]>::default());
        let places = origins.map(|origin| (origin.name, origin.addr));
        let (seen_there, sent_there) = (Arc::clone(&seen), Arc::clone(&sent));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (seen, sent) = (Arc::clone(&seen_there), Arc::clone(&sent_there));
                thread::spawn(move || {
                    let backs = [Back::new(places[0], 0), Back::new(places[1], 1)];
                    Line { stream: stream.unwrap(), backs, first: number % 2, seen, sent, keeps_bytes }.run();
                });
            }
        });
        Self { addr, seen, sent }
    }

    /// What came so far.
    pub fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }
}

/// The connection to an origin, opened anew when the origin has ended it.
struct Back {
    name: &'static str,
    addr: SocketAddr,
    number: usize,
    stream: Option<TcpStream>,
}

impl Back {
    fn new((name, addr): (&'static str, SocketAddr), number: usize) -> Self {
        Self { name, addr, number, stream: None }
    }

    /// Sends a whole request and reads its one answer, bytes and meaning. A kept connection that the origin ended
    /// before it saw a byte is replaced by a new one, as every client does; its log tells if it did see the request.
    fn ask(&mut self, bytes: &[u8], method: &str) -> Result<(Vec<u8>, Response), String> {
        if let Some(kept) = self.stream.take()
            && let Some(answer) = self.ask_on(kept, bytes, method)?
        {
            return Ok(answer);
        }
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.ask_on(stream, bytes, method)?.ok_or_else(|| format!("{}: no answer", self.name))
    }

    fn ask_on(
        &mut self,
        mut stream: TcpStream,
        bytes: &[u8],
        method: &str,
    ) -> Result<Option<(Vec<u8>, Response)>, String> {
        // It may refuse before all is written.
        let _written = stream.write_all(bytes);
        let (mut got, mut buffer, methods) = (Vec::new(), [0; 8192], [method.to_owned()]);
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(format!("{}: {error}", self.name)),
            };
            if read == 0 && got.is_empty() {
                return Ok(None);
            }
            got.extend_from_slice(&buffer[..read]);
            let (mut found, tail) = reader::responses(&got, &methods, read == 0);
            match (found.len(), tail) {
                // HAProxy refuses a HEAD with a body, and ends the connection.
                (1.., _) if method == "HEAD" && found[0].status == 400 && found[0].closes => {
                    got.truncate(found[0].end);
                    return Ok(Some((got, found.remove(0))));
                }
                (1, Tail::None) => {
                    let response = found.remove(0);
                    if !response.closes {
                        self.stream = Some(stream);
                    }
                    return Ok(Some((got, response)));
                }
                (0, Tail::Cut | Tail::None) if read > 0 => {}
                _ => {
                    let shown = got.escape_ascii();
                    return Err(format!("{}: not one answer to one request: {tail:?} {shown}", self.name));
                }
            }
        }
    }
}

/// One connection from the gateway.
struct Line {
    stream: TcpStream,
    backs: [Back; 2],
    /// Whose answers the gateway gets.
    first: usize,
    seen: Arc<Mutex<Seen>>,
    sent: Arc<[AtomicUsize; 2]>,
    keeps_bytes: bool,
}

impl Line {
    fn run(mut self) {
        self.stream.set_nodelay(true).unwrap();
        let (mut got, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match reader::request(&got, 0) {
                Ok(request) => {
                    let rest = got.split_off(request.end);
                    let bytes = std::mem::replace(&mut got, rest);
                    if !got.is_empty() {
                        self.fault(format!("bytes behind an unanswered request: {}", got.escape_ascii()));
                    }
                    let Some(answer) = self.show(&bytes, request) else { return };
                    if self.stream.write_all(&answer).is_err() {
                        return;
                    }
                    continue;
                }
                Err(Rest::InHead | Rest::InBody(..)) => {}
                Err(rest) => return self.fault(format!("{rest:?} was forwarded: {}", got.escape_ascii())),
            }
            let read = match self.stream.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => return self.fault(format!("the gateway's connection: {error}")),
            };
            if read == 0 {
                match reader::request(&got, 0) {
                    Err(Rest::InBody(method, target)) => {
                        self.seen.lock().unwrap().broken.push((method, target));
                    }
                    _ if !got.is_empty() => self.fault(format!("half a head: {}", got.escape_ascii())),
                    _ => {}
                }
                return;
            }
            got.extend_from_slice(&buffer[..read]);
            if self.keeps_bytes {
                self.seen.lock().unwrap().bytes.extend_from_slice(&buffer[..read]);
            }
        }
    }

    fn fault(&self, fault: String) {
        self.seen.lock().unwrap().faults.push(fault);
    }

    /// Shows a request to both origins, and keeps it. The bytes to answer with, if there are.
    fn show(&mut self, bytes: &[u8], request: Request) -> Option<Vec<u8>> {
        let mut faults = improper(&request);
        let id = field(&request.fields, "x-request-id").map(|id| String::from_utf8_lossy(id).into_owned());
        let id = id.unwrap_or_default();
        let mut answers = Vec::new();
        for back in &mut self.backs {
            self.sent[back.number].fetch_add(1, Relaxed);
            match back.ask(bytes, &request.method) {
                Ok((answer, response)) => {
                    let view = field(&response.fields, "x-view").unwrap_or_default();
                    let mut expected = format!("{id} {} {}", request.method, request.target);
                    if back.name == "haproxy" {
                        expected.push_str(&format!(" {}", request.body.len()));
                    }
                    if response.status != 200 {
                        let what = format!("{} {} {}", back.name, response.status, request.method);
                        *self.seen.lock().unwrap().refused.entry(what).or_default() += 1;
                    } else if view != expected.as_bytes() {
                        faults.push(format!("{} saw `{}`, not `{expected}`", back.name, view.escape_ascii()));
                    }
                    answers.push(answer);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let mut seen = self.seen.lock().unwrap();
        for fault in faults {
            seen.faults.push(format!("{fault}: {}", bytes.escape_ascii()));
        }
        seen.whole += 1;
        seen.requests.entry(id).or_default().push(request);
        answers.into_iter().nth(self.first)
    }
}

/// What a forwarded request says that no request from a stranger to this gateway may say.
fn improper(request: &Request) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("forwarded {what}"));
        }
    };
    let fields = &request.fields;
    must(!request.led && !request.old, "an empty line or HTTP/1.0");
    must(request.target.starts_with('/'), "a target that is no path");
    for name in ["host", "x-request-id", "traceparent", "x-real-ip", "x-forwarded-host", "x-forwarded-proto"]
    {
        must(all(fields, name).len() == 1, name);
    }
    must(field(fields, "x-real-ip") == Some(b"127.0.0.1"), "another client");
    must(field(fields, "x-forwarded-proto") == Some(b"http"), "another scheme");
    let chain = all(fields, "x-forwarded-for");
    must(chain.len() == 1 && chain[0].ends_with(b"127.0.0.1"), "a chain without its last link");
    let framings = all(fields, "content-length").len() + all(fields, "transfer-encoding").len();
    must(framings <= 1, "two framings");
    must(framings == 1 || request.body.is_empty(), "a body without a framing");
    // Who has shown the key is somebody.
    let known =
        request.target.starts_with("/private") && all(fields, "apikey").contains(&ALICE_KEY.as_bytes());
    for (name, value) in fields {
        let plain = name.replace('_', "-");
        let alias = plain != *name;
        let identity = ["x-consumer-", "x-credential-", "x-anonymous-consumer"];
        let own = known && (name != "x-consumer-username" || value == b"alice") && !alias;
        must(own || !identity.iter().any(|start| plain.starts_with(start)), name);
        let own = ["x-real-ip", "x-request-id", "content-length", "transfer-encoding", "host", "forwarded"];
        must(!alias || !(own.contains(&plain.as_str()) || plain.starts_with("x-forwarded-")), name);
        let hop =
            ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings", "expect", "proxy"];
        must(!hop.contains(&name.as_str()) && name != "forwarded", name);
        let upgrade = all(fields, "upgrade").len() == 1;
        must(
            name != "connection" || (upgrade && value == b"upgrade"),
            "a Connection that is not the gateway's",
        );
        must(name != "te" || value == b"trailers", "a TE");
    }
    let path = request.target.split('?').next().unwrap_or_default();
    must(!path.contains("//") && !path.contains('\\'), "a path that is not normal");
    must(!path.split('/').any(|one| one == "." || one == ".."), "a path with dots");
    let lower = path.to_ascii_lowercase();
    must(
        !["%2e", "%00", "%0d", "%0a", "%61"].iter().any(|escape| lower.contains(escape)),
        "a path with escapes",
    );
    faults
}
