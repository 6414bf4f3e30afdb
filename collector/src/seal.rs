//! Hot files into Parquet, on a low-priority thread of its own.
//!
//! For each closed hot file, in the order of their numbers: read what its commit log covers, order it by time, write
//! one Parquet file per hour of the rows, and their roll-ups, name them all in the manifest in one atomic step, and
//! unlink the hot file once queries that began before have had their grace. A crash between any two steps leaves either
//! the hot file or the manifest entry in force, never both and never neither; `recover` removes the rest at the next
//! start. Retention and the merging of roll-ups run here too.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use event::hot::{HotError, HotReader, Watermarks, unpack_column};
use event::layout::{DataFolder, FileEntry, LayoutError, Place, RollupEntry};

use crate::config::{ParquetConfig, Plan};
use crate::parquet::{self, HOUR_US, ParquetFileError};
use crate::rollup::{self, RollupError};
use crate::table::Table;
use crate::{Flags, compact, damage, merge, retention};

/// How often retention looks, and how soon after its grace a file is unlinked.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// Why a hot file is not sealed yet.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The hot file cannot be read.
    #[error(transparent)]
    Hot(#[from] HotError),
    /// The Parquet file cannot be written.
    #[error(transparent)]
    Parquet(#[from] ParquetFileError),
    /// Its roll-ups cannot be written.
    #[error(transparent)]
    Rollup(#[from] RollupError),
    /// The manifest cannot be stored.
    #[error(transparent)]
    Manifest(#[from] LayoutError),
}

/// Numbers of hot files that take no more rows; bounded by what is on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    numbers: Mutex<BTreeSet<u64>>,
    changed: Condvar,
    closed: AtomicBool,
}

impl Queue {
    /// Hands a closed hot file over.
    pub(crate) fn push(&self, number: u64) {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        self.0.changed.notify_one();
    }

    /// Says that no more will come: the thread ends when it has sealed what waits.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_one();
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// The lowest number that waits, for which at most `patience` is spent.
    fn first(&self, patience: Duration) -> Option<u64> {
        let numbers = self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |numbers: &mut BTreeSet<u64>| numbers.is_empty() && !self.is_closed();
        let (numbers, _) = self
            .0
            .changed
            .wait_timeout_while(numbers, patience, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        numbers.first().copied()
    }

    fn done(&self, number: u64) {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

/// The state of the sealing thread.
#[derive(Debug)]
pub(crate) struct Sealer {
    folder: DataFolder,
    plan: Plan,
    queue: Queue,
    table: Table,
    /// Sealed hot files that running queries may still open, with the moment of their sealing.
    lingering: Vec<(u64, Instant)>,
    rollups: rollup::Merger,
    failing: bool,
    sealed: u64,
}

impl Sealer {
    pub(crate) fn new(folder: DataFolder, plan: Plan, queue: Queue, table: Table) -> Self {
        let (lingering, rollups) = (Vec::new(), rollup::Merger::default());
        Self { folder, plan, queue, table, lingering, rollups, failing: false, sealed: 0 }
    }

    /// Seals until the queue is closed and empty, or the flags say that time is up or that another collector does the
    /// rest. Gives the number of hot files that it sealed.
    pub(crate) fn run(mut self, flags: &Flags) -> u64 {
        let retry = Duration::from_millis(self.plan.config.retry_interval_ms.into());
        let mut tidied = Instant::now();
        loop {
            let next = self.queue.first(TIDY_INTERVAL);
            // Looked at after the wait: a file that intake closes because time is up is the next start's.
            if flags.abandon.load(Ordering::Acquire) || flags.leave.load(Ordering::Acquire) {
                break;
            }
            match next {
                Some(number) => match self.seal(number) {
                    Ok(()) => {
                        self.queue.done(number);
                        self.recovered();
                    }
                    Err(error) => {
                        self.failed(&error);
                        std::thread::sleep(retry);
                    }
                },
                None if self.queue.is_closed() => break,
                None => {}
            }
            if tidied.elapsed() >= TIDY_INTERVAL {
                tidied = Instant::now();
                self.tidy();
            }
        }
        self.unlink_lingering(Duration::ZERO);
        self.sealed
    }

    /// One hot file.
    pub(crate) fn seal(&mut self, number: u64) -> Result<(), SealError> {
        let mut opened = HotReader::open(&self.folder, number);
        if let Err(error) = &opened
            && damage::is_damage(error)
        {
            let lost = damage::mend(&self.folder, number, true)?;
            tracing::error!(
                number,
                %error,
                rows_lost = lost,
                "a hot file is damaged: batches that are whole stay, and it is kept in quarantine/"
            );
            opened = HotReader::open(&self.folder, number);
        }
        let mut aside = None;
        let (files, rollups, marks) = match opened {
            Ok(Some(reader)) => {
                aside = (reader.lost > 0).then(|| damage::set_aside(number, reader.bytes, reader.lost, true));
                let files = self.write_files(number, &reader.batches)?;
                (files, self.write_rollups(number, &reader.batches)?, reader.watermarks)
            }
            // Made and never written to, or cut back to nothing.
            Ok(None) => (Vec::new(), Vec::new(), Watermarks::new()),
            Err(error) => return Err(error.into()),
        };
        self.table.commit(|next| {
            next.sealed_through = next.sealed_through.max(number);
            next.files.extend(files);
            next.rollups.extend(rollups);
            next.set_aside.extend(aside);
            merge(&mut next.watermarks, &marks);
            Some(())
        })?;
        self.lingering.push((number, Instant::now()));
        self.sealed += 1;
        Ok(())
    }

    /// Writes the rows of a hot file, one file per hour.
    pub(crate) fn write_files(
        &self,
        number: u64,
        batches: &[RecordBatch],
    ) -> Result<Vec<FileEntry>, SealError> {
        let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
        let stem = stem(first, number);
        let batches = parquet::bounded(batches).map_err(HotError::from)?;
        let config = &self.plan.config;
        let as_sealed =
            ParquetConfig { row_group_rows: config.seal.row_group_rows, ..config.parquet.clone() };
        let mut files = Vec::new();
        for (hour, rows) in parquet::order(&batches).map_err(HotError::from)? {
            let (Some(low), Some(high)) = (rows.first(), rows.last()) else { continue };
            let path = self.folder.requests().join(hour_folder(hour)).join(format!("{stem}.parquet"));
            let written = parquet::write(&path, &as_sealed, &batches, &rows)?;
            files.push(FileEntry {
                path: under(&self.folder, &path),
                rows: rows.len() as u64,
                bytes: written.bytes,
                checksum: written.checksum,
                time_min_us: hour * HOUR_US + low.us(),
                time_max_us: hour * HOUR_US + high.us(),
                hot: number,
                level: 0,
                place: Place::Local,
            });
        }
        Ok(files)
    }

    /// Writes the roll-ups of the rows of a hot file.
    fn write_rollups(&self, number: u64, batches: &[RecordBatch]) -> Result<Vec<RollupEntry>, SealError> {
        let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
        let name = stem(first, number);
        Ok(rollup::seal(&self.folder, &self.plan.config, (&name, number), batches)?)
    }

    /// Unlinks what nobody reads any more, and lets retention decide.
    fn tidy(&mut self) {
        let grace = Duration::from_millis(self.plan.config.seal.grace_ms.into());
        self.unlink_lingering(grace);
        let now_us = crate::now_us();
        let grace_us = i64::from(self.plan.config.retention.grace_s) * 1_000_000;
        let config = &self.plan.config.retention;
        let changed = self
            .table
            .commit(|next| retention::choose(config, next, now_us))
            .and_then(|_| self.table.commit(|next| retention::unlink(&self.folder, next, now_us, grace_us)));
        let changed = changed.map_err(SealError::from).and_then(|_| self.merge_rollups(now_us));
        if let Err(error) = changed {
            self.failed(&error);
        }
    }

    /// Makes one file of several roll-ups, once for each call.
    fn merge_rollups(&mut self, now_us: i64) -> Result<(), SealError> {
        let (entries, version) = self.table.look(|now| (now.rollups.clone(), now.version));
        let Some(merge) = self.rollups.next(&self.folder, &self.plan.config, &entries, version, now_us)?
        else {
            return Ok(());
        };
        let made = merge.made.file.clone();
        let committed = self.table.commit(|next| {
            // Rows may have been erased from one of them meanwhile: they are not to come back.
            let going = next.rollups.iter().filter(|entry| merge.going.contains(&entry.file.path));
            if going.count() < merge.going.len() {
                return None;
            }
            retention::remove(next, &merge.going, now_us);
            next.rollups.push(merge.made);
            Some(())
        })?;
        if committed.is_none() {
            compact::unlink(&self.folder, &[made]);
        }
        Ok(())
    }

    fn unlink_lingering(&mut self, grace: Duration) {
        let folder = &self.folder;
        self.lingering.retain(|(number, sealed)| sealed.elapsed() < grace || !unlink_hot(folder, *number));
    }

    fn failed(&mut self, error: &SealError) {
        if !self.failing {
            tracing::error!(%error, "sealing waits: hot files stay until the disk takes Parquet again");
        }
        self.failing = true;
    }

    fn recovered(&mut self) {
        if self.failing {
            tracing::info!("sealing goes on");
        }
        self.failing = false;
    }
}

/// Unlinks a sealed hot file; false if it is to be tried again.
pub(crate) fn unlink_hot(folder: &DataFolder, number: u64) -> bool {
    // The rows first: a commit log without rows is nothing, rows without a commit log are too.
    [folder.hot_file(number), folder.hot_commits(number)].into_iter().all(|path| {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot unlink a sealed hot file");
                false
            }
            _ => true,
        }
    })
}

/// The name of the files that are made of a hot file, without its kind.
fn stem(first: &RecordBatch, number: u64) -> String {
    format!("{}-{number:010}", file_name(&node(first)))
}

/// A path as the manifest names it: under the data folder.
pub(crate) fn under(folder: &DataFolder, path: &Path) -> String {
    path.strip_prefix(folder.root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// `date=YYYY-MM-DD/hour=HH` of an hour since 1970 (UTC, proleptic Gregorian calendar).
pub(crate) fn hour_folder(hours: i64) -> String {
    let (days, hour) = (hours.div_euclid(24), hours.rem_euclid(24));
    // Days since 0000-03-01, in eras of 400 years: a year that begins in March ends with its leap day.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("date={year:04}-{month:02}-{day:02}/hour={hour:02}")
}

/// The node of the first row.
fn node(batch: &RecordBatch) -> String {
    let first = unpack_column(&batch.slice(0, 1), "node").ok().flatten();
    let node = first.as_ref().and_then(|column| column.as_string_view_opt());
    node.filter(|node| node.is_valid(0)).map_or("", |node| node.value(0)).to_owned()
}

/// A name that any file system takes.
fn file_name(node: &str) -> String {
    let node = if node.is_empty() { "node" } else { node };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    node.chars().take(100).map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_by_the_calendar() {
        for (seconds, folder) in [
            (0, "date=1970-01-01/hour=00"),
            (-1, "date=1969-12-31/hour=23"),
            (951_782_400, "date=2000-02-29/hour=00"),
            (1_709_251_199, "date=2024-02-29/hour=23"),
            (1_709_251_200, "date=2024-03-01/hour=00"),
            (4_107_542_400, "date=2100-03-01/hour=00"),
        ] {
            assert_eq!(hour_folder((seconds * 1_000_000_i64).div_euclid(HOUR_US)), folder);
        }
    }

    #[test]
    fn nodes_become_file_names() {
        assert_eq!(file_name("a/../b c\u{e9}"), "a_.._b_c_");
    }
}
