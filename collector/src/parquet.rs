//! Rows into one Parquet file, step by step safe against a crash.
//!
//! The file is written under a temporary name, closed, synced, renamed, and its folder synced; its checksum is taken
//! on the way. It names no Arrow type: any reader finds plain strings, unsigned integers and UTC microseconds.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use event::layout::sync_folder;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use twox_hash::XxHash3_64;

use crate::config::ParquetConfig;

/// Ends the name of a file that is being written.
pub(crate) const TEMPORARY: &str = "tmp";
/// Key of the version of the schema in a file's metadata.
pub(crate) const VERSION_KEY: &str = "tollhouse.schema_version";
/// Most rows of one data page; a page is the smallest thing that a query skips.
const PAGE_ROWS: usize = 20_000;
/// Ids: random, so neither a dictionary nor zstd makes them smaller.
const IDS: [&str; 5] = ["request_id", "trace_id", "span_id", "parent_span_id", "upstream_span_id"];
/// Ids that people look up.
const LOOKED_UP: [&str; 2] = ["request_id", "trace_id"];
/// Share of look-ups that read a file in vain.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Why a Parquet file was not written.
#[derive(Debug, thiserror::Error)]
pub enum ParquetFileError {
    /// The disk.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The encoder, or the disk under it.
    #[error("cannot write {path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: ParquetError,
    },
}

/// A file that stands whole on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// XXH3-64 as hex, as `event::layout::checksum` gives it.
    pub(crate) checksum: String,
}

/// How the columns of a schema are written. `rows` sizes the bloom filters.
pub(crate) fn properties(config: &ParquetConfig, schema: &SchemaRef, rows: u64) -> WriterProperties {
    let level = ZstdLevel::try_new(config.zstd_level.into()).expect("validate checked the level");
    let version = KeyValue::new(VERSION_KEY.to_owned(), event::columns::SCHEMA_VERSION.to_string());
    let time = schema.index_of("time").ok().and_then(|index| i32::try_from(index).ok());
    let sorting =
        time.map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: false }]);
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("tollhouse ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![version]))
        .set_sorting_columns(sorting)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(config.row_group_rows as usize))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_dictionary_enabled(true)
        .set_write_path_in_schema(true);
    for field in schema.fields() {
        let name = field.name().as_str();
        let path = || ColumnPath::from(name);
        if IDS.contains(&name) {
            builder = builder
                .set_column_dictionary_enabled(path(), false)
                .set_column_compression(path(), Compression::UNCOMPRESSED)
                .set_column_statistics_enabled(path(), EnabledStatistics::Chunk);
        }
        if config.bloom_ids && LOOKED_UP.contains(&name) {
            builder = builder
                .set_column_bloom_filter_enabled(path(), true)
                .set_column_bloom_filter_fpp(path(), BLOOM_FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path(), rows.min(config.row_group_rows.into()).max(1));
        }
        if let Some(encoding) = number_encoding(name, field.data_type()) {
            builder =
                builder.set_column_dictionary_enabled(path(), false).set_column_encoding(path(), encoding);
        }
    }
    let attempt =
        |name: &str| ColumnPath::new(["attempts", "list", "item", name].map(str::to_owned).to_vec());
    builder
        .set_column_dictionary_enabled(attempt("span_id"), false)
        .set_column_compression(attempt("span_id"), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(attempt("start_us"), false)
        .set_column_encoding(attempt("start_us"), Encoding::BYTE_STREAM_SPLIT)
        .set_column_dictionary_enabled(attempt("duration_us"), false)
        .set_column_encoding(attempt("duration_us"), Encoding::BYTE_STREAM_SPLIT)
        .build()
}

/// The encoding of numbers that take many values; the others get a dictionary.
fn number_encoding(name: &str, data_type: &DataType) -> Option<Encoding> {
    match name {
        "time" | "sequence" => Some(Encoding::DELTA_BINARY_PACKED),
        // Bytes of like weight beside each other: zstd then drops the high ones, which are nearly constant.
        _ if name.ends_with("_us") && *data_type == DataType::UInt32 => Some(Encoding::BYTE_STREAM_SPLIT),
        _ => None,
    }
}

/// Writes batches, which are sorted by time, as the file `path`.
///
/// # Errors
/// When the disk refuses; a temporary file may be left, which the next start removes.
pub(crate) fn write(
    path: &Path,
    schema: &SchemaRef,
    properties: WriterProperties,
    batches: impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>>,
) -> Result<Written, ParquetFileError> {
    let temporary = temporary(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let io_error = |at: &Path| {
        let path = at.to_owned();
        move |source| ParquetFileError::Io { path, source }
    };
    let parquet_error = |source| ParquetFileError::Parquet { path: path.to_owned(), source };
    create_folders(folder).map_err(io_error(folder))?;
    let file = File::create(&temporary).map_err(io_error(&temporary))?;
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let sink = BufWriter::with_capacity(1 << 18, Summed::new(file));
    let mut writer =
        ArrowWriter::try_new_with_options(sink, Arc::clone(schema), options).map_err(parquet_error)?;
    for batch in batches {
        writer.write(&batch.map_err(|error| parquet_error(error.into()))?).map_err(parquet_error)?;
    }
    let sink = writer.into_inner().map_err(parquet_error)?;
    let summed = sink.into_inner().map_err(|error| io_error(&temporary)(error.into_error()))?;
    summed.file.sync_all().map_err(io_error(&temporary))?;
    let written = Written { bytes: summed.bytes, checksum: summed.checksum() };
    drop(summed);
    std::fs::rename(&temporary, path).map_err(io_error(path))?;
    sync_folder(folder).map_err(io_error(folder))?;
    Ok(written)
}

/// The name of a file while it is written.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    name.into()
}

/// Makes a folder and those above it; each new one is durable in its parent.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else { return Ok(()) };
    create_folders(parent)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(parent),
    }
}

/// A file that sums what is written to it.
struct Summed {
    file: File,
    bytes: u64,
    hasher: XxHash3_64,
}

impl Summed {
    fn new(file: File) -> Self {
        Self { file, bytes: 0, hasher: XxHash3_64::new() }
    }

    /// XXH3-64 of all bytes so far, as hex.
    fn checksum(&self) -> String {
        format!("{:016x}", self.hasher.finish())
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.write(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
