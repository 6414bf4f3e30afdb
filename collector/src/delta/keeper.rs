//! The thread that keeps the log of a data folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use event::bucket::Bucket;
use event::layout::{DataFolder, FileEntry};

use super::file::FOLDER;
use super::{Account, DeltaConfig, Log};
use crate::Flags;
use crate::table::Table;

/// How often it is looked whether the table has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Where the table lies in the data folder.
const TABLE: &str = "requests/";

/// The table of a data folder, and how its log is to be.
pub(crate) struct Keeper {
    pub(crate) folder: DataFolder,
    pub(crate) table: Table,
    pub(crate) config: DeltaConfig,
    pub(crate) grace_s: u32,
    pub(crate) account: Arc<Account>,
}

impl Keeper {
    /// Keeps the log until nothing changes the table any more, and then makes it equal once more.
    pub(crate) fn run(self, flags: &Flags) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let bucket = Bucket::of_folder(&self.folder.requests());
        let (runtime, bucket) = match (runtime, bucket) {
            (Ok(runtime), Ok(bucket)) => (runtime, bucket),
            (Err(error), _) => return self.give_up(&error),
            (_, Err(error)) => return self.give_up(&error),
        };
        // What an interrupted write left of a commit.
        if let Err(error) = bucket.remove_halves(FOLDER) {
            tracing::warn!(%error, "halves of commits stay");
        }
        let account = Arc::clone(&self.account);
        let mut log = Log::new(bucket, String::new(), self.config.clone(), self.grace_s, account);
        let mut make_equal = || {
            let (version, files) = self.files();
            let named =
                files.into_iter().filter_map(|file| Some((file.path.strip_prefix(TABLE)?.to_owned(), file)));
            let files: BTreeMap<String, FileEntry> = named.collect();
            let is_equal = runtime.block_on(async {
                tokio::select! {
                    is_equal = log.make_equal(&files) => is_equal,
                    () = abandoned(flags) => false,
                }
            });
            is_equal.then(|| {
                self.account.told(version);
                version
            })
        };
        let mut seen = None;
        while !flags.settled.load(Ordering::Acquire) && !flags.abandon.load(Ordering::Acquire) {
            if seen != Some(self.table.look(|now| now.version)) {
                seen = make_equal();
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        make_equal();
    }

    /// The table stays as good without.
    fn give_up(&self, error: &dyn std::error::Error) {
        self.account.failed();
        tracing::error!(%error, "no Delta log");
    }

    /// The version of the manifest, and its files that are on the disk.
    fn files(&self) -> (u64, Vec<FileEntry>) {
        self.table.look(|now| {
            let there = now.files.iter().filter(|file| file.place.is_on_disk());
            (now.version, there.cloned().collect())
        })
    }
}

/// Ready when time is up.
async fn abandoned(flags: &Flags) {
    while !flags.abandon.load(Ordering::Acquire) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
