//! What uploads have done and have still to do: for scrapes, and for intake, which waits while that is too much.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counts of one collector's life.
#[derive(Debug, Default)]
pub(crate) struct Account {
    backlog_bytes_max: u64,
    backlog_files: AtomicU64,
    backlog_bytes: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    deleted: AtomicU64,
    commits: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
    last_success_us: AtomicI64,
    fenced: AtomicBool,
    state: Mutex<(u64, i64)>,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) backlog_files: u64,
    pub(crate) backlog_bytes: u64,
    pub(crate) is_full: bool,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) deleted: u64,
    pub(crate) commits: u64,
    pub(crate) conflicts: u64,
    pub(crate) failures: u64,
    /// When all that was due was last there; microseconds since 1970 (UTC), 0 for never.
    pub(crate) last_success_us: i64,
    pub(crate) is_fenced: bool,
}

impl Account {
    pub(crate) fn new(backlog_bytes_max: u64) -> Self {
        Self { backlog_bytes_max, ..Self::default() }
    }

    /// Whether no more is to be stored until something was uploaded.
    pub(crate) fn is_full(&self) -> bool {
        self.backlog_bytes.load(Relaxed) > self.backlog_bytes_max
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            backlog_files: self.backlog_files.load(Relaxed),
            backlog_bytes: self.backlog_bytes.load(Relaxed),
            is_full: self.is_full(),
            files: self.files.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            commits: self.commits.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            last_success_us: self.last_success_us.load(Relaxed),
            is_fenced: self.fenced.load(Relaxed),
        }
    }

    /// The version of the manifest that the bucket is equal to, and when the oldest object left the table that is still
    /// there, microseconds since 1970 (UTC); the greatest number for none.
    pub(crate) fn state(&self) -> (u64, i64) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_equal(&self, version: u64, oldest_us: i64) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (version, oldest_us);
    }

    pub(super) fn waits(&self, files: u64, bytes: u64) {
        self.backlog_files.store(files, Relaxed);
        self.backlog_bytes.store(bytes, Relaxed);
    }

    pub(super) fn uploaded(&self, bytes: u64) {
        self.files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn deleted(&self) {
        self.deleted.fetch_add(1, Relaxed);
    }

    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    pub(super) fn conflicted(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, is_fenced: bool) {
        self.failures.fetch_add(1, Relaxed);
        self.fenced.store(is_fenced, Relaxed);
    }

    pub(super) fn succeeded(&self, now_us: i64) {
        self.last_success_us.store(now_us, Relaxed);
        self.fenced.store(false, Relaxed);
    }
}
