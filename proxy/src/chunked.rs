//! Reading the chunked framing (RFC 9112, 7.1), of an upstream's response and of a request whose bytes the guard has let
//! through. What is not exactly that is refused: a response whose end two readers see at different places would hand one
//! client's bytes to the next.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// 16 digits are the 64 bits of a size.
const SIZE_DIGITS_MAX: usize = 16;
/// Longest chunk-size line with its extensions, and longest trailer section.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Most trailer fields.
const TRAILERS_MAX: usize = 64;

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// Before a chunk-size line.
    Size,
    /// Bytes still to come of a chunk.
    Data(u64),
    /// Before the CRLF after a chunk.
    DataEnd,
    /// In the trailer section.
    Trailers,
    /// After it.
    End,
}

/// What [`Chunks::read`] found.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// More bytes are needed.
    More,
    /// Not chunked framing, or beyond a bound.
    Refused,
}

impl Chunks {
    /// Takes the next piece out of what has come.
    pub fn read(&mut self, from: &mut BytesMut) -> Piece {
        loop {
            match self {
                Self::Size => match size_line(from) {
                    Ok(None) => return Piece::More,
                    Ok(Some((length, size))) => {
                        from.advance(length);
                        *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                    }
                    Err(()) => return Piece::Refused,
                },
                Self::Data(left) => {
                    if from.is_empty() {
                        return Piece::More;
                    }
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(from.len());
                    let data = from.split_to(length).freeze();
                    *left -= length as u64;
                    if *left == 0 {
                        *self = Self::DataEnd;
                        // The usual end, seen at once: the response is whole without another look.
                        if from.starts_with(b"\r\n0\r\n\r\n") {
                            from.advance(7);
                            *self = Self::End;
                        }
                    }
                    return Piece::Data(data);
                }
                Self::DataEnd => match from[..] {
                    [b'\r', b'\n', ..] => {
                        from.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Piece::More,
                    _ => return Piece::Refused,
                },
                Self::Trailers => {
                    if from.starts_with(b"\r\n") {
                        from.advance(2);
                        *self = Self::End;
                        continue;
                    }
                    let Some(end) = from.windows(4).position(|four| four == b"\r\n\r\n") else {
                        let more = from.len() <= LINE_BYTES_MAX;
                        return if more { Piece::More } else { Piece::Refused };
                    };
                    let Some(map) = trailers(&from[..end + 4]) else { return Piece::Refused };
                    from.advance(end + 4);
                    *self = Self::End;
                    return Piece::Trailers(map);
                }
                Self::End => return Piece::End,
            }
        }
    }
}

/// Length of a chunk-size line with its CRLF, and the size; none if it is not complete.
fn size_line(from: &[u8]) -> Result<Option<(usize, u64)>, ()> {
    let mut size = 0u64;
    for (at, byte) in from.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if at == 0 => return Err(()),
            b'\r' | b';' | b' ' | b'\t' => {
                let line = &from[at..from.len().min(LINE_BYTES_MAX)];
                let Some(end) = line.iter().position(|byte| *byte < 0x20 && *byte != b'\t') else {
                    return if from.len() < LINE_BYTES_MAX { Ok(None) } else { Err(()) };
                };
                return match line[end..] {
                    [b'\r', b'\n', ..] => Ok(Some((at + end + 2, size))),
                    [b'\r'] if from.len() < LINE_BYTES_MAX => Ok(None),
                    _ => Err(()),
                };
            }
            _ => return Err(()),
        };
        if at == SIZE_DIGITS_MAX {
            return Err(());
        }
        size = size << 4 | u64::from(digit);
    }
    Ok(None)
}

fn trailers(section: &[u8]) -> Option<HeaderMap> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut fields) else {
        return None;
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        // Framing and routing were acted on when the head was read (RFC 9110, 6.5.1).
        if crate::forward::is_hop(name.as_str()) || matches!(name.as_str(), "content-length" | "host") {
            continue;
        }
        map.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All data and trailers of a stream that comes in pieces of this size; none when it is refused or not whole.
    fn read(stream: &[u8], piece_bytes: usize) -> Option<(Vec<u8>, Vec<String>, usize)> {
        let (mut chunks, mut from) = (Chunks::Size, BytesMut::new());
        let (mut data, mut names) = (Vec::new(), Vec::new());
        let mut pieces = stream.chunks(piece_bytes);
        loop {
            match chunks.read(&mut from) {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::Trailers(map) => names.extend(map.keys().map(|name| name.as_str().to_owned())),
                Piece::End => return Some((data, names, from.len())),
                Piece::More => from.extend_from_slice(pieces.next()?),
                Piece::Refused => return None,
            }
        }
    }

    #[test]
    fn chunks_are_read_however_they_come() {
        for piece_bytes in 1..40 {
            let plain = read(b"5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\n\r\n", piece_bytes).unwrap();
            assert_eq!(plain, (b"hello world".to_vec(), vec![], 0));
            let trailers = b"A\r\n0123456789\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nX: y\r\n\r\n";
            let (data, names, _) = read(trailers, piece_bytes).unwrap();
            assert_eq!((data.len(), names), (10, vec!["grpc-status".to_owned(), "x".to_owned()]));
        }
        let (_, _, left) = read(b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200", 100).unwrap();
        assert_eq!(left, 12, "what follows is not of this response");
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for stream in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"5\nhello",
            b"5\r\nhelloworld\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"10000000000000000\r\n",
            b"5;a\nb\r\n",
            b"0\r\nno colon\r\n\r\n",
        ] {
            assert_eq!(read(stream, 3), None, "{}", String::from_utf8_lossy(stream));
        }
        let endless = [&b"5;"[..], &[b'x'; LINE_BYTES_MAX]].concat();
        assert_eq!(read(&endless, 100), None);
    }
}
