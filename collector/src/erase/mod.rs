//! Rows are erased, such as all of a consumer: every file that has one is written anew without them, roll-ups included.
//!
//! An order is about what was recorded before it was given. So it first waits until intake has stored all that the spool
//! held, and until the hot file of that moment is sealed. Then `find` looks which files have rows that are ordered
//! (`subjects`), and `rewrite` puts others in their place, `groups` those of roll-ups, a day at a time: rows and roll-ups of a day change in one commit of
//! the manifest, so they agree at any moment. The files of before stay for the grace of queries that have begun. Once
//! they are gone, from a bucket too, the order is done, and the manifest says so without naming anyone.
//!
//! Orders that wait at the same time are carried out together. After a crash they are begun anew: what was rewritten has
//! no such rows any more, and what was counted stands in the manifest.

mod subjects;

mod fetch;

mod find;

mod rewrite;

mod groups;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use event::bucket::{BucketError, BucketPlan};
use event::erasure::{self, Erasure, Order};
use event::layout::{DataFolder, LayoutError, Manifest};
use event::rollup::DAY_US;

use crate::Flags;
use crate::compact::InputError;
use crate::config::{CollectorConfig, Plan};
use crate::parquet::ParquetFileError;
use crate::rollup::RollupError;
use crate::table::Table;
use crate::upload::Account;
use subjects::Subjects;

/// Begins the name of a file in which rows were left out.
pub(crate) const PREFIX: &str = "erased-";
/// What became of so many orders stays known.
const ERASURES_MAX: usize = 10_000;
/// How long it waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Why rows are not erased yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EraseError {
    /// An order, the manifest or a folder cannot be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file of the table is not what the manifest says, or cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file cannot be written anew.
    #[error(transparent)]
    Output(#[from] ParquetFileError),
    /// A roll-up cannot be written anew.
    #[error(transparent)]
    Rollup(#[from] RollupError),
    /// A file cannot be read in the bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file is in a bucket that is not configured.
    #[error("{path} is in a bucket only, and there is no object_store")]
    NoBucket {
        /// Under the data folder.
        path: String,
    },
    /// The system gives no runtime.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[source] io::Error),
    /// Merging refused the file.
    #[error("{path}: {reason}")]
    Rewrite {
        /// Under the data folder.
        path: String,
        /// What it said.
        reason: String,
    },
    /// More or fewer rows would go than were found: a mistake of this program, found before it counts.
    #[error("{path}: {expected} rows are to go and {gone} would; nothing was changed")]
    Rows {
        /// Under the data folder.
        path: String,
        /// As was counted.
        expected: u64,
        /// As were left out.
        gone: u64,
    },
    /// The new files would not find room beside those of before.
    #[error("{needed} bytes are needed and {free} are free")]
    Room {
        /// What is needed.
        needed: u64,
        /// What is there.
        free: u64,
    },
    /// The table changed meanwhile.
    #[error("the table changed meanwhile")]
    Changed,
    /// It is to stop.
    #[error("stopped")]
    Stopped,
}

/// Carries orders out.
#[derive(Debug)]
pub(crate) struct Eraser {
    folder: DataFolder,
    config: CollectorConfig,
    table: Table,
    bucket: Option<BucketPlan>,
    uploads: Option<Arc<Account>>,
    work: Option<Work>,
    /// Orders that cannot be read, which are said once.
    unreadable: BTreeSet<PathBuf>,
    retry: Option<Instant>,
}

/// Orders that are carried out together, and how far they are.
#[derive(Debug)]
struct Work {
    orders: Vec<Order>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until intake has been at the end of the spool so many times.
    Intake(u64),
    /// Until this hot file is sealed; then files are looked through.
    Sealing(u64),
    /// Until what left the table before this moment is gone, and hot files up to a number are.
    Grace { left_us: i64, hot: u64 },
    /// Until the bucket is as this manifest says, or a later one.
    Bucket(u64),
    /// Until what left the bucket before this moment is gone.
    Objects(i64),
}

impl Eraser {
    pub(crate) fn new(folder: DataFolder, plan: &Plan, table: Table, uploads: Option<Arc<Account>>) -> Self {
        let (config, bucket) = (plan.config.clone(), plan.bucket.clone());
        let (work, unreadable, retry) = (None, BTreeSet::new(), None);
        Self { folder, config, table, bucket, uploads, work, unreadable, retry }
    }

    /// Goes on with the orders that wait, as far as it is time.
    pub(crate) fn turn(&mut self, flags: &Flags) {
        if self.retry.is_some_and(|retry| Instant::now() < retry) {
            return;
        }
        let failing = self.retry.take().is_some();
        let stepped = loop {
            match self.step(flags) {
                Ok(true) if !flags.any() => {}
                stepped => break stepped,
            }
        };
        match stepped {
            Ok(_) | Err(EraseError::Stopped) => {}
            // Compaction is of this thread; sealing and retention soon have nothing more to change there.
            Err(EraseError::Changed) => self.retry = Some(Instant::now()),
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "rows that are to be erased are still there");
                }
                self.retry = Some(Instant::now() + RETRY_INTERVAL);
            }
        }
    }

    /// One step, if it is time for it; whether it was.
    fn step(&mut self, flags: &Flags) -> Result<bool, EraseError> {
        let Some(work) = &self.work else {
            let orders = self.accept()?;
            if !orders.is_empty() {
                // The round that is under way may have passed by a lane already.
                let stage = Stage::Intake(flags.caught_up.load(Ordering::Acquire) + 2);
                self.work = Some(Work { orders, stage });
            }
            return Ok(false);
        };
        let next = match work.stage {
            Stage::Intake(times) if flags.caught_up.load(Ordering::Acquire) >= times => {
                Stage::Sealing(self.folder.hot_numbers()?.last().copied().unwrap_or_default())
            }
            Stage::Sealing(hot) if self.table.look(|now| now.sealed_through) >= hot => {
                self.rewrite(&work.orders, flags)?;
                Stage::Grace { left_us: crate::now_us(), hot }
            }
            Stage::Grace { left_us, hot } if self.is_gone(left_us, hot)? => {
                Stage::Bucket(self.table.look(|now| now.version))
            }
            Stage::Bucket(version) if self.in_bucket(|equal, _| equal >= version) => {
                Stage::Objects(crate::now_us())
            }
            Stage::Objects(since_us) if self.in_bucket(|_, oldest_us| oldest_us > since_us) => {
                self.finish(&work.orders)?;
                self.work = None;
                return Ok(true);
            }
            waiting => waiting,
        };
        let work = self.work.as_mut();
        Ok(work.is_some_and(|work| std::mem::replace(&mut work.stage, next) != next))
    }

    /// The orders that wait. One that was carried out before a crash is only taken away.
    fn accept(&mut self) -> Result<Vec<Order>, EraseError> {
        let mut orders = Vec::new();
        for path in erasure::waiting(&self.folder)? {
            let order = match erasure::read(&path) {
                Ok(Some(order)) => order,
                Ok(None) => continue,
                Err(error) => {
                    if self.unreadable.insert(path) {
                        tracing::error!(%error, "an order to erase rows is left alone");
                    }
                    continue;
                }
            };
            let known = self.table.look(|now| now.erasures.iter().find(|one| one.id == order.id).cloned());
            if known.as_ref().is_some_and(|known| known.done_at_us.is_some()) {
                order.take_away(&self.folder)?;
                continue;
            }
            tracing::info!(order = order.id, "rows will be erased");
            orders.push(order);
        }
        let new = |next: &mut Manifest| {
            let before = next.erasures.len();
            for order in &orders {
                if !next.erasures.iter().any(|one| one.id == order.id) {
                    let (id, at_us) = (order.id.clone(), order.at_us);
                    next.erasures.push(Erasure { id, at_us, ..Erasure::default() });
                }
            }
            let more = next.erasures.len().saturating_sub(ERASURES_MAX);
            next.erasures.drain(..more);
            (next.erasures.len() > before || more > 0).then_some(())
        };
        self.table.commit(new)?;
        Ok(orders)
    }

    /// Writes all files anew that have rows of these orders.
    fn rewrite(&self, orders: &[Order], flags: &Flags) -> Result<(), EraseError> {
        let subjects = Subjects::of(orders);
        let days: BTreeSet<i64> = self.table.look(|now| {
            let rollups = now.rollups.iter().map(|entry| &entry.file);
            now.files.iter().chain(rollups).map(|file| file.time_min_us.div_euclid(DAY_US)).collect()
        });
        for day in days {
            self.rewrite_day(day, orders, &subjects, flags)?;
        }
        Ok(())
    }

    /// Whether no file is left of those that had left the table by then.
    fn is_gone(&self, left_us: i64, hot: u64) -> Result<bool, EraseError> {
        let unlinked = self.table.look(|now| now.removed.iter().all(|removed| removed.at_us > left_us));
        Ok(unlinked && self.folder.hot_numbers()?.first().is_none_or(|first| *first > hot))
    }

    /// Asks of the bucket which manifest it is equal to, and when the oldest object left it that is still there. Without a
    /// bucket all is well.
    fn in_bucket(&self, is_so: impl Fn(u64, i64) -> bool) -> bool {
        self.uploads.as_ref().is_none_or(|uploads| {
            let (equal, oldest_us) = uploads.state();
            is_so(equal, oldest_us)
        })
    }

    fn finish(&self, orders: &[Order]) -> Result<(), EraseError> {
        let now_us = crate::now_us();
        self.table.commit(|next| {
            let set_aside = next.set_aside.len() as u64;
            for one in &mut next.erasures {
                if orders.iter().any(|order| order.id == one.id) {
                    (one.done_at_us, one.set_aside) = (Some(now_us), set_aside);
                }
            }
            Some(())
        })?;
        for order in orders {
            let outcome = self.table.look(|now| now.erasures.iter().find(|one| one.id == order.id).cloned());
            let Erasure { rows, files, .. } = outcome.unwrap_or_default();
            tracing::info!(order = order.id, rows, files, "rows were erased");
            order.take_away(&self.folder)?;
        }
        Ok(())
    }
}
