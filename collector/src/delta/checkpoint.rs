//! Actions as Parquet: what a log says at one of its commits.
//!
//! (Protocol: "Checkpoints", of version 1: one file, a column for each kind of action, one row for each action.)

use std::sync::{Arc, LazyLock};

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;

use super::action::{self, Action};

/// Actions that are turned into columns at one time.
const BATCH: usize = 8_192;

/// Columns of a checkpoint.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let small = |name: &str| Field::new(name, DataType::Int32, true);
    let yes_no = |name: &str| Field::new(name, DataType::Boolean, true);
    let texts = |name: &str| {
        Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true)
    };
    let pairs = |name: &str| {
        let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), text("value")]);
        let pair = Field::new("key_value", DataType::Struct(pair), false);
        Field::new(name, DataType::Map(Arc::new(pair), false), true)
    };
    let group = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
    Arc::new(Schema::new(vec![
        group(
            "protocol",
            vec![small("minReaderVersion"), small("minWriterVersion"), texts("writerFeatures")],
        ),
        group(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                group("format", vec![text("provider"), pairs("options")]),
                text("schemaString"),
                texts("partitionColumns"),
                pairs("configuration"),
                number("createdTime"),
            ],
        ),
        group(
            "add",
            vec![
                text("path"),
                pairs("partitionValues"),
                number("size"),
                number("modificationTime"),
                yes_no("dataChange"),
                text("stats"),
            ],
        ),
        group(
            "remove",
            vec![
                text("path"),
                number("deletionTimestamp"),
                yes_no("dataChange"),
                yes_no("extendedFileMetadata"),
                pairs("partitionValues"),
                number("size"),
            ],
        ),
    ]))
});

/// Why there is no checkpoint, or why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Parquet(#[from] ::parquet::errors::ParquetError),
    #[error(transparent)]
    Columns(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Action(#[from] serde_json::Error),
}

/// The file, and how many actions are in it.
pub(super) fn encode(mut actions: impl Iterator<Item = Action>) -> Result<(Vec<u8>, usize), CheckpointError> {
    let level = ZstdLevel::try_new(3)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties))?;
    let mut size = 0;
    loop {
        let some: Vec<Action> = actions.by_ref().take(BATCH).collect();
        if some.is_empty() {
            return Ok((writer.into_inner()?, size));
        }
        let mut columns = ReaderBuilder::new(Arc::clone(&SCHEMA)).with_batch_size(BATCH).build_decoder()?;
        columns.serialize(&some)?;
        if let Some(batch) = columns.flush()? {
            writer.write(&batch)?;
        }
        size += some.len();
    }
}

/// The actions of a file.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<Action>, CheckpointError> {
    let mut actions = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(BATCH).build()? {
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write(&batch?)?;
        lines.finish()?;
        actions.extend(action::parse(&lines.into_inner())?);
    }
    Ok(actions)
}
