//! The body of a request on its way to a shared connection, which takes it as the upstream opens its window.

use super::headers::is_trailer;
use super::http2::Fate;
use crate::accept::{ClientBody, StrictHandle};
use crate::error::Fault;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A request's body between its exchange and the connection, which are tasks of their own.
pub(crate) struct Flow {
    /// Until its end was seen, or the exchange has ended.
    body: RefCell<Option<ClientBody>>,
    bytes_max: u64,
    strict: Option<StrictHandle>,
    pub bytes: Cell<u64>,
    pub pieces: Cell<u32>,
    pub stopped: Cell<Option<Fault>>,
    /// Whether the client is waited for, rather than the upstream.
    pub asks: Cell<bool>,
    /// What is known of a request that got no answer.
    pub fate: Cell<Fate>,
    /// The exchange's, woken with every piece.
    watcher: RefCell<Option<Waker>>,
    /// The connection's, woken when nothing more comes.
    sender: RefCell<Option<Waker>>,
}

impl Flow {
    pub fn new(body: Option<ClientBody>, bytes_max: u64, strict: Option<StrictHandle>) -> Rc<Self> {
        Rc::new(Self {
            body: RefCell::new(body),
            bytes_max,
            strict,
            bytes: Cell::new(0),
            pieces: Cell::new(0),
            stopped: Cell::new(None),
            asks: Cell::new(false),
            fate: Cell::new(Fate::Unknown),
            watcher: RefCell::default(),
            sender: RefCell::default(),
        })
    }

    /// Whether the body was seen whole.
    pub fn is_end(&self) -> bool {
        self.body.borrow().is_none()
    }

    /// Asks to be woken with the next piece.
    pub fn watch(&self, cx: &Context<'_>) {
        self.watcher.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
    }

    /// The body back, for another try or because nobody wants it.
    pub fn take(&self) -> Option<ClientBody> {
        let body = self.body.borrow_mut().take();
        if body.is_some() {
            self.stopped.set(self.stopped.get().or(Some(Fault::ClientClosed)));
            if let Some(sender) = self.sender.borrow_mut().take() {
                sender.wake();
            }
        }
        body
    }

    fn stop(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        self.stopped.set(Some(fault));
        self.notify();
        Poll::Ready(Some(Err(Stopped)))
    }

    fn notify(&self) {
        self.pieces.set(self.pieces.get().wrapping_add(1));
        if let Some(watcher) = self.watcher.borrow_mut().take() {
            watcher.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        if self.stopped.get().is_some() {
            return Poll::Ready(Some(Err(Stopped)));
        }
        let mut place = self.body.borrow_mut();
        let Some(body) = &mut *place else { return Poll::Ready(None) };
        self.asks.set(true);
        let Poll::Ready(frame) = body.poll_frame(cx) else {
            *self.sender.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.asks.set(false);
        let frame = match frame {
            None => {
                *place = None;
                self.notify();
                return Poll::Ready(None);
            }
            Some(Err(_cut)) => {
                let fault = match self.strict.as_ref().and_then(StrictHandle::violation) {
                    Some(seen) => Fault::Violation { status: seen.status(), reason: seen.reason() },
                    None => Fault::ClientClosed,
                };
                return self.stop(fault);
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                self.bytes.set(self.bytes.get() + data.len() as u64);
                if self.bytes_max > 0 && self.bytes.get() > self.bytes_max {
                    return self.stop(Fault::BodyTooLarge);
                }
                if body.is_end() {
                    *place = None;
                }
                Frame::data(data)
            }
            Err(frame) => {
                *place = None;
                let all = frame.into_trailers().unwrap_or_default();
                let mut sent = HeaderMap::new();
                for (name, value) in &all {
                    if is_trailer(name.as_str()) {
                        sent.append(name, value.clone());
                    }
                }
                Frame::trailers(sent)
            }
        };
        self.notify();
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The body as the connection takes it.
pub(crate) struct Sent(pub Rc<Flow>);

/// The body ended before its end: the upstream sees a reset.
#[derive(Debug, thiserror::Error)]
#[error("the request was cut")]
pub(crate) struct Stopped;

impl Body for Sent {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        self.0.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end() && self.0.stopped.get().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.body.borrow().as_ref().map(ClientBody::length) {
            Some(Some(length)) => SizeHint::with_exact(length),
            Some(None) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
