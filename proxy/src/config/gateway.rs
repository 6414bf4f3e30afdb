//! The `gateway` section: listeners, threads, limits, time-outs and trust.

use super::{Anonymize, Dns, UpstreamStates};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The data plane.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Where clients of TCP and TLS streams connect: routes of `tcp`, `tls` and `tls_passthrough`.
    pub stream_listen: Vec<StreamListen>,
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
    /// Which addresses of clients are not recorded whole; the first rule that is for a request counts.
    pub anonymize: Vec<Anonymize>,
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
            stream_listen: Vec::new(),
            threads: 0,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            dns: Dns::default(),
            upstream_states: UpstreamStates::default(),
            trusted_ips: Vec::new(),
            upstream_roots: None,
            recording: true,
            anonymize: Vec::new(),
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
    /// Whether connections begin with a header of the PROXY protocol, version 1 or 2, by which a load balancer says who
    /// its client is. Only balancers of `trusted_ips` may.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
}

/// One listener of streams.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamListen {
    /// Name in events.
    #[serde(default = "StreamListen::default_name")]
    pub name: String,
    /// `ip:port`; port 0 takes a free one, which is printed.
    pub address: String,
    /// Clients begin with TLS, which ends here for routes of `tls`; routes of `tls_passthrough` have it passed through.
    #[serde(default)]
    pub tls: Option<ListenTls>,
    /// Clients begin with TLS, and there are routes of `tls_passthrough` only: no certificate is needed.
    #[serde(default)]
    pub passthrough: bool,
    /// Whether connections begin with a header of the PROXY protocol, as of `listen`.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
}

impl StreamListen {
    fn default_name() -> String {
        "stream".into()
    }
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// No: such a header is no request, and refused.
    #[default]
    Off,
    /// Those of trusted peers may; others are not asked, and are refused if they do.
    Accept,
    /// All must, and come from trusted peers; others are closed.
    Require,
}

impl Listen {
    fn default_name() -> String {
        "http".into()
    }
}

impl Default for Listen {
    fn default() -> Self {
        let (name, address) = (Self::default_name(), "0.0.0.0:8000".into());
        Self { name, address, tls: None, proxy_protocol: ProxyProtocol::default() }
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
    /// Most client connections, of all threads and listeners together. Further ones are told 503 and closed, or reset
    /// where they would begin with TLS.
    pub connections_max: usize,
    /// Most connections of one client: an address, of IPv6 a network of 64 bits, as the socket or the PROXY protocol
    /// tells it. Further ones are told 429 and closed. Peers of `trusted_ips`, which speak for many, have no such bound.
    /// 0 means none.
    pub connections_per_client_max: u32,
    /// Most connections of one thread that are being told so; further ones are reset, or wait in the kernel's queue.
    pub connections_refused_max: usize,
    /// Most requests under way, of which each thread has its equal share; beyond it 503 at once. 0 means no bound.
    pub requests_max: usize,
    /// What `Retry-After` says to who is told 503 or 429 by these bounds, seconds.
    pub retry_after_s: u32,
    /// Most requests on one connection: the last is answered with `Connection: close` or followed by GOAWAY. 0 means no
    /// bound.
    pub requests_per_connection_max: u64,
    /// Longest header of the PROXY protocol version 2.
    pub proxy_header_bytes_max: usize,
    /// Longest ClientHello of a stream, by which it is routed.
    pub client_hello_bytes_max: usize,
    /// Longest request head; beyond it 431.
    pub header_bytes_max: usize,
    /// Most header lines; beyond it 431.
    pub header_count_max: usize,
    /// Longest request line; beyond it 414.
    pub request_line_bytes_max: usize,
    /// Longest request body; beyond it 413. 0 means no bound.
    pub body_bytes_max: u64,
    /// Least bytes each second that a client must send of a body, or take of a response, on the whole of each time that it
    /// is waited for, beyond one `body_idle_timeout_ms`: a byte now and then holds nothing open. 408 or close. gRPC, whose
    /// calls talk both ways, is left out. 0 means no such rate.
    pub body_bytes_per_second_min: u64,
    /// Most bytes of a request's body that are waited for before an upstream is asked, so that a slow client holds no
    /// connection to it: over HTTP/1, where the head says how long the body is, and the route does not stream. 0 means none.
    pub request_buffer_bytes_max: usize,
    /// Most bytes that the kernel takes for a client before they can be sent: what a client that does not read costs beside
    /// the gateway's own memory. 0 leaves it to the kernel, which may take megabytes.
    pub response_unsent_bytes_max: u32,
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
    /// Most streams of one HTTP/2 connection that the client resets within a second; beyond it GOAWAY.
    pub h2_resets_max: u32,
    /// Most frames within a second on one HTTP/2 connection that carry nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
    /// CONTINUATION, empty DATA, unknown ones. Each DATA frame that the client is sent allows for four more. Beyond it
    /// GOAWAY.
    pub h2_control_frames_max: u32,
    /// Most streams in the life of one HTTP/2 connection that are reset for an error of the client's; beyond it GOAWAY.
    pub h2_errors_max: usize,
    /// Most idle upstream connections that one thread keeps for one target.
    pub upstream_idle_max: usize,
    /// Most requests at once on one HTTP/2 connection to an upstream; with more, a further connection is opened.
    pub upstream_streams_max: usize,
    /// Longest head of an upstream's response.
    pub response_header_bytes_max: usize,
    /// Most routes under one host and path that are looked at one by one, because nothing but regular expressions tells
    /// them apart, or because so many ask for the same; a file with more is refused.
    pub routes_scanned_max: usize,
    /// Most copies of mirrored requests that one thread has under way; further ones are dropped.
    pub mirror_requests_max: usize,
    /// Longest body of a request that is mirrored, and most that is read of the answer before its connection is closed.
    pub mirror_body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_client_max: 8192,
            connections_refused_max: 256,
            requests_max: 16_384,
            retry_after_s: 1,
            requests_per_connection_max: 1_000_000,
            proxy_header_bytes_max: 4096,
            client_hello_bytes_max: 16 << 10,
            header_bytes_max: 32 << 10,
            header_count_max: 100,
            request_line_bytes_max: 8 << 10,
            body_bytes_max: 0,
            body_bytes_per_second_min: 240,
            request_buffer_bytes_max: 8 << 10,
            response_unsent_bytes_max: 32 << 10,
            chunk_bytes_max: 1 << 40,
            trailer_bytes_max: 8 << 10,
            drain_bytes_max: 64 << 10,
            held_bytes_max: 16 << 10,
            h2_streams_max: 256,
            h2_resets_max: 200,
            h2_control_frames_max: 1000,
            h2_errors_max: 128,
            upstream_idle_max: 512,
            upstream_streams_max: 100,
            response_header_bytes_max: 64 << 10,
            routes_scanned_max: 4096,
            mirror_requests_max: 128,
            mirror_body_bytes_max: 256 << 10,
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
    /// Longest silence of a TCP or TLS stream, both ways together.
    pub stream_idle_timeout_ms: u64,
    /// How long an idle upstream connection is kept.
    pub upstream_idle_timeout_ms: u64,
    /// How long a closing connection is drained so that the client can read the last response.
    pub linger_timeout_ms: u64,
    /// How long requests in flight may take to end once the gateway is told to stop; the rest is cut.
    pub drain_timeout_ms: u64,
    /// How long a mirrored request may take, with its answer.
    pub mirror_timeout_ms: u64,
    /// How often time-outs are looked at; they come at most three times this late, and where thousands are over at once,
    /// later by what it takes to end them a few at a time.
    pub sweep_interval_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            body_idle_timeout_ms: 60_000,
            tunnel_idle_timeout_ms: 3_600_000,
            stream_idle_timeout_ms: 600_000,
            upstream_idle_timeout_ms: 60_000,
            linger_timeout_ms: 2_000,
            drain_timeout_ms: 10_000,
            mirror_timeout_ms: 30_000,
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
