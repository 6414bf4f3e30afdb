//! The response body on its way to the client. It drives the upstream connection while it is polled, and gives the
//! connection back at a clean end.

use super::body::{Probe, Waiting};
use super::pool::Lease;
use crate::clock::Deadline;
use crate::error::Fault;
use crate::record::Record;
use crate::respond::Cut;
use bytes::Bytes;
use event::Outcome;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) struct Relay {
    pub incoming: Incoming,
    /// Gone once it went back to the pool or broke.
    pub lease: Option<Box<Lease>>,
    pub deadline: Deadline,
    pub read_timeout_ms: u64,
    /// Whether the deadline runs: only while the upstream is waited for, not while the client is slow to read.
    pub waiting: bool,
    pub probe: Option<Rc<Probe>>,
    /// Why the body broke, kept back until what came before it is on its way.
    pub broken: Option<Fault>,
    /// Whether frames were handed over that may not be written yet.
    pub unwritten: bool,
}

impl Relay {
    pub fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(fault) = self.broken.take() {
            return Poll::Ready(Some(Err(self.cut(fault, record))));
        }
        // The connection runs in this very task, so the channel between the two needs no waker.
        let mut quiet = Context::from_waker(Waker::noop());
        let mut frame = Pin::new(&mut self.incoming).poll_frame(&mut quiet);
        if frame.is_pending()
            && let Some(lease) = &mut self.lease
        {
            let _seen_through_the_body = lease.poll(cx);
            frame = Pin::new(&mut self.incoming).poll_frame(&mut quiet);
        }
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                (self.waiting, self.unwritten) = (false, true);
                if let Some(data) = frame.data_ref() {
                    record.draft().head.response_bytes += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_ref()
                    && let Some(status) =
                        trailers.get("grpc-status").and_then(|v| v.to_str().ok()?.parse().ok())
                {
                    record.draft().head.grpc_status = status;
                }
                if self.is_end() {
                    self.end(cx, record);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.end(cx, record);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                let fault = self.probe.as_ref().and_then(|probe| probe.fault.get()).unwrap_or(Fault::Reset);
                // An error makes hyper drop what it holds; a pause lets it write that first.
                if self.unwritten {
                    self.broken = Some(fault);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(self.cut(fault, record))))
            }
            Poll::Pending => {
                self.unwritten = false;
                if !self.waiting {
                    self.waiting = true;
                    self.deadline.arm(self.read_timeout_ms);
                }
                if self.deadline.poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(self.cut(Fault::ReadTimeout, record))));
                }
                Poll::Pending
            }
        }
    }

    /// The response is whole: the connection can serve another, unless the request is still being sent.
    fn end(&mut self, cx: &mut Context<'_>, record: &mut Record) {
        if !record.is_finished() {
            record.finish(Outcome::Ok);
        }
        self.note_request_body(record);
        if let Some(lease) = self.lease.take() {
            let sent = self.probe.as_ref().is_none_or(|probe| probe.waiting.get() == Waiting::Done);
            if sent {
                record.core.pool.put(&record.core, lease, cx);
            }
        }
    }

    fn cut(&mut self, fault: Fault, record: &mut Record) -> Cut {
        self.lease = None;
        self.note_request_body(record);
        record.fault(fault);
        Cut
    }

    /// What is known of the request body by now goes into the event.
    pub fn note_request_body(&self, record: &mut Record) {
        if let Some(probe) = &self.probe {
            record.note_request_body(probe);
        }
    }

    /// For a response without a body, before it is handed over.
    pub fn release(&mut self, record: &mut Record, cx: &mut Context<'_>) {
        if self.is_end() {
            self.end(cx, record);
        }
    }
}
