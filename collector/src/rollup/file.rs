//! Groups as a Parquet file, and back. Any reader finds plain strings, unsigned integers, UTC microseconds and bytes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringViewArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use event::distinct::Distinct;
use event::rollup::{CLASS_WORDS, NAMES, SCHEMA_VERSION, schema};
use event::sketch::Sketch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::RollupError;
use super::totals::{Key, Totals};
use crate::parquet::{ParquetFileError, Unfinished, Written};

/// Groups that are written or read at a time, and those of one row group: what is in memory at once.
const BATCH: usize = 512;
const ROW_GROUP: usize = 16_384;
/// Key of the version of the schema in a file's metadata.
const VERSION_KEY: &str = "tollhouse.rollup_version";

/// What a file holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) groups: u64,
    pub(super) requests: u64,
    /// Requests of groups whose names were too many.
    pub(super) overflowed: u64,
    /// When the first and the last group begin.
    pub(super) times_us: Option<(i64, i64)>,
}

/// Writes groups, which come in the order of their keys, as the file `path`.
pub(super) fn write(
    path: &Path,
    zstd_level: u8,
    groups: impl Iterator<Item = Result<(Key, Totals), RollupError>>,
) -> Result<(Written, Contents), RollupError> {
    let mut contents = Contents::default();
    let failed = |source: ParquetError| ParquetFileError::Parquet { path: path.to_owned(), source };
    let (file, sink) = Unfinished::create(path)?;
    let options = ArrowWriterOptions::new()
        .with_properties(properties(zstd_level).map_err(failed)?)
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(sink, schema(), options).map_err(failed)?;
    let mut few = Vec::with_capacity(BATCH);
    for group in groups {
        few.push(group?);
        if few.len() == BATCH {
            writer.write(&batch(&few).map_err(failed)?).map_err(failed)?;
            contents.add(&few);
            few.clear();
        }
    }
    writer.write(&batch(&few).map_err(failed)?).map_err(failed)?;
    contents.add(&few);
    Ok((file.finish(writer.into_inner().map_err(failed)?)?, contents))
}

impl Contents {
    fn add(&mut self, groups: &[(Key, Totals)]) {
        let (Some((first, _)), Some((last, _))) = (groups.first(), groups.last()) else { return };
        self.groups += groups.len() as u64;
        self.requests += groups.iter().map(|(_, totals)| totals.requests).sum::<u64>();
        let overflow = groups.iter().filter(|(key, _)| key.is_overflow());
        self.overflowed += overflow.map(|(_, totals)| totals.requests).sum::<u64>();
        let begin_us = self.times_us.map_or(first.time_us, |(begin_us, _)| begin_us);
        self.times_us = Some((begin_us, last.time_us));
    }
}

fn properties(zstd_level: u8) -> Result<WriterProperties, ParquetError> {
    let version = KeyValue::new(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string());
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level.into())?))
        .set_created_by(concat!("tollhouse ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![version]))
        .set_max_row_group_row_count(Some(ROW_GROUP));
    // Hardly two sketches are the same, and the least of them says nothing.
    for sketch in ["duration_sketch", "gateway_sketch", "clients_sketch"] {
        let column = ColumnPath::from(sketch);
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_statistics_enabled(column, EnabledStatistics::None);
    }
    Ok(properties.build())
}

fn batch(groups: &[(Key, Totals)]) -> Result<RecordBatch, ParquetError> {
    let times = TimestampMicrosecondArray::from_iter_values(groups.iter().map(|(key, _)| key.time_us));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC"))];
    for column in 0..NAMES.len() {
        let names = groups.iter().map(|(key, _)| key.names[column].as_deref());
        columns.push(Arc::new(StringViewArray::from_iter(names)));
    }
    let classes = groups.iter().map(|(key, _)| CLASS_WORDS[usize::from(key.class)]);
    columns.push(Arc::new(StringViewArray::from_iter_values(classes)));
    let counts: [fn(&Totals) -> u64; 4] = [
        |totals| totals.requests,
        |totals| totals.errors,
        |totals| totals.request_bytes,
        |totals| totals.response_bytes,
    ];
    for count in counts {
        columns.push(Arc::new(UInt64Array::from_iter_values(groups.iter().map(|(_, totals)| count(totals)))));
    }
    let sketches: [fn(&Totals, &mut Vec<u8>); 3] = [
        |totals, bytes| totals.duration.write(bytes),
        |totals, bytes| totals.gateway.write(bytes),
        |totals, bytes| totals.clients.write(bytes),
    ];
    let mut bytes = Vec::new();
    for write in sketches {
        let mut column = BinaryBuilder::new();
        for (_, totals) in groups {
            bytes.clear();
            write(totals, &mut bytes);
            column.append_value(&bytes);
        }
        columns.push(Arc::new(column.finish()));
    }
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The groups of a file, one after the other.
pub(super) struct Reader {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    row: usize,
}

impl Reader {
    /// Opens a file.
    pub(super) fn open(path: PathBuf) -> Result<Self, RollupError> {
        let text = |error: ParquetError| error.to_string();
        let opened = File::open(&path).map_err(|error| error.to_string()).and_then(|file| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(text)?;
            builder.with_batch_size(BATCH).build().map_err(text)
        });
        match opened {
            Ok(batches) => Ok(Self { path, batches, batch: None, row: 0 }),
            Err(reason) => Err(RollupError::Unreadable { path, reason }),
        }
    }

    /// When the next group begins; none at the end.
    pub(super) fn time_us(&mut self) -> Result<Option<i64>, RollupError> {
        while self.batch.as_ref().is_none_or(|batch| self.row >= batch.num_rows()) {
            self.row = 0;
            self.batch =
                self.batches.next().transpose().map_err(|error| self.unreadable(&error.to_string()))?;
            if self.batch.is_none() {
                return Ok(None);
            }
        }
        let batch = self.batch.as_ref();
        let times = batch.and_then(|batch| batch["time"].as_primitive_opt::<TimestampMicrosecondType>());
        match times {
            Some(times) => Ok(Some(times.value(self.row))),
            None => Err(self.unreadable("it has no times")),
        }
    }

    /// Takes the next group, whose time was asked for.
    pub(super) fn take(&mut self) -> Result<(Key, Totals), RollupError> {
        let group = self.batch.as_ref().and_then(|batch| group(batch, self.row));
        self.row += 1;
        group.ok_or_else(|| self.unreadable("a group is not as the schema says"))
    }

    fn unreadable(&self, reason: &str) -> RollupError {
        RollupError::Unreadable { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// The group of a row; none if a column is not what it should be.
fn group(batch: &RecordBatch, row: usize) -> Option<(Key, Totals)> {
    let time_us = batch.column_by_name("time")?.as_primitive_opt::<TimestampMicrosecondType>()?.value(row);
    let text = |name: &str| {
        let texts = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        Some(texts.is_valid(row).then(|| texts.value(row)))
    };
    let mut names: [Option<Arc<str>>; NAMES.len()] = Default::default();
    for (name, column) in names.iter_mut().zip(NAMES) {
        *name = text(column)?.map(Arc::from);
    }
    let class = text("status_class")?;
    let class = CLASS_WORDS.iter().position(|known| Some(*known) == class)?;
    let number = |name: &str| Some(batch.column_by_name(name)?.as_primitive_opt::<UInt64Type>()?.value(row));
    let bytes = |name: &str| Some(batch.column_by_name(name)?.as_binary_opt::<i32>()?.value(row));
    let totals = Totals {
        requests: number("requests")?,
        errors: number("errors")?,
        request_bytes: number("request_bytes")?,
        response_bytes: number("response_bytes")?,
        duration: Sketch::from_bytes(bytes("duration_sketch")?).ok()?,
        gateway: Sketch::from_bytes(bytes("gateway_sketch")?).ok()?,
        clients: Distinct::from_bytes(bytes("clients_sketch")?).ok()?,
    };
    Some((Key { time_us, names, class: u8::try_from(class).ok()? }, totals))
}
