//! The begin of a body, before an upstream is asked: a client that sends slowly holds no connection to one.

use crate::accept::{BodyCut, ClientBody};
use crate::core::Core;
use crate::error::Fault;
use crate::pace::Pace;
use crate::record::Record;
use std::task::Poll;

/// Waits for the first `bytes` of a body, or all of it; in the same time and at the same pace as for the rest.
pub(super) async fn wait(
    core: &Core,
    body: &mut ClientBody,
    bytes: usize,
    record: &mut Record,
) -> Result<(), Fault> {
    let deadline = core.clock.deadline();
    let limits = &core.plan.limits;
    let mut pace = Pace::new(core.plan.timeouts.body_idle_timeout_ms, limits.body_bytes_per_second_min);
    let mut seen = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(begun) = body.poll_begun(cx, bytes) {
            if begun.is_err() {
                record.draft().head.request_bytes = body.begun(bytes).unwrap_or_default() as u64;
            }
            return Poll::Ready(begun.map_err(|BodyCut| Fault::ClientClosed));
        }
        let here = body.begun(bytes).unwrap_or_default() as u64;
        if seen != Some(here) {
            seen = Some(here);
            record.draft().head.request_bytes = here;
            deadline.arm(pace.waits_ms(deadline.now_ms(), here));
        }
        deadline.poll(cx).map(|()| Err(Fault::RequestTimeout))
    })
    .await
}
