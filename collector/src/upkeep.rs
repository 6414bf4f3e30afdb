//! What is said of the table's upkeep: merges of its files, and damage that was found in them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::layout::{Damage, DataFolder, FileEntry};

use crate::table::Table;

/// What the compaction thread has done since the start.
#[derive(Debug, Default)]
pub(crate) struct Account {
    merges: AtomicU64,
    failures: AtomicU64,
    files_before: AtomicU64,
    files_after: AtomicU64,
    rows: AtomicU64,
    bytes_before: AtomicU64,
    bytes_after: AtomicU64,
    us: AtomicU64,
    /// Files that it cannot use, by path.
    unusable: Mutex<BTreeSet<String>>,
}

impl Account {
    /// A merge that was put in force: what it read, what it wrote, and how long that took.
    pub(crate) fn merged(&self, before: &[FileEntry], after: &[FileEntry], took: Duration) {
        let bytes = |files: &[FileEntry]| files.iter().map(|file| file.bytes).sum();
        self.merges.fetch_add(1, Relaxed);
        self.files_before.fetch_add(before.len() as u64, Relaxed);
        self.files_after.fetch_add(after.len() as u64, Relaxed);
        self.rows.fetch_add(after.iter().map(|file| file.rows).sum(), Relaxed);
        self.bytes_before.fetch_add(bytes(before), Relaxed);
        self.bytes_after.fetch_add(bytes(after), Relaxed);
        self.us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A merge that came to nothing, and the files that it was for.
    pub(crate) fn failed(&self, unusable: &[&str]) {
        self.failures.fetch_add(1, Relaxed);
        let mut known = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(unusable.iter().map(|path| (*path).to_owned()));
    }
}

/// Where the figures come from.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    pub(crate) table: Table,
    pub(crate) compaction: Arc<Account>,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) merges: u64,
    pub(crate) failures: u64,
    pub(crate) files_before: u64,
    pub(crate) files_after: u64,
    pub(crate) rows: u64,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    pub(crate) us: u64,
    /// Files that are known to be damaged, and of which nobody took note.
    pub(crate) damaged_files: u64,
    /// Rows that the table lacks since files were set aside.
    pub(crate) rows_set_aside: u64,
}

impl Upkeep {
    /// The counts of now. What readers of the table have found stands in the data folder.
    pub(crate) fn counts(&self, folder: &DataFolder) -> Counts {
        let found = Damage::load(folder).unwrap_or_else(|error| {
            tracing::debug!(%error, "what readers found damaged cannot be read");
            Damage::default()
        });
        let account = &self.compaction;
        let unusable = account.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let (damaged_files, rows_set_aside) = self.table.look(|now| {
            let files = now.files.iter().chain(now.rollups.iter().map(|entry| &entry.file));
            let is_bad = |path: &String| found.files.contains_key(path) || unusable.contains(path);
            let bad = files.filter(|file| is_bad(&file.path)).count() as u64;
            let unseen = now.set_aside.iter().filter(|aside| aside.is_unseen).count() as u64;
            (bad + unseen, now.set_aside.iter().map(|aside| aside.file.rows).sum())
        });
        Counts {
            merges: account.merges.load(Relaxed),
            failures: account.failures.load(Relaxed),
            files_before: account.files_before.load(Relaxed),
            files_after: account.files_after.load(Relaxed),
            rows: account.rows.load(Relaxed),
            bytes_before: account.bytes_before.load(Relaxed),
            bytes_after: account.bytes_after.load(Relaxed),
            us: account.us.load(Relaxed),
            damaged_files,
            rows_set_aside,
        }
    }
}
