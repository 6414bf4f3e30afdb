//! What is on its way out of a connection: bytes made here, a piece of a body that is not copied, and what closes it.

use bytes::{Buf, Bytes};
use std::io::{IoSlice, Write};

/// A body's piece that is no longer than this is copied behind what goes before it: one buffer is cheaper to send.
const JOINED_BYTES_MAX: usize = 1 << 10;

/// Bytes to write, in order.
#[derive(Default)]
pub(crate) struct Pieces {
    /// What goes before `data`: a head, or the line before a chunk.
    pub head: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Pieces {
    /// Room for a head.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { head: Vec::with_capacity(bytes), ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.head.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.head.clear();
        (self.written, self.data, self.tail) = (0, Bytes::new(), b"");
    }

    /// Adds a piece of a body, as a chunk or as it is, and what ends a chunked body if this is its `last`. Nothing but a
    /// head is there before it.
    pub fn add(&mut self, data: Bytes, chunked: bool, last: bool) {
        if self.written == self.head.len() {
            self.head.clear();
            self.written = 0;
        }
        let chunk = chunked && !data.is_empty();
        if chunk {
            // Writing into a vector cannot fail.
            let _written = write!(self.head, "{:x}\r\n", data.len());
        }
        let tail: &[u8] = match (chunk, chunked && last) {
            (false, false) => b"",
            (true, false) => b"\r\n",
            (false, true) => b"0\r\n\r\n",
            (true, true) => b"\r\n0\r\n\r\n",
        };
        if data.len() <= JOINED_BYTES_MAX {
            self.head.extend_from_slice(&data);
            self.head.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
    }

    /// What is left, for a vectored write.
    pub fn slices(&self) -> [IoSlice<'_>; 3] {
        [IoSlice::new(&self.head[self.written..]), IoSlice::new(&self.data), IoSlice::new(self.tail)]
    }

    /// What is left, if it is in one piece.
    pub fn single(&self) -> Option<&[u8]> {
        (self.data.is_empty() && self.tail.is_empty()).then(|| &self.head[self.written..])
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut bytes: usize) {
        let of_head = bytes.min(self.head.len() - self.written);
        self.written += of_head;
        bytes -= of_head;
        if bytes > 0 {
            let of_data = bytes.min(self.data.len());
            self.data.advance(of_data);
            self.tail = &self.tail[bytes - of_data..];
        }
        if self.data.is_empty() {
            // An empty rest would keep its buffer alive.
            self.data = Bytes::new();
        }
    }
}

/// Writes a header line.
pub(crate) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body with trailers.
pub(crate) fn last_chunk<'a>(
    trailers: impl Iterator<Item = (&'a http::HeaderName, &'a http::HeaderValue)>,
) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    for (name, value) in trailers {
        line(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything, taken in steps of so many bytes.
    fn taken(mut pieces: Pieces, step: usize) -> String {
        let mut out = Vec::new();
        while !pieces.is_empty() {
            let all: Vec<u8> = pieces.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(pieces.single().is_none_or(|single| single == all));
            let taken = step.min(all.len());
            out.extend_from_slice(&all[..taken]);
            pieces.advance(taken);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pieces_come_out_in_order_however_they_are_taken() {
        for length in [0, 1, 5, JOINED_BYTES_MAX, JOINED_BYTES_MAX + 1] {
            let data = "d".repeat(length);
            for step in [1, 2, 7, 5000] {
                for (chunked, last) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut pieces = Pieces::default();
                    pieces.head.extend_from_slice(b"head");
                    pieces.add(data.clone().into(), chunked, last);
                    let chunk = if length == 0 { String::new() } else { format!("{length:x}\r\n{data}\r\n") };
                    let end = if last { "0\r\n\r\n" } else { "" };
                    let body = if chunked { format!("{chunk}{end}") } else { data.clone() };
                    assert_eq!(taken(pieces, step), format!("head{body}"));
                }
            }
        }
    }
}
