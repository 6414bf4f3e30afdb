//! A file of the table as packed batches, one after the other.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::errors::ParquetError;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use event::columns::SCHEMA_VERSION;
use event::layout::{DataFolder, FileEntry};
use twox_hash::XxHash3_64;

use super::idle::Pace;
use super::pack::pack;
use crate::parquet::{HOUR_US, VERSION_KEY};

/// Bytes that are summed at a time.
const SUMMED_BYTES: usize = 1 << 18;

/// Why a file cannot be merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// Its bytes are not what was sealed.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Under the data folder.
        path: String,
        /// How that shows.
        reason: String,
    },
    /// A version of this program that knows more columns wrote it: rewriting it would lose them.
    #[error("{path} was written by a newer version: {reason}")]
    Newer {
        /// Under the data folder.
        path: String,
        /// How that shows.
        reason: String,
    },
    /// The disk refuses.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Under the data folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl InputError {
    /// The file that is to be left alone; none if another try may do.
    pub(super) fn unusable(&self) -> Option<&str> {
        match self {
            Self::Damaged { path, .. } | Self::Newer { path, .. } => Some(path),
            Self::Io { path, source } if source.kind() == io::ErrorKind::NotFound => Some(path),
            Self::Io { .. } => None,
        }
    }
}

/// The rows of a batch, as the reader gives it, that are to stay.
pub(crate) type Keep<'a> = dyn Fn(&RecordBatch) -> Result<RecordBatch, ArrowError> + 'a;

/// A file that is being read.
pub(super) struct Input<'a> {
    path: String,
    hour: i64,
    rows_left: u64,
    reader: ParquetRecordBatchReader,
    keep: Option<&'a Keep<'a>>,
    batch: RecordBatch,
    /// The next row of the batch.
    at: usize,
    /// Where the window has the batch, if it does.
    pub(super) place: Option<u16>,
}

impl<'a> Input<'a> {
    /// Opens a file whose rows are all of one hour, after a look at all of its bytes.
    ///
    /// # Errors
    /// When it is not what the manifest says.
    pub(super) fn open(
        (folder, keep): (&DataFolder, Option<&'a Keep<'a>>),
        entry: &FileEntry,
        hour: i64,
        batch_rows: usize,
        pace: &mut Pace,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, InputError> {
        let path = folder.root().join(&entry.path);
        let io = |source| InputError::Io { path: entry.path.clone(), source };
        let damaged = |reason: String| InputError::Damaged { path: entry.path.clone(), reason };
        let found = sum(&path, |bytes| pace.passed(bytes, stop)).map_err(io)?;
        if found != (entry.bytes, entry.checksum.clone()) {
            return Err(damaged("its bytes are not those that were sealed".into()));
        }
        let file = File::open(&path).map_err(io)?;
        let metadata = coded_metadata(&file).map_err(|error| damaged(error.to_string()))?;
        if let Some(reason) = newer(&metadata) {
            return Err(InputError::Newer { path: entry.path.clone(), reason });
        }
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or_default();
        if rows != entry.rows {
            return Err(damaged(format!("it has {rows} rows, the manifest says {}", entry.rows)));
        }
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let reader =
            reader.with_batch_size(batch_rows).build().map_err(|error| damaged(error.to_string()))?;
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let mut input =
            Self { path: entry.path.clone(), hour, rows_left: rows, reader, keep, batch, at: 0, place: None };
        input.fill()?;
        Ok(input)
    }

    /// The batch at hand.
    pub(super) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Microseconds since its hour began of each row of the batch that is still to come; none at the end of the file.
    fn times(&self) -> Option<&[i64]> {
        if self.at == self.batch.num_rows() {
            return None;
        }
        let times = self.batch.column_by_name("time")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        times.values().get(self.at..)
    }

    /// Microseconds since its hour began of the next row; none at the end of the file.
    pub(super) fn next_us(&self) -> Option<i64> {
        self.times().and_then(|times| times.first()).map(|time| time - self.hour * HOUR_US)
    }

    /// Takes at most `most` rows off the batch while they are before a moment of the hour, each with its place in the
    /// batch. The next batch is read when this one is at its end.
    pub(super) fn take_before(
        &mut self,
        end_us: i64,
        most: usize,
        mut row: impl FnMut(u32, u16),
    ) -> Result<(), InputError> {
        let begin_us = self.hour * HOUR_US;
        let mut taken = 0;
        for (at, time) in (self.at..).zip(self.times().unwrap_or_default()).take(most) {
            let us = time - begin_us;
            if us >= end_us {
                break;
            }
            let us = u32::try_from(us).ok().filter(|us| i64::from(*us) < HOUR_US);
            let us = us.ok_or_else(|| self.damaged("it has a row of another hour".into()))?;
            row(us, at as u16);
            taken += 1;
        }
        self.at += taken;
        if self.at == self.batch.num_rows() { self.fill() } else { Ok(()) }
    }

    /// The next batch of which rows stay.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        for batch in self.reader.by_ref() {
            let batch = batch?;
            self.rows_left = self.rows_left.saturating_sub(batch.num_rows() as u64);
            let batch = self.keep.map_or(Ok(batch.clone()), |keep| keep(&batch))?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn damaged(&self, reason: String) -> InputError {
        InputError::Damaged { path: self.path.clone(), reason }
    }

    /// Reads the next batch that has rows.
    fn fill(&mut self) -> Result<(), InputError> {
        (self.at, self.place) = (0, None);
        match self.next_batch().map_err(|error| self.damaged(error.to_string()))? {
            Some(batch) => {
                self.batch = pack(&batch).map_err(|error| self.damaged(error.to_string()))?;
                let times = self.batch.column_by_name("time");
                let known = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
                known.map(|_| ()).ok_or_else(|| self.damaged("it has no times".into()))
            }
            None if self.rows_left > 0 => Err(self.damaged(format!("{} rows are missing", self.rows_left))),
            None => {
                self.batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
                Ok(())
            }
        }
    }
}

/// What the footer says, with text to be read as codes of a dictionary.
pub(crate) fn coded_metadata(file: &File) -> Result<ArrowReaderMetadata, ParquetError> {
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(file, plain)?;
    let fields: Vec<FieldRef> = metadata.schema().fields().iter().map(coded).collect();
    let coded = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), coded)
}

fn coded(field: &FieldRef) -> FieldRef {
    let all = |fields: &Fields| fields.iter().map(coded).collect::<Fields>();
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8)),
        DataType::Struct(fields) => DataType::Struct(all(fields)),
        DataType::List(item) => DataType::List(coded(item)),
        DataType::Map(entry, sorted) => DataType::Map(coded(entry), *sorted),
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// Why a file is to be left to a newer version of this program.
fn newer(metadata: &ArrowReaderMetadata) -> Option<String> {
    let said = metadata.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let version = said.filter(|pair| pair.key == VERSION_KEY).find_map(|pair| pair.value.clone());
    let version = version.filter(|text| text.parse::<u32>().is_ok_and(|version| version > SCHEMA_VERSION));
    if let Some(version) = version {
        return Some(format!("its schema has version {version}, this program knows {SCHEMA_VERSION}"));
    }
    let ours = event::columns::schema();
    let unknown = metadata.schema().fields().iter().find(|field| ours.index_of(field.name()).is_err());
    unknown.map(|field| format!("it has a column {}", field.name()))
}

/// Length and checksum of a file; `passed` is told of each piece that was read.
pub(crate) fn sum(path: &Path, mut passed: impl FnMut(u64)) -> io::Result<(u64, String)> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, XxHash3_64::new(), 0);
    let mut piece = vec![0; SUMMED_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((bytes, format!("{:016x}", hasher.finish()))),
            Ok(read) => {
                hasher.write(&piece[..read]);
                bytes += read as u64;
                passed(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
