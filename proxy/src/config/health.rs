//! Health checks of upstreams, in Kong's shapes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How it is found out which targets are fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Healthchecks {
    /// Requests made for it.
    pub active: ActiveChecks,
    /// Requests of clients.
    pub passive: PassiveChecks,
    /// Least share of the targets' weight that must be fit, in percent, 0 to 100; with less the whole upstream is unfit.
    /// 0 (default) leaves it out.
    pub threshold: f64,
}

/// Requests that the gateway makes by itself, one prober for all threads. They are made once an interval is above 0.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActiveChecks {
    /// `http` (default), `https`, `tcp`, which only connects, or `grpc` and `grpcs`, the health service of gRPC.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// Longest time of one check, seconds: 1 by default.
    pub timeout: f64,
    /// Most checks of one upstream at once: 10 by default.
    pub concurrency: u32,
    /// What an HTTP check asks for: `/` by default.
    pub http_path: String,
    /// Whether the certificate of a check over TLS must be of an authority of `gateway.upstream_roots`: true by default.
    pub https_verify_certificate: bool,
    /// Server name of a check over TLS: the target's by default.
    pub https_sni: Option<String>,
    /// Headers of an HTTP check, each with its values.
    pub headers: BTreeMap<String, Vec<String>>,
    /// When a target is fit again.
    pub healthy: ActiveHealthy,
    /// When it is not.
    pub unhealthy: ActiveUnhealthy,
}

impl Default for ActiveChecks {
    fn default() -> Self {
        Self {
            kind: CheckKind::default(),
            timeout: 1.0,
            concurrency: 10,
            http_path: "/".into(),
            https_verify_certificate: true,
            https_sni: None,
            headers: BTreeMap::new(),
            healthy: ActiveHealthy::default(),
            unhealthy: ActiveUnhealthy::default(),
        }
    }
}

/// What an active check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// `GET` by HTTP/1.1; the status counts.
    #[default]
    Http,
    /// The same over TLS.
    Https,
    /// A connection.
    Tcp,
    /// `grpc.health.v1.Health/Check` by HTTP/2 in cleartext; `SERVING` counts.
    Grpc,
    /// The same over TLS.
    Grpcs,
}

/// When an active check finds a target fit.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActiveHealthy {
    /// Seconds between checks of a fit target: 0 (default) for none.
    pub interval: f64,
    /// Successes in a row that make a target fit: 0 (default) for never.
    pub successes: u8,
    /// Statuses that are successes.
    pub http_statuses: Vec<u16>,
}

impl Default for ActiveHealthy {
    fn default() -> Self {
        Self { interval: 0.0, successes: 0, http_statuses: vec![200, 302] }
    }
}

/// When an active check finds a target unfit.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActiveUnhealthy {
    /// Seconds between checks of an unfit target: 0 (default) for none.
    pub interval: f64,
    /// Failed connections that make a target unfit: 0 (default) for never.
    pub tcp_failures: u8,
    /// Time-outs that do.
    pub timeouts: u8,
    /// Bad statuses that do.
    pub http_failures: u8,
    /// Statuses that are bad.
    pub http_statuses: Vec<u16>,
}

impl Default for ActiveUnhealthy {
    fn default() -> Self {
        let http_statuses = vec![429, 404, 500, 501, 502, 503, 504, 505];
        Self { interval: 0.0, tcp_failures: 0, timeouts: 0, http_failures: 0, http_statuses }
    }
}

/// What the requests of clients tell. A call of gRPC tells by the status that it ends with: its HTTP status counts as
/// the one that Envoy has for it, `UNAVAILABLE` as 503, `RESOURCE_EXHAUSTED` as 429, `OK` as 200.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassiveChecks {
    /// `http` (default); the protocol is that of the traffic.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// When a target is fit again.
    pub healthy: PassiveHealthy,
    /// When it is not.
    pub unhealthy: PassiveUnhealthy,
}

/// When traffic finds a target fit.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassiveHealthy {
    /// Successes that make a target fit and forget its failures: 0 (default) for never.
    pub successes: u8,
    /// Statuses that are successes.
    pub http_statuses: Vec<u16>,
}

impl Default for PassiveHealthy {
    fn default() -> Self {
        Self { successes: 0, http_statuses: (200..=208).chain([226]).chain(300..=308).collect() }
    }
}

/// When traffic finds a target unfit.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassiveUnhealthy {
    /// Failed or broken connections that make a target unfit: 0 (default) for never.
    pub tcp_failures: u8,
    /// Time-outs that do.
    pub timeouts: u8,
    /// Bad statuses that do.
    pub http_failures: u8,
    /// Statuses that are bad.
    pub http_statuses: Vec<u16>,
}

impl Default for PassiveUnhealthy {
    fn default() -> Self {
        Self { tcp_failures: 0, timeouts: 0, http_failures: 0, http_statuses: vec![429, 500, 503] }
    }
}
