//! How far a Delta log is, for metrics and for who has to wait for it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::Flags;

/// Longest wait for a log that is late.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What was done since the start.
#[derive(Debug, Default)]
pub(crate) struct Account {
    version: AtomicU64,
    commits: AtomicU64,
    failures: AtomicU64,
    last_success_us: AtomicI64,
    /// The version of the manifest that the log of a data folder was last equal to.
    told: AtomicU64,
    is_failing: AtomicBool,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The last commit that is known.
    pub(crate) version: u64,
    pub(crate) commits: u64,
    pub(crate) failures: u64,
    /// When the log was last equal to the table, microseconds since 1970 (UTC); 0 for never.
    pub(crate) last_success_us: i64,
}

impl Account {
    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    /// The log is not as the table.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.is_failing.store(true, Relaxed);
    }

    /// It is, but for what keeps it short.
    pub(super) fn missed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// The log, whose last commit is `version`, is equal to the table.
    pub(super) fn succeeded(&self, version: u64, now_us: i64) {
        self.is_failing.store(false, Relaxed);
        self.version.store(version, Relaxed);
        self.last_success_us.store(now_us, Relaxed);
    }

    /// It knows what a version of the manifest names.
    pub(super) fn told(&self, manifest: u64) {
        self.told.store(manifest, Relaxed);
    }

    /// Waits until the log of a data folder knows what a version of the manifest names, so that a merge of that only moves
    /// rows that the log has. Not for a log that fails, nor for long: the table comes first.
    pub(crate) fn wait(&self, manifest: u64, flags: &Flags) {
        let until = Instant::now() + PATIENCE;
        let is_late = || self.told.load(Relaxed) < manifest && !self.is_failing.load(Relaxed);
        while is_late() && !flags.any() && Instant::now() < until {
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            version: self.version.load(Relaxed),
            commits: self.commits.load(Relaxed),
            failures: self.failures.load(Relaxed),
            last_success_us: self.last_success_us.load(Relaxed),
        }
    }
}
