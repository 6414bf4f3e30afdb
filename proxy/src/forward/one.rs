//! One request on one connection, to its response head.

use super::answer::Head;
use super::pool::{Broken, Lease};
use super::upload::{Stopped, Upload, Waiting};
use crate::clock::Deadline;
use crate::core::Core;
use crate::error::Fault;
use crate::pace::Pace;
use crate::record::Record;
use event::AttemptError;
use http::Method;
use std::task::Poll;

/// What one try is given.
pub(super) struct Bounds {
    pub client_ms: u64,
    /// Bytes each second; 0 for no rate.
    pub client_rate: u64,
    pub write_ms: u64,
    pub read_ms: u64,
    pub head_bytes: usize,
}

/// A try within its time; 0 for no bound of its own.
pub(super) async fn within(
    core: &Core,
    try_ms: u64,
    tried: impl Future<Output = Result<Head, (AttemptError, Fault)>>,
) -> Result<Head, (AttemptError, Fault)> {
    if try_ms == 0 {
        return tried.await;
    }
    let whole = core.clock.deadline();
    whole.within(try_ms, tried).await.unwrap_or(Err((AttemptError::ReadTimeout, Fault::ReadTimeout)))
}

/// One request on one connection, to its response head.
pub(super) async fn exchange(
    lease: &mut Lease,
    upload: &mut Upload,
    method: &Method,
    deadline: &Deadline,
    bounds: &Bounds,
    record: &mut Record,
) -> Result<Head, (AttemptError, Fault)> {
    let mut sending = true;
    let mut armed_for = None;
    let mut pace = Pace::new(bounds.client_ms, bounds.client_rate);
    std::future::poll_fn(|cx| {
        if sending {
            match upload.poll(&mut lease.io, cx, record) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => sending = false,
                Poll::Ready(Err(Stopped::Client(fault))) => {
                    return Poll::Ready(Err((AttemptError::Cancelled, fault)));
                }
                // It may have answered before it closed.
                Poll::Ready(Err(Stopped::Upstream)) => sending = false,
            }
        }
        match lease.poll_head(cx, method, bounds.head_bytes) {
            Poll::Ready(Ok(head)) => {
                // Not usable again when it stopped reading.
                lease.keeps &= sending || upload.waiting() == Waiting::Done;
                return Poll::Ready(Ok(head));
            }
            Poll::Ready(Err(Broken::Closed)) => {
                return Poll::Ready(Err((AttemptError::Reset, Fault::Reset)));
            }
            Poll::Ready(Err(Broken::Malformed)) => {
                return Poll::Ready(Err((AttemptError::Malformed, Fault::Malformed)));
            }
            Poll::Pending => {}
        }
        let waiting = if sending { upload.waiting() } else { Waiting::Done };
        let now = (waiting, upload.pieces);
        if armed_for != Some(now) {
            armed_for = Some(now);
            if waiting != Waiting::Client {
                pace.rests();
            }
            match waiting {
                Waiting::Client => {
                    let bytes = record.draft().head.request_bytes;
                    deadline.arm(pace.waits_ms(deadline.now_ms(), bytes));
                }
                Waiting::Upstream => deadline.arm(bounds.write_ms),
                Waiting::Done => deadline.arm(bounds.read_ms),
            }
        }
        deadline.poll(cx).map(|()| {
            Err(match waiting {
                Waiting::Done => (AttemptError::ReadTimeout, Fault::ReadTimeout),
                Waiting::Upstream => (AttemptError::WriteTimeout, Fault::WriteTimeout),
                Waiting::Client => (AttemptError::Cancelled, Fault::RequestTimeout),
            })
        })
    })
    .await
}
