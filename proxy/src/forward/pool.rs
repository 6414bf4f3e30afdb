//! Upstream connections of one thread. A connection is driven by the task whose request it carries; between requests
//! it lies in a stack of its address.

use super::answer::{self, Download, Head, Part};
use super::balance::{Endpoint, Load};
use crate::core::Core;
use crate::upstream::Used;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Room for one read, and for one while a long body comes.
const READ_BYTES: usize = 8 << 10;
const READ_BYTES_LONG: usize = 64 << 10;
/// With less room than this a read is not worth its call.
const READ_BYTES_MIN: usize = 1 << 10;

/// A connection to an upstream.
pub(crate) struct Lease {
    pub io: TcpStream,
    /// What has come and was not taken.
    read: BytesMut,
    /// Whether the last read took all the room there was.
    filled: bool,
    /// Whom it leads to, while a request has it.
    endpoint: Option<Rc<Endpoint>>,
    /// The request that has it, where such are counted.
    pub load: Option<Load>,
    pub used: Option<Used>,
    pub reused: bool,
    /// Whether it can serve another request once this response is whole.
    pub keeps: bool,
    idle_since_ms: u64,
}

/// Why a response is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The upstream closed or reset.
    Closed,
    /// What it sends is not HTTP, or beyond a bound.
    Malformed,
}

/// A piece of a response body.
#[derive(Debug)]
pub(crate) enum Content {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Lease {
    /// Reads on for a response head. Interim ones (1xx) are passed over, a 101 excepted.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        bytes_max: usize,
    ) -> Poll<Result<Head, Broken>> {
        loop {
            if !self.read.is_empty() {
                match answer::read(&mut self.read, method) {
                    Ok(Some(head))
                        if head.status.is_informational()
                            && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        continue;
                    }
                    Ok(Some(head)) => {
                        self.keeps = head.keeps;
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) if self.read.len() <= bytes_max => {}
                    _ => return Poll::Ready(Err(Broken::Malformed)),
                }
            }
            if ready!(self.poll_fill(cx, READ_BYTES))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Reads on for the body; none at its end.
    pub fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Download,
    ) -> Poll<Option<Result<Content, Broken>>> {
        loop {
            match body.read(&mut self.read) {
                Part::Data(data) => return Poll::Ready(Some(Ok(Content::Data(data)))),
                Part::Trailers(map) => return Poll::Ready(Some(Ok(Content::Trailers(map)))),
                Part::End => return Poll::Ready(None),
                Part::Refused => return Poll::Ready(Some(Err(Broken::Malformed))),
                Part::More => {}
            }
            let room = if self.filled { READ_BYTES_LONG } else { READ_BYTES };
            match ready!(self.poll_fill(cx, room)) {
                Ok(1..) => {}
                Ok(0) if *body == Download::Close => *body = Download::Closed,
                Ok(0) => return Poll::Ready(Some(Err(Broken::Closed))),
                Err(broken) => return Poll::Ready(Some(Err(broken))),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, Broken>> {
        if self.read.capacity() - self.read.len() < READ_BYTES_MIN {
            self.read.reserve(room);
        }
        let before = self.read.len();
        let left = self.read.capacity() - before;
        // The future holds nothing between polls.
        let read = std::pin::pin!(self.io.read_buf(&mut self.read));
        let read = ready!(read.poll(cx)).map_err(|_| Broken::Closed)?;
        self.filled = read == left;
        Poll::Ready(Ok(read))
    }

    /// Whether an idle connection is open and silent: anything that comes by itself makes it useless.
    fn is_fit(&self) -> bool {
        let silent =
            self.io.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        silent && self.read.is_empty()
    }

    /// Whether an idle connection is still good, used at this millisecond or later.
    pub fn is_kept(&self, since_ms: u64) -> bool {
        self.idle_since_ms >= since_ms && self.is_fit()
    }

    /// The stream, what came right behind the head, and what counts the request.
    pub fn into_parts(self) -> (TcpStream, Bytes, (Option<Load>, Option<Used>)) {
        (self.io, self.read.freeze(), (self.load, self.used))
    }
}

/// The last used connection that is still open.
pub(super) fn take(endpoint: &Rc<Endpoint>) -> Option<Box<Lease>> {
    let mut idle = endpoint.idle.borrow_mut();
    while let Some(mut lease) = idle.pop() {
        if lease.is_fit() {
            lease.reused = true;
            lease.endpoint = Some(Rc::clone(endpoint));
            return Some(lease);
        }
    }
    None
}

/// Puts a connection back whose exchange has ended cleanly; others are closed.
pub(super) fn put(core: &Core, mut lease: Box<Lease>) {
    // An idle connection does not hold its place alive, which holds it.
    let (Some(endpoint), _ended) = (lease.endpoint.take(), (lease.load.take(), lease.used.take())) else {
        return;
    };
    let serves = core.phase.get() == crate::core::Phase::Serving && !endpoint.retired.get();
    if !serves || !lease.keeps || !lease.read.is_empty() {
        return;
    }
    lease.idle_since_ms = core.clock.now_ms();
    let mut idle = endpoint.idle.borrow_mut();
    if idle.len() < core.plan.limits.upstream_idle_max {
        idle.push(lease);
    }
}

/// Opens a connection.
pub(super) async fn connect(endpoint: &Rc<Endpoint>) -> std::io::Result<Box<Lease>> {
    let io = TcpStream::connect(endpoint.peer.addr).await?;
    io.set_nodelay(true)?;
    Ok(Box::new(Lease {
        io,
        read: BytesMut::new(),
        filled: false,
        endpoint: Some(Rc::clone(endpoint)),
        load: None,
        used: None,
        reused: false,
        keeps: false,
        idle_since_ms: 0,
    }))
}
