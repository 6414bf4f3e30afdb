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
