//! Upstreams and their targets, in Kong's shapes, with what Kong has no word for beside it.

use super::{CircuitBreaker, Healthchecks, OutlierDetection, SlowStart, Subset};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A group of targets.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Its id.
    pub id: Option<String>,
    /// Its name, which services give as their `host`.
    pub name: String,
    /// How a target is chosen: `round-robin` by default.
    pub algorithm: Option<Algorithm>,
    /// What `consistent-hashing` hashes: `none` (default) leaves it to chance. Something else without an `algorithm`
    /// means `consistent-hashing`.
    pub hash_on: Option<HashOn>,
    /// What is hashed when a request has nothing of `hash_on`: `none` by default.
    pub hash_fallback: Option<HashOn>,
    /// The header of `hash_on: header`.
    pub hash_on_header: Option<String>,
    /// The header of `hash_fallback: header`.
    pub hash_fallback_header: Option<String>,
    /// The cookie of `hash_on: cookie` or `hash_fallback: cookie`. A client without it is given one.
    pub hash_on_cookie: Option<String>,
    /// The path of that cookie: `/` by default.
    pub hash_on_cookie_path: Option<String>,
    /// The query parameter of `hash_on: query_arg`.
    pub hash_on_query_arg: Option<String>,
    /// The query parameter of `hash_fallback: query_arg`.
    pub hash_fallback_query_arg: Option<String>,
    /// The group of `hash_on: uri_capture`: the name or number of one that the expression of a route's path has.
    pub hash_on_uri_capture: Option<String>,
    /// The group of `hash_fallback: uri_capture`.
    pub hash_fallback_uri_capture: Option<String>,
    /// Points on the ring of `consistent-hashing`, of all targets together, 10 to 65536: 10000 by default.
    pub slots: Option<u32>,
    /// The cookie of `algorithm: sticky-sessions`, which asks for it. A client without it is given one.
    pub sticky_sessions_cookie: Option<String>,
    /// The path of that cookie: `/` by default.
    pub sticky_sessions_cookie_path: Option<String>,
    /// Host header sent upstream unless the route preserves the client's.
    pub host_header: Option<String>,
    /// Whether the host of a target's SRV record is the Host header, unless `host_header` says another; it is also the
    /// name in TLS.
    pub use_srv_name: bool,
    /// How it is found out which targets are fit; all are by default.
    pub healthchecks: Option<Healthchecks>,
    /// Takes addresses out for a time that fail again and again. Off unless it is given; `{}` has its defaults.
    pub outlier_detection: Option<OutlierDetection>,
    /// Bounds of what is given to it at once. None unless it is given; `{}` has its defaults.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Gives new addresses their share little by little. Off unless it is given; `{}` has its defaults.
    pub slow_start: Option<SlowStart>,
    /// Who answers.
    pub targets: Vec<Target>,
    /// Targets that belong together, such as those of a version, for the destinations of routes.
    pub subsets: Vec<Subset>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}

/// One target.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Its id.
    pub id: Option<String>,
    /// `host:port`; port 8000 by default, as Kong has it. A host name is looked up in the background.
    pub target: String,
    /// Share of the requests, 0 to 65535: 100 by default; 0 takes none.
    pub weight: Option<u32>,
    /// Whether it is only asked when no target without this mark is fit.
    pub failover: bool,
    /// What it is, for `subsets`: `{version: v2}`.
    pub labels: BTreeMap<String, String>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}

/// How a target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// In turn, by weight, evenly spread (smooth weighted round-robin).
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way, for its weight.
    LeastConnections,
    /// Of two taken by chance the one with the lower latency (peak EWMA) times requests under way, for its weight.
    Latency,
    /// A client to the same target again, by a cookie that names it; one without a cookie, or whose target is out, in turn.
    StickySessions,
    /// Equal requests to the same target (ketama); `hash_on` says what makes them equal.
    ConsistentHashing,
    /// By chance, by weight.
    Random,
}

/// What of a request is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// Nothing.
    #[default]
    None,
    /// Who calls.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header,
    /// A cookie, which is set where it is missing.
    Cookie,
    /// The path.
    Path,
    /// A query parameter.
    QueryArg,
    /// What the expression of the route's path has captured.
    UriCapture,
}
