//! What the table says of itself: its columns in Delta's words, and how long things stay.

use std::collections::BTreeMap;
use std::io;

use arrow::datatypes::{DataType, Field};
use serde_json::{Value, json};

use super::DeltaConfig;
use super::action::{Format, Metadata};
use crate::random;

/// Columns that are in the names of folders.
pub(super) const PARTITIONS: [&str; 2] = ["date", "hour"];

/// What the table is to say. What it says already stays, whoever said it; only columns are added that it does not know.
///
/// # Errors
/// When there is no random number for the name of a new table.
pub(super) fn table(
    before: Option<&Metadata>,
    config: &DeltaConfig,
    grace_s: u32,
    now_ms: i64,
) -> io::Result<Metadata> {
    if let Some(before) = before {
        return Ok(match united(&before.schema_string) {
            Some(schema_string) => Metadata { schema_string, ..before.clone() },
            None => before.clone(),
        });
    }
    let configuration = [
        ("delta.checkpointInterval", config.checkpoint_commits.to_string()),
        ("delta.deletedFileRetentionDuration", format!("interval {grace_s} seconds")),
        ("delta.logRetentionDuration", format!("interval {} hours", config.log_retention_h)),
    ];
    Ok(Metadata {
        id: guid()?,
        name: Some("requests".to_owned()),
        description: Some("One row per request, written by Tollhouse".to_owned()),
        format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
        schema_string: schema().to_string(),
        partition_columns: PARTITIONS.map(str::to_owned).to_vec(),
        configuration: configuration.map(|(key, value)| (key.to_owned(), value)).into(),
        created_time: Some(now_ms),
    })
}

/// The columns of `requests`, and those of its folders. (Protocol: "Schema Serialization Format".)
fn schema() -> Value {
    let requests = event::columns::schema();
    let mut fields: Vec<Value> = requests.fields().iter().map(|column| field(column)).collect();
    let [date, hour] = PARTITIONS;
    let partition = |name, kind| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    fields.extend([partition(date, "date"), partition(hour, "integer")]);
    json!({"type": "struct", "fields": fields})
}

/// Every column may be null: a file of before there was a column has none.
fn field(field: &Field) -> Value {
    json!({"name": field.name(), "type": kind(field.data_type()), "nullable": true, "metadata": {}})
}

/// A type in Delta's words. It has signed integers only, so those without a sign are of the next larger kind, for 64 bits a
/// decimal of twenty digits, as Spark reads them without Delta.
fn kind(data_type: &DataType) -> Value {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::UInt8 | DataType::Int16 => "short".into(),
        DataType::UInt16 | DataType::Int32 => "integer".into(),
        DataType::UInt32 | DataType::Int64 => "long".into(),
        DataType::UInt64 => "decimal(20,0)".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::FixedSizeBinary(_) => "binary".into(),
        DataType::Struct(fields) => {
            let fields: Vec<Value> = fields.iter().map(|inner| field(inner)).collect();
            json!({"type": "struct", "fields": fields})
        }
        DataType::List(item) => {
            json!({"type": "array", "elementType": kind(item.data_type()), "containsNull": true})
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => json!({
                "type": "map", "keyType": kind(pair[0].data_type()), "valueType": kind(pair[1].data_type()),
                "valueContainsNull": true,
            }),
            other => unreachable!("a map of {other}"),
        },
        DataType::Utf8 | DataType::Utf8View => "string".into(),
        other => unreachable!("no column of {other} is in `event::columns`"),
    }
}

/// A schema with the columns of this version that it lacks; none if it has them all. Another version may know more columns,
/// or more of one: of two forms of a column the longer stays, so that versions do not take turns.
fn united(before: &str) -> Option<String> {
    let mut there: Value = serde_json::from_str(before).ok()?;
    let fields = there["fields"].as_array_mut()?;
    let known = fields.clone();
    for column in schema()["fields"].as_array()? {
        let same = fields.iter().position(|field| field["name"] == column["name"]);
        match same {
            None => fields.push(column.clone()),
            Some(at) if column.to_string().len() > fields[at].to_string().len() => {
                fields[at] = column.clone();
            }
            Some(_) => {}
        }
    }
    (*fields != known).then(|| there.to_string())
}

/// A random GUID (RFC 9562, section 5.4).
fn guid() -> io::Result<String> {
    let mut bytes: [u8; 16] = random::bytes()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
