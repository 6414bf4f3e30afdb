//! Sealed files into the bucket, on a thread of low priority that owes nothing to anybody.
//!
//! The manifest of the data folder is what counts; this thread makes the bucket equal to it. Of each day it uploads the
//! files that are not there (`send`), then changes the day's part of this collector's list and the root that names the list
//! (`shared`), so that a reader sees a merge's outputs in the place of its inputs, and rows together with their roll-ups.
//! Only then does the manifest say that the files are in both places, and they may leave the disk (`leave`). What left the
//! table is deleted after the grace of retention, and what a crash left behind by a sweep.
//!
//! While the bucket is away all of that waits; `account` says how much, and intake leaves events in the spool when it is
//! too much.

mod account;

mod send;

mod shared;

mod leave;

mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event::bucket::{Bucket, BucketError, BucketPlan, Identity, List, object_of};
use event::layout::{DataFolder, FileEntry, LayoutError, Place, Removed, RollupEntry};
use futures::StreamExt;

use crate::Flags;
use crate::config::CompactionConfig;
use crate::delta::{self, DeltaConfig};
use crate::table::Table;

pub(crate) use account::{Account, Counts};
use send::{SendError, send};

/// How often it is looked how much waits, and whether the end has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Why the bucket is not as the table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The data folder.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Somebody else writes there with the id of this collector.
    #[error(
        "the bucket {bucket} has changes of collector {collector} that this data folder does not know: another collector \
         works on a copy of the folder, the folder is an older backup, or object_store.url leads elsewhere than before. \
         Stop one of the two; a copy that is to be a collector of its own has to begin with an empty data folder"
    )]
    Fenced {
        /// Where.
        bucket: String,
        /// The id.
        collector: String,
    },
    /// Others were quicker, time and again.
    #[error("{0} changes of the root by other collectors came first; this one is tried again later")]
    Conflicts(u32),
    /// No random number.
    #[error("cannot read /dev/urandom: {0}")]
    Random(#[source] std::io::Error),
}

impl UploadError {
    /// Why, whatever was being done.
    fn cause(&self) -> String {
        match self {
            Self::Bucket(error) => error.cause.to_string(),
            error => error.to_string(),
        }
    }
}

/// What an uploader is made of.
pub(crate) struct Settings {
    pub(crate) folder: DataFolder,
    pub(crate) plan: BucketPlan,
    pub(crate) compaction: CompactionConfig,
    /// How long objects stay that left the table.
    pub(crate) grace_s: u32,
    pub(crate) table: Table,
    pub(crate) account: Arc<Account>,
    /// The Delta log of the bucket, where one is written.
    pub(crate) delta: Option<(DeltaConfig, Arc<delta::Account>)>,
}

/// The state of the upload thread.
pub(crate) struct Uploader {
    settings: Settings,
    bucket: Option<Bucket>,
    /// What this collector has in the bucket, once it was read.
    mine: Option<Mine>,
    /// Objects of this collector, by their paths in the data folder, with their sizes. None before the first look.
    there: Option<BTreeMap<String, u64>>,
    /// Objects of `removed` that were deleted, and are still named there.
    deleted: BTreeSet<String>,
    held: Held,
    log: Option<delta::Log>,
    /// The manifest that the bucket is equal to.
    seen: Option<u64>,
    swept: Option<Instant>,
}

/// What is in force of this collector.
struct Mine {
    identity: Identity,
    list: List,
    /// The object of the list, under the collector's folder; none before the first.
    object: Option<String>,
    /// Whether this process has made a change: nobody else with this id can make one then without being seen.
    claimed: bool,
}

/// What a day is to be in the bucket.
#[derive(Default)]
struct Day {
    files: Vec<FileEntry>,
    rollups: Vec<RollupEntry>,
    /// Paths of what it is there now.
    before: BTreeSet<String>,
}

impl Day {
    fn all(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain(self.rollups.iter().map(|entry| &entry.file))
    }

    fn paths(&self) -> BTreeSet<String> {
        self.all().map(|file| file.path.clone()).collect()
    }
}

/// Folders of an hour or a day that stay as they are in the bucket, since a file of them cannot be uploaded.
type Held = Arc<Mutex<BTreeSet<String>>>;

impl Uploader {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            bucket: None,
            mine: None,
            there: None,
            deleted: BTreeSet::new(),
            held: Held::default(),
            log: None,
            seen: None,
            swept: None,
        }
    }

    /// Uploads until the flags say anything. What is not uploaded then is the next start's.
    pub(crate) fn run(mut self, flags: &Flags) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "nothing is uploaded: there is no runtime");
                return;
            }
        };
        let config = self.settings.plan.config().clone();
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let (pause_min, pause_max) = (ms(config.retry_initial_ms), ms(config.retry_max_ms));
        let (mut pause, mut said) = (pause_min, None);
        let watch = Watch {
            table: self.settings.table.clone(),
            account: Arc::clone(&self.settings.account),
            held: Arc::clone(&self.held),
        };
        while !flags.any() {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    outcome = self.round() => Some(outcome),
                    () = watch.attend(flags) => None,
                }
            });
            let account = &self.settings.account;
            let wait = match outcome {
                None => break,
                Some(Ok(())) => {
                    account.succeeded(crate::now_us());
                    if said.take().is_some() {
                        tracing::info!("files are uploaded again");
                    }
                    pause = pause_min;
                    self.settings.plan.sync_interval()
                }
                Some(Err(error)) => {
                    let is_fenced = matches!(error, UploadError::Fenced { .. });
                    account.failed(is_fenced);
                    // What is tried again is another object each time; the cause is the same.
                    let cause = error.cause();
                    if said.as_ref() != Some(&cause) {
                        tracing::error!(
                            %error,
                            "files wait on the local disk until they can be uploaded"
                        );
                        said = Some(cause);
                    }
                    // What is in the bucket by now is looked at anew.
                    (self.mine, self.bucket) = (None, None);
                    let wait = pause;
                    pause = (pause * 2).min(pause_max);
                    wait
                }
            };
            let until = Instant::now() + wait;
            while !flags.any() && Instant::now() < until {
                watch.measure();
                std::thread::park_timeout(LOOK_INTERVAL.min(until.saturating_duration_since(Instant::now())));
            }
        }
    }

    /// Makes the bucket equal to the manifest of this moment.
    async fn round(&mut self) -> Result<(), UploadError> {
        self.leave()?;
        let now_us = crate::now_us();
        let version = self.settings.table.look(|now| now.version);
        let sweep_is_due = self.swept.is_none_or(|swept| {
            swept.elapsed() >= Duration::from_secs(self.settings.plan.config().sweep_interval_s.into())
        });
        if self.seen == Some(version) && !sweep_is_due && self.due(now_us).is_empty() {
            return Ok(());
        }
        let bucket = self.open()?;
        self.enter(&bucket).await?;
        if self.there.is_none() {
            self.there = Some(self.objects(&bucket).await?);
        }
        let (files, rollups, version) =
            self.settings.table.look(|now| (now.files.clone(), now.rollups.clone(), now.version));
        let mut days: BTreeMap<String, Day> = BTreeMap::new();
        for file in files {
            days.entry(date_of(&file.path).to_owned()).or_default().files.push(file);
        }
        for entry in rollups {
            days.entry(date_of(&entry.file.path).to_owned()).or_default().rollups.push(entry);
        }
        for file in self.mine.iter().flat_map(|mine| mine.list.all()) {
            days.entry(date_of(&file.path).to_owned()).or_default().before.insert(file.path.clone());
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for (date, day) in days.into_iter().filter(|(_, day)| day.paths() != day.before) {
            if !self.day(&bucket, &date, day).await? {
                // A file left the table meanwhile: the next round goes by the manifest of then.
                self.seen = None;
                return Ok(());
            }
        }
        let is_logged = self.tell(&bucket).await;
        self.mark()?;
        self.delete_due(&bucket).await?;
        if sweep_is_due {
            self.sweep(&bucket).await?;
            self.swept = Some(Instant::now());
        }
        self.seen = is_logged.then_some(version);
        let removed = self.mine.iter().flat_map(|mine| &mine.list.removed);
        let there = removed.filter(|removed| !self.deleted.contains(&removed.path));
        let oldest_us = there.map(|removed| removed.at_us).min();
        self.settings.account.is_equal(version, oldest_us.unwrap_or(i64::MAX));
        Ok(())
    }

    fn open(&mut self) -> Result<Bucket, UploadError> {
        if let Some(bucket) = &self.bucket {
            return Ok(bucket.clone());
        }
        let bucket = Bucket::open(&self.settings.plan)?;
        self.bucket = Some(bucket.clone());
        Ok(bucket)
    }

    /// Uploads what is missing of a day, and puts the day in force; false if a file is gone that was to be uploaded.
    async fn day(&mut self, bucket: &Bucket, date: &str, day: Day) -> Result<bool, UploadError> {
        let Some(mine) = &self.mine else { return Ok(true) };
        let there = self.there.get_or_insert_default();
        let missing = day
            .all()
            .filter(|file| !day.before.contains(&file.path) && there.get(&file.path) != Some(&file.bytes));
        let missing: Vec<FileEntry> = missing.cloned().collect();
        let collector = &mine.identity.collector;
        let (settings, config) = (&self.settings, self.settings.plan.config());
        let uploads = missing.iter().map(|file| async move {
            let object = object_of(collector, &file.path);
            (file, send(bucket, &settings.folder, file, &object, config.part_bytes).await)
        });
        let mut uploads = futures::stream::iter(uploads).buffer_unordered(config.uploads_max.into());
        let (mut held, mut failed, mut gone) = (BTreeSet::new(), None, false);
        while let Some((file, sent)) = uploads.next().await {
            match sent {
                Ok(()) => {
                    settings.account.uploaded(file.bytes);
                    there.insert(file.path.clone(), file.bytes);
                }
                Err(SendError::Gone) if !names(&settings.table, &file.path) => gone = true,
                Err(SendError::Bucket(error)) => {
                    // The others would only find out the same.
                    failed = Some(error);
                    break;
                }
                Err(error) => {
                    // `tollhouse storage` has the tools for it; meanwhile the rest goes on.
                    tracing::error!(path = file.path, %error, "not uploaded, and neither is what shares its hour");
                    held.insert(folder_of_file(&file.path).to_owned());
                }
            }
        }
        drop(uploads);
        if let Some(error) = failed {
            return Err(error.into());
        }
        if gone {
            return Ok(false);
        }
        let Day { files, rollups, before } = day;
        let mut next = with_day(&mine.list, date, files, rollups, &held);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        let of_day = next.all().filter(|file| date_of(&file.path) == date);
        let after: BTreeSet<String> = of_day.map(|file| file.path.clone()).collect();
        if before == after {
            return Ok(true);
        }
        let now_us = crate::now_us();
        let gone = before.difference(&after).map(|path| Removed { path: path.clone(), at_us: now_us });
        next.removed.extend(gone);
        self.commit(bucket, next).await?;
        // Before it may be merged.
        self.tell(bucket).await;
        // What is there counts as uploaded, whatever becomes of the next day.
        self.mark()?;
        Ok(true)
    }

    /// Says in the Delta log which objects are of the table; false if that is to be tried again.
    async fn tell(&mut self, bucket: &Bucket) -> bool {
        let (Some((config, account)), Some(mine)) = (&self.settings.delta, &self.mine) else { return true };
        let named = |path: &str| object_of(&mine.identity.collector, path);
        let log = self.log.get_or_insert_with(|| {
            let grace_s = self.settings.grace_s;
            delta::Log::new(bucket.clone(), named(""), config.clone(), grace_s, Arc::clone(account))
        });
        let files = mine.list.files.iter().map(|file| (named(&file.path), file.clone()));
        log.make_equal(&files.collect()).await
    }

    /// Says in the manifest what is in both places by now.
    fn mark(&self) -> Result<(), UploadError> {
        let Some(mine) = &self.mine else { return Ok(()) };
        let listed: BTreeSet<&str> = mine.list.all().map(|file| file.path.as_str()).collect();
        let is_new = |file: &FileEntry| file.place == Place::Local && listed.contains(file.path.as_str());
        let some = self
            .settings
            .table
            .look(|now| now.files.iter().chain(now.rollups.iter().map(|entry| &entry.file)).any(is_new));
        if some {
            self.settings.table.commit(|next| {
                leave::all(next).filter(|file| is_new(file)).for_each(|file| file.place = Place::Both);
                Some(())
            })?;
        }
        Ok(())
    }

    /// Lets files leave the disk that are too much for it, or too old.
    fn leave(&self) -> Result<(), UploadError> {
        let (config, compaction) = (self.settings.plan.config(), &self.settings.compaction);
        if config.local_bytes_max.is_none() && config.local_age_h.is_none() {
            return Ok(());
        }
        let now_us = crate::now_us();
        let going = self.settings.table.look(|now| leave::choose(config, compaction, now, now_us));
        if !going.is_empty() {
            tracing::debug!(files = going.len(), "files leave the local disk");
            self.settings.table.commit(|next| leave::leave(next, &going, now_us))?;
        }
        Ok(())
    }
}

/// A list with what a day is now; in folders that are held it is as it was.
fn with_day(
    list: &List,
    date: &str,
    files: Vec<FileEntry>,
    rollups: Vec<RollupEntry>,
    held: &BTreeSet<String>,
) -> List {
    let stays = |file: &FileEntry| date_of(&file.path) != date || held.contains(folder_of_file(&file.path));
    let comes = |file: &FileEntry| !held.contains(folder_of_file(&file.path));
    let mut next = list.clone();
    next.files.retain(stays);
    next.rollups.retain(|entry| stays(&entry.file));
    // Where a file is besides is nobody else's business.
    let shared = |mut file: FileEntry| {
        file.place = Place::default();
        file
    };
    next.files.extend(files.into_iter().filter(comes).map(shared));
    let rollups = rollups.into_iter().filter(|entry| comes(&entry.file));
    next.rollups.extend(rollups.map(|entry| RollupEntry { file: shared(entry.file), ..entry }));
    next
}

/// `date=YYYY-MM-DD` of a path. Rows and roll-ups of a day change together.
fn date_of(path: &str) -> &str {
    path.split('/').find(|part| part.starts_with("date=")).unwrap_or_default()
}

/// The folder that a file is in: that of an hour, or of a day.
fn folder_of_file(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn names(table: &Table, path: &str) -> bool {
    table.look(|now| {
        let mut all = now.files.iter().chain(now.rollups.iter().map(|entry| &entry.file));
        all.any(|file| file.path == path)
    })
}

/// Looks after the backlog while a round goes on.
struct Watch {
    table: Table,
    account: Arc<Account>,
    held: Held,
}

impl Watch {
    /// Ready when the flags say anything.
    async fn attend(&self, flags: &Flags) {
        while !flags.any() {
            self.measure();
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Says how much waits. What cannot be uploaded for its damage is no reason to store no more.
    fn measure(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, bytes) = self.table.look(|now| {
            let all = now.files.iter().chain(now.rollups.iter().map(|entry| &entry.file));
            let waits =
                |file: &&FileEntry| file.place == Place::Local && !held.contains(folder_of_file(&file.path));
            all.filter(waits).fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.bytes))
        });
        self.account.waits(files, bytes);
    }
}

#[cfg(test)]
mod tests;
