//! Upstream connections of one thread. A connection is driven by the task whose request it carries; between requests
//! it lies in a stack of its address. Those of HTTP/2 are shared, and have a task of their own.

use super::answer::{self, Download, Head, Part};
use super::balance::{Endpoint, Load};
use super::connect::Wire;
use super::http2::{Shared, Stream};
use super::tally::Open;
use super::verdict;
use crate::core::Core;
use crate::plan::LinkPlan;
use crate::upstream::Held;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncReadExt;

/// Room for one read, for one while a long body comes, and for one once so much of it came without a pause: who takes
/// nothing is held less for.
const READ_BYTES: usize = 8 << 10;
const READ_BYTES_LONG: usize = 32 << 10;
const READ_BYTES_LONGER: usize = 64 << 10;
const LONGER_AFTER_BYTES: usize = 256 << 10;
/// With less room than this a read is not worth its call.
const READ_BYTES_MIN: usize = 1 << 10;

/// A connection to an upstream.
pub(crate) struct Lease {
    pub io: Wire,
    /// What has come and was not taken.
    read: BytesMut,
    /// Bytes of the last reads, as far as each took all the room there was.
    filled: usize,
    /// Bytes of interim responses before the one that is waited for.
    interim_bytes: usize,
    /// Whom it leads to, while a request has it.
    endpoint: Option<Rc<Endpoint>>,
    /// How it was made: the id of its link.
    link: u128,
    /// Counts the connection, unless others share it.
    open: Option<Open>,
    /// The request that has it, where such are counted.
    pub load: Option<Load>,
    pub used: Option<Held>,
    /// The upstream of a call of gRPC, whose end is still to be counted.
    pub unjudged: Option<usize>,
    pub reused: bool,
    /// Whether it can serve another request once this response is whole.
    pub keeps: bool,
    idle_since_ms: u64,
}

/// What counts a request and its connection until it is dropped.
pub(crate) type Counted = (Option<Load>, Option<Held>, Option<Open>);

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
    /// Of a new connection, or of a stream.
    pub fn new(io: Wire, open: Option<Open>, endpoint: &Rc<Endpoint>, link: u128) -> Box<Self> {
        Box::new(Self {
            io,
            open,
            read: BytesMut::new(),
            filled: 0,
            interim_bytes: 0,
            endpoint: Some(Rc::clone(endpoint)),
            link,
            load: None,
            used: None,
            unjudged: None,
            reused: false,
            keeps: false,
            idle_since_ms: 0,
        })
    }

    /// Reads on for a response head. Interim ones (1xx) are passed over, a 101 excepted, as long as all of them
    /// together are no longer than a head may be.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        bytes_max: usize,
    ) -> Poll<Result<Head, Broken>> {
        if let Wire::Http2(stream) = &mut self.io {
            return stream.poll_head(cx);
        }
        loop {
            if !self.read.is_empty() {
                let before = self.read.len();
                match answer::read(&mut self.read, method) {
                    Ok(Some(head))
                        if head.status.is_informational()
                            && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        self.interim_bytes += before - self.read.len();
                        if self.interim_bytes > bytes_max {
                            return Poll::Ready(Err(Broken::Malformed));
                        }
                        continue;
                    }
                    Ok(Some(head)) => {
                        self.interim_bytes = 0;
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
        if let Wire::Http2(stream) = &mut self.io {
            return stream.poll_content(cx, body);
        }
        loop {
            match body.read(&mut self.read) {
                Part::Data(data) => return Poll::Ready(Some(Ok(Content::Data(data)))),
                Part::Trailers(map) => return Poll::Ready(Some(Ok(Content::Trailers(map)))),
                Part::End => return Poll::Ready(None),
                Part::Refused => return Poll::Ready(Some(Err(Broken::Malformed))),
                Part::More => {}
            }
            let room = match self.filled {
                0 => READ_BYTES,
                LONGER_AFTER_BYTES.. => READ_BYTES_LONGER,
                _ => READ_BYTES_LONG,
            };
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
        self.filled = if read == left { self.filled.saturating_add(read) } else { 0 };
        Poll::Ready(Ok(read))
    }

    /// Counts how a call of gRPC went, where its head did not say.
    pub fn judge(&mut self, core: &Core, grpc_status: u16) {
        if let (Some(upstream), Some(endpoint)) = (self.unjudged.take(), &self.endpoint) {
            verdict::ended(core, upstream, endpoint, grpc_status);
        }
    }

    /// Whether an idle connection is open and silent: anything that comes by itself makes it useless.
    fn is_fit(&mut self) -> bool {
        self.read.is_empty() && self.io.is_silent()
    }

    /// Whether an idle connection is still good, used at this millisecond or later.
    pub fn is_kept(&mut self, since_ms: u64) -> bool {
        self.idle_since_ms >= since_ms && self.is_fit()
    }

    /// The stream, what came right behind the head, and what counts the request.
    pub fn into_parts(self) -> (Wire, Bytes, Counted) {
        (self.io, self.read.freeze(), (self.load, self.used, self.open))
    }
}

/// The last used connection of this link that is still open.
pub(super) fn take(endpoint: &Rc<Endpoint>, link: u128) -> Option<Box<Lease>> {
    let mut idle = endpoint.idle.borrow_mut();
    // Nearly always the last one: an address has rarely more than one link.
    while let Some(at) = idle.iter().rposition(|lease| lease.link == link) {
        let mut lease = idle.remove(at);
        if lease.is_fit() {
            lease.reused = true;
            lease.endpoint = Some(Rc::clone(endpoint));
            return Some(lease);
        }
    }
    None
}

/// A stream on a connection of this link that has room for one.
pub(super) fn join(core: &Rc<Core>, endpoint: &Rc<Endpoint>, link: u128) -> Option<Box<Lease>> {
    let streams_max = core.plan.limits.upstream_streams_max;
    let shared = endpoint.shared.borrow();
    let found = shared.iter().find(|one| one.link == link && one.has_room(streams_max))?;
    Some(stream(core, endpoint, found))
}

/// A stream on a new connection, which others may join.
pub(super) fn share(core: &Rc<Core>, endpoint: &Rc<Endpoint>, shared: Rc<Shared>) -> Box<Lease> {
    let lease = stream(core, endpoint, &shared);
    if !endpoint.retired.get() && !LinkPlan::is_own(shared.link) {
        endpoint.shared.borrow_mut().push(shared);
        endpoint.tally.free_for_all();
    }
    lease
}

fn stream(core: &Rc<Core>, endpoint: &Rc<Endpoint>, shared: &Rc<Shared>) -> Box<Lease> {
    let stream = Stream::new(core, shared);
    let reused = stream.reused;
    let mut lease = Lease::new(Wire::Http2(Box::new(stream)), None, endpoint, shared.link);
    lease.reused = reused;
    lease
}

/// Puts a connection back whose exchange has ended cleanly; others are closed.
pub(super) fn put(core: &Core, mut lease: Box<Lease>) {
    // An idle connection does not hold its place alive, which holds it.
    let (Some(endpoint), _ended) = (lease.endpoint.take(), (lease.load.take(), lease.used.take())) else {
        return;
    };
    // A stream ends here; its connection has its own place.
    if matches!(lease.io, Wire::Http2(_)) {
        return;
    }
    let serves = core.phase.get() == crate::core::Phase::Serving && !endpoint.retired.get();
    let own = LinkPlan::is_own(lease.link);
    if !serves || own || !lease.keeps || !lease.read.is_empty() {
        return;
    }
    lease.idle_since_ms = core.clock.now_ms();
    let mut idle = endpoint.idle.borrow_mut();
    if idle.len() < core.plan.limits.upstream_idle_max {
        idle.push(lease);
        endpoint.tally.free();
    }
}
