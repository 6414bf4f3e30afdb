//! What a route does with its requests beyond Kong, after Istio's virtual services.

use super::Reference;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of several places to which the requests of a route go. What it does not name is that of the route's service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Destination {
    /// Another service. Its key-auth does not stand before the route: a service with one of its own needs a route with one
    /// of its own, or one that asks for the same.
    pub service: Option<Reference>,
    /// Another upstream, by name or id, in place of the service's host.
    pub upstream: Option<Reference>,
    /// Only these targets of the upstream: the name of one of its `subsets`.
    pub subset: Option<String>,
    /// Share of the requests, 0 to 65535: 100 by default; 0 takes none.
    pub weight: Option<u32>,
}

/// What makes requests go to the same of several destinations.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sticky {
    /// What is hashed. A request without it goes by chance.
    pub hash_on: StickyOn,
    /// The header of `hash_on: header`.
    pub hash_on_header: Option<String>,
    /// The cookie of `hash_on: cookie`. It is one that clients have already: none is set.
    pub hash_on_cookie: Option<String>,
}

/// What of a request is hashed for its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StickyOn {
    /// Who calls, where a key-auth has found it out.
    #[default]
    Consumer,
    /// A header.
    Header,
    /// A cookie.
    Cookie,
}

/// Some targets of an upstream, told by their labels.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Subset {
    /// Its name, for destinations; events have it as `service_version`.
    pub name: String,
    /// Labels that a target must have, all of them.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// Copies of requests for another place, after Istio. A copy goes when its request's body is whole, in the background: its
/// answer is thrown away, and its failure or slowness never reaches the request. Its Host has `-shadow` at the end of the
/// name, unless that is an address of IPv6. Requests that ask for an upgrade have none. The event of the request says what
/// became of its copy: `extra['mirror']` is `sent`, `dropped_busy` beyond `gateway.limits.mirror_requests_max`,
/// `dropped_body` beyond `mirror_body_bytes_max`, or `dropped_unfinished` when the body was cut.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// Another service, as in `weighted_destinations`.
    pub service: Option<Reference>,
    /// Another upstream, by name or id, in place of the service's host.
    pub upstream: Option<Reference>,
    /// Only these targets of the upstream: the name of one of its `subsets`.
    pub subset: Option<String>,
    /// How many of the requests, 0 to 100: 100 by default.
    pub percentage: Option<f64>,
}

/// What goes upstream in place of what the client asked for; its path at most in one of three ways. The path of the
/// service stands before it as before any other, and the query goes on as it is. `$1`, `$name` and `${name}` are what an
/// expression has captured (in a file `$${name}`: `${NAME}` is a variable there), `$$` is a dollar. What is no path with
/// what was captured is answered with 400.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// The Host.
    pub host: Option<String>,
    /// The whole path, with captures of the route's own path: `/items/$id`.
    pub path: Option<String>,
    /// What takes the place of the part of the path that the route matched, with captures of it.
    pub prefix: Option<String>,
    /// An expression, and what takes the place of what it matches.
    pub regex: Option<PathRegex>,
}

/// A change by an expression.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PathRegex {
    /// The expression, of Rust's regex crate; it matches anywhere in the path, as often as it does.
    pub pattern: String,
    /// What takes the place of each match, with its captures.
    pub substitution: String,
}

/// Where the clients of a route are sent, with the query as it is. What is not given is that of the request; with another
/// scheme or host its port is left out. The path is changed as in `rewrite`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redirect {
    /// 301 (default), 302, 303, 307 or 308.
    pub status: Option<u16>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// A host name or address.
    pub host: Option<String>,
    /// A port.
    pub port: Option<u16>,
    /// The whole path, with captures of the route's own path: `/items/$id`.
    pub path: Option<String>,
    /// What takes the place of the part of the path that the route matched, with captures of it.
    pub prefix: Option<String>,
    /// An expression, and what takes the place of what it matches.
    pub regex: Option<PathRegex>,
}

/// Faults that some requests of a route are given on purpose, after their key-auth and before they go anywhere. The event
/// says so: `extra['fault']` is `delay`, `abort` or `delay,abort`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FaultInjection {
    /// They wait.
    pub delay: Option<FaultDelay>,
    /// They are refused.
    pub abort: Option<FaultAbort>,
}

/// A delay.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FaultDelay {
    /// How long, milliseconds: 1 to 600000.
    pub fixed_delay_ms: u64,
    /// How many of the requests, 0 to 100.
    pub percentage: Option<f64>,
}

/// A refusal.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FaultAbort {
    /// With which status, 400 to 599; gRPC clients get the status of gRPC that belongs to it.
    pub http_status: u16,
    /// How many of the requests, 0 to 100.
    pub percentage: Option<f64>,
}
