//! A Parquet file on its way to the disk, row group by row group: temporary name, fsync, rename, fsync of the folder.

use super::values::Encoder;
use super::{ParquetFileError, Row, VERSION_KEY, Written, table, temporary};
use crate::config::ParquetConfig;
use ::parquet::arrow::ArrowSchemaConverter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::SchemaDescriptor;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use event::layout::sync_folder;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twox_hash::XxHash3_64;

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

type Writer = SerializedFileWriter<BufWriter<Summed>>;

/// A file that is being written. One that is not finished leaves nothing.
pub(crate) struct Output {
    path: PathBuf,
    temporary: PathBuf,
    writer: Option<Writer>,
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
        let temporary = temporary(path);
        let folder = path.parent().unwrap_or(Path::new("."));
        create_folders(folder).map_err(io_error(folder))?;
        let file = File::create(&temporary).map_err(io_error(&temporary))?;
        let sink = BufWriter::with_capacity(1 << 18, Summed::new(file));
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
        match begin() {
            Ok((encoder, descr, writer)) => Ok(Self {
                path: path.to_owned(),
                temporary,
                writer: Some(writer),
                encoder,
                schema,
                descr,
                bloom_ids: config.bloom_ids,
            }),
            Err(source) => {
                remove_half(&temporary);
                Err(ParquetFileError::Parquet { path: path.to_owned(), source })
            }
        }
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
        let Self { path, writer, encoder, schema, descr, bloom_ids, .. } = self;
        let Some(writer) = writer else { return Err(ParquetFileError::Stopped) };
        let written = writer.next_row_group().and_then(|group| {
            table::row_group(group, encoder, schema, descr, batches, rows, *bloom_ids, stop)
        });
        written.map_err(|source| match stop() {
            true => ParquetFileError::Stopped,
            false => ParquetFileError::Parquet { path: path.clone(), source },
        })
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.bytes_written() as u64)
    }

    /// Puts on disk what was written so far, so that the end is not a flood.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&self) -> Result<(), ParquetFileError> {
        let file = self.writer.as_ref().map(|writer| &writer.inner().get_ref().file);
        file.map_or(Ok(()), File::sync_data).map_err(io_error(&self.temporary))
    }

    /// Writes the footer, makes the file durable, and gives it its name.
    ///
    /// # Errors
    /// When the disk refuses; nothing is left then of what was begun.
    pub(crate) fn finish(mut self) -> Result<Written, ParquetFileError> {
        let Some(writer) = self.writer.take() else { return Err(ParquetFileError::Stopped) };
        let finished = self.put(writer);
        if finished.is_err() {
            remove_half(&self.temporary);
        }
        finished
    }

    fn put(&self, writer: Writer) -> Result<Written, ParquetFileError> {
        let parquet_error = |source| ParquetFileError::Parquet { path: self.path.clone(), source };
        let sink = writer.into_inner().map_err(parquet_error)?;
        let summed = sink.into_inner().map_err(|error| io_error(&self.temporary)(error.into_error()))?;
        summed.file.sync_all().map_err(io_error(&self.temporary))?;
        let written = Written { bytes: summed.bytes, checksum: summed.checksum() };
        drop(summed);
        std::fs::rename(&self.temporary, &self.path).map_err(io_error(&self.path))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        sync_folder(folder).map_err(io_error(folder))?;
        Ok(written)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            remove_half(&self.temporary);
        }
    }
}

/// A full disk is not to be kept full by half a file. The next start removes what cannot be removed now.
fn remove_half(temporary: &Path) {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %temporary.display(), %error, "cannot remove half a file");
        }
        _ => {}
    }
}

fn io_error(at: &Path) -> impl FnOnce(io::Error) -> ParquetFileError {
    let path = at.to_owned();
    move |source| ParquetFileError::Io { path, source }
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

/// Makes a folder and those above it; each new one is durable in its parent.
pub(super) fn create_folders(folder: &Path) -> io::Result<()> {
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
