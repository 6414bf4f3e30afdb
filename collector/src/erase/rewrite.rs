//! The files of one day anew, without some rows, in one commit.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use event::erasure::Order;
use event::layout::{FileEntry, Manifest, RollupEntry};
use event::rollup::DAY_US;

use super::subjects::Subjects;
use super::{EraseError, Eraser, PREFIX, find};
use crate::Flags;
use crate::compact::{self, CompactError, Job, Merge};
use crate::config::ParquetConfig;
use crate::disk;
use crate::parquet::{HOUR_US, ParquetFileError};
use crate::retention;

/// A day as it is.
pub(super) struct Day<'a> {
    pub(super) files: &'a [FileEntry],
    pub(super) rollups: &'a [RollupEntry],
    /// Of the manifest that says so.
    pub(super) version: u64,
    pub(super) orders: &'a [Order],
    pub(super) subjects: &'a Subjects,
}

/// What becomes of it.
#[derive(Default)]
pub(super) struct Change {
    pub(super) going: BTreeSet<String>,
    pub(super) files: Vec<FileEntry>,
    pub(super) rollups: Vec<RollupEntry>,
    /// Hours since 1970 that lose rows of a lane.
    pub(super) hours: BTreeSet<i64>,
    /// Rows and files of each order, by its name.
    counts: BTreeMap<String, (u64, u64)>,
}

impl Eraser {
    /// Writes the files of a day anew that have rows of the orders, and puts them in the place of those of before.
    pub(super) fn rewrite_day(
        &self,
        number: i64,
        orders: &[Order],
        subjects: &Subjects,
        flags: &Flags,
    ) -> Result<(), EraseError> {
        let of_day = |file: &FileEntry| file.time_min_us.div_euclid(DAY_US) == number;
        let (files, rollups, version) = self.table.look(|now| {
            let files: Vec<_> = now.files.iter().filter(|file| of_day(file)).cloned().collect();
            let rollups: Vec<_> = now.rollups.iter().filter(|entry| of_day(&entry.file)).cloned().collect();
            (files, rollups, now.version)
        });
        self.fetch(files.iter().chain(rollups.iter().map(|entry| &entry.file)), flags)?;
        let day = Day { files: &files, rollups: &rollups, version, orders, subjects };
        let mut change = Change::default();
        let written =
            self.write_rows(&day, flags, &mut change).and_then(|()| self.write_groups(&day, &mut change));
        let made = match written {
            Ok(()) if change.going.is_empty() => return Ok(()),
            Ok(()) => self.table.commit(|next| change.apply(next)).map_err(EraseError::from),
            Err(error) => Err(error),
        };
        if !matches!(made, Ok(Some(()))) {
            let rollups = change.rollups.iter().map(|entry| &entry.file);
            let files: Vec<_> = change.files.iter().chain(rollups).cloned().collect();
            compact::unlink(&self.folder, &files);
        }
        made?.ok_or(EraseError::Changed)
    }

    /// Writes the rows that stay, and notes what is to go.
    fn write_rows(&self, day: &Day<'_>, flags: &Flags, change: &mut Change) -> Result<(), EraseError> {
        let mut affected = Vec::new();
        for file in day.files {
            if let Some(counts) = find::count(&self.folder, file, day.subjects)? {
                affected.push((file, counts));
            }
            if flags.any() {
                return Err(EraseError::Stopped);
            }
        }
        let needed = affected.iter().map(|(file, _)| file.bytes).sum();
        match disk::room(self.folder.root()).map(|room| room.free_bytes) {
            Some(free) if free < needed => return Err(EraseError::Room { needed, free }),
            _ => {}
        }
        for (file, counts) in affected {
            let name = format!("{PREFIX}{:010}-{:04}", day.version, change.going.len());
            let made = self.without(file, day.subjects, name, flags)?;
            let (expected, rows) = (counts.iter().sum(), made.iter().map(|file| file.rows).sum::<u64>());
            change.files.extend(made);
            let gone = file.rows.saturating_sub(rows);
            if gone != expected {
                return Err(EraseError::Rows { path: file.path.clone(), expected, gone });
            }
            if counts.iter().enumerate().any(|(order, count)| *count > 0 && day.subjects.is_of_lane(order)) {
                change.hours.insert(file.time_min_us.div_euclid(HOUR_US));
            }
            change.note(day.orders, &counts, &file.path, true);
        }
        Ok(())
    }

    /// The rows of a file that stay, as files of the same place and level.
    fn without(
        &self,
        file: &FileEntry,
        subjects: &Subjects,
        name: String,
        flags: &Flags,
    ) -> Result<Vec<FileEntry>, EraseError> {
        let config = &self.config.compaction;
        let level = if file.level == 0 { self.config.parquet.zstd_level } else { config.zstd_level };
        let parquet = ParquetConfig { zstd_level: level, ..self.config.parquet.clone() };
        let stop = || flags.any();
        let keep = |batch: &RecordBatch| stay(batch, subjects);
        let merge = Merge {
            folder: &self.folder,
            config,
            parquet: &parquet,
            bucket_s: compact::BUCKET_S,
            name,
            keep: Some(&keep),
            stop: &stop,
        };
        let hour = file.time_min_us.div_euclid(HOUR_US);
        let job = Job { hour, inputs: vec![file.clone()], level: file.level };
        merge.run(&job).map_err(|error| match error {
            CompactError::Output(ParquetFileError::Stopped) => EraseError::Stopped,
            error => EraseError::Rewrite { path: file.path.clone(), reason: error.to_string() },
        })
    }
}

impl Change {
    /// Notes that a file goes, and for which orders.
    pub(super) fn note(&mut self, orders: &[Order], counts: &[u64], path: &str, are_rows: bool) {
        self.going.insert(path.to_owned());
        for (order, count) in orders.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let (rows, files) = self.counts.entry(order.id.clone()).or_default();
            *rows += if are_rows { *count } else { 0 };
            *files += 1;
        }
    }

    /// Outputs in, inputs out; none if one of them left the table meanwhile.
    fn apply(&self, next: &mut Manifest) -> Option<()> {
        let rollups = next.rollups.iter().map(|entry| &entry.file);
        let there = next.files.iter().chain(rollups).filter(|file| self.going.contains(&file.path)).count();
        if there < self.going.len() {
            return None;
        }
        retention::remove(next, &self.going, crate::now_us());
        next.files.extend(self.files.iter().cloned());
        next.rollups.extend(self.rollups.iter().cloned());
        for one in &mut next.erasures {
            if let Some((rows, files)) = self.counts.get(&one.id) {
                (one.rows, one.files) = (one.rows + rows, one.files + files);
            }
        }
        Some(())
    }
}

/// The rows of a batch that stay.
fn stay(batch: &RecordBatch, subjects: &Subjects) -> Result<RecordBatch, ArrowError> {
    let rows = subjects.rows(batch);
    let rows = rows.ok_or_else(|| ArrowError::SchemaError("a column is missing".to_owned()))?;
    let stays: Vec<bool> = rows.iter().map(Option::is_none).collect();
    filter_record_batch(batch, &BooleanArray::from(stays))
}
