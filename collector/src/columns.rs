//! Events into Arrow record batches of the table `requests`.
//!
//! Intake appends each event to growing columns and takes a batch out at each flush; the batch goes to the hot file.
//! A row costs one push per column: absent values keep their sentinel (`event::ABSENT_*`) and become nulls for the
//! whole column when the batch is finished. Columns are matched to `event::columns::schema()` by name.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, PrimitiveArray,
    RecordBatch, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Fields, Int64Type, SchemaRef, TimestampMicrosecondType, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;
use event::{
    ABSENT_I64, ABSENT_U16, ABSENT_U32, AttemptError, AuthMethod, CacheStatus, Head, Outcome, Protocol,
    RequestEvent, Role, Scheme, Source, Text, TlsVersion, ip_from_bytes,
};

use crate::text::{NameColumn, TextColumn};

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

/// The words of a head and their columns.
const NAMES: [&str; 8] =
    ["role", "protocol", "scheme", "source", "outcome", "cache_status", "auth_method", "tls_version"];

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
    schema: SchemaRef,
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
    client_ip: AddressColumn,
    peer_ip: AddressColumn,
    durations: [Vec<u32>; DURATIONS.len()],
    names: [NameColumn; NAMES.len()],
    texts: [TextColumn; Text::COUNT],
    attempts: Attempts,
    extra: Extra,
    capacity: usize,
}

impl Rows {
    /// Room for batches of `capacity` rows.
    pub(crate) fn new(schema: SchemaRef, capacity: usize) -> Self {
        let ids = || Vec::with_capacity(capacity);
        let spans = || Vec::with_capacity(capacity);
        // A word that says "nothing of the kind" is null where the column has nulls.
        let vocabulary: [fn(u8) -> &'static str; NAMES.len()] = [
            |code| Role::from_u8(code).as_str(),
            |code| Protocol::from_u8(code).as_str(),
            |code| Scheme::from_u8(code).as_str(),
            |code| Source::from_u8(code).as_str(),
            |code| Outcome::from_u8(code).as_str(),
            |code| CacheStatus::from_u8(code).as_str(),
            |code| AuthMethod::from_u8(code).as_str(),
            |code| TlsVersion::from_u8(code).as_str(),
        ];
        let nullable = |name: &str| schema.field_with_name(name).is_ok_and(Field::is_nullable);
        let names = std::array::from_fn(|index| {
            let absent = nullable(NAMES[index]).then_some("none");
            NameColumn::new(capacity, |code| {
                let name = vocabulary[index](code);
                (Some(name) != absent).then_some(name)
            })
        });
        Self {
            node: TextColumn::new(capacity),
            core: Vec::with_capacity(capacity),
            sequence: Vec::with_capacity(capacity),
            time: Vec::with_capacity(capacity),
            config_version: Vec::with_capacity(capacity),
            limit_remaining: Vec::with_capacity(capacity),
            request_bytes: Vec::with_capacity(capacity),
            response_bytes: Vec::with_capacity(capacity),
            status: Vec::with_capacity(capacity),
            upstream_status: Vec::with_capacity(capacity),
            grpc_status: Vec::with_capacity(capacity),
            sampled: Vec::with_capacity(capacity),
            request_id: ids(),
            trace_id: ids(),
            span_id: spans(),
            parent_span_id: spans(),
            upstream_span_id: spans(),
            client_ip: AddressColumn::new(capacity),
            peer_ip: AddressColumn::new(capacity),
            durations: std::array::from_fn(|_| Vec::with_capacity(capacity)),
            names,
            texts: std::array::from_fn(|_| TextColumn::new(capacity)),
            attempts: Attempts::new(capacity),
            extra: Extra::new(capacity),
            schema,
            capacity,
        }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.time.len()
    }

    /// Bytes of long texts so far.
    pub(crate) fn block_bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(TextColumn::block_bytes).sum();
        texts
            + self.attempts.addr.block_bytes()
            + self.extra.keys.block_bytes()
            + self.extra.values.block_bytes()
    }

    /// Appends one event as one row.
    #[inline]
    pub(crate) fn append(&mut self, event: &RequestEvent<'_>) {
        let head = event.head;
        self.node.push(event.node.as_bytes());
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
        self.client_ip.push(head.client_ip);
        self.peer_ip.push(head.peer_ip);
        for (column, value) in self.durations.iter_mut().zip(durations(head)) {
            column.push(value);
        }
        for (column, code) in self.names.iter_mut().zip(names(head)) {
            column.push(code);
        }
        for (column, (_, text)) in self.texts.iter_mut().zip(TEXTS) {
            column.push_option(event.text(text));
        }
        self.attempts.push(event);
        self.extra.push(event);
    }

    /// Takes all rows out as a batch and starts anew.
    ///
    /// # Errors
    /// If the schema has a column or a type that this builder does not know.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ColumnsError> {
        let schema = Arc::clone(&self.schema);
        let columns: Result<Vec<ArrayRef>, ColumnsError> =
            schema.fields().iter().map(|field| self.take(field)).collect();
        Ok(RecordBatch::try_new(schema, columns?)?)
    }

    /// Takes one column out.
    fn take(&mut self, field: &Field) -> Result<ArrayRef, ColumnsError> {
        let (rows, null) = (self.capacity, field.is_nullable());
        if let Some(index) = DURATIONS.iter().position(|name| name == field.name()) {
            return Ok(numbers::<UInt32Type>(&mut self.durations[index], rows, null.then_some(ABSENT_U32)));
        }
        if let Some(index) = NAMES.iter().position(|name| name == field.name()) {
            return Ok(self.names[index].finish(null));
        }
        if let Some(index) = TEXTS.iter().position(|(name, _)| name == field.name()) {
            return Ok(self.texts[index].finish(null));
        }
        Ok(match field.name().as_str() {
            "node" => self.node.finish(null),
            "core" => numbers::<UInt16Type>(&mut self.core, rows, None),
            "sequence" => numbers::<UInt64Type>(&mut self.sequence, rows, None),
            "time" => times(&mut self.time, rows),
            "config_version" => numbers::<UInt64Type>(&mut self.config_version, rows, None),
            "limit_remaining" => {
                numbers::<Int64Type>(&mut self.limit_remaining, rows, null.then_some(ABSENT_I64))
            }
            "request_bytes" => numbers::<UInt64Type>(&mut self.request_bytes, rows, None),
            "response_bytes" => numbers::<UInt64Type>(&mut self.response_bytes, rows, None),
            "status" => numbers::<UInt16Type>(&mut self.status, rows, null.then_some(ABSENT_U16)),
            "upstream_status" => {
                numbers::<UInt16Type>(&mut self.upstream_status, rows, null.then_some(ABSENT_U16))
            }
            "grpc_status" => numbers::<UInt16Type>(&mut self.grpc_status, rows, null.then_some(ABSENT_U16)),
            "sampled" => booleans(&mut self.sampled),
            "request_id" => ids(&mut self.request_id, rows, null)?,
            "trace_id" => ids(&mut self.trace_id, rows, null)?,
            "span_id" => ids(&mut self.span_id, rows, null)?,
            "parent_span_id" => ids(&mut self.parent_span_id, rows, null)?,
            "upstream_span_id" => ids(&mut self.upstream_span_id, rows, null)?,
            "client_ip" => self.client_ip.finish(null),
            "peer_ip" => self.peer_ip.finish(null),
            "attempts" => self.attempts.finish(field.data_type())?,
            "extra" => self.extra.finish(field.data_type())?,
            other => return Err(ColumnsError::Unknown(other.to_owned())),
        })
    }
}

/// Takes numbers out; those that equal `absent` become null.
fn numbers<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    capacity: usize,
    absent: Option<T::Native>,
) -> ArrayRef {
    let values = std::mem::replace(values, Vec::with_capacity(capacity));
    let nulls = absent.and_then(|absent| nulls(values.len(), |row| values[row] != absent));
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

/// Takes times out, which are UTC.
fn times(values: &mut Vec<i64>, capacity: usize) -> ArrayRef {
    let values = std::mem::replace(values, Vec::with_capacity(capacity));
    Arc::new(
        PrimitiveArray::<TimestampMicrosecondType>::new(ScalarBuffer::from(values), None)
            .with_timezone("UTC"),
    )
}

/// Takes truth values out.
fn booleans(values: &mut Vec<u8>) -> ArrayRef {
    let array = BooleanArray::new(BooleanBuffer::collect_bool(values.len(), |row| values[row] != 0), None);
    values.clear();
    Arc::new(array)
}

/// Takes ids out; those of zeros become null.
fn ids<const N: usize>(
    values: &mut Vec<[u8; N]>,
    capacity: usize,
    nullable: bool,
) -> Result<ArrayRef, ColumnsError> {
    let values = std::mem::replace(values, Vec::with_capacity(capacity));
    let nulls = if nullable { nulls(values.len(), |row| values[row] != [0; N]) } else { None };
    let size = i32::try_from(N).expect("an id has few bytes");
    Ok(Arc::new(FixedSizeBinaryArray::try_new(size, Buffer::from_vec(values.into_flattened()), nulls)?))
}

/// Which rows have a value; none if all have.
fn nulls(rows: usize, present: impl FnMut(usize) -> bool) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows, present));
    (nulls.null_count() > 0).then_some(nulls)
}

/// Places of the cache of recent addresses. A power of two.
const RECENT_ADDRESSES: usize = 1_024;

/// IP addresses as text.
#[derive(Debug)]
struct AddressColumn {
    text: TextColumn,
    recent: Vec<([u8; 16], u128)>,
}

impl AddressColumn {
    fn new(capacity: usize) -> Self {
        Self { text: TextColumn::new(capacity), recent: vec![([0; 16], 0); RECENT_ADDRESSES] }
    }

    #[inline]
    fn push(&mut self, address: [u8; 16]) {
        let Some(ip) = ip_from_bytes(address) else { return self.text.push_absent() };
        let mixed = (u128::from_le_bytes(address) >> 64) as u64 ^ u128::from_le_bytes(address) as u64;
        let slot = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % RECENT_ADDRESSES;
        let (known, view) = self.recent[slot];
        if known == address {
            return self.text.push_view(view);
        }
        let mut written = [0_u8; 48];
        let mut rest = &mut written[..];
        write!(rest, "{ip}").expect("an address has at most 45 characters");
        let length = 48 - rest.len();
        let view = self.text.view(&written[..length]);
        self.recent[slot] = (address, view);
        self.text.push_view(view);
    }

    fn finish(&mut self, nullable: bool) -> ArrayRef {
        self.recent.fill(([0; 16], 0));
        self.text.finish(nullable)
    }
}

/// The tries at upstreams: a list of structs.
#[derive(Debug)]
struct Attempts {
    ends: Vec<i32>,
    addr: TextColumn,
    status: Vec<u16>,
    error: Vec<u8>,
    start_us: Vec<u32>,
    duration_us: Vec<u32>,
    reused: Vec<u8>,
    span_id: Vec<[u8; 8]>,
}

impl Attempts {
    fn new(capacity: usize) -> Self {
        Self {
            ends: vec![0],
            addr: TextColumn::new(capacity),
            status: Vec::with_capacity(capacity),
            error: Vec::with_capacity(capacity),
            start_us: Vec::with_capacity(capacity),
            duration_us: Vec::with_capacity(capacity),
            reused: Vec::with_capacity(capacity),
            span_id: Vec::with_capacity(capacity),
        }
    }

    #[inline]
    fn push(&mut self, event: &RequestEvent<'_>) {
        for attempt in event.attempts() {
            self.addr.push(attempt.addr);
            self.status.push(attempt.status);
            self.error.push(attempt.error as u8);
            self.start_us.push(attempt.start_us);
            self.duration_us.push(attempt.duration_us);
            self.reused.push(u8::from(attempt.reused));
            self.span_id.push(attempt.span_id);
        }
        self.ends.push(i32::try_from(self.status.len()).expect("a batch has at most 65536 x 16 attempts"));
    }

    fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ColumnsError> {
        let unknown = || ColumnsError::Unknown("attempts".to_owned());
        let DataType::List(item) = data_type else { return Err(unknown()) };
        let DataType::Struct(fields) = item.data_type() else { return Err(unknown()) };
        let columns: Result<Vec<ArrayRef>, ColumnsError> =
            fields.iter().map(|field| self.take(field)).collect();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])));
        let tries = StructArray::try_new(fields.clone(), columns?, None)?;
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(tries), None)?))
    }

    fn take(&mut self, field: &Field) -> Result<ArrayRef, ColumnsError> {
        let (rows, null) = (self.status.capacity(), field.is_nullable());
        Ok(match field.name().as_str() {
            "addr" => self.addr.finish(null),
            "status" => numbers::<UInt16Type>(&mut self.status, rows, null.then_some(ABSENT_U16)),
            "error" => {
                let mut names = NameColumn::new(self.error.len(), |code| {
                    let error = AttemptError::from_u8(code);
                    (!null || error != AttemptError::None).then_some(error.as_str())
                });
                self.error.drain(..).for_each(|code| names.push(code));
                names.finish(null)
            }
            "start_us" => numbers::<UInt32Type>(&mut self.start_us, rows, null.then_some(ABSENT_U32)),
            "duration_us" => numbers::<UInt32Type>(&mut self.duration_us, rows, null.then_some(ABSENT_U32)),
            "reused" | "connection_reused" => booleans(&mut self.reused),
            "span_id" => ids(&mut self.span_id, rows, null)?,
            other => return Err(ColumnsError::Unknown(format!("attempts.{other}"))),
        })
    }
}

/// Pairs that the configuration names: a map of text to text.
#[derive(Debug)]
struct Extra {
    ends: Vec<i32>,
    keys: TextColumn,
    values: TextColumn,
}

impl Extra {
    fn new(capacity: usize) -> Self {
        Self { ends: vec![0], keys: TextColumn::new(capacity), values: TextColumn::new(capacity) }
    }

    #[inline]
    fn push(&mut self, event: &RequestEvent<'_>) {
        for (key, value) in event.extra() {
            self.keys.push(key);
            self.values.push(value);
        }
        self.ends.push(i32::try_from(self.keys.len()).expect("a batch has at most 65536 x 16 pairs"));
    }

    fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ColumnsError> {
        let unknown = || ColumnsError::Unknown("extra".to_owned());
        let DataType::Map(entries, _) = data_type else { return Err(unknown()) };
        let DataType::Struct(fields) = entries.data_type() else { return Err(unknown()) };
        let [key, value] = pair(fields).ok_or_else(unknown)?;
        let columns = vec![self.keys.finish(key.is_nullable()), self.values.finish(value.is_nullable())];
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])));
        let pairs = StructArray::try_new(fields.clone(), columns, None)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, None, false)?))
    }
}

fn pair(fields: &Fields) -> Option<[&Field; 2]> {
    match &fields[..] {
        [key, value] => Some([key, value]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use arrow::array::{Array, AsArray};
    use event::{Attempt, Draft};

    use super::*;

    fn draft() -> Draft {
        let mut draft = Draft::new();
        draft.reset(5);
        draft.head.request_id = [7; 16];
        draft.head.client_ip = event::ip_bytes(std::net::IpAddr::from([10, 0, 0, 1]));
        draft.head.status = 200;
        draft.head.duration_us = 900;
        draft.head.cache_status = CacheStatus::Hit as u8;
        draft.text(Text::Service, b"billing");
        draft.text(Text::Route, b"a-route-of-the-service-billing");
        draft.text(Text::Consumer, b"consumer-number-1");
        draft.text(Text::Method, b"GET");
        draft.text(Text::Host, b"api.example.com");
        draft.text(Text::Path, b"/billing/invoices/17");
        draft.text(Text::UserAgent, b"Mozilla/5.0 (X11; Linux x86_64)");
        draft.attempt(&Attempt {
            addr: b"10.0.0.2:80",
            status: 200,
            error: AttemptError::None,
            start_us: 1,
            duration_us: 2,
            reused: true,
            span_id: [1; 8],
        });
        draft
    }

    #[test]
    fn every_column_of_the_schema_is_filled_and_absent_values_are_null() {
        let mut rows = Rows::new(event::columns::schema(), 4);
        let full = draft();
        let mut empty = Draft::new();
        empty.reset(6);
        for _ in 0..2 {
            for (sequence, draft) in [(1, &full), (2, &empty)] {
                rows.append(&RequestEvent::of_draft("node", 3, sequence, draft));
            }
            let batch = rows.finish().unwrap();
            assert_eq!((batch.num_rows(), rows.len()), (2, 0));
            for column in batch.columns() {
                column.to_data().validate_full().unwrap();
            }
            assert_eq!(batch["time"].as_primitive::<TimestampMicrosecondType>().values(), &[5, 6]);
            assert_eq!(batch["sequence"].as_primitive::<UInt64Type>().values(), &[1, 2]);
            assert_eq!(batch["client_ip"].as_string_view().value(0), "10.0.0.1");
            assert_eq!(batch["cache_status"].as_string_view().value(0), "hit");
            assert_eq!(batch["route"].as_string_view().value(0), "a-route-of-the-service-billing");
            assert_eq!(batch["attempts"].as_list::<i32>().value_length(0), 1);
            assert_eq!(batch["attempts"].as_list::<i32>().value_length(1), 0);
            for name in [
                "request_id",
                "client_ip",
                "cache_status",
                "route",
                "status",
                "upstream_us",
                "limit_remaining",
            ] {
                assert!(batch[name].is_null(1), "{name}");
            }
        }
    }

    /// Prints what a row costs; run with `--nocapture` in a release build.
    #[test]
    fn a_row_costs_this_much() {
        const BATCH: usize = 8_192;
        let (schema, draft) = (event::columns::schema(), draft());
        let mut rows = Rows::new(schema, BATCH);
        let mut total = 0;
        let started = Instant::now();
        for _ in 0..20 {
            for sequence in 0..BATCH as u64 {
                rows.append(&RequestEvent::of_draft("node", 3, sequence, &draft));
            }
            total += rows.finish().unwrap().num_rows();
        }
        println!("event to columns: {} ns per event", started.elapsed().as_nanos() / total as u128);
        assert_eq!(total, 20 * BATCH);
    }
}
