//! A Parquet file of requests, written row group by row group.

use super::unfinished::{Sink, Unfinished};
use super::values::Encoder;
use super::{ParquetFileError, Row, VERSION_KEY, Written, table};
use crate::config::ParquetConfig;
use ::parquet::arrow::ArrowSchemaConverter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::SchemaDescriptor;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::path::Path;
use std::sync::Arc;

/// Key of the order of the rows in a file's metadata.
const ORDER_KEY: &str = "tollhouse.order";

/// In which order a file has its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By time.
    Time,
    /// By buckets of time of so many seconds; within one by service, consumer, lane (node and core), time.
    Buckets(u32),
}

/// A file that is being written. One that is not finished leaves nothing.
pub(crate) struct Output {
    file: Unfinished,
    writer: SerializedFileWriter<Sink>,
    encoder: Encoder,
    schema: SchemaRef,
    descr: SchemaDescriptor,
    bloom_ids: bool,
}

impl Output {
    /// Begins the file `path` under a temporary name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn create(
        path: &Path,
        config: &ParquetConfig,
        order: Order,
    ) -> Result<Self, ParquetFileError> {
        let (file, sink) = Unfinished::create(path)?;
        let schema = event::columns::schema();
        let begin = || {
            let level = i32::from(config.zstd_level);
            let codec = Compression::ZSTD(ZstdLevel::try_new(level)?);
            let encoder = Encoder::new(codec, level)?;
            let descr = ArrowSchemaConverter::new().convert(&schema)?;
            let properties = Arc::new(properties(codec, &schema, order));
            let writer = SerializedFileWriter::new(sink, descr.root_schema_ptr(), properties)?;
            Ok((encoder, descr, writer))
        };
        let parquet_error = |source| ParquetFileError::Parquet { path: path.to_owned(), source };
        let (encoder, descr, writer) = begin().map_err(parquet_error)?;
        Ok(Self { file, writer, encoder, schema, descr, bloom_ids: config.bloom_ids })
    }

    /// Appends rows of packed batches, in the order of `rows`. `stop` is asked after each column.
    ///
    /// # Errors
    /// When the disk refuses, or `stop` says so; the file can only be dropped then.
    pub(crate) fn row_group(
        &mut self,
        batches: &[RecordBatch],
        rows: &[Row],
        stop: &dyn Fn() -> bool,
    ) -> Result<(), ParquetFileError> {
        let Self { file, writer, encoder, schema, descr, bloom_ids } = self;
        let written = writer.next_row_group().and_then(|group| {
            table::row_group(group, encoder, schema, descr, batches, rows, *bloom_ids, stop)
        });
        written.map_err(|source| match stop() {
            true => ParquetFileError::Stopped,
            false => ParquetFileError::Parquet { path: file.path().to_owned(), source },
        })
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Puts on disk what was written so far, so that the end is not a flood.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&self) -> Result<(), ParquetFileError> {
        self.file.sync(self.writer.inner())
    }

    /// Writes the footer, makes the file durable, and gives it its name.
    ///
    /// # Errors
    /// When the disk refuses; nothing is left then of what was begun.
    pub(crate) fn finish(self) -> Result<Written, ParquetFileError> {
        let Self { file, writer, .. } = self;
        match writer.into_inner() {
            Ok(sink) => file.finish(sink),
            Err(source) => Err(ParquetFileError::Parquet { path: file.path().to_owned(), source }),
        }
    }
}

/// What the footer says of the whole file.
fn properties(codec: Compression, schema: &SchemaRef, order: Order) -> WriterProperties {
    let mut said = vec![KeyValue::new(VERSION_KEY.to_owned(), event::columns::SCHEMA_VERSION.to_string())];
    let time = schema.index_of("time").ok().and_then(|index| i32::try_from(index).ok());
    let sorting = match order {
        Order::Time => {
            time.map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: false }])
        }
        // A bucket is no column, so the format's own words cannot say this order.
        Order::Buckets(seconds) => {
            said.push(KeyValue::new(
                ORDER_KEY.to_owned(),
                format!("time by {seconds} s, service, consumer, node, core, time"),
            ));
            None
        }
    };
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(codec)
        .set_created_by(concat!("tollhouse ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(said))
        .set_sorting_columns(sorting)
        .set_write_path_in_schema(true)
        .build()
}
