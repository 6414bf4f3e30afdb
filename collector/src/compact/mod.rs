//! Many small Parquet files of an hour into few large ones, on a thread of the lowest priority.
//!
//! Sealing writes a file per minute; a year of those is half a million files, each sorted by time alone. So once an hour
//! is over, its files are merged: `choose` says which, `input` reads them in small batches and compares them with their
//! checksums, `pack` makes the batches small in memory, `merge` brings rows into the order that queries ask for and
//! writes them. The change is one commit of the manifest: outputs in, inputs out. Inputs stay on disk for the grace that
//! retention gives, for queries that have begun; a query sees each row in an input or in an output, never both.
//!
//! A crash leaves temporary files, or outputs that no manifest names, or inputs that none names any more: `recover`
//! removes them at the next start. A file that is damaged is left as it is and is part of no merge, so that answers go on
//! saying that they are partial; `tollhouse storage` has the tools for it.

mod choose;

mod pack;

mod input;

mod merge;

mod idle;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::layout::{DataFolder, FileEntry, LayoutError, Place};

use crate::Flags;
use crate::config::{CompactionConfig, ParquetConfig, Plan};
use crate::delta;
use crate::disk;
use crate::erase::Eraser;
use crate::parquet::ParquetFileError;
use crate::retention;
use crate::table::Table;
use crate::upkeep;
use crate::upload::Account;

pub(crate) use choose::{Job, LEVEL_CLOSED, closed_until};
pub(crate) use input::{InputError, coded_metadata, sum};
pub(crate) use merge::{Merge, unlink};

/// How often the thread looks whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the wait after a failure is doubled, at most.
const DOUBLINGS_MAX: u32 = 9;
/// Rows of so many seconds are sorted among each other; decision 13 says why.
pub(crate) const BUCKET_S: u32 = 60;
/// Free bytes of the disk for each byte that is read: inputs and outputs are there together for a while.
const FREE_SHARE: u64 = 2;

/// Why files were not merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactError {
    /// A file is not what the manifest says, or cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] ParquetFileError),
    /// The manifest cannot be stored.
    #[error(transparent)]
    Manifest(#[from] LayoutError),
    /// Rows were lost or made on the way: a mistake of this program, found before it counts.
    #[error("{rows_in} rows became {rows_out}; nothing was changed")]
    Rows {
        /// What the inputs have.
        rows_in: u64,
        /// What the outputs have.
        rows_out: u64,
    },
    /// Both would not find room.
    #[error("{needed} bytes are needed and {free} are free")]
    Room {
        /// What is needed.
        needed: u64,
        /// What is there.
        free: u64,
    },
}

/// Where the Delta log is that is to know files before they are merged.
#[derive(Debug)]
pub(crate) enum Behind {
    /// In the data folder: it knows them a moment later.
    Folder(Arc<delta::Account>),
    /// In the bucket: it knows them as soon as they count as uploaded.
    Bucket,
}

/// The state of the compaction thread.
#[derive(Debug)]
pub(crate) struct Compactor {
    folder: DataFolder,
    config: CompactionConfig,
    parquet: ParquetConfig,
    table: Table,
    eraser: Eraser,
    account: Arc<upkeep::Account>,
    /// A Delta log that is to know files before they are merged.
    log: Option<Behind>,
    /// Files that cannot be merged, by path.
    left: BTreeSet<String>,
    /// How many attempts failed in a row.
    failures: u32,
}

impl Compactor {
    pub(crate) fn new(folder: DataFolder, plan: &Plan, table: Table, uploads: Option<Arc<Account>>) -> Self {
        let config = plan.config.compaction.clone();
        let parquet = ParquetConfig { zstd_level: config.zstd_level, ..plan.config.parquet.clone() };
        let eraser = Eraser::new(folder.clone(), plan, table.clone(), uploads);
        let (account, left) = (Arc::default(), BTreeSet::new());
        Self { folder, config, parquet, table, eraser, account, log: None, left, failures: 0 }
    }

    /// The same with its counts where others read them.
    pub(crate) fn counted_by(self, account: Arc<upkeep::Account>) -> Self {
        Self { account, ..self }
    }

    /// The same behind a Delta log, where one is written.
    pub(crate) fn behind(self, log: Option<Behind>) -> Self {
        Self { log, ..self }
    }

    /// Merges what there is to merge, and erases what is ordered, until the flags say anything. Gives the number of merges.
    pub(crate) fn run(mut self, flags: &Flags) -> u64 {
        idle::lower_priority();
        let mut merges = 0;
        let mut seen = None;
        while !flags.any() {
            self.eraser.turn(flags);
            let now_us = crate::now_us();
            // Nothing becomes due but by a commit, or by the end of an hour's delay.
            let due = self.table.look(|manifest| (manifest.version, self.hours_closed(now_us)));
            if seen == Some(due) {
                std::thread::park_timeout(LOOK_INTERVAL);
                continue;
            }
            // What is in the bucket only stays as it is.
            let usable = |file: &FileEntry| match self.log {
                Some(Behind::Bucket) => file.place == Place::Both,
                _ => file.place.is_on_disk(),
            };
            let usable = |file: &FileEntry| usable(file) && !self.left.contains(&file.path);
            let (version, job) =
                self.table.look(|now| (now.version, choose::choose(&self.config, now, usable, now_us)));
            let Some(job) = job.filter(|_| self.config.enabled) else {
                seen = Some(due);
                continue;
            };
            if let Some(Behind::Folder(log)) = &self.log {
                log.wait(version, flags);
            }
            match self.merge(&job, flags) {
                Ok(_) => {
                    self.failures = 0;
                    merges += 1;
                }
                Err(CompactError::Output(ParquetFileError::Stopped)) => break,
                Err(error) => self.failed(&job, &error, flags),
            }
        }
        merges
    }

    /// How many hours since 1970 are closed.
    fn hours_closed(&self, now_us: i64) -> i64 {
        choose::closed_until(&self.config, now_us)
    }

    /// One merge, committed; false if a file of it left the table meanwhile, and nothing was changed.
    pub(crate) fn merge(&self, job: &Job, flags: &Flags) -> Result<bool, CompactError> {
        let begun = Instant::now();
        let outputs = self.write(job, flags)?;
        let bytes: u64 = outputs.iter().map(|file| file.bytes).sum();
        let files = outputs.len();
        let committed = self.commit(job, outputs.clone());
        if !matches!(committed, Ok(true)) {
            self.discard(&outputs);
        }
        let committed = committed?;
        if committed {
            self.account.merged(&job.inputs, &outputs, begun.elapsed());
            tracing::info!(
                hour = job.hour,
                level = job.level,
                files_before = job.inputs.len(),
                files,
                rows = job.rows(),
                bytes_before = job.bytes(),
                bytes,
                seconds = begun.elapsed().as_secs_f64(),
                "files were merged"
            );
        }
        Ok(committed)
    }

    /// Writes the outputs of a merge, whole and durable; nothing of it is part of the table yet.
    fn write(&self, job: &Job, flags: &Flags) -> Result<Vec<FileEntry>, CompactError> {
        let needed = job.bytes().saturating_mul(FREE_SHARE);
        match disk::room(self.folder.root()).map(|room| room.free_bytes) {
            Some(free) if free < needed => return Err(CompactError::Room { needed, free }),
            _ => {}
        }
        let version = self.table.look(|manifest| manifest.version);
        let stop = || flags.any();
        let merge = Merge {
            folder: &self.folder,
            config: &self.config,
            parquet: &self.parquet,
            bucket_s: BUCKET_S,
            // No other merge begins at this version and is committed.
            name: format!("merged-{version:010}"),
            keep: None,
            stop: &stop,
        };
        let outputs = merge.run(job)?;
        let (rows_in, rows_out) = (job.rows(), outputs.iter().map(|file| file.rows).sum());
        if rows_in != rows_out {
            self.discard(&outputs);
            return Err(CompactError::Rows { rows_in, rows_out });
        }
        Ok(outputs)
    }

    /// Outputs in, inputs out, in one step.
    fn commit(&self, job: &Job, outputs: Vec<FileEntry>) -> Result<bool, CompactError> {
        let going: BTreeSet<String> = job.inputs.iter().map(|file| file.path.clone()).collect();
        let made = self.table.commit(|next| {
            // Retention may have taken one of them meanwhile: its rows are not to come back.
            let there = next.files.iter().filter(|file| going.contains(&file.path)).count();
            if there < going.len() {
                return None;
            }
            retention::remove(next, &going, crate::now_us());
            next.files.extend(outputs);
            Some(())
        })?;
        Ok(made.is_some())
    }

    /// Removes outputs that were not committed.
    fn discard(&self, outputs: &[FileEntry]) {
        unlink(&self.folder, outputs);
    }

    fn failed(&mut self, job: &Job, error: &CompactError, flags: &Flags) {
        let unusable: Vec<&str> = match error {
            CompactError::Input(error) => error.unusable().into_iter().collect(),
            CompactError::Rows { .. } => job.inputs.iter().map(|file| file.path.as_str()).collect(),
            _ => Vec::new(),
        };
        self.account.failed(&unusable);
        if !unusable.is_empty() {
            tracing::error!(?unusable, %error, "left out of compaction: see `tollhouse storage check`");
            self.left.extend(unusable.into_iter().map(str::to_owned));
            return;
        }
        if self.failures == 0 {
            tracing::warn!(%error, "compaction waits; nothing is lost by it");
        }
        let until = Instant::now() + LOOK_INTERVAL * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        self.failures += 1;
        while !flags.any() && Instant::now() < until {
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }
}

/// A path under the data folder without its file name: day and hour.
fn folder_of(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod measure;
