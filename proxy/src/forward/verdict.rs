//! What a try says of its address: counted for people to see, and by health checks and outlier detection where there
//! are any.

use super::balance::Endpoint;
use crate::core::Core;
use crate::upstream::{By, Failure, Shown};
use event::AttemptError;

/// Statuses from here on are failures of the upstream.
const SERVER_ERRORS: u16 = 500;

/// Counts an answer.
pub(super) fn answered(core: &Core, upstream: usize, endpoint: &Endpoint, status: u16) {
    let plan = &core.plan.upstreams[upstream];
    if let Some(rules) = plan.passive() {
        endpoint.peer.shown(rules, Shown::Status(status));
    }
    if status >= SERVER_ERRORS {
        fail(core, upstream, endpoint, Failure::Status(status));
    } else if plan.outlier.is_some() {
        endpoint.peer.did_well();
    }
}

/// Counts a try without an answer.
pub(super) fn failed(core: &Core, upstream: usize, endpoint: &Endpoint, error: AttemptError) {
    let shown = match error {
        AttemptError::ConnectFailed
        | AttemptError::Reset
        | AttemptError::Malformed
        | AttemptError::TlsFailed => Shown::Broken,
        AttemptError::ConnectTimeout | AttemptError::ReadTimeout | AttemptError::WriteTimeout => {
            Shown::TimedOut
        }
        // Neither says anything of the target.
        AttemptError::Cancelled | AttemptError::DnsFailed | AttemptError::None => return,
    };
    if let Some(rules) = core.plan.upstreams[upstream].passive() {
        endpoint.peer.shown(rules, shown);
    }
    fail(core, upstream, endpoint, Failure::Error(error));
}

fn fail(core: &Core, upstream: usize, endpoint: &Endpoint, failure: Failure) {
    endpoint.tally.fail();
    endpoint.peer.met_failure(By::Request, failure);
    if let Some(outlier) = &core.plan.upstreams[upstream].outlier
        && endpoint.peer.did_badly(outlier)
    {
        core.balance.eject(core, upstream, outlier, &endpoint.peer);
    }
}
