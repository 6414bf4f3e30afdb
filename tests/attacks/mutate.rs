//! Requests that are nearly right: put together by a grammar of what is usual and of what servers have been seen to
//! disagree on, then changed byte by byte. The same seed makes the same bytes.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use super::classes::{Attack, SMUGGLED};
use super::support::site::ALICE_KEY;

const METHODS: [&str; 12] =
    ["GET", "GET", "GET", "POST", "POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "MKCOL"];

const TARGETS: [&str; 30] = [
    "/",
    "/a",
    "/a/b?c=d",
    "/private",
    "/private?apikey=x",
    "//private",
    "/a/%2e%2e/private",
    "/a/../b",
    "/%61",
    "/a%2fb",
    "/a;b/c",
    "/..;/x",
    "/%00",
    "/%",
    "/a?b=%0d%0aX:y",
    "/a?b=/../c",
    "http://a.com/",
    "http://a.com/x?y",
    "HTTP://A.com.:80/x",
    "http://b.com/",
    "http://u@a.com/",
    "*",
    "/a|b",
    "/a\\b",
    "/a#b",
    "/a\"b",
    "/%252e%252e/",
    "/a?",
    "?a",
    "/.",
];

const LINES: [&str; 44] = [
    "Accept: */*",
    "User-Agent: x",
    "Cookie: a=b",
    "Cookie: c=d",
    "X-A: b",
    "X-A:b",
    "X-A:",
    "X_A: b",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Host: evil",
    "X-Real-IP: 1.2.3.4",
    "X-Consumer-Username: root",
    "X_Consumer_Username: root",
    "Forwarded: for=x",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: X-A",
    "Connection: Host, Content-Length",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "TE: trailers",
    "TE: gzip",
    "Trailer: X-Sum",
    "Expect: 100-continue",
    "Keep-Alive: 5",
    "Proxy-Connection: keep-alive",
    "Proxy-Authorization: x",
    "Authorization: x",
    "X-Request-Id: 1",
    "traceparent: 00-x",
    "Content-Type: text/plain",
    "Content_Length: 5",
    "Transfer_Encoding: chunked",
    "X-A: \u{e4}",
    "Range: bytes=0-1",
    "If-Match: *",
    "Max-Forwards: 0",
    "Content-Length: 0",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Host: b.com",
    "X-Http-Method-Override: GET",
    "apikey: wrong",
];

const BAD_LINES: [&str; 26] = [
    "Content-Length : 5",
    " Content-Length: 5",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Content-Length: 05",
    "Content-Length: 0x5",
    "Content-Length: 99999999999999999999",
    "Content-Length: 70000",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: gzip",
    "X: y\n folded",
    " folded",
    "\tfolded",
    "X-A : b",
    ": b",
    "no colon",
    "X: y\rz",
    "X: \u{0}",
    "Host: ",
    "Host: a b",
    "Host: a@b",
    "X: \u{b}",
];

const MORSELS: [&str; 44] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    "\0",
    "\u{b}",
    "\u{c}",
    "\u{7f}",
    "\u{e4}",
    ":",
    ",",
    ";",
    "0",
    "1",
    "5",
    "f",
    "-",
    "+",
    "0x",
    "_",
    "/",
    "//",
    "/../",
    "%2e",
    "%2f",
    "%00",
    "%0a",
    "?",
    "#",
    "@",
    "\\",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Host: b\r\n",
    "chunked",
    "HTTP/1.0",
    "HTTP/1.1",
    "0\r\n\r\n",
    ";ext=1",
];

const CHUNKED: [&str; 12] = [
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
    "1\r\nx\r\n0\r\nX-Consumer-Id: 1\r\nX-Sum: 1\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhello\r\n0\r\nHost: b\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\n",
];

fn pick<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of.choose(rng).unwrap()
}

/// What is sent on one connection, and how many requests it was made of.
pub fn connection(rng: &mut StdRng, attacks: &[Attack]) -> (Vec<u8>, usize) {
    let count = rng.random_range(1..=5);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let mut one = match rng.random_range(0..10) {
            0 => {
                let attack = attacks.choose(rng).unwrap();
                let own = attack.bytes.len() - SMUGGLED.len();
                let whole = rng.random_bool(0.5);
                attack.bytes[..if whole { attack.bytes.len() } else { own }].to_vec()
            }
            _ => grammar(rng),
        };
        let changes = [0, 0, 0, 1, 1, 1, 2][rng.random_range(0..7)];
        for _ in 0..changes {
            change(rng, &mut one);
        }
        bytes.append(&mut one);
    }
    (bytes, count)
}

/// Where to cut the bytes of a connection.
pub fn cuts(rng: &mut StdRng, length: usize) -> Vec<usize> {
    if length < 2 || rng.random_bool(0.6) {
        return Vec::new();
    }
    let mut cuts: Vec<_> = (0..rng.random_range(1..=3)).map(|_| rng.random_range(1..length)).collect();
    cuts.sort_unstable();
    cuts
}

fn grammar(rng: &mut StdRng) -> Vec<u8> {
    let odd = |rng: &mut StdRng, share: f64| rng.random_bool(share);
    let mut text = String::new();
    if odd(rng, 0.03) {
        text.push_str("\r\n");
    }
    let target = if odd(rng, 0.4) { pick(rng, &TARGETS) } else { "/plain/path?and=query" };
    let version = if odd(rng, 0.05) { "HTTP/1.0" } else { "HTTP/1.1" };
    text.push_str(&format!("{} {target} {version}\r\n", pick(rng, &METHODS)));
    let mut lines = Vec::new();
    if !odd(rng, 0.02) {
        lines.push(if odd(rng, 0.1) { "host: A.com." } else { "Host: a.com" }.to_owned());
    }
    for _ in 0..rng.random_range(0..5) {
        lines.push(pick(rng, &LINES).to_owned());
    }
    if odd(rng, 0.08) {
        lines.push(pick(rng, &BAD_LINES).to_owned());
    }
    if odd(rng, 0.1) {
        lines.push(format!("apikey: {ALICE_KEY}"));
    }
    let mut body = String::new();
    match rng.random_range(0..10) {
        0..4 => {}
        4..7 => {
            body = if odd(rng, 0.5) { SMUGGLED.to_owned() } else { "b".repeat(rng.random_range(0..200)) };
            let length = if odd(rng, 0.05) { body.len() + rng.random_range(0..3) } else { body.len() };
            lines.push(format!("Content-Length: {length}"));
        }
        _ => {
            body = if odd(rng, 0.4) {
                format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())
            } else {
                pick(rng, &CHUNKED).to_owned()
            };
            lines.push(
                if odd(rng, 0.1) { "transfer-encoding:   Chunked" } else { "Transfer-Encoding: chunked" }
                    .to_owned(),
            );
        }
    }
    if odd(rng, 0.5) {
        let at = rng.random_range(0..lines.len().max(1));
        lines.rotate_left(at);
    }
    let end = if odd(rng, 0.01) { "\n" } else { "\r\n" };
    for line in lines {
        text.push_str(&line);
        text.push_str(end);
    }
    text.push_str("\r\n");
    text.push_str(&body);
    text.into_bytes()
}

/// One change: take away, double, exchange or put in.
fn change(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..=bytes.len());
    let some =
        |rng: &mut StdRng, most: usize, bytes: &[u8]| (at + rng.random_range(1..most)).min(bytes.len());
    match rng.random_range(0..8) {
        0 => {
            let end = some(rng, 4, bytes);
            bytes.drain(at..end);
        }
        1 => {
            let end = some(rng, 40, bytes);
            let piece = bytes[at..end].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, piece);
        }
        2 if at < bytes.len() => bytes[at] = rng.next_u32().to_le_bytes()[0],
        3 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        4 if at < bytes.len() => {
            bytes[at] = bytes[at].wrapping_add(if rng.random_bool(0.5) { 1 } else { 255 })
        }
        _ => {
            let morsel = pick(rng, &MORSELS);
            bytes.splice(at..at, morsel.bytes());
        }
    }
}
