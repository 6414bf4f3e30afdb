//! The response body on its way to the client, read as the client takes it. It goes on sending the request where that
//! is not out yet, and gives the connection back at a clean end.

use super::answer::Download;
use super::pool::{Broken, Content, Lease};
use super::upload::{Stopped, Upload};
use crate::clock::Deadline;
use crate::error::Fault;
use crate::record::Record;
use crate::respond::Cut;
use bytes::Bytes;
use event::Outcome;
use http_body::{Frame, SizeHint};
use std::task::{Context, Poll};

pub(crate) struct Relay {
    pub body: Download,
    /// Gone once it went back to the pool or broke.
    pub lease: Option<Box<Lease>>,
    /// The request, while it is still being sent.
    pub upload: Option<Box<Upload>>,
    pub deadline: Deadline,
    pub read_timeout_ms: u64,
    /// Whether the deadline runs: only while the upstream is waited for, not while the client is slow to read.
    pub waiting: bool,
    /// Why the body broke, kept back until what came before it is on its way.
    pub broken: Option<Fault>,
    /// Whether frames were handed over that may not be written yet.
    pub unwritten: bool,
}

impl Relay {
    pub fn is_end(&self) -> bool {
        self.body.is_end()
    }

    pub fn size_hint(&self) -> SizeHint {
        match self.body {
            Download::Sized(left) => SizeHint::with_exact(left),
            Download::Closed => SizeHint::with_exact(0),
            Download::Stream(Some(left)) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(fault) = self.broken.take() {
            return Poll::Ready(Some(Err(self.cut(fault, record))));
        }
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        if let Some(upload) = &mut self.upload {
            match upload.poll(&mut lease.io, cx, record) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.upload = None,
                Poll::Ready(Err(Stopped::Client(fault))) => return self.breaks(fault, cx, record),
                // It wants no more; what it answers may still be whole.
                Poll::Ready(Err(Stopped::Upstream)) => {
                    lease.keeps = false;
                    self.upload = None;
                }
            }
        }
        match lease.poll_content(cx, &mut self.body) {
            Poll::Ready(Some(Ok(content))) => {
                (self.waiting, self.unwritten) = (false, true);
                let frame = match content {
                    Content::Data(data) => {
                        record.draft().head.response_bytes += data.len() as u64;
                        Frame::data(data)
                    }
                    Content::Trailers(trailers) => {
                        if let Some(status) = super::grpc_status(&trailers) {
                            record.draft().head.grpc_status = status;
                        }
                        Frame::trailers(trailers)
                    }
                };
                if self.is_end() {
                    self.end(record);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.end(record);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(broken))) => {
                let fault = match broken {
                    Broken::Closed => Fault::Reset,
                    Broken::Malformed => Fault::Malformed,
                };
                self.breaks(fault, cx, record)
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

    /// An error makes hyper drop what it holds; a pause lets it write that first.
    fn breaks(
        &mut self,
        fault: Fault,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if std::mem::take(&mut self.unwritten) {
            self.broken = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(self.cut(fault, record))))
    }

    /// The response is whole: the connection can serve another, unless the request is still being sent.
    pub fn end(&mut self, record: &mut Record) {
        if !record.is_finished() {
            record.finish(Outcome::Ok);
        }
        let Some(mut lease) = self.lease.take() else { return };
        let grpc_status = record.draft().head.grpc_status;
        lease.judge(&record.core, grpc_status);
        if self.upload.take().is_none() {
            super::pool::put(&record.core, lease);
        }
    }

    fn cut(&mut self, fault: Fault, record: &mut Record) -> Cut {
        (self.lease, self.upload) = (None, None);
        record.fault(fault);
        Cut
    }
}
