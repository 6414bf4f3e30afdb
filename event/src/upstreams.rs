//! How the addresses of upstreams are, as the gateway sees it: a small file in the data folder, written anew every
//! second or so by the gateway and read by whoever shows it. It is a picture of one moment; nothing is derived from it.

use crate::layout::{DataFolder, LayoutError, load, store};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How many intervals a picture may be late before it counts as old: its gateway is gone, or its disk refuses.
const LATE_INTERVALS: i64 = 5;
/// What is added to that, microseconds: a busy machine is not a dead one.
const LATE_GRACE_US: i64 = 5_000_000;

/// The picture.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpstreamStates {
    /// When it was taken, microseconds since 1970 (UTC).
    pub at_us: i64,
    /// How long until the next one, microseconds.
    pub interval_us: i64,
    /// Name of the gateway.
    pub node: String,
    /// The addresses, and the targets without any.
    pub targets: Vec<TargetState>,
    /// Addresses that found no room in `targets`.
    pub omitted: u64,
    /// The bounds of upstreams with a circuit breaker.
    #[serde(default)]
    pub circuits: Vec<CircuitState>,
}

/// One bound of one upstream's circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CircuitState {
    /// The upstream's name.
    pub upstream: String,
    /// The bound's name, such as `max_requests`.
    pub resource: String,
    /// How many there are now.
    pub used: u64,
    /// How many there may be.
    pub most: u64,
    /// How often one more was asked for, in this life of the gateway.
    pub overflows: u64,
}

/// What is thought of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetCondition {
    /// Nothing looks: neither health checks nor outlier detection. It is given requests.
    #[default]
    Unchecked,
    /// It is given requests.
    Healthy,
    /// Health checks have taken it out.
    Unhealthy,
    /// Outlier detection has taken it out for a time.
    Ejected,
    /// Its name has no address: name servers fail, or say that there is none.
    DnsError,
    /// The first answer of the name servers is still to come.
    DnsPending,
}

impl TargetCondition {
    /// The word that stands in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::DnsError => "dns_error",
            Self::DnsPending => "dns_pending",
        }
    }

    /// Whether requests are given to it.
    #[must_use]
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Unchecked | Self::Healthy)
    }
}

/// One address of a target, or a target whose name has none. Times are microseconds since 1970 (UTC); counts are of this
/// life of the gateway, for as long as the address belongs to the target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetState {
    /// The service whose host it is; none for a target of a named upstream.
    pub service: Option<String>,
    /// The upstream's name; none for the host of a service.
    pub upstream: Option<String>,
    /// As configured, `host:port`.
    pub target: String,
    /// `ip:port`; none while its name has none.
    pub address: Option<String>,
    /// What is thought of it.
    pub state: TargetCondition,
    /// Since when.
    pub since_us: i64,
    /// Share of the requests.
    pub weight: u32,
    /// Requests under way.
    pub active: u64,
    /// Connections that are open, idle ones too.
    pub connections: u64,
    /// Tries that were sent to it.
    pub requests: u64,
    /// Of them those that got no answer, or one with a status of 500 or above.
    pub failures: u64,
    /// Failures in a row, where outlier detection counts them.
    pub consecutive_5xx: u32,
    /// How often outlier detection has taken it out.
    pub ejections: u64,
    /// Until when it is out.
    pub ejected_until_us: Option<i64>,
    /// Successes in a row that health checks have counted of a target that is out.
    pub successes: u32,
    /// Bad statuses that health checks have counted.
    pub http_failures: u32,
    /// Failed connections that they have counted.
    pub tcp_failures: u32,
    /// Time-outs that they have counted.
    pub timeouts: u32,
    /// Active checks by what they showed.
    pub checks: CheckCounts,
    /// When the last one ended.
    pub last_check_us: Option<i64>,
    /// Why the last failure was one: a word of an attempt's error, or `http_` and the status.
    pub last_failure: Option<String>,
    /// Who met with it: `request` or `check`.
    pub last_failure_by: Option<String>,
    /// When.
    pub last_failure_us: Option<i64>,
    /// Since when the name servers fail for its name; its last addresses are used until they answer.
    pub dns_failing_since_us: Option<i64>,
}

/// Active checks by what they showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckCounts {
    /// It serves.
    pub success: u64,
    /// It does not.
    pub failure: u64,
    /// A status that is neither good nor bad.
    pub ignored: u64,
}

impl UpstreamStates {
    /// The picture as last taken; empty for a folder without any.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(load(&Self::path(folder))?.unwrap_or_default())
    }

    /// Puts the picture in the place of the last one. Atomic but not durable: the next one comes at once.
    ///
    /// # Errors
    /// When the disk refuses; the old one stays.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        store(&Self::path(folder), self, false)
    }

    /// Where it is.
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("upstreams.json")
    }

    /// Whether the next picture should have been there long ago: what this one says may no longer be so.
    #[must_use]
    pub fn is_old(&self, now_us: i64) -> bool {
        is_late(self.at_us, self.interval_us, now_us)
    }
}

/// Whether something that is written every so often should have been written anew long ago.
pub(crate) fn is_late(at_us: i64, interval_us: i64, now_us: i64) -> bool {
    now_us.saturating_sub(at_us) > interval_us * LATE_INTERVALS + LATE_GRACE_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back_as_it_was_and_grows_old() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        assert_eq!(UpstreamStates::load(&folder).unwrap(), UpstreamStates::default());
        let target = TargetState {
            upstream: Some("pool".into()),
            target: "a:1".into(),
            state: TargetCondition::Ejected,
            ejected_until_us: Some(7),
            ..TargetState::default()
        };
        let targets = vec![target];
        let states =
            UpstreamStates { at_us: 1, interval_us: 1_000_000, targets, ..UpstreamStates::default() };
        states.store(&folder).unwrap();
        assert_eq!(UpstreamStates::load(&folder).unwrap(), states);
        assert!(!states.is_old(10_000_001) && states.is_old(10_000_002));
    }
}
