//! One request body: counts the bytes of a sized one, and reads the framing of a chunked one (RFC 9112 7.1) with its
//! trailer section (7.1.2). Data bytes are never looked at.

use super::StrictLimits;
use super::head::Framing;
use super::line::{Line, Lines, field};
use super::violation::Rule;

/// 16 digits are the 64 bits of a size.
const SIZE_DIGITS_MAX: usize = 16;

/// Trailer fields that would change how a message is framed, routed, authenticated or understood after its head was
/// already acted on (RFC 9110 6.5.1), and those a gateway writes itself.
pub const TRAILERS_FORBIDDEN: [&[u8]; 37] = [
    b"transfer-encoding",
    b"content-length",
    b"host",
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"upgrade",
    b"te",
    b"trailer",
    b"expect",
    b"max-forwards",
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"authorization",
    b"proxy-authorization",
    b"proxy-authenticate",
    b"www-authenticate",
    b"cookie",
    b"set-cookie",
    b"cache-control",
    b"pragma",
    b"range",
    b"if-match",
    b"if-none-match",
    b"if-modified-since",
    b"if-unmodified-since",
    b"if-range",
    b"age",
    b"vary",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-real-ip",
];

/// Where in a body we are.
#[derive(Debug)]
pub enum Body {
    /// Bytes still to come of a sized body.
    Sized(u64),
    /// Before a chunk-size line.
    Size,
    /// Bytes still to come of a chunk.
    Data(u64),
    /// Before the CRLF after a chunk.
    DataEnd,
    /// In the trailer section.
    Trailers(Trailers),
}

/// The trailer section so far.
#[derive(Debug, Default)]
pub struct Trailers {
    byte_count: usize,
    field_count: usize,
    lines: Lines,
}

/// What [`Body::read`] says.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The first `clean` bytes of the window are clean and the body goes on; what follows them is incomplete.
    More {
        /// How many bytes are clean.
        clean: usize,
    },
    /// The body ended cleanly after this many bytes.
    Done {
        /// How many bytes of the window belong to it.
        clean: usize,
    },
    /// The first `clean` bytes are clean, then comes what is refused.
    Refused {
        /// How many bytes are clean.
        clean: usize,
        /// Why the rest is not.
        rule: Rule,
    },
}

impl Body {
    /// The start of a body framed so.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Sized(length),
            Framing::Chunked => Self::Size,
        }
    }

    /// Reads on. `window` starts at the first byte that no earlier call has called clean.
    pub fn read(&mut self, window: &[u8], limits: &StrictLimits) -> Step {
        let mut clean = 0;
        loop {
            let rest = &window[clean..];
            match self {
                Self::Sized(left) => {
                    clean += take(left, rest);
                    return if *left == 0 { Step::Done { clean } } else { Step::More { clean } };
                }
                Self::Data(left) => {
                    clean += take(left, rest);
                    if *left > 0 {
                        return Step::More { clean };
                    }
                    *self = Self::DataEnd;
                }
                Self::DataEnd => {
                    match rest {
                        [b'\r', b'\n', ..] => {}
                        [] | [b'\r'] => return Step::More { clean },
                        _ => return Step::Refused { clean, rule: Rule::ChunkEnd },
                    }
                    clean += 2;
                    *self = Self::Size;
                }
                Self::Size => match size(rest, limits) {
                    Ok(None) => return Step::More { clean },
                    Ok(Some((len, size))) => {
                        clean += len;
                        *self =
                            if size == 0 { Self::Trailers(Trailers::default()) } else { Self::Data(size) };
                    }
                    Err(rule) => return Step::Refused { clean, rule },
                },
                Self::Trailers(trailers) => {
                    let budget = limits.trailer_bytes_max.saturating_sub(trailers.byte_count);
                    let line = match trailers.lines.next(rest, budget) {
                        Line::Found { start, end } => &rest[start..end],
                        Line::More => return Step::More { clean },
                        Line::TooLong => return Step::Refused { clean, rule: Rule::TrailersTooLarge },
                        Line::Refused(rule) => return Step::Refused { clean, rule },
                    };
                    if !line.is_empty() {
                        if let Err(rule) = trailer(line, trailers.field_count, limits) {
                            return Step::Refused { clean, rule };
                        }
                        trailers.field_count += 1;
                    }
                    // Each line is handed on by itself, so the next one is again at the window's start.
                    trailers.lines = Lines::default();
                    trailers.byte_count += line.len() + 2;
                    clean += line.len() + 2;
                    if line.is_empty() {
                        return Step::Done { clean };
                    }
                }
            }
        }
    }
}

fn take(left: &mut u64, rest: &[u8]) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
    *left -= taken as u64;
    taken
}

/// Reads a chunk-size line: its length with CRLF, and the size; `None` if it is not complete.
fn size(rest: &[u8], limits: &StrictLimits) -> Result<Option<(usize, u64)>, Rule> {
    let mut size = 0u64;
    for (at, byte) in rest.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' => return Err(Rule::BareLf),
            _ if at == 0 => return Err(Rule::ChunkSize),
            b'\r' => {
                return match rest.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') if size > limits.chunk_bytes_max => Err(Rule::ChunkTooLarge),
                    Some(b'\n') => Ok(Some((at + 2, size))),
                    Some(_) => Err(Rule::BareCr),
                };
            }
            b';' => return Err(Rule::ChunkExtension),
            _ => return Err(Rule::ChunkSize),
        };
        if at == SIZE_DIGITS_MAX {
            return Err(Rule::ChunkSize);
        }
        size = size << 4 | u64::from(digit);
    }
    Ok(None)
}

fn trailer(line: &[u8], field_count: usize, limits: &StrictLimits) -> Result<(), Rule> {
    let (name, _) = field(line, field_count == 0)?;
    if field_count >= limits.header_count_max {
        return Err(Rule::TooManyFields);
    }
    if TRAILERS_FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Rule::TrailerForbidden);
    }
    Ok(())
}
