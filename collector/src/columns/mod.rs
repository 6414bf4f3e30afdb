//! Events into Arrow record batches as hot files hold them.
//!
//! Intake appends each event to growing columns and takes a batch out at each flush. A batch is packed: text is
//! dictionary codes, a column without a value is left out, and the schema of each batch says which it has
//! (`event::hot` gives the full table back). A row costs one push per column that it has; absent numbers keep their
//! sentinel (`event::ABSENT_*`) and become nulls for the whole column when the batch is finished.

mod text;

mod numbers;

mod nested;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema, UInt16Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use event::{
    ABSENT_I64, ABSENT_U16, ABSENT_U32, AuthMethod, CacheStatus, Head, Outcome, Protocol, RequestEvent, Role,
    Scheme, Source, Text, TlsVersion, ip_from_bytes,
};

use nested::{Attempts, Extra};
use numbers::{booleans, ids, numbers, times};
use text::{NameColumn, TextColumn};

/// The texts of an event and their columns, in the order of `Text`.
const TEXTS: [(&str, Text); Text::COUNT] = [
    ("listener", Text::Listener),
    ("workspace", Text::Workspace),
    ("source_service", Text::SourceService),
    ("consumer", Text::Consumer),
    ("consumer_groups", Text::ConsumerGroups),
    ("credential_id", Text::CredentialId),
    ("user_agent", Text::UserAgent),
    ("forwarded_for", Text::ForwardedFor),
    ("method", Text::Method),
    ("host", Text::Host),
    ("path", Text::Path),
    ("query", Text::Query),
    ("tls_sni", Text::TlsSni),
    ("route", Text::Route),
    ("service", Text::Service),
    ("service_version", Text::ServiceVersion),
    ("upstream", Text::Upstream),
    ("limit_policy", Text::LimitPolicy),
    ("content_type", Text::ContentType),
    ("upstream_addr", Text::UpstreamAddr),
    ("error", Text::Error),
];

/// The durations of a head and their columns.
const DURATIONS: [&str; 13] = [
    "duration_us",
    "gateway_us",
    "upstream_us",
    "queue_us",
    "auth_us",
    "limit_us",
    "cache_us",
    "dns_us",
    "connect_us",
    "tls_us",
    "first_byte_us",
    "request_body_us",
    "response_body_us",
];

/// In the order of `DURATIONS`.
fn durations(head: &Head) -> [u32; DURATIONS.len()] {
    [
        head.duration_us,
        head.gateway_us,
        head.upstream_us,
        head.queue_us,
        head.auth_us,
        head.limit_us,
        head.cache_us,
        head.dns_us,
        head.connect_us,
        head.tls_us,
        head.first_byte_us,
        head.request_body_us,
        head.response_body_us,
    ]
}

/// The name of a code.
type Name = fn(u8) -> &'static str;

/// The words of a head, their columns, and their names by code.
const NAMES: [(&str, Name); 8] = [
    ("role", |code| Role::from_u8(code).as_str()),
    ("protocol", |code| Protocol::from_u8(code).as_str()),
    ("scheme", |code| Scheme::from_u8(code).as_str()),
    ("source", |code| Source::from_u8(code).as_str()),
    ("outcome", |code| Outcome::from_u8(code).as_str()),
    ("cache_status", |code| CacheStatus::from_u8(code).as_str()),
    ("auth_method", |code| AuthMethod::from_u8(code).as_str()),
    ("tls_version", |code| TlsVersion::from_u8(code).as_str()),
];

/// In the order of `NAMES`.
fn names(head: &Head) -> [u8; NAMES.len()] {
    [
        head.role,
        head.protocol,
        head.scheme,
        head.source,
        head.outcome,
        head.cache_status,
        head.auth_method,
        head.tls_version,
    ]
}

/// Why a batch cannot be made: the schema and this builder disagree, which a test excludes.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// The schema has a column that no field of an event fills.
    #[error("no field of an event fills column `{0}`")]
    Unknown(String),
    /// Arrow refuses the columns.
    #[error("columns do not fit the schema: {0}")]
    Mismatch(#[from] ArrowError),
}

/// The rows of the batch in the making.
#[derive(Debug)]
pub(crate) struct Rows {
    node: TextColumn,
    core: Vec<u16>,
    sequence: Vec<u64>,
    time: Vec<i64>,
    config_version: Vec<u64>,
    limit_remaining: Vec<i64>,
    request_bytes: Vec<u64>,
    response_bytes: Vec<u64>,
    status: Vec<u16>,
    upstream_status: Vec<u16>,
    grpc_status: Vec<u16>,
    sampled: Vec<u8>,
    request_id: Vec<[u8; 16]>,
    trace_id: Vec<[u8; 16]>,
    span_id: Vec<[u8; 8]>,
    parent_span_id: Vec<[u8; 8]>,
    upstream_span_id: Vec<[u8; 8]>,
    client_ip: TextColumn,
    peer_ip: TextColumn,
    durations: [Vec<u32>; DURATIONS.len()],
    names: [NameColumn; NAMES.len()],
    texts: [TextColumn; Text::COUNT],
    attempts: Attempts,
    extra: Extra,
}

impl Rows {
    /// No rows.
    pub(crate) fn new() -> Self {
        let names = std::array::from_fn(|index| {
            let (column, name) = NAMES[index];
            // A word that says "nothing of the kind" is null where the column has nulls.
            let absent = is_nullable(column).then_some("none");
            NameColumn::new(|code| Some(name(code)).filter(|name| Some(*name) != absent))
        });
        Self {
            node: TextColumn::new(),
            core: Vec::new(),
            sequence: Vec::new(),
            time: Vec::new(),
            config_version: Vec::new(),
            limit_remaining: Vec::new(),
            request_bytes: Vec::new(),
            response_bytes: Vec::new(),
            status: Vec::new(),
            upstream_status: Vec::new(),
            grpc_status: Vec::new(),
            sampled: Vec::new(),
            request_id: Vec::new(),
            trace_id: Vec::new(),
            span_id: Vec::new(),
            parent_span_id: Vec::new(),
            upstream_span_id: Vec::new(),
            client_ip: TextColumn::new(),
            peer_ip: TextColumn::new(),
            durations: std::array::from_fn(|_| Vec::new()),
            names,
            texts: std::array::from_fn(|_| TextColumn::new()),
            attempts: Attempts::new(),
            extra: Extra::new(),
        }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.time.len()
    }

    /// Bytes of different texts so far.
    pub(crate) fn text_bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(TextColumn::dictionary_bytes).sum();
        texts + self.attempts.dictionary_bytes() + self.extra.dictionary_bytes()
    }

    /// Appends one event as one row.
    #[inline]
    pub(crate) fn append(&mut self, event: &RequestEvent<'_>) {
        let (head, row) = (event.head, self.time.len());
        self.node.push(row, event.node.as_bytes());
        self.core.push(event.core);
        self.sequence.push(event.sequence);
        self.time.push(head.time_us);
        self.config_version.push(head.config_version);
        self.limit_remaining.push(head.limit_remaining);
        self.request_bytes.push(head.request_bytes);
        self.response_bytes.push(head.response_bytes);
        self.status.push(head.status);
        self.upstream_status.push(head.upstream_status);
        self.grpc_status.push(head.grpc_status);
        self.sampled.push(head.sampled);
        self.request_id.push(head.request_id);
        self.trace_id.push(head.trace_id);
        self.span_id.push(head.span_id);
        self.parent_span_id.push(head.parent_span_id);
        self.upstream_span_id.push(head.upstream_span_id);
        push_address(&mut self.client_ip, row, head.client_ip);
        push_address(&mut self.peer_ip, row, head.peer_ip);
        for (column, value) in self.durations.iter_mut().zip(durations(head)) {
            column.push(value);
        }
        for (column, code) in self.names.iter_mut().zip(names(head)) {
            column.push(code);
        }
        for (column, (_, text)) in self.texts.iter_mut().zip(TEXTS) {
            if let Some(value) = event.text(text) {
                column.push(row, value);
            }
        }
        self.attempts.push(event);
        self.extra.push(event);
    }

    /// Takes all rows out as a packed batch and starts anew.
    ///
    /// # Errors
    /// If the schema has a column that this builder does not know.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ColumnsError> {
        let rows = self.len();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for known in event::columns::COLUMNS {
            if let Some(column) = self.take(known.name, known.nullable, rows)? {
                fields.push(field(known.name, known.nullable, &column));
                columns.push(column);
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Takes one column out; none if no row has a value.
    fn take(&mut self, name: &str, null: bool, rows: usize) -> Result<Option<ArrayRef>, ColumnsError> {
        if let Some(index) = DURATIONS.iter().position(|known| *known == name) {
            return Ok(numbers::<UInt32Type>(&mut self.durations[index], null.then_some(ABSENT_U32)));
        }
        if let Some(index) = NAMES.iter().position(|(known, _)| *known == name) {
            return Ok(self.names[index].finish());
        }
        if let Some(index) = TEXTS.iter().position(|(known, _)| *known == name) {
            return Ok(self.texts[index].finish(rows, null));
        }
        Ok(match name {
            "node" => self.node.finish(rows, null),
            "core" => numbers::<UInt16Type>(&mut self.core, None),
            "sequence" => numbers::<UInt64Type>(&mut self.sequence, None),
            "time" => Some(times(&mut self.time)),
            "config_version" => numbers::<UInt64Type>(&mut self.config_version, None),
            "limit_remaining" => numbers::<Int64Type>(&mut self.limit_remaining, Some(ABSENT_I64)),
            "request_bytes" => numbers::<UInt64Type>(&mut self.request_bytes, None),
            "response_bytes" => numbers::<UInt64Type>(&mut self.response_bytes, None),
            "status" => numbers::<UInt16Type>(&mut self.status, Some(ABSENT_U16)),
            "upstream_status" => numbers::<UInt16Type>(&mut self.upstream_status, Some(ABSENT_U16)),
            "grpc_status" => numbers::<UInt16Type>(&mut self.grpc_status, Some(ABSENT_U16)),
            "sampled" => Some(booleans(&mut self.sampled)),
            "request_id" => ids(&mut self.request_id)?,
            "trace_id" => ids(&mut self.trace_id)?,
            "span_id" => ids(&mut self.span_id)?,
            "parent_span_id" => ids(&mut self.parent_span_id)?,
            "upstream_span_id" => ids(&mut self.upstream_span_id)?,
            "client_ip" => self.client_ip.finish(rows, null),
            "peer_ip" => self.peer_ip.finish(rows, null),
            "attempts" => self.attempts.finish()?,
            "extra" => self.extra.finish()?,
            other => return Err(ColumnsError::Unknown(other.to_owned())),
        })
    }
}

/// Sets an IP address as text, unless it is absent.
#[inline]
fn push_address(column: &mut TextColumn, row: usize, address: [u8; 16]) {
    if address != [0; 16] {
        column.push_as(row, &address, |_| {
            ip_from_bytes(address).map_or(Cow::Borrowed(""), |ip| Cow::Owned(ip.to_string()))
        });
    }
}

/// The field of a column in a packed batch.
fn field(name: &str, nullable: bool, column: &ArrayRef) -> Field {
    Field::new(name, column.data_type().clone(), nullable)
}

fn is_nullable(name: &str) -> bool {
    event::columns::COLUMNS.iter().any(|column| column.name == name && column.nullable)
}

#[cfg(test)]
mod tests;
