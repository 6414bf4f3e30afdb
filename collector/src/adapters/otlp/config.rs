//! What an operator can say about the export of spans.

use std::collections::BTreeMap;
use std::path::PathBuf;

use event::Problem;
use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The protocols of OTLP 1.x that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// OTLP/gRPC; receivers listen on port 4317 by convention.
    Grpc,
    /// OTLP/HTTP with binary protobuf; receivers listen on port 4318 by convention.
    Http,
}

/// Spans of sampled requests, exported by OTLP, which Jaeger and every OpenTelemetry collector take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Where to send spans, as in `http://jaeger:4317`; none turns the export off. With the protocol `http` the
    /// path `/v1/traces` is appended unless it stands there already.
    pub endpoint: Option<String>,
    /// How to send them.
    pub protocol: OtlpProtocol,
    /// Headers (gRPC metadata) of every request, for authentication say.
    pub headers: BTreeMap<String, String>,
    /// PEM file with the authorities to trust for `https`, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, connecting included, in milliseconds.
    pub timeout_ms: u32,
    /// Most spans in one request. A request holds whole events, so one with many attempts may exceed it.
    pub batch_spans_max: u32,
    /// Most spans waiting to be delivered; what comes beyond is dropped and counted.
    pub queue_spans_max: u32,
    /// How long a span may wait for its batch to fill, in milliseconds.
    pub interval_ms: u32,
    /// Pause before the first retry, in milliseconds; it doubles with each one, and is shortened at random by
    /// up to a half.
    pub retry_initial_ms: u32,
    /// Longest pause between retries, in milliseconds. A receiver that names a pause itself gets that one.
    pub retry_max_ms: u32,
    /// How long to retry one batch before it is dropped and counted, in milliseconds.
    pub retry_elapsed_max_ms: u32,
    /// Value of the resource attribute `service.name`.
    pub service_name: String,
    /// Further resource attributes, as in `deployment.environment.name: production`.
    pub resource_attributes: BTreeMap<String, String>,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: OtlpProtocol::Grpc,
            headers: BTreeMap::new(),
            ca_file: None,
            timeout_ms: 10_000,
            batch_spans_max: 512,
            queue_spans_max: 20_000,
            interval_ms: 1_000,
            retry_initial_ms: 500,
            retry_max_ms: 30_000,
            retry_elapsed_max_ms: 120_000,
            service_name: "tollhouse".to_owned(),
            resource_attributes: BTreeMap::new(),
        }
    }
}

impl OtlpConfig {
    /// What is wrong, each with its place under `path` (as in `collector.otlp`).
    pub fn validate(&self, path: &str) -> Vec<Problem> {
        let at_least_one = [
            ("timeout_ms", self.timeout_ms),
            ("batch_spans_max", self.batch_spans_max),
            ("interval_ms", self.interval_ms),
            ("retry_initial_ms", self.retry_initial_ms),
        ];
        let mut problems: Vec<Problem> = Problem::zeros(path, &at_least_one).collect();
        let mut refuse = |field: &str, message: &str, hint: Option<&str>| {
            problems.push(Problem {
                path: format!("{path}.{field}"),
                message: message.to_owned(),
                hint: hint.map(str::to_owned),
            });
        };
        if let Some(endpoint) = &self.endpoint
            && parse_endpoint(endpoint).is_none()
        {
            let hint = Some("as in http://127.0.0.1:4317");
            refuse("endpoint", "must be an http or https URL without a query", hint);
        }
        for (name, value) in &self.headers {
            if !is_header(name, value) {
                let message =
                    "is not a valid header of printable ASCII characters, or is one that OTLP itself sets";
                refuse(&format!("headers.{name}"), message, None);
            }
        }
        if self.queue_spans_max < self.batch_spans_max {
            refuse("queue_spans_max", "must be at least batch_spans_max", None);
        }
        if self.retry_max_ms < self.retry_initial_ms {
            refuse("retry_max_ms", "must be at least retry_initial_ms", None);
        }
        if self.service_name.is_empty() {
            refuse("service_name", "must not be empty", None);
        }
        problems
    }
}

/// An absolute `http` or `https` URL without a query; gives whether it is `https`.
pub(super) fn parse_endpoint(endpoint: &str) -> Option<(Uri, bool)> {
    let uri: Uri = endpoint.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let authority = uri.authority()?;
    (uri.query().is_none() && !authority.host().is_empty() && !authority.as_str().contains('@'))
        .then_some((uri, tls))
}

fn is_header(name: &str, value: &str) -> bool {
    const OWN: [&str; 5] = ["host", "content-type", "content-length", "te", "transfer-encoding"];
    let lower = name.to_ascii_lowercase();
    let binary = lower.ends_with("-bin");
    !binary
        && !lower.starts_with("grpc-")
        && !OWN.contains(&lower.as_str())
        && http::HeaderName::from_bytes(lower.as_bytes()).is_ok()
        && value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(config: &OtlpConfig) -> Vec<String> {
        config.validate("o").into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn defaults_are_valid_and_each_mistake_is_named() {
        assert!(paths(&OtlpConfig::default()).is_empty());
        let mut wrong =
            OtlpConfig { endpoint: Some("jaeger:4317".into()), timeout_ms: 0, ..Default::default() };
        wrong.headers.insert("Content-Type".into(), "x".into());
        wrong.headers.insert("authorization".into(), "line\nfeed".into());
        wrong.queue_spans_max = 1;
        let expected = [
            "o.timeout_ms",
            "o.endpoint",
            "o.headers.Content-Type",
            "o.headers.authorization",
            "o.queue_spans_max",
        ];
        assert_eq!(paths(&wrong), expected);
    }

    #[test]
    fn endpoints() {
        assert!(!parse_endpoint("http://127.0.0.1:4317").unwrap().1);
        assert!(parse_endpoint("https://a.example/otlp").unwrap().1);
        for wrong in ["", "/v1", "ftp://a", "http://", "http://a?b=c", "http://user:secret@a"] {
            assert!(parse_endpoint(wrong).is_none(), "{wrong}");
        }
    }
}
