//! Events as OpenTelemetry spans.
//!
//! One SERVER span per request and one CLIENT span per attempt at an upstream, its child, named and described by
//! the stable semantic conventions for HTTP (opentelemetry.io/docs/specs/semconv/http/http-spans). What they have
//! no name for is under `tollhouse.`. `url.full` of attempts is left out: an event does not hold the URL that was
//! sent upstream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use event::{ABSENT_U16, Attempt, AttemptError, Outcome, Protocol, Text};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::capture::Captured;
use super::config::OtlpConfig;

/// Span flags (trace.proto): the W3C sampled flag, that the parent's place is known, that it is elsewhere.
const SAMPLED: u32 = 0x1;
const PARENT_PLACE_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// Attributes every span of a node shares.
#[derive(Clone, Debug)]
pub(super) struct ResourceTemplate {
    attributes: Vec<KeyValue>,
    /// Whether the configuration names the instance itself.
    instance_named: bool,
}

impl ResourceTemplate {
    /// The resource that a configuration describes.
    pub(super) fn new(config: &OtlpConfig) -> Self {
        let mut attributes = vec![
            text("service.name", config.service_name.clone()),
            text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        for (name, value) in &config.resource_attributes {
            attributes.retain(|attribute| attribute.key != *name);
            attributes.push(text(name, value.clone()));
        }
        let instance_named = config.resource_attributes.contains_key("service.instance.id");
        Self { attributes, instance_named }
    }

    fn of(&self, node: &str) -> Resource {
        let mut attributes = self.attributes.clone();
        if !self.instance_named {
            attributes.push(text("service.instance.id", node.to_owned()));
        }
        Resource { attributes, ..Resource::default() }
    }
}

/// The request that exports these events: one resource per node.
pub(super) fn request(events: &[Captured], template: &ResourceTemplate) -> ExportTraceServiceRequest {
    let mut nodes: BTreeMap<Arc<str>, Vec<Span>> = BTreeMap::new();
    for event in events {
        let spans = nodes.entry(Arc::clone(&event.node)).or_default();
        spans.push(server(event));
        let client = event.attempts().enumerate().map(|(index, attempt)| client(event, index, &attempt));
        spans.extend(client);
    }
    let scope = InstrumentationScope {
        name: "tollhouse".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let resource_spans = nodes.into_iter().map(|(node, spans)| ResourceSpans {
        resource: Some(template.of(&node)),
        scope_spans: vec![ScopeSpans { scope: Some(scope.clone()), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn server(event: &Captured) -> Span {
    let head = &event.head;
    let (method, original) = method(event);
    let route = event.text(Text::Route);
    let word = span_word(event.protocol, method);
    let name = match &route {
        Some(route) => format!("{word} {route}"),
        None => word.to_owned(),
    };
    let version = protocol_version(event.protocol);
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", version.map(|_| method.to_owned()));
    attributes.text("http.request.method_original", original);
    attributes.text("url.scheme", Some(event.scheme.as_str().to_owned()));
    attributes.text("url.path", event.text(Text::Path));
    attributes.text("url.query", event.text(Text::Query));
    if let Some(host) = event.text(Text::Host) {
        let (address, port) = split_authority(&host);
        attributes.text("server.address", Some(address.to_owned()));
        attributes.integer("server.port", port.map(u64::from));
    }
    attributes.text("client.address", ip(head.client_ip));
    attributes.text("network.peer.address", ip(head.peer_ip));
    attributes.text("network.protocol.name", version.map(|_| "http".to_owned()));
    attributes.text("network.protocol.version", version.map(str::to_owned));
    attributes.text("user_agent.original", event.text(Text::UserAgent));
    attributes.text("http.route", route);
    attributes.integer("http.response.status_code", status(head.status).map(u64::from));
    attributes.integer("http.request.body.size", Some(head.request_bytes));
    attributes.integer("http.response.body.size", Some(head.response_bytes));
    if head.grpc_status != ABSENT_U16 {
        attributes.integer("rpc.grpc.status_code", Some(u64::from(head.grpc_status)));
    }
    attributes.text("tollhouse.request_id", (head.request_id != [0; 16]).then(|| hex(&head.request_id)));
    attributes.text("tollhouse.outcome", Some(event.outcome.as_str().to_owned()));
    attributes.text("tollhouse.consumer", event.text(Text::Consumer));
    attributes.text("tollhouse.service", event.text(Text::Service));
    attributes.text("tollhouse.service_version", event.text(Text::ServiceVersion));
    attributes.text("tollhouse.upstream", event.text(Text::Upstream));
    attributes.text("tollhouse.source_service", event.text(Text::SourceService));
    attributes.text("tollhouse.workspace", event.text(Text::Workspace));

    // A server span fails with 5xx, or without any status; a client that went away is no failure of the server.
    let failed = match status(head.status) {
        Some(status) => status >= 500,
        None => !matches!(event.outcome, Outcome::Ok | Outcome::ClientClosed),
    };
    if failed {
        let error = match (event.outcome, status(head.status)) {
            (Outcome::Ok, Some(status)) => status.to_string(),
            (outcome, _) => outcome.as_str().to_owned(),
        };
        attributes.text("error.type", Some(error));
    }
    let has_parent = head.parent_span_id != [0; 8];
    Span {
        trace_id: head.trace_id.to_vec(),
        span_id: head.span_id.to_vec(),
        parent_span_id: if has_parent { head.parent_span_id.to_vec() } else { Vec::new() },
        flags: SAMPLED | PARENT_PLACE_KNOWN | if has_parent { PARENT_REMOTE } else { 0 },
        name,
        kind: SpanKind::Server as i32,
        start_time_unix_nano: nanos(head.time_us, 0),
        end_time_unix_nano: nanos(head.time_us, u64::from(head.duration_us)),
        attributes: attributes.0,
        status: span_status(failed, event.text(Text::Error)),
        ..Span::default()
    }
}

fn client(event: &Captured, index: usize, attempt: &Attempt<'_>) -> Span {
    let head = &event.head;
    let (method, original) = method(event);
    let mut attributes = Attributes::default();
    let http = protocol_version(event.protocol).is_some();
    attributes.text("http.request.method", http.then(|| method.to_owned()));
    attributes.text("http.request.method_original", original);
    let addr = String::from_utf8_lossy(attempt.addr);
    if !addr.is_empty() {
        let (address, port) = split_authority(&addr);
        attributes.text("server.address", Some(address.to_owned()));
        attributes.integer("server.port", port.map(u64::from));
        if let Ok(peer) = addr.parse::<SocketAddr>() {
            attributes.text("network.peer.address", Some(peer.ip().to_string()));
            attributes.integer("network.peer.port", Some(u64::from(peer.port())));
        }
    }
    attributes.integer("http.response.status_code", status(attempt.status).map(u64::from));
    attributes.integer("http.request.resend_count", (index > 0).then_some(index as u64));
    attributes.text("tollhouse.service", event.text(Text::Service));
    attributes.text("tollhouse.upstream", event.text(Text::Upstream));
    attributes.flag("tollhouse.connection_reused", attempt.reused);

    // A client span fails with 4xx and 5xx, and when the attempt broke.
    let error = match (attempt.error, status(attempt.status)) {
        (AttemptError::None, Some(status)) => (status >= 400).then(|| status.to_string()),
        (AttemptError::None, None) => None,
        (error, _) => Some(error.as_str().to_owned()),
    };
    let failed = error.is_some();
    attributes.text("error.type", error);
    let start_us = u64::from(attempt.start_us);
    Span {
        trace_id: head.trace_id.to_vec(),
        span_id: attempt_span_id(head.span_id, index, attempt).to_vec(),
        parent_span_id: head.span_id.to_vec(),
        flags: SAMPLED | PARENT_PLACE_KNOWN,
        name: span_word(event.protocol, method).to_owned(),
        kind: SpanKind::Client as i32,
        start_time_unix_nano: nanos(head.time_us, start_us),
        end_time_unix_nano: nanos(head.time_us, start_us + u64::from(attempt.duration_us)),
        attributes: attributes.0,
        status: span_status(failed, None),
        ..Span::default()
    }
}

/// The id sent upstream. An attempt that never came to send one still needs an id that is its own.
fn attempt_span_id(server: [u8; 8], index: usize, attempt: &Attempt<'_>) -> [u8; 8] {
    if attempt.span_id != [0; 8] {
        return attempt.span_id;
    }
    let made = u64::from_be_bytes(server).wrapping_add(index as u64 + 1);
    if made == 0 { u64::MAX.to_be_bytes() } else { made.to_be_bytes() }
}

fn span_status(failed: bool, message: Option<String>) -> Option<Status> {
    failed.then(|| Status { message: message.unwrap_or_default(), code: StatusCode::Error as i32 })
}

/// A method the conventions know, or `_OTHER` and what it was.
fn method(event: &Captured) -> (&'static str, Option<String>) {
    let original = event.text(Text::Method).unwrap_or_default();
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    match KNOWN.iter().find(|known| **known == original) {
        Some(known) => (known, None),
        None => ("_OTHER", (!original.is_empty()).then_some(original)),
    }
}

/// The first word of a span's name: the method, `HTTP` for `_OTHER`; of streams their protocol.
fn span_word(protocol: Protocol, method: &str) -> &str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Tls => "TLS",
        _ if method == "_OTHER" => "HTTP",
        _ => method,
    }
}

fn status(status: u16) -> Option<u16> {
    (100..=599).contains(&status).then_some(status)
}

/// The version of HTTP; none of streams.
fn protocol_version(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::H1 | Protocol::Websocket => Some("1.1"),
        Protocol::H2 | Protocol::Grpc => Some("2"),
        Protocol::H3 => Some("3"),
        Protocol::Tcp | Protocol::Tls => None,
    }
}

/// Nanoseconds since the epoch; what is before it is the epoch.
fn nanos(time_us: i64, after_us: u64) -> u64 {
    u64::try_from(time_us).unwrap_or_default().saturating_add(after_us).saturating_mul(1_000)
}

fn ip(address: [u8; 16]) -> Option<String> {
    event::ip_from_bytes(address).map(|address| address.to_string())
}

/// `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split_authority(authority: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Attributes of one span; what is absent is left out.
#[derive(Debug, Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, key: &str, value: Option<String>) {
        self.0.extend(value.map(|value| text(key, value)));
    }

    fn integer(&mut self, key: &str, value: Option<u64>) {
        let value = value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        self.0.extend(value.map(|value| attribute(key, Value::IntValue(value))));
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.0.push(attribute(key, Value::BoolValue(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        assert_eq!(split_authority("a.example"), ("a.example", None));
        assert_eq!(split_authority("a.example:8443"), ("a.example", Some(8443)));
        assert_eq!(split_authority("[::1]:80"), ("::1", Some(80)));
        assert_eq!(split_authority("[::1]"), ("::1", None));
        assert_eq!(split_authority("::1"), ("::1", None));
    }

    #[test]
    fn addresses() {
        assert_eq!(ip([0; 16]), None);
        assert_eq!(ip(event::ip_bytes([10, 0, 0, 7].into())).unwrap(), "10.0.0.7");
        assert_eq!(ip(std::net::Ipv6Addr::LOCALHOST.octets()).unwrap(), "::1");
    }
}
