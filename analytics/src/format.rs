//! The formats of an answer. An [`Encoder`] turns batches into bytes as they come and holds at most one batch, for
//! Parquet one row group.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{JsonArray, LineDelimited, Writer, WriterBuilder};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::error::QueryError;

/// Encoded bytes that a Parquet row group may hold before it is written.
const ROW_GROUP_BYTES_MAX: usize = 16 << 20;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    NdJson,
    Csv,
    Arrow,
    Parquet,
}

impl Format {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Json, "json", "application/json"),
        (Self::NdJson, "ndjson", "application/x-ndjson"),
        (Self::Csv, "csv", "text/csv"),
        (Self::Arrow, "arrow", "application/vnd.apache.arrow.stream"),
        (Self::Parquet, "parquet", "application/vnd.apache.parquet"),
    ];

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|format| format.1 == name).map(|format| format.0)
    }

    /// The first of an `Accept` header that is known (quality values are not weighed); JSON for a wildcard; `None`
    /// when nothing fits.
    pub(crate) fn by_accept(accept: &str) -> Option<Self> {
        accept.split(',').find_map(|item| {
            let kind = item.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let known = Self::ALL.iter().find(|format| format.2 == kind).map(|format| format.0);
            known.or_else(|| matches!(kind.as_str(), "*/*" | "application/*" | "").then_some(Self::Json))
        })
    }

    pub(crate) fn media_type(self) -> &'static str {
        let known = Self::ALL.iter().find(|format| format.0 == self).map(|format| format.2);
        match (self, known) {
            (Self::Csv, _) => "text/csv; charset=utf-8",
            (_, known) => known.unwrap_or("application/octet-stream"),
        }
    }
}

/// Where writers write and the encoder takes from.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Kind {
    Json(Writer<Buffer, JsonArray>),
    NdJson(Writer<Buffer, LineDelimited>),
    Csv(Box<csv::Writer<Buffer>>),
    Arrow(Box<StreamWriter<Buffer>>),
    Parquet(Box<ArrowWriter<Buffer>>),
}

/// Writes one answer.
pub(crate) struct Encoder {
    buffer: Buffer,
    kind: Kind,
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        Self::Encode(error.to_string())
    }
}

impl From<parquet::errors::ParquetError> for QueryError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Encode(error.to_string())
    }
}

impl Encoder {
    pub(crate) fn new(format: Format, schema: &SchemaRef) -> Result<Self, QueryError> {
        let buffer = Buffer::default();
        let json = WriterBuilder::new().with_explicit_nulls(true);
        let kind = match format {
            Format::Json => Kind::Json(json.build(buffer.clone())),
            Format::NdJson => Kind::NdJson(json.build(buffer.clone())),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(buffer.clone());
                // An answer without rows still names its columns.
                writer.write(&flat(&RecordBatch::new_empty(Arc::clone(schema)))?)?;
                Kind::Csv(Box::new(writer))
            }
            Format::Arrow => Kind::Arrow(Box::new(StreamWriter::try_new(buffer.clone(), schema)?)),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(Default::default()))
                    .build();
                Kind::Parquet(Box::new(ArrowWriter::try_new(
                    buffer.clone(),
                    Arc::clone(schema),
                    Some(properties),
                )?))
            }
        };
        Ok(Self { buffer, kind })
    }

    /// The bytes of one batch; may be empty when a format holds them back.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        match &mut self.kind {
            Kind::Json(writer) => writer.write(batch)?,
            Kind::NdJson(writer) => writer.write(batch)?,
            Kind::Csv(writer) => writer.write(&flat(batch)?)?,
            Kind::Arrow(writer) => writer.write(batch)?,
            Kind::Parquet(writer) => {
                writer.write(batch)?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES_MAX {
                    writer.flush()?;
                }
            }
        }
        Ok(self.buffer.take())
    }

    /// The bytes after the last batch.
    pub(crate) fn end(self) -> Result<Vec<u8>, QueryError> {
        match self.kind {
            Kind::Json(mut writer) => writer.finish()?,
            Kind::NdJson(mut writer) => writer.finish()?,
            Kind::Csv(_) => {}
            Kind::Arrow(mut writer) => writer.finish()?,
            Kind::Parquet(writer) => {
                writer.close()?;
            }
        }
        Ok(self.buffer.take())
    }
}

/// A batch with its lists, structs and maps as JSON text, since CSV has no such things.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Field::new(field.name(), DataType::Utf8, true));
            columns.push(json_text(field, column)?);
        } else {
            fields.push(field.as_ref().clone());
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// A column of lists, structs or maps as JSON text.
pub(crate) fn json_text(field: &Field, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const HEAD: &str = "{\"v\":";
    let schema = Arc::new(Schema::new(vec![field.clone().with_name("v").with_nullable(true)]));
    let mut writer: Writer<Vec<u8>, LineDelimited> =
        WriterBuilder::new().with_explicit_nulls(true).build(Vec::new());
    writer.write(&RecordBatch::try_new(schema, vec![Arc::clone(column)])?)?;
    let text =
        String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let values = text.lines().enumerate().map(|(row, line)| {
        let value = line.strip_prefix(HEAD).and_then(|line| line.strip_suffix('}'));
        value.filter(|_| column.is_valid(row))
    });
    Ok(Arc::new(StringArray::from_iter(values)))
}
