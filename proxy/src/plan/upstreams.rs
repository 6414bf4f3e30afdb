//! What requests are forwarded to, as the threads read it.

use crate::config::Algorithm;
use crate::forward::HashPlan;
use crate::upstream::{CircuitPlan, HealthPlan, OutlierPlan, Rules, SlowStartPlan};
use http::HeaderValue;
use std::net::SocketAddr;

/// A group of targets. A service with a plain host has one of its own, without a name.
#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    pub name: Option<String>,
    pub targets: Vec<Part>,
    pub subsets: Vec<SubsetPlan>,
    pub host_header: Option<HeaderValue>,
    /// Whether the names of SRV records are sent.
    pub use_srv_name: bool,
    /// The name in `host_header`, to which certificates are held.
    pub server_name: Option<String>,
    pub algorithm: Algorithm,
    pub hash: HashPlan,
    pub health: Option<Box<HealthPlan>>,
    pub outlier: Option<Box<OutlierPlan>>,
    pub circuit: Option<Box<CircuitPlan>>,
    pub slow_start: Option<Box<SlowStartPlan>>,
}

impl UpstreamPlan {
    /// That of a service whose host is no upstream's name.
    pub fn single(target: usize) -> Self {
        Self {
            name: None,
            targets: vec![Part { target, weight: 1, failover: false }],
            subsets: Vec::new(),
            host_header: None,
            use_srv_name: false,
            server_name: None,
            algorithm: Algorithm::default(),
            hash: HashPlan::default(),
            health: None,
            outlier: None,
            circuit: None,
            slow_start: None,
        }
    }

    /// What of the traffic tells of the addresses' health, if anything does.
    pub fn passive(&self) -> Option<&Rules> {
        self.health.as_ref()?.passive.as_ref()
    }

    /// Whether the requests under way are counted at each address.
    pub fn counts_load(&self) -> bool {
        matches!(self.algorithm, Algorithm::LeastConnections | Algorithm::Latency)
    }
}

/// Some targets of an upstream.
#[derive(Debug)]
pub(crate) struct SubsetPlan {
    pub name: String,
    /// Indexes of targets, ascending.
    pub targets: Vec<usize>,
}

impl SubsetPlan {
    pub fn has(&self, target: usize) -> bool {
        self.targets.binary_search(&target).is_ok()
    }
}

/// A target's part in an upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Index of the target.
    pub target: usize,
    pub weight: u32,
    /// Only asked when no other is fit.
    pub failover: bool,
}

/// One target.
#[derive(Debug, Clone)]
pub(crate) struct TargetPlan {
    pub host: String,
    pub port: u16,
    /// As events and tables name it, `host:port`.
    pub text: String,
    /// Set when `host` is an address.
    pub addr: Option<SocketAddr>,
    pub host_header: HeaderValue,
}
