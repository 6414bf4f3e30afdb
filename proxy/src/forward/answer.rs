//! The head of an upstream's response: read in one pass, in which what is between the two neighbours stays behind, and
//! the conclusions drawn from it: how the body is framed, whether the connection can serve another request.

use super::headers::{Names, is_hop, tokens};
use crate::chunked::{Chunks, Piece};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::mem::MaybeUninit;

/// Most header lines of a response.
const FIELDS_MAX: usize = 128;
/// Headers that the gateway may add.
const OWN_HEADERS: usize = 4;

/// A response head.
#[derive(Debug)]
pub(crate) struct Head {
    pub status: StatusCode,
    /// Without those between neighbours.
    pub headers: HeaderMap,
    /// What a 101 switches to.
    pub upgrade: Option<HeaderValue>,
    pub body: Download,
    /// Whether the connection can serve another request after this response.
    pub keeps: bool,
}

/// The response cannot be read in one way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What is still to come of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Download {
    /// This many bytes.
    Sized(u64),
    Chunked(Chunks),
    /// Until the upstream closes.
    Close,
    /// It closed.
    Closed,
    /// As HTTP/2 frames it: this many bytes, where that is known.
    Stream(Option<u64>),
}

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    More,
    Refused,
}

impl Download {
    /// Whether nothing more comes.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Sized(0) | Self::Closed | Self::Chunked(Chunks::End))
    }

    /// Takes the next piece out of what has come.
    pub(super) fn read(&mut self, from: &mut BytesMut) -> Part {
        match self {
            Self::Sized(0) | Self::Closed => Part::End,
            Self::Sized(_) | Self::Close if from.is_empty() => Part::More,
            Self::Sized(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(from.len());
                *left -= length as u64;
                Part::Data(from.split_to(length).freeze())
            }
            Self::Close => Part::Data(from.split().freeze()),
            // Read where the stream is.
            Self::Stream(_) => Part::Refused,
            Self::Chunked(chunks) => match chunks.read(from) {
                Piece::Data(data) => Part::Data(data),
                Piece::Trailers(map) => Part::Trailers(map),
                Piece::End => Part::End,
                Piece::More => Part::More,
                Piece::Refused => Part::Refused,
            },
        }
    }
}

/// What the lines between neighbours say.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    /// Names that `Connection` takes away.
    nominated: Names,
    upgrade: Option<HeaderValue>,
}

/// Takes a response head out of what has come; none when it is not complete. `method` is the request's.
pub(super) fn read(from: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        from,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
    let http_11 = response.version == Some(1);
    // Where names and values stand: the bytes are shared from here on, and the lines borrow them.
    let begin = from.as_ptr() as usize;
    let span = |text: &[u8]| {
        let at = text.as_ptr() as usize - begin;
        at..at + text.len()
    };
    let lines: smallvec::SmallVec<[_; 16]> =
        response.headers.iter().map(|field| (span(field.name.as_bytes()), span(field.value))).collect();
    let bytes = from.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(lines.len() + OWN_HEADERS);
    let mut facts = Facts::default();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(&bytes[name]).map_err(|_| Malformed)?;
        let value = if value.is_empty() { Bytes::new() } else { bytes.slice(value) };
        // SAFETY: httparse takes no byte into a value that a `HeaderValue` may not hold; the test below tries all.
        let value = unsafe { HeaderValue::from_maybe_shared_unchecked(value) };
        if facts.note(&name, &value)? {
            headers.append(name, value);
        }
    }
    for name in &facts.nominated {
        headers.remove(name);
    }
    conclude(status, http_11, method, headers, facts).map(Some)
}

impl Facts {
    /// Whether the line goes on to the client.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Malformed> {
        match *name {
            header::CONTENT_LENGTH => {
                let digits = value.as_bytes();
                let number = value.to_str().ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
                let number = number.and_then(|text| text.parse().ok()).ok_or(Malformed)?;
                // The same length twice is one length; two lengths are an attempt at splitting the response.
                match self.length.replace(number) {
                    None => Ok(true),
                    Some(before) if before == number => Ok(false),
                    Some(_) => Err(Malformed),
                }
            }
            header::TRANSFER_ENCODING => {
                let known = value.as_bytes().eq_ignore_ascii_case(b"chunked") && !self.chunked;
                self.chunked = true;
                if known { Ok(false) } else { Err(Malformed) }
            }
            header::CONNECTION => {
                for token in tokens(value) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    self.nominated.extend(super::headers::nominated(token));
                }
                Ok(false)
            }
            header::UPGRADE => {
                self.upgrade = Some(value.clone());
                Ok(false)
            }
            _ => Ok(!is_hop(name.as_str())),
        }
    }
}

fn conclude(
    status: StatusCode,
    http_11: bool,
    method: &Method,
    headers: HeaderMap,
    facts: Facts,
) -> Result<Head, Malformed> {
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    // RFC 9112, 6.3, and 6.1 on both at once: it ought to be handled as an error.
    let body = match (facts.chunked, facts.length) {
        (true, Some(_)) => return Err(Malformed),
        (true, None) if !http_11 => return Err(Malformed),
        _ if bodiless => Download::Sized(0),
        (true, None) => Download::Chunked(Chunks::Size),
        (false, Some(length)) => Download::Sized(length),
        (false, None) => Download::Close,
    };
    let keeps = !facts.close && (http_11 || facts.keep_alive) && body != Download::Close;
    Ok(Head { status, headers, upgrade: facts.upgrade, body, keeps })
}

/// For the fuzzers: whatever the bytes are, what is taken of them has one framing and no line between neighbours.
#[cfg(any(test, fuzzing))]
pub(crate) fn check(bytes: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        let mut from = BytesMut::from(bytes);
        let Ok(Some(head)) = read(&mut from, &method) else { continue };
        let shown = || bytes.escape_ascii().to_string();
        assert!(bytes.ends_with(&from) && from.len() < bytes.len(), "{}", shown());
        assert!(head.headers.keys().all(|name| !is_hop(name.as_str())), "{}", shown());
        assert!(
            head.headers.values().all(|value| HeaderValue::from_bytes(value.as_bytes()).is_ok()),
            "{}",
            shown()
        );
        assert!(head.headers.get_all(header::CONTENT_LENGTH).iter().count() <= 1, "{}", shown());
        let length = head.headers.get(header::CONTENT_LENGTH);
        let chunked = matches!(head.body, Download::Chunked(_));
        assert!(!(chunked && length.is_some()), "{}", shown());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str, method: Method) -> Result<Option<Head>, Malformed> {
        read(&mut BytesMut::from(text), &method)
    }

    fn good(text: &str) -> Head {
        head(text, Method::GET).unwrap().unwrap()
    }

    #[test]
    fn lines_between_neighbours_stay_behind() {
        let head = good(
            "HTTP/1.1 200 OK\r\nConnection: X-A, keep-alive\r\nX-A: 1\r\nX-B: 2\r\nKeep-Alive: 5\r\n\
             Transfer-Encoding: Chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nEmpty:\r\n\r\n",
        );
        let mut left: Vec<_> =
            head.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["empty=", "set-cookie=a", "set-cookie=b", "x-b=2"]);
        assert!(head.keeps);
        assert_eq!(head.body, Download::Chunked(Chunks::Size));
    }

    #[test]
    fn values_hold_only_what_a_header_value_may() {
        for byte in 0..=255u8 {
            let mut bytes = BytesMut::from(&b"HTTP/1.1 200 OK\r\nx: a"[..]);
            bytes.extend_from_slice(&[byte]);
            bytes.extend_from_slice(b"b\r\n\r\n");
            // A line feed ends the line, and what follows is then no field.
            if let Ok(Some(head)) = read(&mut bytes, &Method::GET) {
                let value = head.headers["x"].as_bytes();
                assert!(HeaderValue::from_bytes(value).is_ok(), "{byte}");
            }
        }
    }

    #[test]
    fn the_framing_follows_the_head() {
        assert_eq!(good("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n").body, Download::Sized(7));
        assert_eq!(good("HTTP/1.1 204 No\r\n\r\n").body, Download::Sized(0));
        let closing = good("HTTP/1.1 200\r\n\r\n");
        assert_eq!((closing.body, closing.keeps), (Download::Close, false));
        let old = good("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n");
        assert_eq!((old.body, old.keeps), (Download::Sized(1), false));
        assert!(good("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n").keeps);
        assert!(!good("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n").keeps);
        let asked = head("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Method::HEAD).unwrap().unwrap();
        assert_eq!(
            (asked.body, &asked.headers["content-length"]),
            (Download::Sized(0), &"7".parse().unwrap())
        );
        assert_eq!(
            good("HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 7\r\n\r\n").headers.len(),
            1
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_malformed() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7, 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: y\r\n folded\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
        ] {
            assert_eq!(head(text, Method::GET).err(), Some(Malformed), "{text}");
        }
        assert!(head("HTTP/1.1 200 OK\r\nx: y\r\n", Method::GET).unwrap().is_none());
    }
}
