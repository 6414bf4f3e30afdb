//! A request on its way upstream: its head, then its body as the client sends it, framed anew. Streamed, counted and
//! bounded; the next piece is asked for when the one before is written, so a slow upstream slows the client down.

use super::headers::is_trailer;
use crate::accept::StrictHandle;
use crate::error::Fault;
use crate::record::{Record, micros};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use std::io::{IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Room for the head of a usual request.
const HEAD_BYTES: usize = 1024;

/// How the body is framed upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Sized(u64),
    Chunked,
}

/// Who is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The client's next bytes.
    Client,
    /// The upstream's taking what it was given.
    Upstream,
    /// Nobody: the request is out.
    Done,
}

/// Why a request is not sent on.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The body was cut on the client's side.
    Client(Fault),
    /// The upstream takes no more; it may still have answered.
    Upstream,
}

/// A request being sent.
pub(crate) struct Upload {
    pub framing: Framing,
    /// The client's body, until its end was seen.
    body: Option<Incoming>,
    bytes_max: u64,
    strict: Option<StrictHandle>,
    /// What goes before `data`: the head, later the line before a chunk.
    out: Vec<u8>,
    written: usize,
    data: Bytes,
    /// What goes after it.
    tail: &'static [u8],
    /// Size of the chunk that `data` is; 0 when it is none.
    chunk_bytes: usize,
    /// Whether the upstream was given a byte of this try.
    begun: bool,
    bytes: u64,
    /// Rises with every piece.
    pub pieces: u32,
}

impl Upload {
    /// A request with this body.
    pub fn new(body: Option<Incoming>, bytes_max: u64, strict: Option<StrictHandle>) -> Self {
        let body = body.filter(|body| !body.is_end_stream());
        let framing = match body.as_ref().map(|body| body.size_hint().exact()) {
            None => Framing::None,
            Some(Some(length)) => Framing::Sized(length),
            Some(None) => Framing::Chunked,
        };
        Self {
            framing,
            body,
            bytes_max,
            strict,
            out: Vec::with_capacity(HEAD_BYTES),
            written: 0,
            data: Bytes::new(),
            tail: b"",
            chunk_bytes: 0,
            begun: false,
            bytes: 0,
            pieces: 0,
        }
    }

    /// Begins a try: `write` writes its head.
    pub fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // What was taken of the body before is written again; none of it was sent.
        self.out.clear();
        (self.written, self.begun) = (0, false);
        write(&mut self.out);
        self.chunk_line();
    }

    /// Whether the request has no body.
    pub fn is_bodiless(&self) -> bool {
        self.framing == Framing::None
    }

    /// Whether another try may begin because the upstream has seen nothing of this one.
    pub fn is_unsent(&self) -> bool {
        !self.begun
    }

    /// Who is waited for.
    pub fn waiting(&self) -> Waiting {
        match (self.left(), &self.body) {
            (0, None) => Waiting::Done,
            (0, Some(_)) => Waiting::Client,
            _ => Waiting::Upstream,
        }
    }

    fn left(&self) -> usize {
        self.out.len() - self.written + self.data.len() + self.tail.len()
    }

    /// Sends on; ready when the request is out.
    pub fn poll(
        &mut self,
        io: &mut TcpStream,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Result<(), Stopped>> {
        // A small body that is there already goes out with its head.
        if !self.begun && self.body.is_some() && self.data.is_empty() {
            let _nothing_yet = self.poll_piece(cx, record)?;
        }
        loop {
            while self.left() > 0 {
                match ready!(self.poll_write(io, cx)) {
                    Ok(1..) => self.begun = true,
                    Ok(0) | Err(_) => return Poll::Ready(Err(Stopped::Upstream)),
                }
            }
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_piece(cx, record))?;
        }
    }

    fn poll_write(&mut self, io: &mut TcpStream, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let head = &self.out[self.written..];
        let mut written = if self.data.is_empty() && self.tail.is_empty() {
            ready!(Pin::new(io).poll_write(cx, head))?
        } else {
            let pieces = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
            ready!(Pin::new(io).poll_write_vectored(cx, &pieces))?
        };
        let all = written;
        let of_head = written.min(head.len());
        self.written += of_head;
        written -= of_head;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        written -= of_data;
        self.tail = &self.tail[written.min(self.tail.len())..];
        if self.data.is_empty() {
            // Not kept alive by an empty rest.
            self.data = Bytes::new();
        }
        Poll::Ready(Ok(all))
    }

    /// Takes the client's next piece and frames it. What was written is out of the way by then, the head excepted.
    fn poll_piece(&mut self, cx: &mut Context<'_>, record: &mut Record) -> Poll<Result<(), Stopped>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        self.pieces = self.pieces.wrapping_add(1);
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let ended = body.is_end_stream();
        self.chunk_bytes = 0;
        match frame {
            None => {
                if self.framing == Framing::Chunked {
                    self.tail = b"0\r\n\r\n";
                }
                self.end(record);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.bytes += data.len() as u64;
                    record.draft().head.request_bytes = self.bytes;
                    if self.bytes_max > 0 && self.bytes > self.bytes_max {
                        return Poll::Ready(Err(Stopped::Client(Fault::BodyTooLarge)));
                    }
                    if self.framing == Framing::Chunked {
                        self.chunk_bytes = data.len();
                        self.chunk_line();
                        self.tail = match (data.is_empty(), ended) {
                            (false, false) => b"\r\n",
                            (false, true) => b"\r\n0\r\n\r\n",
                            (true, true) => b"0\r\n\r\n",
                            (true, false) => b"",
                        };
                    }
                    self.data = data;
                    if ended {
                        self.end(record);
                    }
                }
                Err(frame) => {
                    if self.framing == Framing::Chunked {
                        self.data = last_chunk(&frame.into_trailers().unwrap_or_default());
                    }
                    self.end(record);
                }
            },
            Some(Err(_)) => {
                let fault = match self.strict.as_ref().and_then(StrictHandle::violation) {
                    Some(seen) => Fault::Violation { status: seen.status(), reason: seen.reason() },
                    None => Fault::ClientClosed,
                };
                return Poll::Ready(Err(Stopped::Client(fault)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The line before the chunk that `data` is.
    fn chunk_line(&mut self) {
        if self.chunk_bytes > 0 {
            // Writing into a vector cannot fail.
            let _written = write!(self.out, "{:x}\r\n", self.chunk_bytes);
        }
    }

    /// The client's body was seen whole.
    fn end(&mut self, record: &mut Record) {
        self.body = None;
        let ended_us = micros(record.started, Instant::now());
        record.draft().head.request_body_us = ended_us;
    }
}

/// The end of a chunked body with trailers.
fn last_chunk(trailers: &HeaderMap) -> Bytes {
    let mut out = b"0\r\n".to_vec();
    for (name, value) in trailers {
        if is_trailer(name.as_str()) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}
