//! Circuit breakers of upstreams, by the names of Envoy, and the gentle start of their addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most that an upstream is given at once, of all threads together. What is beyond is answered 503 at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Connections: 1024 by default. At the bound a request waits for one that is there; each thread may have one to each
    /// address all the same.
    pub max_connections: u32,
    /// Requests that wait for a connection, new ones included: 1024 by default. None waits longer than the service's
    /// `connect_timeout`.
    pub max_pending_requests: u32,
    /// Requests under way: 1024 by default.
    pub max_requests: u32,
    /// Requests that are tried again at a time: 3 by default. Beyond it a failure is the answer.
    pub max_retries: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 }
    }
}

/// Gives an address that is new or fit again its share little by little. For `round-robin` and `least-connections`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowStart {
    /// Seconds until it has its whole share: 30 by default.
    pub window: f64,
    /// How the share rises: 1 (default) evenly, above it faster at first, below it slower at first. The share of the
    /// weight is the share of the window to the power of 1 / `aggression`.
    pub aggression: f64,
    /// Least share of the weight that it has from the beginning, in percent, 1 to 100: 10 by default.
    pub min_weight_percent: u32,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: 30.0, aggression: 1.0, min_weight_percent: 10 }
    }
}
