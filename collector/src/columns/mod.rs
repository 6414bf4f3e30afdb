//! Events into Arrow record batches as hot files hold them.
//!
//! Intake appends each event to growing columns and takes a batch out at each flush. A batch is packed (`event::hot` has
//! the rules and gives the full table back), and its schema says how. A number costs one store per row; absent ones keep
//! their sentinel (`event::ABSENT_*`) and become nulls for the whole column when the batch is finished. Of the texts that
//! a request shares with others of its client or its route, a row notes which combination it has (`groups`): they are
//! looked at once for each combination in a batch.

mod text;

mod groups;

mod numbers;

mod nested;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, NullArray, RecordBatch};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use event::{
    ABSENT_I64, ABSENT_U16, ABSENT_U32, AuthMethod, CacheStatus, Head, Outcome, Protocol, RequestEvent, Role,
    Run, Scheme, Source, Text, TlsVersion, ip_from_bytes,
};

use groups::Groups;
use nested::{Attempts, Extra};
use numbers::{BLOCK, Values, booleans, ids, numbers};
use text::{NameColumn, TextColumn};

/// The texts that an event shares with others of its client, and their columns.
const CLIENT_TEXTS: [(&str, Text); 7] = [
    ("workspace", Text::Workspace),
    ("source_service", Text::SourceService),
    ("consumer", Text::Consumer),
    ("consumer_groups", Text::ConsumerGroups),
    ("credential_id", Text::CredentialId),
    ("user_agent", Text::UserAgent),
    ("tls_sni", Text::TlsSni),
];

/// Those that it shares with others of its route.
const ROUTE_TEXTS: [(&str, Text); 10] = [
    ("listener", Text::Listener),
    ("method", Text::Method),
    ("host", Text::Host),
    ("route", Text::Route),
    ("service", Text::Service),
    ("service_version", Text::ServiceVersion),
    ("upstream", Text::Upstream),
    ("limit_policy", Text::LimitPolicy),
    ("content_type", Text::ContentType),
    ("upstream_addr", Text::UpstreamAddr),
];

/// Those of its own.
const OWN_TEXTS: [(&str, Text); 4] = [
    ("forwarded_for", Text::ForwardedFor),
    ("path", Text::Path),
    ("query", Text::Query),
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

/// A column of a packed batch.
#[derive(Debug)]
struct Packed {
    field: Field,
    array: ArrayRef,
}

impl Packed {
    /// Of one value, which the field says.
    fn one(field: Field, rows: usize) -> Self {
        Self { field, array: Arc::new(NullArray::new(rows)) }
    }
}

/// The rows of the batch in the making.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: usize,
    node: TextColumn,
    core: Values<u16>,
    sequence: Values<u64>,
    time: Values<i64>,
    config_version: Values<u64>,
    limit_remaining: Values<i64>,
    request_bytes: Values<u64>,
    response_bytes: Values<u64>,
    status: Values<u16>,
    upstream_status: Values<u16>,
    grpc_status: Values<u16>,
    sampled: Values<u8>,
    request_id: Values<[u8; 16]>,
    trace_id: Values<[u8; 16]>,
    span_id: Values<[u8; 8]>,
    parent_span_id: Values<[u8; 8]>,
    upstream_span_id: Values<[u8; 8]>,
    client_ip: TextColumn,
    peer_ip: TextColumn,
    durations: [Values<u32>; DURATIONS.len()],
    names: [Values<u8>; NAMES.len()],
    vocabularies: [NameColumn; NAMES.len()],
    clients: Groups<{ CLIENT_TEXTS.len() }>,
    routes: Groups<{ ROUTE_TEXTS.len() }>,
    own: [TextColumn; OWN_TEXTS.len()],
    attempts: Attempts,
    extra: Extra,
}

impl Rows {
    /// No rows.
    pub(crate) fn new() -> Self {
        let vocabularies = std::array::from_fn(|index| {
            let (column, name) = NAMES[index];
            // A word that says "nothing of the kind" is null where the column has nulls.
            let absent = is_nullable(column).then_some("none");
            NameColumn::new(|code| Some(name(code)).filter(|name| Some(*name) != absent))
        });
        Self {
            rows: 0,
            node: TextColumn::new(),
            core: Values::new(0),
            sequence: Values::new(0),
            time: Values::new(0),
            config_version: Values::new(0),
            limit_remaining: Values::new(0),
            request_bytes: Values::new(0),
            response_bytes: Values::new(0),
            status: Values::new(0),
            upstream_status: Values::new(0),
            grpc_status: Values::new(0),
            sampled: Values::new(0),
            request_id: Values::new([0; 16]),
            trace_id: Values::new([0; 16]),
            span_id: Values::new([0; 8]),
            parent_span_id: Values::new([0; 8]),
            upstream_span_id: Values::new([0; 8]),
            client_ip: TextColumn::new(),
            peer_ip: TextColumn::new(),
            durations: std::array::from_fn(|_| Values::new(0)),
            names: std::array::from_fn(|_| Values::new(0)),
            vocabularies,
            clients: Groups::new(Run::Client, CLIENT_TEXTS.map(|(_, text)| text)),
            routes: Groups::new(Run::Route, ROUTE_TEXTS.map(|(_, text)| text)),
            own: std::array::from_fn(|_| TextColumn::new()),
            attempts: Attempts::new(),
            extra: Extra::new(),
        }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Bytes of different texts so far.
    pub(crate) fn text_bytes(&self) -> usize {
        let own: usize = self.own.iter().map(TextColumn::dictionary_bytes).sum();
        let shared = self.clients.dictionary_bytes() + self.routes.dictionary_bytes();
        own + shared + self.attempts.dictionary_bytes() + self.extra.dictionary_bytes()
    }

    /// Appends one event as one row.
    #[inline]
    pub(crate) fn append(&mut self, event: &RequestEvent<'_>) {
        let (head, row) = (event.head, self.rows);
        self.node.push(row, event.node.as_bytes());
        self.core.put(row, event.core);
        self.sequence.put(row, event.sequence);
        self.time.put(row, head.time_us);
        self.config_version.put(row, head.config_version);
        self.limit_remaining.put(row, head.limit_remaining);
        self.request_bytes.put(row, head.request_bytes);
        self.response_bytes.put(row, head.response_bytes);
        self.status.put(row, head.status);
        self.upstream_status.put(row, head.upstream_status);
        self.grpc_status.put(row, head.grpc_status);
        self.sampled.put(row, head.sampled);
        self.request_id.put(row, head.request_id);
        self.trace_id.put(row, head.trace_id);
        self.span_id.put(row, head.span_id);
        self.parent_span_id.put(row, head.parent_span_id);
        self.upstream_span_id.put(row, head.upstream_span_id);
        push_address(&mut self.client_ip, row, head.client_ip);
        push_address(&mut self.peer_ip, row, head.peer_ip);
        for (column, value) in self.durations.iter_mut().zip(durations(head)) {
            column.put(row, value);
        }
        for (column, code) in self.names.iter_mut().zip(names(head)) {
            column.put(row, code);
        }
        self.clients.push(row, event);
        self.routes.push(row, event);
        for (text, value) in event.entries(Run::Own) {
            if let Some(place) = OWN_TEXTS.iter().position(|(_, own)| *own == text) {
                self.own[place].push(row, value);
            }
        }
        self.attempts.push(row, event);
        self.extra.push(row, event);
        self.rows += 1;
        if self.rows.is_multiple_of(BLOCK) {
            self.spill();
        }
    }

    /// Takes the last block over into the columns.
    fn spill(&mut self) {
        let rows = self.rows;
        self.core.spill(rows);
        self.sequence.spill(rows);
        self.time.spill(rows);
        self.config_version.spill(rows);
        self.limit_remaining.spill(rows);
        self.request_bytes.spill(rows);
        self.response_bytes.spill(rows);
        self.status.spill(rows);
        self.upstream_status.spill(rows);
        self.grpc_status.spill(rows);
        self.sampled.spill(rows);
        self.request_id.spill(rows);
        self.trace_id.spill(rows);
        self.span_id.spill(rows);
        self.parent_span_id.spill(rows);
        self.upstream_span_id.spill(rows);
        self.durations.iter_mut().for_each(|column| column.spill(rows));
        self.names.iter_mut().for_each(|column| column.spill(rows));
        self.clients.spill(rows);
        self.routes.spill(rows);
    }

    /// Takes all rows out as a packed batch and starts anew.
    ///
    /// # Errors
    /// If the schema has a column that this builder does not know.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ColumnsError> {
        self.spill();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for known in event::columns::COLUMNS {
            if let Some(packed) = self.take(known.name, known.nullable)? {
                fields.push(packed.field);
                columns.push(packed.array);
            }
        }
        self.rows = 0;
        self.clients.clear();
        self.routes.clear();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Takes one column out; none if no row has a value.
    fn take(&mut self, name: &str, null: bool) -> Result<Option<Packed>, ColumnsError> {
        let rows = self.rows;
        if let Some(index) = DURATIONS.iter().position(|known| *known == name) {
            return Ok(numbers(name, &mut self.durations[index], null.then_some(ABSENT_U32)));
        }
        if let Some(index) = NAMES.iter().position(|(known, _)| *known == name) {
            let packed = self.vocabularies[index].finish(name, null, self.names[index].all());
            self.names[index].clear();
            return Ok(packed);
        }
        if let Some(index) = CLIENT_TEXTS.iter().position(|(known, _)| *known == name) {
            return Ok(self.clients.finish(name, index, null));
        }
        if let Some(index) = ROUTE_TEXTS.iter().position(|(known, _)| *known == name) {
            return Ok(self.routes.finish(name, index, null));
        }
        if let Some(index) = OWN_TEXTS.iter().position(|(known, _)| *known == name) {
            return Ok(self.own[index].finish(name, rows, null));
        }
        Ok(match name {
            "node" => self.node.finish(name, rows, null),
            "core" => numbers(name, &mut self.core, None),
            "sequence" => numbers(name, &mut self.sequence, None),
            "time" => numbers(name, &mut self.time, None),
            "config_version" => numbers(name, &mut self.config_version, None),
            "limit_remaining" => numbers(name, &mut self.limit_remaining, Some(ABSENT_I64)),
            "request_bytes" => numbers(name, &mut self.request_bytes, None),
            "response_bytes" => numbers(name, &mut self.response_bytes, None),
            "status" => numbers(name, &mut self.status, Some(ABSENT_U16)),
            "upstream_status" => numbers(name, &mut self.upstream_status, Some(ABSENT_U16)),
            "grpc_status" => numbers(name, &mut self.grpc_status, Some(ABSENT_U16)),
            "sampled" => booleans(name, &mut self.sampled),
            "request_id" => ids(name, &mut self.request_id)?,
            "trace_id" => ids(name, &mut self.trace_id)?,
            "span_id" => ids(name, &mut self.span_id)?,
            "parent_span_id" => ids(name, &mut self.parent_span_id)?,
            "upstream_span_id" => ids(name, &mut self.upstream_span_id)?,
            "client_ip" => self.client_ip.finish(name, rows, null),
            "peer_ip" => self.peer_ip.finish(name, rows, null),
            "attempts" => self.attempts.finish(name, rows)?,
            "extra" => self.extra.finish(name, rows)?,
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

fn is_nullable(name: &str) -> bool {
    event::columns::COLUMNS.iter().any(|column| column.name == name && column.nullable)
}

#[cfg(test)]
mod tests;
