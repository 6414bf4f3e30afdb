//! Other readers of what the guard lets through, for the tests and for fuzzing: one is httparse with a straightforward
//! framing reader (what hyper does), the other forgives all it can (bare LF, white space anywhere), as careless servers
//! do. [`check`] says what must hold of any bytes at all.
#![allow(clippy::unwrap_used)]

use super::StrictLimits;
use super::line::is_target;
use super::machine::Machine;
use crate::{host, path};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// Appended to each input, it tells where a reader thinks that the last body ends.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";
/// Most fields that the readers take; the guard takes fewer.
const FIELDS_MAX: usize = 128;

/// Where each head ends as the guard sees it, byte by byte; none if it refuses.
pub fn guard(input: &[u8]) -> Option<Vec<usize>> {
    let mut machine = Machine::new(StrictLimits::default());
    let (mut clean, mut heads) = (0, Vec::new());
    for end in 1..=input.len() {
        let scan = machine.scan(&input[clean..end]);
        if scan.violation.is_some() {
            return None;
        }
        clean += scan.clean;
        if machine.heads_seen() > heads.len() as u64 {
            heads.push(end);
        }
        // Nobody upgrades: what follows is the next request.
        machine.resume();
    }
    Some(heads)
}

/// Fields with lower-case names and trimmed values.
pub type Fields = Vec<(String, Vec<u8>)>;

/// Says where the head that starts at an offset ends, and its fields.
pub type ReadHead = fn(&[u8], usize) -> Option<(usize, Fields)>;

/// As hyper does.
pub fn by_httparse(input: &[u8], from: usize) -> Option<(usize, Fields)> {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(&input[from..]) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return None,
        Err(error) => panic!("{error}: {:?}", String::from_utf8_lossy(input)),
    };
    let fields =
        request.headers.iter().map(|field| (field.name.to_lowercase(), field.value.to_vec())).collect();
    Some((from + len, fields))
}

/// As careless servers do.
pub fn by_forgiving(input: &[u8], from: usize) -> Option<(usize, Fields)> {
    let (mut at, mut lines) = (from, Vec::new());
    loop {
        let len = input[at..].iter().position(|byte| *byte == b'\n')?;
        let line = input[at..at + len].trim_ascii().to_vec();
        at += len + 1;
        if !line.is_empty() {
            lines.push(line);
        } else if !lines.is_empty() {
            break;
        }
    }
    let fields = lines[1..].iter().filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = String::from_utf8_lossy(line[..colon].trim_ascii()).to_lowercase();
        Some((name, line[colon + 1..].trim_ascii().to_vec()))
    });
    Some((at, fields.collect()))
}

/// Where each head ends as a reader sees it that reads heads by `head`.
pub fn reader(input: &[u8], head: ReadHead) -> Vec<usize> {
    let (mut at, mut heads) = (0, Vec::new());
    while let Some((end, fields)) = head(input, at) {
        heads.push(end);
        let Some(past) = past(input, end, &fields) else { break };
        at = past;
    }
    heads
}

/// Where the body behind a head ends; none if it is not there whole.
fn past(input: &[u8], end: usize, fields: &Fields) -> Option<usize> {
    let value = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| &field.1);
    if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
        return after_chunks(input, end);
    }
    let length =
        value("content-length").map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap());
    usize::checked_add(end, length).filter(|past| *past <= input.len())
}

fn after_chunks(input: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = input[at..].iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&input[at..at + len]).into_owned();
        let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
        at += len + 1;
        if size == 0 {
            break;
        }
        let after = input.get(at.checked_add(size)?..)?;
        at += size + 1 + after.iter().position(|byte| *byte == b'\n')?;
    }
    loop {
        let len = input[at..].iter().position(|byte| *byte == b'\n')?;
        let empty = input[at..at + len].trim_ascii().is_empty();
        at += len + 1;
        if empty {
            return Some(at);
        }
    }
}

/// Holds whatever the bytes are: the guard judges them the same in any pieces, and what it lets through every reader
/// reads alike, with one authority and a path of one form. Panics where that is not so. Says whether they passed.
pub fn check(input: &[u8]) -> bool {
    let input = [input, PROBE].concat();
    let heads = guard(&input);
    for at in [input.len(), input.len() / 2, input.len() / 3] {
        assert_eq!(is_refused(&input, at), heads.is_none(), "cut at {at}: {}", input.escape_ascii());
    }
    let Some(heads) = heads else { return false };
    for read in [by_httparse as ReadHead, by_forgiving] {
        assert_eq!(heads, reader(&input, read), "{}", input.escape_ascii());
    }
    let mut from = Some(0);
    for _ in &heads {
        from = from.and_then(|from| one(&input, from));
    }
    true
}

/// Whether the guard refuses what comes in two pieces.
fn is_refused(input: &[u8], at: usize) -> bool {
    let mut machine = Machine::new(StrictLimits::default());
    let mut clean = 0;
    for end in [at, input.len()] {
        loop {
            let scan = machine.scan(&input[clean..end]);
            if scan.violation.is_some() {
                return true;
            }
            clean += scan.clean;
            if !machine.is_held() {
                break;
            }
            machine.resume();
        }
    }
    false
}

/// Reads one accepted request as the gateway does behind the guard. Where the next one begins.
fn one(input: &[u8], from: usize) -> Option<usize> {
    let (end, fields) = by_httparse(input, from)?;
    let line = input[from..end].split(|byte| *byte == b'\n').find(|line| line.len() > 1)?;
    let target = std::str::from_utf8(line.split(|byte| *byte == b' ').nth(1)?).expect("ASCII");
    assert!(is_target(target), "{target}");
    let old = line.ends_with(b"HTTP/1.0\r");
    let headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
        })
        .collect();
    if let Ok(uri) = Uri::try_from(target) {
        let by_tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let found = host::of(&uri, &headers, if by_tls { 443 } else { 80 });
        assert!(found.is_ok() || old, "{found:?} of {target}");
        if let Some(normal) = path::normalise(uri.path()) {
            assert_eq!(path::normalise(&normal).as_deref(), Some(&*normal), "{target}");
            assert!(
                normal.starts_with('/') && is_target(&normal) && !normal.contains("//"),
                "{normal} of {target}"
            );
            assert!(!normal.split('/').any(|segment| matches!(segment, "." | "..")), "{normal} of {target}");
        }
    }
    past(input, end, &fields)
}
