//! HTTP/2 frames made by hand, since no library sends what is forbidden: header blocks of literals (RFC 7541, 6.2.2),
//! in as many frames as they take.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::support::DEADLINE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_BYTES_MAX: usize = 16 << 10;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A name and a value, whatever bytes they have.
pub type Line = (Vec<u8>, Vec<u8>);

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Answered, as far as the first byte of the header block tells: 200, 400 or another.
    Answered(u16),
    /// Its stream was reset.
    Reset,
    /// The connection was given up.
    GivenUp,
}

/// A frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A text without Huffman coding (RFC 7541, 5.1 and 5.2).
fn text(into: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        into.push(u8::try_from(bytes.len()).unwrap());
    } else {
        into.push(127);
        let mut left = bytes.len() - 127;
        while left >= 128 {
            into.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        into.push(u8::try_from(left).unwrap());
    }
    into.extend_from_slice(bytes);
}

/// The frames of a header block.
pub fn headers(lines: &[Line], ends: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in lines {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    let pieces: Vec<_> = block.chunks(FRAME_BYTES_MAX).collect();
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        let stream = if at == 0 && ends { END_STREAM } else { 0 };
        out.extend(frame(kind, end | stream, 1, piece));
    }
    out
}

/// A frame of a body.
pub fn data(bytes: &[u8], ends: bool) -> Vec<u8> {
    frame(DATA, if ends { END_STREAM } else { 0 }, 1, bytes)
}

/// Sends frames of stream 1 on a connection of their own, and waits for the end of the stream.
pub fn send(gateway: SocketAddr, frames: &[u8]) -> Fate {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _may_be_closed = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat());
    let (mut got, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let mut status = None;
    loop {
        while let Some(head) = got.first_chunk::<9>().copied() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if got.len() < 9 + length {
                break;
            }
            let (kind, flags) = (head[3], head[4]);
            match kind {
                GOAWAY => return Fate::GivenUp,
                RST_STREAM => return status.map_or(Fate::Reset, Fate::Answered),
                HEADERS if status.is_none() => {
                    status = Some(match got.get(9) {
                        Some(0x88) => 200,
                        Some(0x8c) => 400,
                        _ => 0,
                    });
                }
                _ => {}
            }
            if let Some(status) = status
                && [DATA, HEADERS].contains(&kind)
                && flags & END_STREAM != 0
            {
                return Fate::Answered(status);
            }
            got.drain(..9 + length);
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => got.extend_from_slice(&buffer[..read]),
            Ok(0) => return Fate::GivenUp,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Fate::GivenUp,
            Err(error) => panic!("neither answered nor closed: {error}"),
        }
    }
}
