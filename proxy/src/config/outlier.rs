//! Outlier detection of upstreams, by the names of Envoy and Istio.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes an address out for a time when it fails again and again while the others do not. What counts as a failure is a
/// status of 500 or above, and no answer at all. A call of gRPC counts by the status that it ends with, as Envoy counts
/// it: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS` are failures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierDetection {
    /// Failures in a row, of all requests, that take an address out.
    pub consecutive_5xx: u32,
    /// Seconds between two looks at who may come back. An address that was in for as long has one of its ejections
    /// forgotten.
    pub interval: f64,
    /// Seconds that an address is out, times the ejections that are not forgotten.
    pub base_ejection_time: f64,
    /// Longest time that an address is out, seconds.
    pub max_ejection_time: f64,
    /// Most addresses of the upstream that are out at a time, in percent, 0 to 100. One may be out whatever the share,
    /// unless it is 0; the last that is fit never is.
    pub max_ejection_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            interval: 10.0,
            base_ejection_time: 30.0,
            max_ejection_time: 300.0,
            max_ejection_percent: 10,
        }
    }
}
