//! The table `requests`: its columns in order, as Arrow fields and as documentation.

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

/// Version of the schema, written into each file. A newer version only adds columns.
pub const SCHEMA_VERSION: u32 = 1;

/// Kinds of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTC time in microseconds.
    Time,
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// An id of this many bytes.
    Id(i32),
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// The list of attempts.
    Attempts,
    /// Pairs of text.
    Map,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Whether it may be null.
    pub nullable: bool,
    /// The OpenTelemetry attribute of the same meaning; empty for none.
    pub otel: &'static str,
    /// What it holds.
    pub doc: &'static str,
}

const fn column(
    name: &'static str,
    kind: Kind,
    nullable: bool,
    otel: &'static str,
    doc: &'static str,
) -> Column {
    Column { name, kind, nullable, otel, doc }
}

/// Every column, in order.
pub const COLUMNS: &[Column] = &[
    column("time", Kind::Time, false, "", "When the request head was received."),
    column("node", Kind::Text, false, "service.instance.id", "Name of the gateway that recorded it."),
    column("core", Kind::U16, false, "", "Core of that gateway."),
    column(
        "sequence",
        Kind::U64,
        false,
        "",
        "Place in that core's spool; `(node, core, sequence)` names one event for ever.",
    ),
    column("request_id", Kind::Id(16), true, "", "Id of the request, as in `X-Request-Id`."),
    column("trace_id", Kind::Id(16), true, "trace_id", "Trace that it belongs to."),
    column("span_id", Kind::Id(8), true, "span_id", "The gateway's server span."),
    column("parent_span_id", Kind::Id(8), true, "parent_span_id", "The caller's span, when it sent one."),
    column(
        "upstream_span_id",
        Kind::Id(8),
        true,
        "",
        "The span that was sent upstream with the last attempt: the parent of what the upstream calls.",
    ),
    column("sampled", Kind::Bool, false, "", "Whether the trace is sampled."),
    column("role", Kind::Text, false, "", "`gateway`, `sidecar_inbound` or `sidecar_outbound`."),
    column("listener", Kind::Text, true, "", "Name of the listener."),
    column("config_version", Kind::U64, false, "", "Version of the configuration in force."),
    column("workspace", Kind::Text, true, "", "Tenant."),
    column("client_ip", Kind::Text, true, "client.address", "Address of the client, behind trusted proxies."),
    column("peer_ip", Kind::Text, true, "network.peer.address", "Address of the other end of the socket."),
    column("forwarded_for", Kind::Text, true, "", "`X-Forwarded-For` as it was claimed."),
    column("source_service", Kind::Text, true, "peer.service", "Service that called."),
    column("consumer", Kind::Text, true, "enduser.id", "Consumer that was identified."),
    column("consumer_groups", Kind::Text, true, "", "Its groups, comma-separated."),
    column("credential_id", Kind::Text, true, "", "Id of the credential, never the secret."),
    column("auth_method", Kind::Text, true, "", "How the consumer was identified."),
    column("user_agent", Kind::Text, true, "user_agent.original", "`User-Agent` as it was sent."),
    column("method", Kind::Text, true, "http.request.method", "Method; null of streams."),
    column("scheme", Kind::Text, false, "url.scheme", "`http` or `https`; of streams `tcp` or `tls`."),
    column("host", Kind::Text, true, "server.address", "Host that was asked, without the port."),
    column("path", Kind::Text, true, "url.path", "Normalised path, without the query."),
    column("query", Kind::Text, true, "url.query", "Query, redacted; off by default."),
    column(
        "protocol",
        Kind::Text,
        false,
        "network.protocol.name",
        "`h1`, `h2`, `h3`, `grpc` or `websocket`; of streams, which are one row for each connection, `tcp` or `tls`.",
    ),
    column("request_bytes", Kind::U64, false, "http.request.body.size", "Bytes of the request body."),
    column("tls_version", Kind::Text, true, "tls.protocol.version", "TLS version of the client connection."),
    column("tls_sni", Kind::Text, true, "tls.client.server_name", "Server name of its handshake."),
    column("route", Kind::Text, true, "http.route", "Route that matched."),
    column("service", Kind::Text, true, "service.name", "Service that it leads to."),
    column("service_version", Kind::Text, true, "service.version", "Subset of the service."),
    column("upstream", Kind::Text, true, "", "Upstream that balances it."),
    column("cache_status", Kind::Text, true, "", "`hit`, `miss`, `refresh` or `bypass`."),
    column("limit_policy", Kind::Text, true, "", "Limit that decided."),
    column("limit_remaining", Kind::I64, true, "", "What that limit had left."),
    column(
        "status",
        Kind::U16,
        true,
        "http.response.status_code",
        "Status of the response; null when none was sent.",
    ),
    column("response_bytes", Kind::U64, false, "http.response.body.size", "Bytes of the response body."),
    column("content_type", Kind::Text, true, "", "`Content-Type` of the response."),
    column("grpc_status", Kind::U16, true, "rpc.grpc.status_code", "Status of a gRPC call."),
    column("source", Kind::Text, false, "", "Who made the response: `upstream`, `gateway` or `cache`."),
    column("upstream_addr", Kind::Text, true, "upstream.address", "Address that answered."),
    column("upstream_status", Kind::U16, true, "", "Status that it answered."),
    column(
        "attempts",
        Kind::Attempts,
        true,
        "",
        "Each try at an upstream. Files leave the list empty where the only one was answered and the columns `upstream_*`, \
         `first_byte_us` and `connect_us` tell of it; SQL has it always.",
    ),
    column(
        "duration_us",
        Kind::U32,
        false,
        "http.server.request.duration",
        "From the request head to the last byte of the response, in microseconds.",
    ),
    column("gateway_us", Kind::U32, true, "", "Duration less the wait for the upstream, in microseconds."),
    column(
        "upstream_us",
        Kind::U32,
        true,
        "http.client.request.duration",
        "Wait for the upstream, in microseconds.",
    ),
    column("queue_us", Kind::U32, true, "", "Wait for a free connection, in microseconds."),
    column("auth_us", Kind::U32, true, "", "Authentication, in microseconds."),
    column("limit_us", Kind::U32, true, "", "Limits, in microseconds."),
    column("cache_us", Kind::U32, true, "", "Cache, in microseconds."),
    column("dns_us", Kind::U32, true, "", "Name resolution, in microseconds."),
    column("connect_us", Kind::U32, true, "", "Connecting to the upstream, in microseconds."),
    column("tls_us", Kind::U32, true, "", "TLS handshake with the upstream, in microseconds."),
    column(
        "first_byte_us",
        Kind::U32,
        true,
        "",
        "From the request head to the first byte of the response, in microseconds.",
    ),
    column("request_body_us", Kind::U32, true, "", "Receiving the request body, in microseconds."),
    column("response_body_us", Kind::U32, true, "", "Sending the response body, in microseconds."),
    column("outcome", Kind::Text, false, "error.type", "How it ended, one word of a closed list."),
    column("error", Kind::Text, true, "error.message", "Short text about a failure."),
    column("extra", Kind::Map, true, "", "Headers and values that the configuration names."),
];

impl Kind {
    /// The Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Text => DataType::Utf8View,
            Self::Bool => DataType::Boolean,
            Self::Id(bytes) => DataType::FixedSizeBinary(bytes),
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::I64 => DataType::Int64,
            Self::Attempts => {
                DataType::List(Arc::new(Field::new("item", DataType::Struct(attempt_fields()), false)))
            }
            Self::Map => {
                let entries = Fields::from(vec![
                    Field::new("keys", DataType::Utf8View, false),
                    Field::new("values", DataType::Utf8View, true),
                ]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
            }
        }
    }
}

/// Fields of one attempt.
pub fn attempt_fields() -> Fields {
    Fields::from(vec![
        Field::new("addr", DataType::Utf8View, false),
        Field::new("status", DataType::UInt16, true),
        Field::new("error", DataType::Utf8View, true),
        Field::new("start_us", DataType::UInt32, false),
        Field::new("duration_us", DataType::UInt32, false),
        Field::new("connection_reused", DataType::Boolean, false),
        Field::new("span_id", DataType::FixedSizeBinary(8), true),
    ])
}

/// The Arrow schema of the table `requests`, with `otel.name` on each field that has one.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields: Vec<Field> = COLUMNS
            .iter()
            .map(|column| {
                let field = Field::new(column.name, column.kind.data_type(), column.nullable);
                match column.otel {
                    "" => field,
                    otel => field.with_metadata([("otel.name".to_owned(), otel.to_owned())].into()),
                }
            })
            .collect();
        let metadata = [("tollhouse.schema_version".to_owned(), SCHEMA_VERSION.to_string())];
        Arc::new(Schema::new_with_metadata(fields, metadata.into()))
    });
    Arc::clone(&SCHEMA)
}

/// The reference of the columns, in Markdown.
pub fn reference() -> String {
    let mut text = format!(
        "# The table `requests`\n\nSchema version {SCHEMA_VERSION}. One row per request; generated from \
         `event/src/columns.rs`.\n\n| column | type | null | OpenTelemetry | meaning |\n| --- | --- | --- | --- | --- |\n"
    );
    for Column { name, kind, nullable, otel, doc } in COLUMNS {
        let kind = match kind {
            Kind::Time => "timestamp, µs, UTC".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Bool => "boolean".to_owned(),
            Kind::Id(bytes) => format!("{bytes} bytes"),
            Kind::U16 => "unsigned 16".to_owned(),
            Kind::U32 => "unsigned 32".to_owned(),
            Kind::U64 => "unsigned 64".to_owned(),
            Kind::I64 => "signed 64".to_owned(),
            Kind::Attempts => {
                "list of (addr, status, error, start_us, duration_us, connection_reused, span_id)".to_owned()
            }
            Kind::Map => "map of text to text".to_owned(),
        };
        let null = if *nullable { "yes" } else { "" };
        let otel = if otel.is_empty() { String::new() } else { format!("`{otel}`") };
        writeln!(text, "| `{name}` | {kind} | {null} | {otel} | {doc} |").expect("a String takes any text");
    }
    text
}
