//! The request body on its way upstream: streamed, counted, bounded, and watched by the task that waits for the
//! response, so that a slow client and a slow upstream can be told apart.

use crate::accept::StrictHandle;
use crate::error::Fault;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

pub(crate) enum RequestBody {
    Empty,
    Stream { incoming: Incoming, probe: Rc<Probe>, bytes_max: u64, strict: Option<StrictHandle> },
}

/// Who is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The client's next bytes.
    Client,
    /// The upstream's taking what it was given.
    Upstream,
    /// Nobody: the body is out.
    Done,
}

/// What the waiting task sees of the body.
pub(crate) struct Probe {
    pub waiting: Cell<Waiting>,
    pub bytes: Cell<u64>,
    /// Rises with every frame.
    pub frames: Cell<u32>,
    pub fault: Cell<Option<Fault>>,
    pub ended: Cell<Option<Instant>>,
}

impl Probe {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            waiting: Cell::new(Waiting::Upstream),
            bytes: Cell::new(0),
            frames: Cell::new(0),
            fault: Cell::new(None),
            ended: Cell::new(None),
        })
    }

    fn end(&self) {
        if self.ended.get().is_none() {
            self.waiting.set(Waiting::Done);
            self.ended.set(Some(Instant::now()));
        }
    }
}

/// The body was cut; the probe says why.
#[derive(Debug, thiserror::Error)]
#[error("the request body was cut")]
pub(crate) struct Cut;

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Self::Stream { incoming, probe, bytes_max, strict } = self.get_mut() else {
            return Poll::Ready(None);
        };
        probe.waiting.set(Waiting::Client);
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        probe.waiting.set(Waiting::Upstream);
        probe.frames.set(probe.frames.get().wrapping_add(1));
        let fault = match frame {
            None => {
                probe.end();
                return Poll::Ready(None);
            }
            Some(Ok(frame)) => {
                let bytes = probe.bytes.get() + frame.data_ref().map_or(0, Bytes::len) as u64;
                probe.bytes.set(bytes);
                if *bytes_max == 0 || bytes <= *bytes_max {
                    if incoming.is_end_stream() {
                        probe.end();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Fault::BodyTooLarge
            }
            Some(Err(_)) => match strict.as_ref().and_then(StrictHandle::violation) {
                Some(seen) => Fault::Violation { status: seen.status(), reason: seen.reason() },
                None => Fault::ClientClosed,
            },
        };
        probe.fault.set(Some(fault));
        Poll::Ready(Some(Err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream { incoming, .. } => incoming.size_hint(),
        }
    }
}
