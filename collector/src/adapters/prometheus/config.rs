//! What an operator can say about the metrics listener.

use std::net::{Ipv4Addr, SocketAddr};

use event::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prometheus metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address of the listener. Keep it on loopback or a private network: metrics name consumers and routes.
    pub listen: SocketAddr,
    /// Most label sets of one metric family. What comes beyond is counted in one series whose label values are
    /// `__overflow__`. A histogram counts once however many buckets it has.
    pub series_max: u32,
    /// Upper bounds of the histogram buckets, in microseconds, ascending.
    pub duration_bounds_us: Vec<u32>,
    /// Most connections at a time; further ones wait in the listen queue.
    pub connections_max: u16,
    /// How long a client may take to send the head of a request, in milliseconds.
    pub header_timeout_ms: u32,
    /// How long a client may accept no byte of a response before it is cut off, in milliseconds.
    pub write_stall_ms: u32,
    /// Not ready when the collector has not gone round for so long, in milliseconds.
    pub stale_ms: u32,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8100)),
            series_max: 10_000,
            duration_bounds_us: vec![
                500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
                2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
            ],
            connections_max: 64,
            header_timeout_ms: 10_000,
            write_stall_ms: 10_000,
            stale_ms: 10_000,
        }
    }
}

/// Most buckets: each is a series of every histogram.
const BOUNDS_MAX: usize = 64;

impl MetricsConfig {
    /// What is wrong, each with its place under `path` (as in `collector.metrics`).
    pub fn validate(&self, path: &str) -> Vec<Problem> {
        let at_least_one = [
            ("connections_max", u32::from(self.connections_max)),
            ("header_timeout_ms", self.header_timeout_ms),
            ("write_stall_ms", self.write_stall_ms),
            ("stale_ms", self.stale_ms),
        ];
        let mut problems: Vec<Problem> = Problem::zeros(path, &at_least_one).collect();
        let mut refuse = |field: &str, message: &str, hint: Option<&str>| {
            problems.push(Problem {
                path: format!("{path}.{field}"),
                message: message.to_owned(),
                hint: hint.map(str::to_owned),
            });
        };
        if self.series_max == 0 || self.series_max > 1_000_000 {
            refuse("series_max", "must be between 1 and 1000000", None);
        }
        if self.duration_bounds_us.is_empty() || self.duration_bounds_us.len() > BOUNDS_MAX {
            refuse("duration_bounds_us", "must hold 1 to 64 bounds", None);
        }
        if !self.duration_bounds_us.is_sorted_by(|a, b| a < b) {
            refuse("duration_bounds_us", "must ascend without repeats", Some("sort the list"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_mistake_is_named() {
        assert!(MetricsConfig::default().validate("collector.metrics").is_empty());
        let wrong = MetricsConfig {
            series_max: 0,
            duration_bounds_us: vec![5, 5],
            stale_ms: 0,
            ..MetricsConfig::default()
        };
        let paths: Vec<_> = wrong.validate("m").into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["m.stale_ms", "m.series_max", "m.duration_bounds_us"]);
    }
}
