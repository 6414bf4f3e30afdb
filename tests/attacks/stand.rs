//! The gateway under attack, the recorder and the two services behind it, and a client that sends bytes as they are.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::json;
use tempfile::TempDir;

use super::origins::Origin;
use super::reader::{self, BODY_BYTES_MAX, Request, Response, Rest, Tail, field};
use super::support::DEADLINE;
use super::support::site::{ALICE_KEY, Site, Tollhouse};
use super::tap::Tap;

/// All of it.
pub struct Stand {
    pub house: Tollhouse,
    pub tap: Tap,
    pub nginx: Origin,
    pub haproxy: Origin,
    _site: Site,
    _folder: TempDir,
}

/// A site whose gateway sends everything there, and wants a key under `/private`.
pub fn site_before(addr: SocketAddr) -> Site {
    let url = format!("http://{addr}");
    Site::new(addr)
        .set(
            &["services"],
            json!([
                { "name": "open", "url": url, "retries": 0, "routes": [{ "name": "all", "paths": ["/"], "strip_path": false }] },
                { "name": "private", "url": url, "retries": 0,
                  "routes": [{ "name": "private", "paths": ["/private"], "strip_path": false }],
                  "plugins": [{ "name": "key-auth" }] },
            ]),
        )
        .set(&["consumers"], json!([{ "username": "alice", "keyauth_credentials": [{ "key": ALICE_KEY }] }]))
        .set(&["gateway", "limits"], json!({ "body_bytes_max": BODY_BYTES_MAX, "drain_bytes_max": BODY_BYTES_MAX }))
}

impl Stand {
    pub fn start(keeps_bytes: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let (nginx, haproxy) = (Origin::nginx(folder.path()), Origin::haproxy(folder.path()));
        let tap = Tap::start([&nginx, &haproxy], keeps_bytes);
        let site = site_before(tap.addr);
        let house = site.run();
        Self { house, tap, nginx, haproxy, _site: site, _folder: folder }
    }

    /// Compares what a client was answered with what was forwarded, and forgets it. What is not as it should be.
    pub fn compare(&self, heard: &Heard) -> Option<String> {
        for (sent, response) in heard.requests.iter().zip(&heard.responses) {
            let id = id_of(response);
            let found = self.tap.seen(|seen| seen.requests.remove(&id)).unwrap_or_default();
            let fault = match (found.as_slice(), is_made(response)) {
                ([], true) => None,
                ([one], false) => differs(sent, one),
                ([], false) => Some("answered by nobody".to_owned()),
                (_, true) => Some("refused and forwarded".to_owned()),
                (several, false) => Some(format!("forwarded {} times", several.len())),
            };
            if let Some(fault) = fault {
                return Some(format!("{fault}: {sent:?}, {found:?}"));
            }
        }
        None
    }

    /// Sends the pieces on a connection of their own and reads what comes.
    pub fn send(&self, pieces: &[&[u8]]) -> Heard {
        send(self.house.gateway(), pieces)
    }

    /// At the end: the readers agreed on everything, and all books say the same. `events` is how many requests the
    /// gateway has judged.
    pub fn settle(&self, events: u64) {
        self.house.rows(events);
        let (faults, whole, broken, refused) = self.tap.seen(|seen| {
            (std::mem::take(&mut seen.faults), seen.whole, seen.broken.len(), seen.refused.clone())
        });
        let shown: Vec<_> = faults.iter().take(20).collect();
        assert!(faults.is_empty(), "{} disagreements: {shown:#?}", faults.len());
        let attempts =
            self.house.number("SELECT coalesce(sum(array_length(attempts)), 0) AS n FROM requests");
        let cancelled = attempts.saturating_sub((whole + broken) as u64);
        // A request whose body never came whole may have been given up before its first byte was sent.
        let given_up =
            "SELECT count(*) AS n FROM requests WHERE outcome <> 'ok' AND array_length(attempts) > 0";
        assert!(attempts >= (whole + broken) as u64, "{attempts} attempts, {whole} + {broken} recorded");
        assert!(
            cancelled == 0 || cancelled + broken as u64 <= self.house.number(given_up),
            "{cancelled} attempts"
        );
        for (number, origin) in [(0, &self.nginx), (1, &self.haproxy)] {
            let sent = self.tap.sent[number].load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(sent, whole, "{} was shown all", origin.name);
            super::support::eventually(origin.name, || match origin.logged() {
                logged if logged == sent => Ok(()),
                logged => Err(format!("its log has {logged} of {sent} requests")),
            });
        }
        println!("{whole} requests forwarded whole, {broken} broken off, refused by an origin: {refused:?}");
    }
}

/// What a client got for its bytes.
#[derive(Debug)]
pub struct Heard {
    /// What a strict reader makes of the bytes sent.
    pub requests: Vec<Request>,
    pub rest: Rest,
    pub responses: Vec<Response>,
    pub bytes: Vec<u8>,
    /// What is not as the strict reader foretold it.
    pub fault: Option<String>,
}

impl Heard {
    /// How many events it makes.
    pub fn events(&self) -> u64 {
        let more = match self.rest {
            Rest::None | Rest::InHead => 0,
            Rest::InBody(..) | Rest::TooLarge | Rest::BadHead(_) | Rest::BadBody(..) => 1,
        };
        self.requests.len() as u64 + more
    }
}

/// Whether the gateway made it by itself.
pub fn is_made(response: &Response) -> bool {
    field(&response.fields, "server") == Some(b"tollhouse")
}

/// The id of the request that a response answers.
pub fn id_of(response: &Response) -> String {
    String::from_utf8_lossy(field(&response.fields, "x-request-id").unwrap_or_default()).into_owned()
}

/// Sends the pieces and reads until all has come that a strict reader foretells, then ends.
pub fn send(gateway: SocketAddr, pieces: &[&[u8]]) -> Heard {
    let sent = pieces.concat();
    let (requests, rest) = reader::requests(&sent);
    let is_refused = matches!(rest, Rest::TooLarge | Rest::BadHead(_) | Rest::BadBody(..));
    let wanted = requests.len() + usize::from(is_refused);
    let ends = is_refused || requests.last().is_some_and(|request| !request.keeps);
    let mut methods: Vec<_> = requests.iter().map(|request| request.method.clone()).collect();
    if let Rest::BadBody(_, method, _) | Rest::InBody(method, _) = &rest {
        methods.push(method.clone());
    }
    if matches!(rest, Rest::TooLarge | Rest::BadHead(_)) {
        // Its method, as far as it is one, decides whether the answer has a body.
        let start = requests.last().map_or(0, |request| request.end);
        let word = sent[start..].trim_ascii_start().split(|byte| b" \r".contains(byte)).next();
        methods.push(String::from_utf8_lossy(word.unwrap_or_default()).into_owned());
    }
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut heard = Heard { requests, rest, responses: Vec::new(), bytes: Vec::new(), fault: None };
    let mut fault = None;
    if wanted > 0 || ends {
        fault = read(&mut stream, &mut heard.bytes, |bytes| {
            !ends && reader::responses(bytes, &methods, false).0.len() >= wanted
        });
    }
    if fault.is_none() {
        drop(stream.shutdown(Shutdown::Write));
        fault = read(&mut stream, &mut heard.bytes, |_| false);
    }
    let (mut responses, mut tail) = reader::responses(&heard.bytes, &methods, true);
    if tail != Tail::None && matches!(heard.rest, Rest::BadHead(_)) {
        // What breaks off within its first line has no method yet.
        methods.pop();
        (responses, tail) = reader::responses(&heard.bytes, &methods, true);
    }
    heard.responses = responses;
    let late = usize::from(matches!(heard.rest, Rest::InBody(..)));
    let count = heard.responses.len();
    let faults = [
        fault.map(|fault| format!("the connection: {fault}")),
        (tail != Tail::None).then(|| format!("what came is no row of responses: {tail:?}")),
        (count < wanted || count > wanted + late).then(|| format!("{count} responses to {wanted} requests")),
        (is_refused
            && heard.responses.last().is_none_or(|last| !is_made(last) || !last.closes || last.status < 400))
        .then(|| "not refused and closed".to_owned()),
        heard
            .responses
            .iter()
            .any(|one| id_of(one).is_empty())
            .then(|| "a response without an id".to_owned()),
    ];
    heard.fault = faults.into_iter().flatten().next().map(|fault| {
        let (sent, got) = (sent.escape_ascii(), heard.bytes.escape_ascii());
        format!("{fault}\n  foretold: {wanted} and {:?}\n  sent: {sent}\n  got: {got}", heard.rest)
    });
    heard
}

/// Reads until `done` says so or the connection ends.
fn read(stream: &mut TcpStream, into: &mut Vec<u8>, done: impl Fn(&[u8]) -> bool) -> Option<String> {
    let mut buffer = [0; 16 << 10];
    while !done(into) {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(read) => into.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

/// Where a forwarded request says something else than the client did.
fn differs(sent: &Request, forwarded: &Request) -> Option<String> {
    let query = |target: &str| {
        target.split_once('?').map(|(_, query)| query.to_owned()).filter(|query| !query.is_empty())
    };
    if (&sent.method, &sent.body) != (&forwarded.method, &forwarded.body) {
        return Some("another method or body".to_owned());
    }
    if query(&sent.target) != query(&forwarded.target) {
        return Some("another query".to_owned());
    }
    let path = sent.target.split('?').next().unwrap_or_default();
    let plain = path.starts_with('/')
        && !path.contains("//")
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte));
    if plain && forwarded.target.split('?').next() != Some(path) {
        return Some("another path".to_owned());
    }
    let own = [
        "host",
        "x-request-id",
        "x-real-ip",
        "traceparent",
        "te",
        "connection",
        "content-length",
        "transfer-encoding",
        "cookie",
    ];
    let is_own = |name: &str| {
        own.contains(&name)
            || ["x-forwarded-", "x-consumer-", "x-credential-"].iter().any(|start| name.starts_with(start))
    };
    let strange = forwarded.fields.iter().find(|field| !is_own(&field.0) && !sent.fields.contains(field));
    let late = forwarded.trailers.iter().find(|field| {
        !sent.trailers.iter().any(|(name, value)| (name, trimmed(value)) == (&field.0, trimmed(&field.1)))
    });
    strange.or(late).map(|(name, value)| format!("a field nobody sent: {name}: {}", value.escape_ascii()))
}

fn trimmed(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}
