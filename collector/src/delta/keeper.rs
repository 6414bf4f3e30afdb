//! The thread that keeps the log of a data folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use event::bucket::{Bucket, BucketError};
use event::layout::{DataFolder, FileEntry};

use super::file::FOLDER;
use super::{Account, DeltaConfig, Log};
use crate::Flags;
use crate::table::Table;

/// How often it is looked whether the table has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Where the table lies in the data folder.
const TABLE: &str = "requests/";

/// The log of a data folder, and the table that it is kept equal to.
pub(crate) struct Keeper {
    table: Table,
    bucket: Bucket,
    log: Log,
    retry_interval: Duration,
}

impl Keeper {
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) fn new(
        folder: &DataFolder,
        table: Table,
        config: &DeltaConfig,
        grace_s: u32,
        retry_interval: Duration,
        account: Arc<Account>,
    ) -> Result<Self, BucketError> {
        let bucket = Bucket::of_folder(&folder.requests())?;
        let log = Log::new(bucket.clone(), String::new(), config.clone(), grace_s, account);
        Ok(Self { table, bucket, log, retry_interval })
    }

    /// Keeps the log until nothing changes the table any more, and then, unless time is up, makes it equal once more.
    pub(crate) fn run(mut self, flags: &Flags) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "no Delta log: there is no runtime");
                return;
            }
        };
        // What an interrupted write left of a commit.
        if let Err(error) = self.bucket.remove_halves(FOLDER) {
            tracing::warn!(%error, "halves of commits stay");
        }
        let mut seen = None;
        while !flags.settled.load(Ordering::Acquire) {
            let mut wait = LOOK_INTERVAL;
            if seen != Some(self.table.look(|now| now.version)) {
                let (version, files) = self.files();
                if runtime.block_on(self.log.equal(&files, version)) {
                    seen = Some(version);
                } else {
                    wait = self.retry_interval;
                }
            }
            std::thread::park_timeout(wait);
        }
        if !flags.abandon.load(Ordering::Acquire) {
            let (version, files) = self.files();
            runtime.block_on(self.log.equal(&files, version));
        }
    }

    /// The version of the manifest, and its files that are on the disk, by their names under the table's folder.
    fn files(&self) -> (u64, BTreeMap<String, FileEntry>) {
        self.table.look(|now| {
            let there = now.files.iter().filter(|file| file.place.is_on_disk());
            let named = |file: &FileEntry| Some((file.path.strip_prefix(TABLE)?.to_owned(), file.clone()));
            (now.version, there.filter_map(named).collect())
        })
    }
}
