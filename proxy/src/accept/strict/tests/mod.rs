//! Tests of the guard: each rule by table (`rules`), every input again in every split (`splits`), random mutations
//! against other readers (`mutations`), and a real hyper server behind it (`server`).

mod mutations;
mod rules;
mod server;
mod splits;

use std::collections::VecDeque;
use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::{Rule, StrictHandle, StrictIo, StrictLimits, Violation};

/// A stream that gives one piece per read, then ends.
pub(super) struct Pieces(VecDeque<Vec<u8>>);

impl Pieces {
    pub(super) fn new<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(pieces.into_iter().filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

impl Read for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let len = piece.len().min(cursor.remaining());
            cursor.put_slice(&piece[..len]);
            if len < piece.len() {
                self.0.push_front(piece.split_off(len));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What came through.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) passed: Vec<u8>,
    pub(super) violation: Option<Violation>,
    pub(super) heads_seen: u64,
}

impl Outcome {
    pub(super) fn rule(&self) -> Option<Rule> {
        self.violation.as_ref().map(|violation| violation.rule)
    }
}

/// One read of at most `room` bytes.
pub(super) fn read(io: &mut StrictIo<Pieces>, room: usize) -> Poll<Result<Vec<u8>>> {
    let mut memory = vec![0; room];
    let mut buf = ReadBuf::new(&mut memory);
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(io).poll_read(&mut cx, buf.unfilled()).map_ok(|()| buf.filled().to_vec())
}

pub(super) fn flush(io: &mut StrictIo<Pieces>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(Pin::new(io).poll_flush(&mut cx), Poll::Ready(Ok(()))));
}

/// Reads to the end with reads of `room` bytes; an error must be a violation and must stay.
pub(super) fn drain(io: &mut StrictIo<Pieces>, handle: &StrictHandle, room: usize) -> Outcome {
    let mut passed = Vec::new();
    loop {
        match read(io, room) {
            Poll::Pending => panic!("nothing to wait for"),
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                assert_eq!(handle.violation(), None, "a violation fails the read");
                break;
            }
            Poll::Ready(Ok(bytes)) => passed.extend_from_slice(&bytes),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
                assert!(handle.violation().is_some());
                assert!(matches!(read(io, room), Poll::Ready(Err(_))), "it keeps failing");
                break;
            }
        }
    }
    Outcome { passed, violation: handle.violation(), heads_seen: handle.heads_seen() }
}

/// The bounds used unless a test is about them: small enough to reach.
pub(super) fn limits() -> StrictLimits {
    StrictLimits {
        head_bytes_max: 400,
        header_count_max: 8,
        request_line_bytes_max: 100,
        chunk_bytes_max: 0xffff,
        trailer_bytes_max: 60,
        held_bytes_max: 32,
    }
}

pub(super) fn run(pieces: &[&[u8]], room: usize) -> Outcome {
    let (mut io, handle) = StrictIo::new(Pieces::new(pieces.iter().copied()), limits());
    drain(&mut io, &handle, room)
}
