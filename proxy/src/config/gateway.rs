//! The `gateway` section: listeners, threads, limits, time-outs and trust.

use super::{Dns, UpstreamStates};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The data plane.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Threads, each with its own sockets, upstream connections and spool lane; 0 means one per core.
    pub threads: u16,
    /// Bounds of what one thread takes in.
    pub limits: Limits,
    /// How long the gateway waits for clients and keeps idle connections.
    pub timeouts: Timeouts,
    /// How names of upstreams are looked up.
    pub dns: Dns,
    /// How the state of upstreams is shown to the other parts.
    pub upstream_states: UpstreamStates,
    /// Addresses or networks (CIDR) whose `X-Forwarded-*`, `X-Request-Id` and source header are believed.
    pub trusted_ips: Vec<String>,
    /// PEM file of the authorities by which upstreams with TLS are believed, unless a service names its own
    /// `ca_certificates`. Without it those that Mozilla trusts, as of this version.
    pub upstream_roots: Option<PathBuf>,
    /// Whether each request is recorded as an event. Without it there are no rows, metrics or spans of the traffic;
    /// `X-Request-Id` and the trace headers are sent all the same.
    pub recording: bool,
    /// Header by which a trusted peer names the service that calls.
    pub source_service_header: String,
    /// Share of new traces that are sampled, 0 to 1. A trace that comes in keeps its own flag.
    pub sample_ratio: f64,
    /// Headers that the gateway adds to responses.
    pub headers: Vec<ResponseHeader>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: vec![Listen::default()],
            threads: 0,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            dns: Dns::default(),
            upstream_states: UpstreamStates::default(),
            trusted_ips: Vec::new(),
            upstream_roots: None,
            recording: true,
            source_service_header: "X-Tollhouse-Source".into(),
            sample_ratio: 1.0,
            headers: vec![ResponseHeader::XRequestId, ResponseHeader::ServerTiming],
        }
    }
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Name in events and in the start-up lines.
    #[serde(default = "Listen::default_name")]
    pub name: String,
    /// `ip:port`; port 0 takes a free one, which is printed.
    pub address: String,
    /// TLS (with HTTP/2 by ALPN); without it cleartext, HTTP/2 by prior knowledge.
    #[serde(default)]
    pub tls: Option<ListenTls>,
}

impl Listen {
    fn default_name() -> String {
        "http".into()
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { name: Self::default_name(), address: "0.0.0.0:8000".into(), tls: None }
    }
}

/// TLS of a listener. Certificates are chosen by the server name that the client asks for: first among `certificates`
/// here, then among the entities' `certificates` and `snis`, then `certificate`, then the entities' name `*`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenTls {
    /// PEM file of the certificate for clients whose server name has none, its chain after it.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
    /// Certificates of certain server names.
    pub certificates: Vec<NamedCertificate>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// PEM file of the authorities that may have signed those of clients.
    pub client_authorities: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub version_min: TlsVersionMin,
}

/// A certificate of certain server names.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedCertificate {
    /// PEM file of the certificate, its chain after it.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
    /// `example.com`, `*.example.com` or `example.*`.
    pub snis: Vec<String>,
}

/// Whether clients show a certificate. One that is shown must be valid; who it names stands in the event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They are asked, and may have none.
    Optional,
    /// Without one the handshake fails.
    Required,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersionMin {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Bounds. Sizes are bytes on the wire.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most client connections of one thread; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest request head; beyond it 431.
    pub header_bytes_max: usize,
    /// Most header lines; beyond it 431.
    pub header_count_max: usize,
    /// Longest request line; beyond it 414.
    pub request_line_bytes_max: usize,
    /// Longest request body; beyond it 413. 0 means no bound.
    pub body_bytes_max: u64,
    /// Longest chunk of a chunked request body; beyond it 400.
    pub chunk_bytes_max: u64,
    /// Longest trailer section of a request; beyond it 431.
    pub trailer_bytes_max: usize,
    /// Most bytes of a refused request's body that are read so that its connection can serve on; a longer one
    /// closes it.
    pub drain_bytes_max: usize,
    /// Most bytes that come before an upgrade is answered.
    pub held_bytes_max: usize,
    /// Most streams that a client may have open on one HTTP/2 connection.
    pub h2_streams_max: u32,
    /// Most idle upstream connections that one thread keeps for one target.
    pub upstream_idle_max: usize,
    /// Most requests at once on one HTTP/2 connection to an upstream; with more, a further connection is opened.
    pub upstream_streams_max: usize,
    /// Longest head of an upstream's response.
    pub response_header_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            header_bytes_max: 32 << 10,
            header_count_max: 100,
            request_line_bytes_max: 8 << 10,
            body_bytes_max: 0,
            chunk_bytes_max: 1 << 40,
            trailer_bytes_max: 8 << 10,
            drain_bytes_max: 64 << 10,
            held_bytes_max: 16 << 10,
            h2_streams_max: 256,
            upstream_idle_max: 512,
            upstream_streams_max: 100,
            response_header_bytes_max: 64 << 10,
        }
    }
}

/// Time-outs towards clients, and of what is kept. Those towards upstreams belong to each service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Longest time for a TLS handshake and for a request head, from its first byte; beyond it 408.
    pub header_timeout_ms: u64,
    /// How long a client connection may be idle between requests.
    pub idle_timeout_ms: u64,
    /// Longest pause of a client within a body, sending or receiving; beyond it 408 or close.
    pub body_idle_timeout_ms: u64,
    /// Longest silence of an upgraded connection, both ways together.
    pub tunnel_idle_timeout_ms: u64,
    /// How long an idle upstream connection is kept.
    pub upstream_idle_timeout_ms: u64,
    /// How long a closing connection is drained so that the client can read the last response.
    pub linger_timeout_ms: u64,
    /// How long requests in flight may take to end once the gateway is told to stop; the rest is cut.
    pub drain_timeout_ms: u64,
    /// How often time-outs are looked at; they come at most twice this late.
    pub sweep_interval_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            body_idle_timeout_ms: 60_000,
            tunnel_idle_timeout_ms: 3_600_000,
            upstream_idle_timeout_ms: 60_000,
            linger_timeout_ms: 2_000,
            drain_timeout_ms: 10_000,
            sweep_interval_ms: 50,
        }
    }
}

/// A header that the gateway can add to responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResponseHeader {
    /// The id of the request, 32 hexadecimal digits.
    #[serde(rename = "X-Request-Id")]
    XRequestId,
    /// Time in gateway and upstream, milliseconds (W3C Server Timing).
    #[serde(rename = "Server-Timing")]
    ServerTiming,
    /// Protocol and name of the gateway (RFC 9110, 7.6.3).
    Via,
    /// The id of the request, as Kong names it.
    #[serde(rename = "X-Kong-Request-Id")]
    XKongRequestId,
    /// Time until the upstream's response head, milliseconds; of proxied responses.
    #[serde(rename = "X-Kong-Upstream-Latency")]
    XKongUpstreamLatency,
    /// Time in the gateway, milliseconds; of proxied responses.
    #[serde(rename = "X-Kong-Proxy-Latency")]
    XKongProxyLatency,
    /// Time in the gateway, milliseconds; of responses that it makes by itself.
    #[serde(rename = "X-Kong-Response-Latency")]
    XKongResponseLatency,
}
