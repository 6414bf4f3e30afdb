//! Finding lines: where the next line of a head or trailer section ends, and whether every byte up to there may
//! stand in one. Works on a growing window and never looks at a byte twice, so a client that sends byte by byte
//! costs no more than one that sends all at once; and judges in byte order, so both get the same answer.

use super::violation::Rule;

/// The byte may stand in a token (RFC 9110 5.6.2): methods and field names.
pub const TOKEN: u8 = 1;
/// The byte may stand in a request target. RFC 3986, and the unescaped `^ \ { | }` that browsers send.
pub const TARGET: u8 = 2;
/// The byte may stand in a host name here.
pub const HOST: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            table[byte] = TOKEN | TARGET | HOST;
        } else {
            if matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            ) {
                table[byte] |= TOKEN;
            }
            if !matches!(b, b'"' | b'#' | b'<' | b'>' | b'`') {
                table[byte] |= TARGET;
            }
            if matches!(b, b'-' | b'.' | b'_') {
                table[byte] |= HOST;
            }
        }
        byte += 1;
    }
    table
};

/// Whether `byte` is in `class` (one of the constants above).
#[inline]
pub fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Where the first byte of `bytes` that is not in `class` stands; its length if all are. Four at a time, for the
/// same reason as below.
#[inline]
pub fn span(bytes: &[u8], class: u8) -> usize {
    let of = |byte: u8| CLASSES[byte as usize];
    let mut at = 0;
    while let Some(&[a, b, c, d]) = bytes[at..].first_chunk() {
        if of(a) & of(b) & of(c) & of(d) & class == 0 {
            break;
        }
        at += 4;
    }
    while bytes.get(at).is_some_and(|byte| is(*byte, class)) {
        at += 1;
    }
    at
}

/// Whether all bytes of `text` may stand in a request target.
pub fn is_target(text: &str) -> bool {
    span(text.as_bytes(), TARGET) == text.len()
}

/// `value` without the spaces and tabs around it (OWS, RFC 9110 5.6.3).
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The first byte at or after `from` that may not stand inside a line: a control byte other than HTAB. Eight bytes
/// at a time, since nearly every byte of a head passes here.
#[inline]
fn control(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let mut at = from;
    loop {
        while let Some(block) = bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(block.try_into().expect("the slice has eight bytes"));
            let low = word.wrapping_sub(ONES * 0x20) & !word;
            let del = word ^ (ONES * 0x7f);
            let del = del.wrapping_sub(ONES) & !del;
            // Borrows can only mark bytes above a true hit, so the lowest mark is always true.
            let hits = (low | del) & HIGH;
            if hits != 0 {
                at += hits.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        // Either a hit stands at `at` or fewer than eight bytes are left.
        match bytes.get(at) {
            None => return None,
            Some(b'\t') => at += 1,
            Some(byte) if *byte < 0x20 || *byte == 0x7f => return Some(at),
            Some(_) => at += 1,
        }
    }
}

/// What [`Lines::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The line is not complete.
    More,
    /// A clean line stands in `window[start..end]`; its CRLF follows.
    Found {
        /// Where it starts.
        start: usize,
        /// Where its CR stands.
        end: usize,
    },
    /// More bytes than the budget.
    TooLong,
    /// A byte that may not stand in a line.
    Refused(Rule),
}

/// A cursor over the lines of one section. Offsets count from the section's first byte.
#[derive(Debug, Default)]
pub struct Lines {
    start: usize,
    probed: usize,
}

impl Lines {
    /// Where the line that is being read starts.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The next line of `section`, the bytes of the section so far. Line and CRLF must end by offset `budget`.
    #[inline]
    pub fn next(&mut self, section: &[u8], budget: usize) -> Line {
        let seen = &section[..section.len().min(budget)];
        let Some(end) = control(seen, self.probed) else {
            self.probed = seen.len();
            return if section.len() >= budget { Line::TooLong } else { Line::More };
        };
        self.probed = end;
        match section[end] {
            b'\r' if end + 2 > budget => Line::TooLong,
            b'\r' => match section.get(end + 1) {
                None => Line::More,
                Some(b'\n') => {
                    let start = std::mem::replace(&mut self.start, end + 2);
                    self.probed = end + 2;
                    Line::Found { start, end }
                }
                Some(_) => Line::Refused(Rule::BareCr),
            },
            b'\n' => Line::Refused(Rule::BareLf),
            _ => Line::Refused(Rule::ControlByte),
        }
    }
}

/// Splits a header or trailer line into name and value (untrimmed). `first` says whether it is the section's first,
/// which decides only how leading white space is named.
#[inline]
pub fn field(line: &[u8], first: bool) -> Result<(&[u8], &[u8]), Rule> {
    let name_len = span(line, TOKEN);
    match line.get(name_len) {
        Some(b':') if name_len > 0 => Ok((&line[..name_len], &line[name_len + 1..])),
        Some(b' ' | b'\t') if name_len == 0 => Err(if first { Rule::LeadingSpace } else { Rule::ObsFold }),
        Some(b' ' | b'\t') => Err(Rule::SpaceBeforeColon),
        _ => Err(Rule::FieldName),
    }
}
