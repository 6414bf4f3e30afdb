//! Which addresses of clients are not recorded whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule by which addresses of clients are cut before they are recorded. `client_ip` and `peer_ip` keep their first bits, and
/// `forwarded_for` is left out. What the gateway does with the request is the same.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Anonymize {
    /// Services by name; without any the rule is for every request, those without a service included.
    pub services: Vec<String>,
    /// Bits of an IPv4 address that are kept, 0 to 32.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that are kept, 0 to 128.
    pub ipv6_prefix: u8,
}

impl Default for Anonymize {
    fn default() -> Self {
        Self { services: Vec::new(), ipv4_prefix: 24, ipv6_prefix: 48 }
    }
}
