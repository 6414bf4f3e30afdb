//! What a try says of its address: counted for people to see, and by health checks and outlier detection where there
//! are any.

use super::answer::Head;
use super::balance::Endpoint;
use crate::core::Core;
use crate::upstream::{By, Failure, Shown};
use event::{ABSENT_U16, AttemptError};
use http::StatusCode;

/// Statuses from here on are failures of the upstream.
const SERVER_ERRORS: u16 = 500;
/// The status of a call that ends without one, as gRPC's own clients have it: UNKNOWN.
const GRPC_UNKNOWN: u16 = 2;

/// Counts an answer by its head. Where that does not say yet how a call of gRPC went, it counts nothing and says so.
#[must_use]
pub(super) fn answered(core: &Core, upstream: usize, endpoint: &Endpoint, head: &Head, grpc: bool) -> bool {
    let called = if grpc { super::grpc_status(&head.headers) } else { None };
    match called {
        Some(code) => called_with(core, upstream, endpoint, code),
        None if grpc && head.status == StatusCode::OK => return false,
        None => {
            let status = head.status.as_u16();
            count(core, upstream, endpoint, status, Failure::Status(status));
        }
    }
    true
}

/// Counts a call of gRPC at its end.
pub(super) fn ended(core: &Core, upstream: usize, endpoint: &Endpoint, code: u16) {
    called_with(core, upstream, endpoint, if code == ABSENT_U16 { GRPC_UNKNOWN } else { code });
}

fn called_with(core: &Core, upstream: usize, endpoint: &Endpoint, code: u16) {
    count(core, upstream, endpoint, status_of(code), Failure::Grpc(code));
}

fn count(core: &Core, upstream: usize, endpoint: &Endpoint, status: u16, failure: Failure) {
    let plan = &core.plan.upstreams[upstream];
    if let Some(rules) = plan.passive() {
        endpoint.peer.shown(rules, Shown::Status(status));
    }
    if status >= SERVER_ERRORS {
        fail(core, upstream, endpoint, failure);
    } else if plan.outlier.is_some() {
        endpoint.peer.did_well();
    }
}

/// The status of HTTP that one of gRPC counts as: Envoy's `Grpc::Utility::grpcToHttpStatus`.
fn status_of(code: u16) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        // UNKNOWN, INTERNAL, DATA_LOSS, and what no version of gRPC knows.
        _ => 500,
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
