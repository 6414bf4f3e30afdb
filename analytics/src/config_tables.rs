//! The schema `config`: what the gateway on this data folder routes by, and what of it changed when, as the gateway wrote it.
//!
//! An entity is a row. Fields that have no column of their own stand in `settings` as JSON.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder, UInt64Array,
};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;
use event::configuration::Configuration;
use event::in_force::{Entity, InForce};
use event::layout::{DataFolder, LayoutError};
use serde_json::Value;

use crate::system::{numbers, table as table_of, texts, times};
use crate::unreadable::table_or;

/// What a column is made of.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Number,
    Signed,
    Truth,
    /// As JSON.
    Json,
}

use Kind::{Json, Number, Signed, Text, Texts, Truth};

/// A kind of entity, and the columns of its table.
type Columns = (&'static str, &'static [(&'static str, Kind)]);

/// The kinds of entities that are tables.
const ENTITIES: [Columns; 8] = [
    (
        "services",
        &[
            ("name", Text),
            ("id", Text),
            ("protocol", Text),
            ("host", Text),
            ("port", Number),
            ("path", Text),
            ("retries", Number),
            ("connect_timeout_ms", Number),
            ("write_timeout_ms", Number),
            ("read_timeout_ms", Number),
            ("enabled", Truth),
            ("tags", Texts),
        ],
    ),
    (
        "routes",
        &[
            ("name", Text),
            ("id", Text),
            ("service", Text),
            ("protocols", Texts),
            ("methods", Texts),
            ("hosts", Texts),
            ("paths", Texts),
            ("headers", Json),
            ("snis", Texts),
            ("strip_path", Truth),
            ("preserve_host", Truth),
            ("path_handling", Text),
            ("regex_priority", Signed),
            ("tags", Texts),
        ],
    ),
    (
        "upstreams",
        &[
            ("name", Text),
            ("id", Text),
            ("algorithm", Text),
            ("hash_on", Text),
            ("healthchecks", Json),
            ("outlier_detection", Json),
            ("circuit_breaker", Json),
            ("tags", Texts),
        ],
    ),
    (
        "targets",
        &[
            ("upstream", Text),
            ("target", Text),
            ("weight", Number),
            ("failover", Truth),
            ("labels", Json),
            ("tags", Texts),
        ],
    ),
    (
        "consumers",
        &[("username", Text), ("custom_id", Text), ("id", Text), ("credentials", Number), ("tags", Texts)],
    ),
    ("credentials", &[("id", Text), ("consumer", Text), ("kind", Text), ("tags", Texts)]),
    (
        "plugins",
        &[
            ("name", Text),
            ("instance_name", Text),
            ("id", Text),
            ("service", Text),
            ("route", Text),
            ("consumer", Text),
            ("enabled", Truth),
            ("config", Json),
            ("tags", Texts),
        ],
    ),
    ("certificates", &[("id", Text), ("snis", Texts), ("cert_file", Text), ("tags", Texts)]),
];

/// All tables of what the gateway has in force. Where nobody asks for their rows no file is read.
pub(crate) fn tables(
    folder: &DataFolder,
    wants: impl Fn(&str) -> Wanted,
) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
    let mut tables: Vec<(&'static str, Arc<dyn TableProvider>)> = Vec::new();
    let mut read = None;
    let mut of = |wanted: Wanted,
                  table: &dyn Fn(&InForce) -> Result<MemTable>|
     -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(match wanted {
            Wanted::No => None,
            Wanted::Columns => Some(Arc::new(table(&InForce::default())?)),
            Wanted::Rows => {
                let read = read.get_or_insert_with(|| InForce::load(folder).map_err(Arc::new));
                Some(table_or(read, table)?)
            }
        })
    };
    for (kind, columns) in &ENTITIES {
        let entities = |now: &InForce| entities(now.entities.get(*kind).map_or(&[], Vec::as_slice), columns);
        tables.extend(of(wants(kind), &entities)?.map(|table| (*kind, table)));
    }
    tables.extend(of(wants("versions"), &versions)?.map(|table| ("versions", table)));
    tables.extend(of(wants("changes"), &changes)?.map(|table| ("changes", table)));
    let state: Result<Option<Configuration>, Arc<LayoutError>> = match wants("status") {
        Wanted::No => return Ok(tables),
        Wanted::Columns => Ok(None),
        Wanted::Rows => Configuration::load(folder).map_err(Arc::new),
    };
    tables.push(("status", table_or(&state, status)?));
    Ok(tables)
}

/// What is asked of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing.
    No,
    /// Which columns it has.
    Columns,
    /// Its rows.
    Rows,
}

fn entities(rows: &[Entity], columns: &[(&'static str, Kind)]) -> Result<MemTable> {
    let mut table: Vec<(&str, ArrayRef)> =
        columns.iter().map(|(name, kind)| (*name, column(rows, name, *kind))).collect();
    let others = rows.iter().map(|row| {
        let others = row.iter().filter(|(name, _)| columns.iter().all(|(column, _)| column != name));
        let others: Entity = others.map(|(name, value)| (name.clone(), value.clone())).collect();
        (!others.is_empty()).then(|| Value::Object(others).to_string())
    });
    table.push(("settings", Arc::new(StringArray::from_iter(others))));
    table_of(table)
}

fn column(rows: &[Entity], name: &str, kind: Kind) -> ArrayRef {
    let values = || rows.iter().map(|row| row.get(name));
    match kind {
        Text => Arc::new(StringArray::from_iter(values().map(|value| value.and_then(Value::as_str)))),
        Number => Arc::new(UInt64Array::from_iter(values().map(|value| value.and_then(Value::as_u64)))),
        Signed => Arc::new(Int64Array::from_iter(values().map(|value| value.and_then(Value::as_i64)))),
        Truth => Arc::new(BooleanArray::from_iter(values().map(|value| value.and_then(Value::as_bool)))),
        Json => Arc::new(StringArray::from_iter(values().map(|value| value.map(Value::to_string)))),
        Texts => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for value in values() {
                for text in value.and_then(Value::as_array).into_iter().flatten() {
                    lists.values().append_option(text.as_str());
                }
                lists.append(true);
            }
            Arc::new(lists.finish())
        }
    }
}

/// A row for each configuration that was in force. The last one has no end.
fn versions(now: &InForce) -> Result<MemTable> {
    let rows = || now.versions.iter();
    let ends = rows().skip(1).map(|next| Some(next.since_us)).chain([None]).take(now.versions.len());
    let mut table = vec![
        ("version", numbers(rows().map(|row| row.version))),
        ("since", times(rows().map(|row| Some(row.since_us)))),
        ("until", times(ends)),
        ("source", texts(rows().map(|row| &row.source))),
    ];
    for (kind, _) in &ENTITIES {
        table.push((*kind, numbers(rows().map(|row| row.entities.get(*kind).copied().unwrap_or_default()))));
    }
    table_of(table)
}

/// A row for each entity that a configuration added, changed or removed.
fn changes(now: &InForce) -> Result<MemTable> {
    let rows = || now.changes.iter();
    let mut fields = ListBuilder::new(StringBuilder::new());
    for row in rows() {
        row.fields.iter().for_each(|field| fields.values().append_value(field));
        fields.append(true);
    }
    table_of(vec![
        ("at", times(rows().map(|row| Some(row.at_us)))),
        ("version", numbers(rows().map(|row| row.version))),
        ("kind", texts(rows().map(|row| &row.kind))),
        ("name", texts(rows().map(|row| &row.name))),
        ("change", texts(rows().map(|row| row.change.as_str()))),
        ("fields", Arc::new(fields.finish())),
    ])
}

/// The one row of how the last reload went.
fn status(state: &Option<Configuration>) -> Result<MemTable> {
    let rows = || state.iter();
    table_of(vec![
        ("version", numbers(rows().map(|row| row.version))),
        ("since", times(rows().map(|row| Some(row.success_at_us)))),
        ("attempts", numbers(rows().map(|row| row.attempts))),
        ("last_attempt", times(rows().map(|row| Some(row.at_us)))),
        ("successful", Arc::new(BooleanArray::from_iter(rows().map(|row| Some(row.successful))))),
        ("problems", texts(rows().map(|row| row.problems.join("\n")))),
        ("needs_restart", texts(rows().map(|row| row.restart.join(", ")))),
        ("process", numbers(rows().map(|row| row.pid.into()))),
    ])
}
