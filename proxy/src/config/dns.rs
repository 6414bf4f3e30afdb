//! The section `gateway.dns`: how the names of upstreams are looked up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lookup of host names of services and targets. It runs in the background: a request waits for the first answer only.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Name servers, `ip` or `ip:port`; by default those of `/etc/resolv.conf`. The hosts file is always read first.
    pub resolvers: Vec<String>,
    /// Kinds of records, in the order they are asked for; the first kind that a name has is taken.
    pub order: Vec<RecordKind>,
    /// Longest wait for a name server, milliseconds.
    pub timeout_ms: u64,
    /// How often a name server that does not answer is asked again.
    pub attempts: usize,
    /// Shortest time that an answer is used, milliseconds, however short its TTL.
    pub ttl_min_ms: u64,
    /// Longest time that an answer is used, milliseconds, however long its TTL.
    pub ttl_max_ms: u64,
    /// How long after a failure a name is looked up again, milliseconds. Until then its last addresses stay in use.
    pub retry_interval_ms: u64,
    /// Most addresses of one name that are used.
    pub addresses_max: usize,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            order: vec![RecordKind::Srv, RecordKind::A, RecordKind::Aaaa],
            timeout_ms: 2_000,
            attempts: 2,
            ttl_min_ms: 1_000,
            ttl_max_ms: 3_600_000,
            retry_interval_ms: 1_000,
            addresses_max: 64,
        }
    }
}

/// A kind of DNS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RecordKind {
    /// Hosts, ports and weights; those of the lowest priority are used.
    #[serde(rename = "SRV")]
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    #[serde(rename = "AAAA")]
    Aaaa,
}
