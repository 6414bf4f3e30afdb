//! The schema `system`: the state of the house as tables. Each is a small batch made when a query names it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, UInt16Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::common::Result;
use event::layout::{Ledger, Place};

use crate::catalog::Snapshot;
use crate::config::AnalyticsConfig;
use crate::query::Protocol;
use crate::traffic;

/// Longest statement that `system.queries` keeps, in characters.
const SQL_CHARS_MAX: usize = 2_000;

/// One finished or running query.
#[derive(Debug, Clone)]
pub(crate) struct QueryRecord {
    pub(crate) id: u64,
    pub(crate) started_us: i64,
    pub(crate) sql: String,
    pub(crate) user: String,
    pub(crate) protocol: Protocol,
    pub(crate) client: String,
    pub(crate) status: &'static str,
    pub(crate) http_status: u16,
    pub(crate) duration_us: Option<u64>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) error: Option<String>,
    /// What ran it; none before it is known.
    pub(crate) engine: Option<&'static str>,
}

/// The last queries, at most `history_max` of them.
#[derive(Debug)]
pub(crate) struct History {
    max: usize,
    records: Mutex<VecDeque<QueryRecord>>,
}

impl History {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, records: Mutex::new(VecDeque::new()) }
    }

    /// Adds a query, or replaces what is known of it.
    pub(crate) fn put(&self, record: QueryRecord) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = records.iter_mut().rev().find(|known| known.id == record.id) {
            *known = record;
            return;
        }
        if records.len() >= self.max {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// One that is remembered.
    pub(crate) fn get(&self, id: u64) -> Option<QueryRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().rev().find(|record| record.id == id).cloned()
    }

    /// All of them, or those of one caller.
    fn of(&self, user: Option<&str>) -> Vec<QueryRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().filter(|record| user.is_none_or(|user| record.user == user)).cloned().collect()
    }
}

/// A statement as it may be shown: text literals are replaced, since a client may have put a secret in one.
pub(crate) fn redact(sql: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for character in sql.chars().take(SQL_CHARS_MAX) {
        match (character, inside) {
            ('\'', false) => shown.push_str("'?"),
            ('\'', true) => shown.push('\''),
            (other, false) => shown.push(other),
            (_, true) => {}
        }
        inside ^= character == '\'';
    }
    shown
}

pub(crate) fn table(columns: Vec<(&str, ArrayRef)>) -> Result<MemTable> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )?;
    MemTable::try_new(batch.schema(), vec![vec![batch]])
}

pub(crate) fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(crate) fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

pub(crate) fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

/// `system.ledger`: one row per node and sink, produced + recovered = stored + dropped + in_flight.
pub(crate) fn ledger(ledger: &Ledger) -> Result<MemTable> {
    let rows = &ledger.rows;
    table(vec![
        ("at", times(rows.iter().map(|_| Some(ledger.at_us)))),
        ("node", texts(rows.iter().map(|row| &row.node))),
        ("sink", texts(rows.iter().map(|row| &row.sink))),
        ("produced", numbers(rows.iter().map(|row| row.produced))),
        ("recovered", numbers(rows.iter().map(|row| row.recovered))),
        ("stored", numbers(rows.iter().map(|row| row.stored))),
        ("dropped", numbers(rows.iter().map(|row| row.dropped))),
        ("in_flight", numbers(rows.iter().map(|row| row.in_flight))),
        (
            "reasons",
            texts(rows.iter().map(|row| {
                let reasons: Vec<_> =
                    row.reasons.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
                reasons.join(",")
            })),
        ),
    ])
}

struct FileRow {
    path: String,
    kind: &'static str,
    rows: Option<i64>,
    bytes: Option<i64>,
    range: Option<(i64, i64)>,
    place: Place,
    status: String,
}

/// `system.files`: what the table is made of at this moment. `status` is `ok`, or why a file is left out.
pub(crate) fn files(snapshot: &Snapshot) -> Result<MemTable> {
    let mut rows: Vec<FileRow> = Vec::new();
    for (_, entry) in &snapshot.sealed.files {
        rows.push(FileRow {
            path: entry.path.clone(),
            kind: "parquet",
            rows: Some(entry.rows as i64),
            bytes: Some(entry.bytes as i64),
            range: Some((entry.time_min_us, entry.time_max_us)),
            place: entry.place,
            status: "ok".into(),
        });
    }
    for (_, entry) in &snapshot.sealed.rollups {
        rows.push(FileRow {
            path: entry.file.path.clone(),
            kind: traffic::kind(entry.resolution),
            rows: Some(entry.file.rows as i64),
            bytes: Some(entry.file.bytes as i64),
            range: Some((entry.file.time_min_us, entry.file.time_max_us)),
            place: entry.file.place,
            status: "ok".into(),
        });
    }
    for file in &snapshot.hot {
        let widest = |left: (i64, i64), right: (i64, i64)| (left.0.min(right.0), left.1.max(right.1));
        rows.push(FileRow {
            path: format!("hot/{:010}.arrow", file.reader.number),
            kind: "hot",
            rows: Some(file.reader.rows as i64),
            bytes: Some(file.reader.bytes as i64),
            range: file.ranges.iter().flatten().copied().reduce(widest),
            place: Place::Local,
            status: "ok".into(),
        });
    }
    for bad in &snapshot.quarantined {
        let place = if bad.path.contains("://") { Place::Bucket } else { Place::Local };
        let kind = match traffic::of_path(&bad.path) {
            _ if bad.path.contains("://") => "bucket",
            Some((resolution, _)) => traffic::kind(resolution),
            None if bad.path.ends_with(".arrow") => "hot",
            None => "parquet",
        };
        let (path, status) = (bad.path.clone(), bad.reason.clone());
        rows.push(FileRow { path, kind, rows: None, bytes: None, range: None, place, status });
    }
    table(vec![
        ("path", texts(rows.iter().map(|row| &row.path))),
        ("kind", texts(rows.iter().map(|row| row.kind))),
        ("rows", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.rows)))),
        ("bytes", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.bytes)))),
        ("time_min", times(rows.iter().map(|row| row.range.map(|range| range.0)))),
        ("time_max", times(rows.iter().map(|row| row.range.map(|range| range.1)))),
        ("place", texts(rows.iter().map(|row| row.place.as_str()))),
        ("status", texts(rows.iter().map(|row| &row.status))),
    ])
}

/// `system.erasures`: what became of orders to erase rows.
pub(crate) fn erasures(snapshot: &Snapshot) -> Result<MemTable> {
    let all = &snapshot.manifest.erasures;
    table(vec![
        ("id", texts(all.iter().map(|one| &one.id))),
        ("at", times(all.iter().map(|one| Some(one.at_us)))),
        ("done_at", times(all.iter().map(|one| one.done_at_us))),
        ("rows", numbers(all.iter().map(|one| one.rows))),
        ("files", numbers(all.iter().map(|one| one.files))),
        ("set_aside", numbers(all.iter().map(|one| one.set_aside))),
    ])
}

/// `system.queries`: the last queries, the running ones too; of one caller, or of all.
pub(crate) fn queries(history: &History, user: Option<&str>) -> Result<MemTable> {
    let all = history.of(user);
    table(vec![
        ("id", numbers(all.iter().map(|query| query.id))),
        ("started", times(all.iter().map(|query| Some(query.started_us)))),
        ("sql", texts(all.iter().map(|query| &query.sql))),
        ("user", texts(all.iter().map(|query| &query.user))),
        ("protocol", texts(all.iter().map(|query| query.protocol.as_str()))),
        ("client", texts(all.iter().map(|query| &query.client))),
        ("status", texts(all.iter().map(|query| query.status))),
        ("http_status", Arc::new(UInt16Array::from_iter_values(all.iter().map(|query| query.http_status)))),
        ("duration_us", Arc::new(UInt64Array::from_iter(all.iter().map(|query| query.duration_us)))),
        ("rows", numbers(all.iter().map(|query| query.rows))),
        ("bytes", numbers(all.iter().map(|query| query.bytes))),
        ("error", Arc::new(StringArray::from_iter(all.iter().map(|query| query.error.as_deref())))),
        ("engine", Arc::new(StringArray::from_iter(all.iter().map(|query| query.engine)))),
    ])
}

/// `system.settings`: the configuration in force, by name; without who may ask.
pub(crate) fn settings(config: &AnalyticsConfig) -> Result<MemTable> {
    let value = serde_json::to_value(config)
        .map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
    let pairs: Vec<(String, String)> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !["tokens", "roles"].contains(&name.as_str()))
        .map(|(name, value)| {
            (format!("analytics.{name}"), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ]);
    let columns = vec![texts(pairs.iter().map(|pair| &pair.0)), texts(pairs.iter().map(|pair| &pair.1))];
    let batch = RecordBatch::try_new(Arc::new(schema), columns)?;
    MemTable::try_new(batch.schema(), vec![vec![batch]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_not_shown() {
        assert_eq!(redact("SELECT 'k-123', x FROM t WHERE a='it''s'"), "SELECT '?', x FROM t WHERE a='?''?'");
        assert!(redact(&"x".repeat(9_000)).len() <= SQL_CHARS_MAX);
    }
}
