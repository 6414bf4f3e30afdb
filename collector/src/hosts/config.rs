//! What an operator can say about other hosts.

use std::net::SocketAddr;
use std::path::PathBuf;

use event::{Problem, Secret, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where rows go instead of to local files: collectors on other hosts that receive them (`collector.receive`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardConfig {
    /// The collectors, as in `grpcs://central.example:8300` (TLS) or `grpc://127.0.0.1:8300`; none stores rows locally.
    /// The first one that answers is used, and kept until it fails; then the next.
    pub to: Vec<String>,
    /// What says that this host may send: one of the receivers' `tokens`.
    pub token: Secret,
    /// PEM file with the authorities to trust for `grpcs`, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Whether token and rows may go over `grpc://` to a host other than this one.
    pub allow_plaintext: bool,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: u32,
    /// How long a batch that was sent may wait for its acknowledgement, in milliseconds; then the connection is given up
    /// and the batch is sent again.
    pub ack_timeout_ms: u32,
    /// Most batches that are sent and not acknowledged. Further events wait in the spool.
    pub in_flight_batches_max: u32,
    /// How long nothing may be acknowledged before the next collector takes the place of this one, in milliseconds.
    pub failover_ms: u32,
    /// Longest pause between two attempts to connect, in milliseconds.
    pub retry_interval_ms: u32,
}

/// Rows of other hosts, which collectors there send (`collector.forward`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiveConfig {
    /// Address of the listener; none receives nothing. The usual port is 8300.
    pub listen: Option<SocketAddr>,
    /// Certificate and key of the listener. Without them it speaks plain text.
    pub tls: TlsFiles,
    /// Whether a listener that other hosts reach may speak plain text.
    pub allow_plaintext: bool,
    /// What senders say to be let in, each at least 16 bytes: one for all, or one for each.
    pub tokens: Vec<Secret>,
    /// Most connections at a time; further ones wait in the listen queue.
    pub connections_max: u32,
    /// Most hosts that may have sent something since the start.
    pub senders_max: u32,
    /// Most bytes of one message: of the rows of a batch, or of the different texts of one of its columns.
    pub batch_bytes_max: u32,
    /// Most batches that wait to be stored; and, for each connection, to be acknowledged. Senders wait meanwhile.
    pub queue_batches_max: u32,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            token: Secret::default(),
            ca_file: None,
            allow_plaintext: false,
            connect_timeout_ms: 5_000,
            ack_timeout_ms: 10_000,
            in_flight_batches_max: 8,
            failover_ms: 30_000,
            retry_interval_ms: 1_000,
        }
    }
}

impl Default for ReceiveConfig {
    fn default() -> Self {
        Self {
            listen: None,
            tls: TlsFiles::default(),
            allow_plaintext: false,
            tokens: Vec::new(),
            connections_max: 256,
            senders_max: 256,
            batch_bytes_max: 64 << 20,
            queue_batches_max: 64,
        }
    }
}

impl ForwardConfig {
    /// Whether rows go to other hosts.
    pub fn is_on(&self) -> bool {
        !self.to.is_empty()
    }

    /// What is wrong, each with its place under `path` (as in `collector.forward`).
    pub(crate) fn validate(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let times = [
            ("connect_timeout_ms", self.connect_timeout_ms, 10, 600_000),
            ("ack_timeout_ms", self.ack_timeout_ms, 10, 600_000),
            ("in_flight_batches_max", self.in_flight_batches_max, 1, 1_024),
            ("failover_ms", self.failover_ms, 10, 86_400_000),
            ("retry_interval_ms", self.retry_interval_ms, 10, 600_000),
        ];
        problems.extend(times.into_iter().filter_map(|bounds| Problem::out_of_range(path, bounds)));
        for (index, url) in self.to.iter().enumerate() {
            let place = format!("{path}.to[{index}]");
            let problem = match parse(url) {
                None => Some(
                    Problem::new(&place, "must be grpc://host:port or grpcs://host:port")
                        .hint("as in grpcs://central.example:8300"),
                ),
                Some(target) if !target.tls && !target.is_local() && !self.allow_plaintext => Some(
                    Problem::new(&place, "would send the token and every row in plain text")
                        .hint("use grpcs://, or say allow_plaintext: true for a network that you trust"),
                ),
                Some(_) if self.to[..index].contains(url) => {
                    Some(Problem::new(&place, "stands there twice").hint("leave one of them away"))
                }
                Some(_) => None,
            };
            problems.extend(problem);
        }
        if self.is_on() {
            problems.extend(self.token.token_problem(&format!("{path}.token")));
        }
        problems
    }
}

impl ReceiveConfig {
    /// What is wrong, each with its place under `path` (as in `collector.receive`).
    pub(crate) fn validate(&self, path: &str) -> Vec<Problem> {
        let bounds = [
            ("connections_max", self.connections_max, 1, 100_000),
            ("senders_max", self.senders_max, 1, 100_000),
            ("batch_bytes_max", self.batch_bytes_max, 1 << 16, 1 << 30),
            ("queue_batches_max", self.queue_batches_max, 1, 10_000),
        ];
        let mut problems: Vec<Problem> =
            bounds.into_iter().filter_map(|bounds| Problem::out_of_range(path, bounds)).collect();
        problems.extend(self.tls.problems(path, self.listen, self.allow_plaintext));
        if self.listen.is_none() {
            return problems;
        }
        if self.tokens.is_empty() {
            let hint =
                "as in tokens: ['${TOLLHOUSE_TOKEN}'], and the same as collector.forward.token of senders";
            problems.push(Problem::new(format!("{path}.tokens"), "empty: nobody could send").hint(hint));
        }
        for (index, token) in self.tokens.iter().enumerate() {
            problems.extend(token.token_problem(&format!("{path}.tokens[{index}]")));
        }
        problems
    }
}

/// What a URL of a receiver says.
pub(super) struct Target {
    pub(super) tls: bool,
    host: String,
    /// As the gRPC library wants it.
    pub(super) http: String,
}

impl Target {
    fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

/// Takes a URL of a receiver apart.
pub(super) fn parse(url: &str) -> Option<Target> {
    let (scheme, authority) = url.split_once("://")?;
    let tls = match scheme {
        "grpc" => false,
        "grpcs" => true,
        _ => return None,
    };
    let http = format!("{}://{authority}", if tls { "https" } else { "http" });
    let uri: http::Uri = http.parse().ok()?;
    let parsed = uri.authority()?;
    let whole = parsed.as_str() == authority && parsed.port_u16().is_some() && !authority.contains('@');
    let host = parsed.host().to_owned();
    (whole && !host.is_empty()).then_some(Target { tls, host, http })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn places(problems: Vec<Problem>) -> Vec<String> {
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn both_are_off_unless_they_are_asked_for() {
        assert!(ForwardConfig::default().validate("f").is_empty());
        assert!(ReceiveConfig::default().validate("r").is_empty());
        assert!(!ForwardConfig::default().is_on());
    }

    #[test]
    fn plain_text_leaves_this_host_only_if_that_is_said() {
        let mut config = ForwardConfig { token: TOKEN.into(), ..ForwardConfig::default() };
        config.to = ["grpc://127.0.0.1:1", "grpc://[::1]:1", "grpc://localhost:1", "grpcs://a.example:1"]
            .map(str::to_owned)
            .to_vec();
        assert!(config.validate("f").is_empty());
        config.to = vec!["grpc://10.0.0.1:8300".into()];
        assert_eq!(places(config.validate("f")), ["f.to[0]"]);
        config.allow_plaintext = true;
        assert!(config.validate("f").is_empty());

        let mut config = ReceiveConfig { tokens: vec![TOKEN.into()], ..ReceiveConfig::default() };
        config.listen = Some("127.0.0.1:0".parse().unwrap());
        assert!(config.validate("r").is_empty());
        config.listen = Some("0.0.0.0:8300".parse().unwrap());
        assert_eq!(places(config.validate("r")), ["r.listen"]);
        config.allow_plaintext = true;
        assert!(config.validate("r").is_empty());
        config.allow_plaintext = false;
        config.tls.cert_file = Some("a.pem".into());
        assert_eq!(places(config.validate("r")), ["r.tls.key_file"]);
    }

    #[test]
    fn each_mistake_is_named() {
        let mut config = ForwardConfig { ack_timeout_ms: 0, ..ForwardConfig::default() };
        config.to = [
            "central:8300",
            "grpc://127.0.0.1",
            "grpcs://a@b:1",
            "grpcs://a:1/x",
            "grpcs://a:1",
            "grpcs://a:1",
        ]
        .map(str::to_owned)
        .to_vec();
        let expected = ["f.ack_timeout_ms", "f.to[0]", "f.to[1]", "f.to[2]", "f.to[3]", "f.to[5]", "f.token"];
        assert_eq!(places(config.validate("f")), expected);
        let mut config =
            ReceiveConfig { listen: Some("127.0.0.1:1".parse().unwrap()), ..ReceiveConfig::default() };
        assert_eq!(places(config.validate("r")), ["r.tokens"]);
        config.tokens = vec!["short".into(), "with a blank in it".into()];
        assert_eq!(places(config.validate("r")), ["r.tokens[0]", "r.tokens[1]"]);
        assert!(!format!("{config:?}").contains("short"), "a token is shown nowhere");
    }
}
