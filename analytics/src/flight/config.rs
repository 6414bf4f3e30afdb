//! What an operator says about the Flight SQL door.

use std::net::SocketAddr;

use event::{Problem, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::open_to_all;

/// SQL for clients of Arrow Flight SQL: ADBC and JDBC drivers, DBeaver, pandas, Polars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlightConfig {
    /// Address of the listener; null turns it off. Loopback unless you decide otherwise.
    pub listen: Option<SocketAddr>,
    /// Certificate and key of the listener. Without them it speaks plain text.
    pub tls: TlsFiles,
    /// Whether a listener that other hosts reach may speak plain text.
    pub allow_plaintext: bool,
    /// Connections at one time; further ones wait in the listen queue.
    pub connections_max: u16,
    /// Calls that one connection may have open at one time; further ones wait at the client.
    pub calls_max: u16,
    /// Longest message of a client, in bytes: a statement with its parameters, or the ticket that holds them.
    pub message_bytes_max: u32,
}

impl Default for FlightConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8815))),
            tls: TlsFiles::default(),
            allow_plaintext: false,
            connections_max: 100,
            calls_max: 32,
            message_bytes_max: 4 << 20,
        }
    }
}

impl FlightConfig {
    /// What is wrong, each with its place under `path` (as in `analytics.flight`). `open` is whether everybody who reaches
    /// the service may ask without its operator having said so.
    pub(crate) fn problems(&self, path: &str, open: bool) -> Vec<Problem> {
        let bounds = [
            ("connections_max", self.connections_max.into(), 1, 10_000),
            ("calls_max", self.calls_max.into(), 1, 1_000),
            ("message_bytes_max", self.message_bytes_max, 1 << 16, 64 << 20),
        ];
        let mut problems: Vec<Problem> =
            bounds.into_iter().filter_map(|bounds| Problem::out_of_range(path, bounds)).collect();
        problems.extend(self.tls.problems(path, self.listen, self.allow_plaintext));
        problems.extend(self.listen.filter(|_| open).and_then(|listen| open_to_all(path, listen)));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(config: &FlightConfig, open: bool) -> Vec<String> {
        config.problems("f", open).into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn what_other_hosts_reach_needs_tokens_and_tls() {
        let mut config = FlightConfig::default();
        assert!(places(&config, true).is_empty(), "loopback is for everybody on this host");
        config.listen = Some("0.0.0.0:8815".parse().unwrap());
        assert_eq!(places(&config, true), ["f.listen", "f.listen"]);
        config.allow_plaintext = true;
        assert_eq!(places(&config, true), ["f.listen"]);
        assert!(places(&config, false).is_empty());
        config.allow_plaintext = false;
        config.tls.cert_file = Some("a.pem".into());
        assert_eq!(places(&config, false), ["f.tls.key_file"]);
        config.tls.key_file = Some("a.key".into());
        assert!(places(&config, false).is_empty());
        config.listen = None;
        (config.connections_max, config.message_bytes_max) = (0, 1);
        assert_eq!(places(&config, true), ["f.connections_max", "f.message_bytes_max"]);
    }
}
