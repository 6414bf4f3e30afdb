//! One request head: request line and header lines, judged line by line as they arrive, and the conclusions drawn
//! at its end: how the body is framed and whether an upgrade is asked for.

use std::ops::Range;

use super::StrictLimits;
use super::authority::Authority;
use super::line::{Line, Lines, TARGET, TOKEN, field, is, span, trim};
use super::violation::Rule;

/// Hyper keeps the two highest lengths for itself.
const CONTENT_LENGTH_MAX: u64 = u64::MAX - 2;

/// How the body after a head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes; 0 without Content-Length.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What [`Head::read`] says.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The head is not complete.
    More,
    /// The head is clean and this long.
    Done {
        /// Its length in bytes, from the first byte of the window.
        len: usize,
        /// The framing of its body.
        framing: Framing,
        /// Whether it asks for an upgrade.
        upgrade: bool,
    },
    /// The head is refused.
    Refused(Rule),
}

/// What is known of the head being read. Ranges count from its first byte.
#[derive(Debug, Default)]
pub struct Head {
    lines: Lines,
    phase: Phase,
    version_11: bool,
    /// Where the method stands, once the request line was read that far.
    pub method: Option<Range<usize>>,
    /// Where the target stands, once the request line was read that far.
    pub target: Option<Range<usize>>,
    /// Where the authority of an absolute-form target stands, and the default port of its scheme.
    absolute: Option<(Range<usize>, u16)>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    encoded: bool,
    upgrade: bool,
    connection_upgrade: bool,
    field_count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Start,
    AfterEmptyLine,
    Fields,
}

impl Head {
    /// Whether a byte of this head was seen.
    pub fn is_fresh(&self, window: &[u8]) -> bool {
        self.phase == Phase::Start && window.is_empty()
    }

    /// Reads on. `window` starts at the head's first byte and holds all that has arrived since.
    #[inline]
    pub fn read(&mut self, window: &[u8], limits: &StrictLimits) -> Step {
        loop {
            let in_fields = self.phase == Phase::Fields;
            let line_at = self.lines.start();
            let budget = if in_fields {
                limits.head_bytes_max
            } else {
                // Something that is no HTTP/1 (a TLS hello, another protocol) is told by its first byte.
                match window.get(line_at) {
                    Some(b'\r' | b'\n') | None => {}
                    Some(byte) if is(*byte, TOKEN) => {}
                    Some(_) => return Step::Refused(Rule::Method),
                }
                limits.head_bytes_max.min(line_at + limits.request_line_bytes_max + 2)
            };
            let (start, end) = match self.lines.next(window, budget) {
                Line::Found { start, end } => (start, end),
                Line::More => return Step::More,
                Line::TooLong if in_fields => return Step::Refused(Rule::HeadTooLarge),
                Line::TooLong => return Step::Refused(Rule::RequestLineTooLong),
                Line::Refused(rule) => return Step::Refused(rule),
            };
            let judged = match (self.phase, start == end) {
                (Phase::Start, true) => {
                    self.phase = Phase::AfterEmptyLine;
                    Ok(())
                }
                (Phase::AfterEmptyLine, true) => Err(Rule::LeadingLines),
                (Phase::Start | Phase::AfterEmptyLine, false) => {
                    self.phase = Phase::Fields;
                    self.request_line(start, &window[start..end])
                }
                (Phase::Fields, false) => self.field(start, &window[start..end], limits),
                (Phase::Fields, true) => match self.conclude(window) {
                    Ok(framing) => {
                        let upgrade = self.version_11 && self.upgrade && self.connection_upgrade;
                        return Step::Done { len: end + 2, framing, upgrade };
                    }
                    Err(rule) => Err(rule),
                },
            };
            if let Err(rule) = judged {
                return Step::Refused(rule);
            }
        }
    }

    fn request_line(&mut self, at: usize, line: &[u8]) -> Result<(), Rule> {
        let method_len = span(line, TOKEN);
        if method_len == 0 || line.get(method_len).is_some_and(|byte| *byte != b' ') {
            return Err(Rule::Method);
        }
        self.method = Some(at..at + method_len);
        if method_len == line.len() {
            return Err(Rule::RequestLine);
        }
        let method = &line[..method_len];
        let rest = &line[method_len + 1..];
        let target_len = span(rest, TARGET);
        let target = &rest[..target_len];
        let target_at = at + method_len + 1;
        if target_len > 0 {
            self.target = Some(target_at..target_at + target_len);
        }
        let version = match &rest[target_len..] {
            [] => return Err(Rule::RequestLine),
            [b' ', ..] if target_len == 0 => return Err(Rule::RequestLine),
            [b' ', version @ ..] => version,
            _ => return Err(Rule::Target),
        };
        self.version_11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            // A second space, or a target with one inside.
            _ if version.first() == Some(&b' ') || version.contains(&b' ') => return Err(Rule::RequestLine),
            _ => return Err(Rule::Version),
        };
        if method == b"CONNECT" {
            return Err(Rule::Connect);
        }
        match target {
            [b'/', ..] => Ok(()),
            b"*" if method == b"OPTIONS" => Ok(()),
            _ => {
                let (skipped, authority, default_port) = absolute(target).ok_or(Rule::Target)?;
                Authority::read(authority).ok_or(Rule::Target)?;
                let start = target_at + skipped;
                self.absolute = Some((start..start + authority.len(), default_port));
                Ok(())
            }
        }
    }

    #[inline]
    fn field(&mut self, at: usize, line: &[u8], limits: &StrictLimits) -> Result<(), Rule> {
        let (name, value) = field(line, self.field_count == 0)?;
        self.field_count += 1;
        if self.field_count > limits.header_count_max {
            return Err(Rule::TooManyFields);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Rule::HostDuplicate);
                }
                let host = trim(value);
                Authority::read(host).ok_or(Rule::HostMalformed)?;
                let leading = value.len() - value.trim_ascii_start().len();
                let start = at + name.len() + 1 + leading;
                self.host = Some(start..start + host.len());
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= value
                    .split(|byte| *byte == b',')
                    .any(|token| trim(token).eq_ignore_ascii_case(b"upgrade"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Rule::ContentLengthDuplicate);
                }
                self.length = Some(content_length(trim(value)).ok_or(Rule::ContentLengthMalformed)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if std::mem::replace(&mut self.encoded, true) {
                    return Err(Rule::EncodingDuplicate);
                }
                // Only spaces, and only before: a tab or a trailing space is one of the ways in which two servers
                // have been made to disagree on whether this is `chunked`.
                let mut coding = value;
                while let [b' ', rest @ ..] = coding {
                    coding = rest;
                }
                if !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err(Rule::EncodingUnknown);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn conclude(&self, window: &[u8]) -> Result<Framing, Rule> {
        let host = self.host.clone().map(|host| &window[host]);
        if host.is_none() && self.version_11 {
            return Err(Rule::HostMissing);
        }
        if let (Some(host), Some((absolute, default_port))) = (host, &self.absolute) {
            let host = Authority::read(host).ok_or(Rule::HostMalformed)?;
            let target = Authority::read(&window[absolute.clone()]).ok_or(Rule::Target)?;
            if !target.same(&host, *default_port) {
                return Err(Rule::HostMismatch);
            }
        }
        match (self.encoded, self.length) {
            (true, Some(_)) => Err(Rule::LengthAndEncoding),
            (true, None) if !self.version_11 => Err(Rule::EncodingOnHttp10),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Splits an absolute-form target: how many bytes stand before its authority, the authority, and the default port of
/// its scheme. `None` if it is no http or https URI.
fn absolute(target: &[u8]) -> Option<(usize, &[u8], u16)> {
    let scheme = |name: &[u8]| target.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let (skipped, default_port) = if scheme(b"http://") {
        (7, 80)
    } else if scheme(b"https://") {
        (8, 443)
    } else {
        return None;
    };
    let rest = &target[skipped..];
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some((skipped, &rest[..len], default_port))
}

/// One decimal number without sign or leading zero.
fn content_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= CONTENT_LENGTH_MAX).then_some(number)
}
