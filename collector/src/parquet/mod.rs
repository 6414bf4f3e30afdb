//! Rows into one Parquet file, step by step safe against a crash.
//!
//! The file is written under a temporary name, closed, synced, renamed, and its folder synced; its checksum is taken
//! on the way. It names no Arrow type: any reader finds plain strings, unsigned integers and UTC microseconds.
//!
//! Hot batches hold text as codes already, so the columns are encoded here and not by the crate's Arrow writer, which
//! would hash every value of every row anew: `rows` puts rows in order, `source` reads packed columns, `text` unites the batches' dictionaries, `values`
//! chooses an encoding for each kind of column, `chunk` lays out its pages, `table` goes through the schema. Pages,
//! footer, page index and bloom filters are serialised by the crate.

mod rows;

mod source;

mod text;

mod bits;

mod chunk;

mod few;

mod values;

mod table;

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowSchemaConverter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use event::layout::sync_folder;
use twox_hash::XxHash3_64;

use crate::config::ParquetConfig;
pub(crate) use rows::{HOUR_US, Row, bounded, order};
use values::Encoder;

/// Ends the name of a file that is being written.
pub(crate) const TEMPORARY: &str = "tmp";
/// Key of the version of the schema in a file's metadata.
pub(crate) const VERSION_KEY: &str = "tollhouse.schema_version";

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

/// What the footer says of the whole file.
fn properties(codec: Compression, schema: &SchemaRef) -> WriterProperties {
    let version = KeyValue::new(VERSION_KEY.to_owned(), event::columns::SCHEMA_VERSION.to_string());
    let time = schema.index_of("time").ok().and_then(|index| i32::try_from(index).ok());
    let sorting =
        time.map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: false }]);
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(codec)
        .set_created_by(concat!("tollhouse ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![version]))
        .set_sorting_columns(sorting)
        .set_write_path_in_schema(true)
        .build()
}

/// Writes rows of packed batches, which are [`bounded`] and in order of time, as the file `path`.
///
/// # Errors
/// When the disk refuses; nothing is left then of what was begun.
pub(crate) fn write(
    path: &Path,
    config: &ParquetConfig,
    batches: &[RecordBatch],
    rows: &[Row],
) -> Result<Written, ParquetFileError> {
    let parquet_error = |source| ParquetFileError::Parquet { path: path.to_owned(), source };
    publish(path, |sink| encode(sink, config, batches, rows).map_err(parquet_error))
}

/// Where the bytes of a file go.
pub(crate) type Sink = BufWriter<Summed>;

/// Makes a file of what `encode` writes; it is there under its name once it is whole and on disk.
///
/// # Errors
/// When the disk refuses, or `encode` fails; nothing is left then of what was begun.
pub(crate) fn publish<E: From<ParquetFileError>>(
    path: &Path,
    encode: impl FnOnce(Sink) -> Result<Sink, E>,
) -> Result<Written, E> {
    let temporary = temporary(path);
    let written = write_as(&temporary, path, encode);
    if written.is_err() {
        // A full disk is not to be kept full by half a file. The next start removes what cannot be removed now.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %temporary.display(), %error, "cannot remove half a file");
            }
            _ => {}
        }
    }
    written
}

fn write_as<E: From<ParquetFileError>>(
    temporary: &Path,
    path: &Path,
    encode: impl FnOnce(Sink) -> Result<Sink, E>,
) -> Result<Written, E> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let io_error = |at: &Path| {
        let path = at.to_owned();
        move |source| ParquetFileError::Io { path, source }
    };
    create_folders(folder).map_err(io_error(folder))?;
    let file = File::create(temporary).map_err(io_error(temporary))?;
    let sink = BufWriter::with_capacity(1 << 18, Summed::new(file));
    let sink = encode(sink)?;
    let summed = sink.into_inner().map_err(|error| io_error(temporary)(error.into_error()))?;
    summed.file.sync_all().map_err(io_error(temporary))?;
    let written = Written { bytes: summed.bytes, checksum: summed.checksum() };
    drop(summed);
    std::fs::rename(temporary, path).map_err(io_error(path))?;
    sync_folder(folder).map_err(io_error(folder))?;
    Ok(written)
}

/// Writes the whole file and gives the sink back.
fn encode<W: Write + Send>(
    sink: W,
    config: &ParquetConfig,
    batches: &[RecordBatch],
    rows: &[Row],
) -> Result<W, ParquetError> {
    let schema = event::columns::schema();
    let level = i32::from(config.zstd_level);
    let codec = Compression::ZSTD(ZstdLevel::try_new(level)?);
    let mut encoder = Encoder::new(codec, level)?;
    let descr = ArrowSchemaConverter::new().convert(&schema)?;
    let properties = Arc::new(properties(codec, &schema));
    let mut writer = SerializedFileWriter::new(sink, descr.root_schema_ptr(), properties)?;
    for rows in rows.chunks(config.row_group_rows as usize) {
        let group = writer.next_row_group()?;
        table::row_group(group, &mut encoder, &schema, &descr, batches, rows, config.bloom_ids)?;
    }
    writer.into_inner()
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
pub(crate) struct Summed {
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

#[cfg(test)]
mod tests;
