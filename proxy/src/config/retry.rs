//! When a request that failed is tried again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which failures are tried again, `retries` times at most. A request whose body is on its way is never sent twice.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Failures that are tried again: `connect-failure` and `refused-stream` by default, in which the upstream has done
    /// nothing yet.
    pub retry_on: Vec<RetryOn>,
    /// Statuses of `retriable-status-codes`.
    pub retriable_status_codes: Vec<u16>,
    /// Whether requests that are not idempotent (POST, PATCH) are tried again too once the upstream may have seen them.
    pub non_idempotent: bool,
    /// Longest time of one try to its response head, milliseconds; 0 (default) leaves it to the service's time-outs.
    pub per_try_timeout_ms: u64,
    /// Most requests that are tried again at a time, as a share in percent of those under way in the upstream; 0
    /// (default) for no bound.
    pub budget_percent: u32,
    /// Requests that may be tried again at a time whatever the share: 3 by default.
    pub budget_min: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retry_on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream],
            retriable_status_codes: Vec::new(),
            non_idempotent: false,
            per_try_timeout_ms: 0,
            budget_percent: 0,
            budget_min: 3,
        }
    }
}

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// A status of 500 or above, a reset, a refused stream, a time-out of the try, or no connection.
    #[serde(rename = "5xx")]
    FiveXx,
    /// A status of 502, 503 or 504.
    GatewayError,
    /// No connection.
    ConnectFailure,
    /// The upstream closed before it answered, or did not answer in time.
    Reset,
    /// HTTP/2: the upstream says that it has done nothing with the request (`REFUSED_STREAM`, or a `GOAWAY` that leaves
    /// it out), which is safe to send again whatever its method (RFC 9113, 8.7).
    RefusedStream,
    /// A status of `retriable_status_codes`.
    RetriableStatusCodes,
}
