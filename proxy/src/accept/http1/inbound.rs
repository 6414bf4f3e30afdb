//! What comes in on an HTTP/1 connection: request heads and bodies, out of the bytes that the guard has let through.
//!
//! A connection that waits holds no buffer: heads are read into one buffer of the thread, bodies too until that was not
//! room enough, and only what came is kept.

use super::super::body::BodyCut;
use super::super::stream::Stream;
use super::super::strict::StrictIo;
use crate::chunked::{Chunks, Piece};
use crate::core::{Core, Thread};
use crate::forward::tokens;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body::Frame;
use hyper::rt::{Read, ReadBuf, Write};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// As many header lines take no allocation.
const FIELDS: usize = 100;
/// Room for one read of a body.
const BODY_READ_BYTES: usize = 32 << 10;
/// What comes in pieces like this is read without a detour. Records of TLS are no longer.
const LONG_READ_BYTES: usize = 16 << 10;
/// With less room than this a read is not worth its call.
const BODY_READ_BYTES_MIN: usize = 4 << 10;
/// Most bytes of later requests that are taken while one is answered.
const AHEAD_BYTES_MAX: usize = 8 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection's incoming side.
pub(in crate::accept) struct Inbound {
    pub io: StrictIo<Stream>,
    read: BytesMut,
    body: Framed,
    /// What is left to write of an interim response, once the client's body is asked for.
    interim: &'static [u8],
    thread: Rc<Thread>,
    /// Whether the body comes faster than by small reads.
    long: bool,
}

/// What is left of the current request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    Sized(u64),
    Chunked(Chunks),
}

impl Framed {
    fn is_end(self) -> bool {
        matches!(self, Self::Sized(0) | Self::Chunked(Chunks::End))
    }
}

/// A request head, and what it says of the connection.
pub(super) struct Head {
    pub request: Request<()>,
    /// Whether the client would send another request after this one.
    pub keeps: bool,
    pub takes_trailers: bool,
}

/// Why no further head comes.
pub(super) enum NoHead {
    /// The client has gone.
    Closed,
    /// The guard refused what came.
    Violation,
    /// The target is no URI, though no rule was broken.
    Target { method: Method, target: Bytes },
}

impl Inbound {
    pub fn new(io: StrictIo<Stream>, core: &Core) -> Self {
        let (read, thread) = (BytesMut::new(), Rc::clone(&core.thread));
        Self { io, read, body: Framed::Sized(0), interim: b"", thread, long: false }
    }

    /// Whether the current request's body has come whole.
    pub fn is_whole(&self) -> bool {
        self.body.is_end()
    }

    /// The next request head.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, core: &Core) -> Poll<Result<Head, NoHead>> {
        loop {
            if !self.read.is_empty()
                && let Some(head) = self.take_head(core.plan.limits.header_count_max)?
            {
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_ahead(cx)) {
                Ok(0) => return Poll::Ready(Err(NoHead::Closed)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Poll::Ready(Err(NoHead::Violation));
                }
                Err(_) => return Poll::Ready(Err(NoHead::Closed)),
            }
        }
    }

    /// Ready when the client has gone while its request is answered.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever reads the body notices by itself.
        while self.body.is_end() && self.read.len() < AHEAD_BYTES_MAX {
            match ready!(self.poll_ahead(cx)) {
                Ok(1..) => {}
                // A later request is broken in its body, which is told to whoever reads that.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Poll::Pending,
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Reads by way of the thread's buffer.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = self.thread.scratch.borrow_mut();
        let mut buf = ReadBuf::new(&mut scratch[..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, buf.unfilled()))?;
        self.read.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads on for a body: into a buffer of its own while it comes fast.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.long {
            let length = ready!(self.poll_ahead(cx))?;
            self.long = length >= LONG_READ_BYTES;
            return Poll::Ready(Ok(length));
        }
        if self.read.capacity() - self.read.len() < BODY_READ_BYTES_MIN {
            self.read.reserve(BODY_READ_BYTES);
        }
        let mut buf = ReadBuf::uninit(self.read.spare_capacity_mut());
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf.unfilled()) else {
            self.long = false;
            if self.read.is_empty() {
                self.read = BytesMut::new();
            }
            return Poll::Pending;
        };
        let length = buf.filled().len();
        // SAFETY: `buf` lay over the spare capacity and its first `length` bytes were filled.
        unsafe { self.read.set_len(self.read.len() + length) };
        Poll::Ready(read.map(|()| length))
    }

    /// Takes a head out of what has come. The guard has judged it: it is whole or not there yet.
    fn take_head(&mut self, fields_max: usize) -> Result<Option<Head>, NoHead> {
        let mut few = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS];
        let mut many = Vec::new();
        let fields = if fields_max <= FIELDS {
            &mut few[..]
        } else {
            many.resize_with(fields_max, MaybeUninit::uninit);
            &mut many[..]
        };
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(&self.read, fields) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            // The guard takes nothing that httparse does not.
            Err(_) => return Err(NoHead::Violation),
        };
        let begin = self.read.as_ptr() as usize;
        let span = |text: &[u8]| {
            let at = text.as_ptr() as usize - begin;
            at..at + text.len()
        };
        let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
        let target = span(parsed.path.unwrap_or_default().as_bytes());
        let http_11 = parsed.version == Some(1);
        let lines: SmallVec<[_; 16]> =
            parsed.headers.iter().map(|field| (span(field.name.as_bytes()), span(field.value))).collect();
        let bytes = if length == self.read.len() {
            std::mem::take(&mut self.read).freeze()
        } else {
            self.read.split_to(length).freeze()
        };
        let method = method.map_err(|_| NoHead::Violation)?;
        let target = bytes.slice(target);
        let Ok(uri) = Uri::from_maybe_shared(target.clone()) else {
            return Err(NoHead::Target { method, target });
        };
        let mut headers = HeaderMap::with_capacity(lines.len());
        let mut facts = Facts::default();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(&bytes[name]).map_err(|_| NoHead::Violation)?;
            let value = if value.is_empty() { Bytes::new() } else { bytes.slice(value) };
            // SAFETY: the guard and httparse let no byte into a value that a `HeaderValue` may not hold.
            let value = unsafe { HeaderValue::from_maybe_shared_unchecked(value) };
            facts.note(&name, &value);
            headers.append(name, value);
        }
        self.body = if facts.chunked { Framed::Chunked(Chunks::Size) } else { Framed::Sized(facts.length) };
        self.interim = if facts.expects && http_11 && !self.body.is_end() { CONTINUE } else { b"" };
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = if http_11 { Version::HTTP_11 } else { Version::HTTP_10 };
        *request.headers_mut() = headers;
        let keeps = if http_11 { !facts.close } else { facts.keep_alive && !facts.close };
        Ok(Some(Head { request, keeps, takes_trailers: facts.takes_trailers }))
    }

    /// How many of the first `bytes` of the body are here, if that is not all of them. Who waits for leave to send
    /// (RFC 9110, 10.1.1) gets it when the pieces are asked for.
    fn begun(&self, bytes: usize) -> Option<usize> {
        let Framed::Sized(left) = self.body else { return None };
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(bytes);
        (self.interim.is_empty() && self.read.len() < wanted).then_some(self.read.len())
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), BodyCut>> {
        while self.begun(bytes).is_some() {
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(BodyCut)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        loop {
            match &mut self.body {
                Framed::Sized(0) => return Poll::Ready(None),
                Framed::Sized(_) if self.read.is_empty() => {}
                Framed::Sized(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                    *left -= length as u64;
                    return Poll::Ready(Some(Ok(Frame::data(self.read.split_to(length).freeze()))));
                }
                Framed::Chunked(chunks) => match chunks.read(&mut self.read) {
                    Piece::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Piece::Trailers(map) => return Poll::Ready(Some(Ok(Frame::trailers(map)))),
                    Piece::End => return Poll::Ready(None),
                    Piece::Refused => return Poll::Ready(Some(Err(BodyCut))),
                    Piece::More => {}
                },
            }
            while !self.interim.is_empty() {
                match ready!(Pin::new(&mut self.io).poll_write(cx, self.interim)) {
                    Ok(written @ 1..) => self.interim = &self.interim[written..],
                    Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyCut))),
                }
                if self.interim.is_empty() {
                    // What is not out now goes with the next write.
                    let _sent = Pin::new(&mut self.io).poll_flush(cx);
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyCut))),
            }
        }
    }

    /// The final response begins, so no interim one may. Says what is left of one that has begun.
    pub fn answers(&mut self) -> &'static [u8] {
        let interim = std::mem::take(&mut self.interim);
        if interim.len() < CONTINUE.len() { interim } else { b"" }
    }

    /// A response is out and its exchange is over: the guard may judge what follows.
    pub fn flushed(&mut self) {
        // The bytes were flushed before; whoever reads on is about to poll.
        let _flushed = Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(Waker::noop()));
    }

    /// The stream, and what was read of a tunnel. The guard must know of the tunnel by now.
    pub fn into_inner(self) -> (Stream, Vec<u8>) {
        let (io, behind) = self.io.into_inner();
        (io, [&self.read[..], &behind].concat())
    }
}

/// What the lines say of framing and connection.
#[derive(Default)]
struct Facts {
    length: u64,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
    takes_trailers: bool,
}

impl Facts {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        let is = |token: &[u8], text: &[u8]| token.eq_ignore_ascii_case(text);
        match *name {
            // The guard has read both and found one way to frame the body.
            header::CONTENT_LENGTH => {
                self.length = value.to_str().ok().and_then(|digits| digits.trim().parse().ok()).unwrap_or(0);
            }
            header::TRANSFER_ENCODING => self.chunked = true,
            header::CONNECTION => {
                for token in tokens(value) {
                    self.close |= is(token, b"close");
                    self.keep_alive |= is(token, b"keep-alive");
                }
            }
            header::EXPECT => self.expects = is(value.as_bytes(), b"100-continue"),
            header::TE => self.takes_trailers |= tokens(value).any(|token| is(token, b"trailers")),
            _ => {}
        }
    }
}

/// The body of the request under way.
pub(crate) struct Body(Rc<RefCell<Inbound>>);

impl Body {
    pub(super) fn of(inbound: &Rc<RefCell<Inbound>>) -> Self {
        Self(Rc::clone(inbound))
    }

    pub fn is_end(&self) -> bool {
        self.0.borrow().body.is_end()
    }

    pub fn length(&self) -> Option<u64> {
        match self.0.borrow().body {
            Framed::Sized(left) => Some(left),
            Framed::Chunked(chunks) => (chunks == Chunks::End).then_some(0),
        }
    }

    pub fn begun(&self, bytes: usize) -> Option<usize> {
        self.0.borrow().begun(bytes)
    }

    pub fn poll_begun(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), BodyCut>> {
        self.0.borrow_mut().poll_begun(cx, bytes)
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        self.0.borrow_mut().poll_frame(cx)
    }
}
