//! What went between hosts, counted since the start; read by each scrape.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The counts of a collector.
#[derive(Debug, Default)]
pub struct Account {
    pub(crate) sent: Sent,
    pub(crate) received: Received,
}

/// Of a sender.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Whether this collector sends.
    pub(crate) is_on: AtomicBool,
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    /// Microseconds from the first byte of a batch to its acknowledgement: of all, and of the last one.
    pub(crate) waited_us: AtomicU64,
    pub(crate) waited_last_us: AtomicU64,
    /// 1 while a receiver takes batches.
    pub(crate) connected: AtomicU64,
    pub(crate) failovers: AtomicU64,
    /// Receivers that may have what others acknowledged, and were not told yet.
    pub(crate) in_doubt: AtomicU64,
    pub(crate) failures: Reasons,
}

/// Of a receiver.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Whether this collector receives.
    pub(crate) is_on: AtomicBool,
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Rows that were here already.
    pub(crate) duplicates: AtomicU64,
    /// Rows that senders had taken back.
    pub(crate) revoked: AtomicU64,
    /// Open streams of batches.
    pub(crate) senders: AtomicU64,
    pub(crate) refusals: Reasons,
}

impl Sent {
    pub(super) fn acknowledge(&self, waited: Duration) {
        let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.acknowledged.fetch_add(1, Relaxed);
        self.waited_us.fetch_add(us, Relaxed);
        self.waited_last_us.store(us, Relaxed);
    }
}

/// Counts by a word from a closed list.
#[derive(Debug, Default)]
pub(crate) struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

impl Reasons {
    pub(super) fn add(&self, reason: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// The counts as of now.
    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
