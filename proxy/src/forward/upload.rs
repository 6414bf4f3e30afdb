//! A request on its way upstream: its head, then its body as the client sends it, framed anew. Streamed, counted and
//! bounded; the next piece is asked for when the one before is written, so a slow upstream slows the client down.

use super::connect::Wire;
use super::flow::Flow;
use super::headers::is_trailer;
use super::http2::{Fate, Stream};
use crate::accept::{ClientBody, StrictHandle};
use crate::error::Fault;
use crate::pieces::{Pieces, last_chunk};
use crate::record::{Record, micros};
use crate::turn::{BODY_BYTES_PER_TURN, next_turn};
use bytes::Bytes;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::AsyncWrite;

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
    body: Option<ClientBody>,
    /// The body, while an HTTP/2 connection has it.
    flow: Option<Rc<Flow>>,
    bytes_max: u64,
    strict: Option<StrictHandle>,
    out: Pieces,
    /// The first piece of the body, as it is added to `out`, while the head may have to be written once more.
    first: Option<(Bytes, bool, bool)>,
    /// Whether the upstream was given a byte of this try.
    begun: bool,
    bytes: u64,
    /// Rises with every piece.
    pub pieces: u32,
}

impl Upload {
    /// A request with this body.
    pub fn new(body: Option<ClientBody>, bytes_max: u64, strict: Option<StrictHandle>) -> Self {
        let body = body.filter(|body| !body.is_end());
        let framing = match body.as_ref().map(ClientBody::length) {
            None => Framing::None,
            Some(Some(length)) => Framing::Sized(length),
            Some(None) => Framing::Chunked,
        };
        Self {
            framing,
            body,
            flow: None,
            bytes_max,
            strict,
            out: Pieces::with_capacity(HEAD_BYTES),
            first: None,
            begun: false,
            bytes: 0,
            pieces: 0,
        }
    }

    /// Begins a try: `write` writes its head.
    pub fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.clear();
        self.begun = false;
        self.body = self.flow.take().and_then(|flow| flow.take()).or(self.body.take());
        write(&mut self.out.head);
        // What was taken of the body before is written again; none of it was sent.
        if let Some((data, chunked, last)) = self.first.clone() {
            self.out.add(data, chunked, last);
        }
    }

    /// Whether the request has no body.
    pub fn is_bodiless(&self) -> bool {
        self.framing == Framing::None
    }

    /// Whether another try may begin because the upstream has seen nothing of this one.
    pub fn is_unsent(&self) -> bool {
        !self.begun
            || self
                .flow
                .as_ref()
                .is_some_and(|flow| flow.fate.get() != Fate::Unknown && flow.pieces.get() == 0)
    }

    /// Whether the upstream of HTTP/2 is known to have done nothing with it.
    pub fn is_unprocessed(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.fate.get() != Fate::Unknown)
    }

    /// Whether it has refused this one request, on a connection that goes on.
    pub fn is_refused(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.fate.get() == Fate::Refused)
    }

    /// Who is waited for.
    pub fn waiting(&self) -> Waiting {
        if let Some(flow) = &self.flow {
            return match (flow.is_end(), flow.asks.get()) {
                (true, _) => Waiting::Done,
                (false, true) => Waiting::Client,
                (false, false) => Waiting::Upstream,
            };
        }
        match (self.out.is_empty(), &self.body) {
            (true, None) => Waiting::Done,
            (true, Some(_)) => Waiting::Client,
            _ => Waiting::Upstream,
        }
    }

    /// Sends on; ready when the request is out.
    pub fn poll(
        &mut self,
        io: &mut Wire,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Result<(), Stopped>> {
        if let Wire::Http2(stream) = io {
            return self.poll_http2(stream, cx, record);
        }
        // A small body that is there already goes out with its head.
        if !self.begun && self.body.is_some() && self.first.is_none() {
            let _nothing_yet = self.poll_piece(cx, record)?;
        }
        let before = self.bytes;
        loop {
            while !self.out.is_empty() {
                let written = match self.out.single() {
                    Some(bytes) => ready!(Pin::new(&mut *io).poll_write(cx, bytes)),
                    None => ready!(Pin::new(&mut *io).poll_write_vectored(cx, &self.out.slices())),
                };
                match written {
                    Ok(written @ 1..) => self.out.advance(written),
                    Ok(0) | Err(_) => return Poll::Ready(Err(Stopped::Upstream)),
                }
                self.begun = true;
                self.first = None;
            }
            // TLS may hold back what was written.
            if ready!(Pin::new(&mut *io).poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Stopped::Upstream));
            }
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_piece(cx, record))?;
            if self.bytes - before >= BODY_BYTES_PER_TURN {
                next_turn(cx);
                return Poll::Pending;
            }
        }
    }

    /// Hands the request to its stream, then watches how the body goes.
    fn poll_http2(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Result<(), Stopped>> {
        let flow = match &self.flow {
            Some(flow) => flow,
            None => {
                let flow = Flow::new(self.body.take(), self.bytes_max, self.strict.clone());
                stream.send(&self.out.head, &flow).map_err(Stopped::Client)?;
                self.out.clear();
                self.begun = true;
                self.flow.insert(flow)
            }
        };
        flow.watch(cx);
        if flow.pieces.get() != self.pieces {
            self.pieces = flow.pieces.get();
            record.draft().head.request_bytes = flow.bytes.get();
        }
        if let Some(fault) = flow.stopped.get() {
            return Poll::Ready(Err(Stopped::Client(fault)));
        }
        if !flow.is_end() {
            return Poll::Pending;
        }
        if self.pieces > 0 {
            record.draft().head.request_body_us = micros(record.started, Instant::now());
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the client's next piece and frames it. What was written is out of the way by then, the head excepted.
    fn poll_piece(&mut self, cx: &mut Context<'_>, record: &mut Record) -> Poll<Result<(), Stopped>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = ready!(body.poll_frame(cx));
        self.pieces = self.pieces.wrapping_add(1);
        let chunked = self.framing == Framing::Chunked;
        let (data, ended) = match frame {
            None => (Bytes::new(), true),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.bytes += data.len() as u64;
                    record.draft().head.request_bytes = self.bytes;
                    if self.bytes_max > 0 && self.bytes > self.bytes_max {
                        return Poll::Ready(Err(Stopped::Client(Fault::BodyTooLarge)));
                    }
                    (data, body.is_end())
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers()
                        && chunked
                    {
                        let sent = trailers.iter().filter(|(name, _)| is_trailer(name.as_str()));
                        self.end(record);
                        self.take(last_chunk(sent).into(), false, false);
                        return Poll::Ready(Ok(()));
                    }
                    (Bytes::new(), true)
                }
            },
            Some(Err(_)) => {
                let fault = match self.strict.as_ref().and_then(StrictHandle::violation) {
                    Some(seen) => Fault::Violation { status: seen.status(), reason: seen.reason() },
                    None => Fault::ClientClosed,
                };
                return Poll::Ready(Err(Stopped::Client(fault)));
            }
        };
        if ended {
            self.end(record);
        }
        self.take(data, chunked, ended);
        Poll::Ready(Ok(()))
    }

    /// Adds a piece, kept for another try as long as nothing was sent.
    fn take(&mut self, data: Bytes, chunked: bool, last: bool) {
        if !self.begun {
            self.first = Some((data.clone(), chunked, last));
        }
        self.out.add(data, chunked, last);
    }

    /// The client's body was seen whole.
    fn end(&mut self, record: &mut Record) {
        self.body = None;
        let ended_us = micros(record.started, Instant::now());
        record.draft().head.request_body_us = ended_us;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // The connection must not read on from a client whose exchange is over.
        if let Some(flow) = &self.flow {
            let _nobody_wants_it = flow.take();
        }
    }
}
