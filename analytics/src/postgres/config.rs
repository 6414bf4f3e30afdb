//! What an operator says about the PostgreSQL door.

use std::net::SocketAddr;

use event::{Problem, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::open_to_all;

/// SQL for clients of PostgreSQL: psql, psycopg, JDBC, Grafana.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// Address of the listener; null turns it off. Loopback unless you decide otherwise.
    pub listen: Option<SocketAddr>,
    /// Certificate and key of the listener. Without them it speaks plain text.
    pub tls: TlsFiles,
    /// Whether a listener that other hosts reach may speak plain text.
    pub allow_plaintext: bool,
    /// Clients that are let in at one time; one more is refused. A few more connections may be saying who they are.
    pub connections_max: u16,
    /// How long a client may take to say who it is, in milliseconds.
    pub startup_timeout_ms: u32,
    /// How long a client that was let in may be silent, in milliseconds.
    pub idle_timeout_ms: u32,
    /// What the prepared statements and bound parameters of one connection may take, in bytes.
    pub prepared_bytes_max: u32,
    /// Answers of one connection that may be fetched in parts at one time. Each keeps its turn meanwhile.
    pub portals_max: u16,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8432))),
            tls: TlsFiles::default(),
            allow_plaintext: false,
            connections_max: 100,
            startup_timeout_ms: 10_000,
            idle_timeout_ms: 1_800_000,
            prepared_bytes_max: 4 << 20,
            portals_max: 16,
        }
    }
}

impl PostgresConfig {
    /// What is wrong, each with its place under `path` (as in `analytics.postgres`). `open` is whether everybody who
    /// reaches the service may ask without its operator having said so.
    pub(crate) fn problems(&self, path: &str, open: bool) -> Vec<Problem> {
        let bounds = [
            ("connections_max", self.connections_max.into(), 1, 10_000),
            ("startup_timeout_ms", self.startup_timeout_ms, 10, 600_000),
            ("idle_timeout_ms", self.idle_timeout_ms, 1_000, u32::MAX),
            ("prepared_bytes_max", self.prepared_bytes_max, 1 << 16, 1 << 30),
            ("portals_max", self.portals_max.into(), 1, 1_000),
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

    fn places(config: &PostgresConfig, open: bool) -> Vec<String> {
        config.problems("p", open).into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn what_other_hosts_reach_needs_tokens_and_tls() {
        let mut config = PostgresConfig::default();
        assert!(places(&config, true).is_empty(), "loopback is for everybody on this host");
        config.listen = Some("0.0.0.0:8432".parse().unwrap());
        assert_eq!(places(&config, true), ["p.listen", "p.listen"]);
        config.allow_plaintext = true;
        assert_eq!(places(&config, true), ["p.listen"]);
        assert!(places(&config, false).is_empty());
        config.allow_plaintext = false;
        config.tls.cert_file = Some("a.pem".into());
        assert_eq!(places(&config, false), ["p.tls.key_file"]);
        config.tls.key_file = Some("a.key".into());
        assert!(places(&config, false).is_empty());
        config.listen = None;
        config.connections_max = 0;
        assert_eq!(places(&config, true), ["p.connections_max"]);
    }
}
