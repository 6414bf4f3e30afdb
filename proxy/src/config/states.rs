//! The section `gateway.upstream_states`: how the state of upstreams is shown to the other parts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The picture of all upstreams' addresses that the gateway leaves in the data folder, for `system.upstreams` and the
/// metrics of upstreams.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamStates {
    /// How often it is taken, milliseconds.
    pub interval_ms: u64,
    /// Most addresses in it; it says how many found no room.
    pub rows_max: usize,
}

impl Default for UpstreamStates {
    fn default() -> Self {
        Self { interval_ms: 1_000, rows_max: 10_000 }
    }
}
