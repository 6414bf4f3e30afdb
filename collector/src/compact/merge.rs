//! Rows of several files into few, in the order that queries ask for, with few of them in memory.
//!
//! All inputs are read side by side, each by rising buckets of time. The rows of whole buckets gather in a window; when
//! it is full it is sorted by bucket, service, consumer, lane and time, and becomes a row group. A bucket that does not fit
//! is written in pieces: each row group is in order, only not all of them together. An input of another order is read
//! correctly too; only the order of the output suffers.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt16Type;
use arrow::error::ArrowError;
use event::layout::{DataFolder, FileEntry, Place};

use super::choose::Job;
use super::idle::Pace;
use super::input::{Input, Keep};
use super::{CompactError, folder_of};
use crate::config::{CompactionConfig, ParquetConfig};
use crate::parquet::{HOUR_US, Order, Output, ParquetFileError, ROWS_MAX, Row, Texts, columns};
use crate::seal::under;

/// Most rows of a window, whatever the memory: codes of service and consumer have 24 bits in the key.
const WINDOW_ROWS_MAX: usize = 1 << 24;
/// Rows that an input decodes at a time, at most and at least.
const BATCH_ROWS_MAX: usize = 32_768;
const BATCH_ROWS_MIN: usize = 1_024;
/// About what a row takes while it is decoded, before it is packed.
const DECODED_ROW_BYTES: usize = 512;
/// Bytes of a window for each row beside its columns: its place, and its key for the sort.
const ROW_BYTES: usize = 32;

/// How files are merged.
pub(crate) struct Merge<'a> {
    pub(crate) folder: &'a DataFolder,
    pub(crate) config: &'a CompactionConfig,
    pub(crate) parquet: &'a ParquetConfig,
    pub(crate) bucket_s: u32,
    /// Begins the names of the outputs; no file of the table has one that begins so.
    pub(crate) name: String,
    /// Leaves out rows; none if all stay.
    pub(crate) keep: Option<&'a Keep<'a>>,
    pub(crate) stop: &'a dyn Fn() -> bool,
}

impl Merge<'_> {
    /// Writes the rows of all inputs; gives the outputs, which are durable and not yet part of the table.
    ///
    /// # Errors
    /// When an input is not what the manifest says, the disk refuses, or it is to stop; no output is left then.
    pub(crate) fn run(&self, job: &Job) -> Result<Vec<FileEntry>, CompactError> {
        let mut outputs = Outputs { merge: self, job, open: None, done: Vec::new() };
        match self.write(job, &mut outputs) {
            Ok(()) => Ok(std::mem::take(&mut outputs.done)),
            Err(error) => {
                outputs.open = None;
                unlink(self.folder, &outputs.done);
                Err(error)
            }
        }
    }

    fn write(&self, job: &Job, outputs: &mut Outputs<'_>) -> Result<(), CompactError> {
        let mut pace = Pace::new(self.config.io_bytes_per_s_max);
        let mut waiting: VecDeque<&FileEntry> = job.inputs.iter().collect();
        let mut inputs: Vec<Input> = Vec::new();
        let mut window = Window::default();
        let memory = usize::try_from(self.config.memory_bytes_max).unwrap_or(usize::MAX);
        let shares = 4 * DECODED_ROW_BYTES * beside(&job.inputs);
        let batch_rows = (memory / shares).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX.min(ROWS_MAX));
        let bucket_us = i64::from(self.bucket_s) * 1_000_000;
        let rows_max = (self.parquet.row_group_rows as usize).min(WINDOW_ROWS_MAX);
        let mut last_bucket = None;
        loop {
            if (self.stop)() {
                return Err(ParquetFileError::Stopped.into());
            }
            let bucket = inputs.iter().filter_map(Input::next_us).min().map(|us| us.div_euclid(bucket_us));
            // A file is opened when the first of its rows is due.
            if let Some(next) = waiting.front()
                && bucket.is_none_or(|bucket| {
                    (next.time_min_us - job.hour * HOUR_US).div_euclid(bucket_us) <= bucket
                })
            {
                inputs.push(Input::open(
                    (self.folder, self.keep),
                    next,
                    job.hour,
                    batch_rows,
                    &mut pace,
                    self.stop,
                )?);
                waiting.pop_front();
                continue;
            }
            let Some(bucket) = bucket else { break };
            if window.is_full(rows_max, memory, last_bucket != Some(bucket)) {
                let before = outputs.bytes();
                outputs.row_group(&mut window)?;
                inputs.iter_mut().for_each(|input| input.place = None);
                pace.passed(outputs.bytes().saturating_sub(before), self.stop);
            }
            last_bucket = Some(bucket);
            let end_us = (bucket + 1) * bucket_us;
            let due = inputs.iter_mut().find(|input| input.next_us().is_some_and(|us| us < end_us));
            if let Some(input) = due {
                window.take(input, end_us, rows_max)?;
            }
            inputs.retain(|input| input.next_us().is_some());
        }
        outputs.row_group(&mut window)?;
        outputs.close()
    }
}

/// Most inputs that are open at once, more or less.
fn beside(files: &[FileEntry]) -> usize {
    let open = |file: &FileEntry| {
        files
            .iter()
            .filter(|other| (other.time_min_us..=other.time_max_us).contains(&file.time_min_us))
            .count()
    };
    files.iter().map(open).max().unwrap_or(1).max(1)
}

/// Rows that wait for their row group.
#[derive(Default)]
struct Window {
    batches: Vec<RecordBatch>,
    rows: Vec<Row>,
    bytes: usize,
}

impl Window {
    /// Whether it is to be written: at half of what may be before rows of another bucket, which is then likely to find
    /// room, and at all of it in the middle of a bucket.
    fn is_full(&self, rows_max: usize, bytes_max: usize, between: bool) -> bool {
        let share = if between { 2 } else { 1 };
        let bytes = self.bytes + ROW_BYTES * self.rows.len();
        let full = self.rows.len() >= rows_max / share || bytes >= bytes_max / share;
        !self.rows.is_empty() && (full || self.batches.len() >= ROWS_MAX - 1)
    }

    /// Takes the rows of an input's batch before a moment, as long as there are no more than may be.
    fn take(&mut self, input: &mut Input, end_us: i64, rows_max: usize) -> Result<(), CompactError> {
        let place = match input.place {
            Some(place) => place,
            None => {
                let place = self.batches.len() as u16;
                self.bytes += input.batch().get_array_memory_size();
                self.batches.push(input.batch().clone());
                input.place = Some(place);
                place
            }
        };
        let rows = &mut self.rows;
        let room = rows_max.saturating_sub(rows.len()).max(1);
        input.take_before(end_us, room, |us, at| rows.push(Row::new(us, place, at)))?;
        Ok(())
    }

    /// Puts the rows in order: by bucket, service, consumer, lane and time.
    fn sort(&mut self, bucket_s: u32) -> Result<(), ArrowError> {
        let texts = |name| Texts::unite(&columns(&self.batches, name));
        let (services, consumers, nodes) = (texts("service")?, texts("consumer")?, texts("node")?);
        let (services, consumers, nodes) = (services.codes(), consumers.codes(), nodes.codes());
        let cores: Vec<Option<&[u16]>> = self.batches.iter().map(cores).collect();
        let bucket_us = u64::from(bucket_s) * 1_000_000;
        let key = |row: Row| {
            let (batch, at) = (row.batch(), row.at());
            let bucket = row.us().cast_unsigned() / bucket_us;
            let service = u64::from(services.rank(batch, at));
            let consumer = u64::from(consumers.rank(batch, at));
            let core = cores[batch].map_or(0, |cores| cores[at]);
            let lane = nodes.rank(batch, at) << 16 | u32::from(core);
            (bucket << 48 | service << 24 | consumer, lane, row)
        };
        let mut keyed: Vec<(u64, u32, Row)> = self.rows.iter().map(|row| key(*row)).collect();
        keyed.sort_unstable();
        self.rows.clear();
        self.rows.extend(keyed.into_iter().map(|(_, _, row)| row));
        Ok(())
    }
}

fn cores(batch: &RecordBatch) -> Option<&[u16]> {
    let cores = batch.column_by_name("core")?.as_primitive_opt::<UInt16Type>()?;
    Some(cores.values())
}

/// The files that a merge makes.
struct Outputs<'a> {
    merge: &'a Merge<'a>,
    job: &'a Job,
    open: Option<Open>,
    done: Vec<FileEntry>,
}

struct Open {
    output: Output,
    path: PathBuf,
    rows: u64,
    us_min: i64,
    us_max: i64,
}

impl Outputs<'_> {
    fn bytes(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| open.output.bytes());
        self.done.iter().map(|file| file.bytes).sum::<u64>() + open
    }

    /// Writes what is in the window, and empties it.
    fn row_group(&mut self, window: &mut Window) -> Result<(), CompactError> {
        let mut window = std::mem::take(window);
        if window.rows.is_empty() {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let refused =
            |error| ParquetFileError::Parquet { path: open.path.clone(), source: arrow_error(error) };
        window.sort(self.merge.bucket_s).map_err(refused)?;
        open.output.row_group(&window.batches, &window.rows, self.merge.stop)?;
        open.output.sync()?;
        open.rows += window.rows.len() as u64;
        for row in &window.rows {
            (open.us_min, open.us_max) = (open.us_min.min(row.us()), open.us_max.max(row.us()));
        }
        let large = open.output.bytes() >= self.merge.config.bytes_max;
        self.open = Some(open);
        if large { self.close() } else { Ok(()) }
    }

    fn begin(&self) -> Result<Open, CompactError> {
        let Merge { folder, parquet, name, bucket_s, .. } = self.merge;
        let first = self.job.inputs.first().map_or(Path::new(""), |file| folder_of(&file.path));
        let path = folder.root().join(first).join(format!("{name}-{:03}.parquet", self.done.len()));
        let output = Output::create(&path, parquet, Order::Buckets(*bucket_s))?;
        Ok(Open { output, path, rows: 0, us_min: i64::MAX, us_max: i64::MIN })
    }

    /// Ends the file that is being written.
    fn close(&mut self) -> Result<(), CompactError> {
        let Some(Open { output, path, rows, us_min, us_max }) = self.open.take() else { return Ok(()) };
        let written = output.finish()?;
        let begin_us = self.job.hour * HOUR_US;
        self.done.push(FileEntry {
            path: under(self.merge.folder, &path),
            rows,
            bytes: written.bytes,
            checksum: written.checksum,
            time_min_us: begin_us + us_min,
            time_max_us: begin_us + us_max,
            hot: self.job.inputs.iter().map(|file| file.hot).max().unwrap_or_default(),
            level: self.job.level,
            place: Place::Local,
        });
        Ok(())
    }
}

fn arrow_error(error: ArrowError) -> ::parquet::errors::ParquetError {
    ::parquet::errors::ParquetError::ArrowError(error.to_string())
}

/// Unlinks files that are not part of the table.
pub(crate) fn unlink(folder: &DataFolder, files: &[FileEntry]) {
    for file in files {
        let path = folder.root().join(&file.path);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove what was written in vain");
        }
    }
}
