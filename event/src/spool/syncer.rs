//! Makes what was written durable, on a thread of its own: a disk that takes seconds for a sync must not keep the next
//! segment from the gateway.

use super::counters::Counters;
use super::segment::Segment;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the lanes are looked at, at most: an eighth of the interval, so that what the collector stores in time is not
/// written twice.
const ROUND_MAX: Duration = Duration::from_millis(25);

/// Segments of one lane that may hold records which are not durable yet, oldest first. Held for moments only.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<VecDeque<Arc<Segment>>>>);

impl Live {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before a writer can have the segment: what it writes is looked for here.
    pub(super) fn add(&self, segment: &Arc<Segment>) {
        self.lock().push_back(Arc::clone(segment));
    }

    /// Forgets one that no writer will have.
    pub(super) fn remove(&self, segment: &Segment) {
        self.lock().retain(|live| live.number != segment.number);
    }
}

/// One core's records on their way to the disk.
#[derive(Debug)]
pub(super) struct Lane {
    core: u16,
    live: Live,
    /// How many records of this core were made durable here.
    synced_at: u64,
    /// How many records there were at what time, as long as those are not durable; at most one per round of an interval.
    unsynced: VecDeque<(Instant, u64)>,
}

impl Lane {
    pub(super) fn new(core: u16, live: Live) -> Self {
        Self { core, live, synced_at: 0, unsynced: VecDeque::new() }
    }

    /// Makes what was written durable, once the oldest of it has waited for `patience` and the collector has not stored
    /// it by then: what is in its files need not be on disk twice.
    fn sync_if_due(&mut self, counters: &Counters, patience: Duration) {
        let (written, stored) = (counters.core(self.core).written, counters.stored(self.core));
        let durable = stored.max(self.synced_at);
        while self.unsynced.front().is_some_and(|(_, written)| *written <= durable) {
            self.unsynced.pop_front();
        }
        if written > self.unsynced.back().map_or(durable, |(_, written)| *written) {
            self.unsynced.push_back((Instant::now(), written));
        }
        if self.unsynced.front().is_some_and(|(since, _)| since.elapsed() >= patience) {
            self.sync(written);
            self.unsynced.clear();
        }
        // A segment whose records are all stored will never be synced.
        let mut live = self.live.lock();
        let ends = live.iter().skip(1).map(|next| next.is_active().then(|| next.first_ordinal()));
        let over = ends.take_while(|end| end.is_some_and(|end| end <= stored)).count();
        live.drain(..over);
    }

    /// Makes what was written durable. A segment whose fdatasync failed is given up: what it holds stays readable,
    /// and the writer goes on in another.
    fn sync(&mut self, written: u64) {
        if written == self.synced_at {
            return;
        }
        self.synced_at = written;
        let active: Vec<Arc<Segment>> =
            self.live.lock().iter().filter(|segment| segment.is_active()).cloned().collect();
        // A segment that is followed by a newer active one was ended before: after this sync it is done.
        let newest = active.iter().map(|segment| segment.number).max();
        for segment in active {
            let synced = segment.sync();
            if synced.is_err() {
                segment.failed.store(true, Ordering::Relaxed);
            }
            if synced.is_err() || Some(segment.number) != newest {
                self.live.remove(&segment);
            }
        }
    }
}

/// The thread.
pub(super) fn run(mut lanes: Vec<Lane>, counters: &Counters, sync_interval: Duration, stop: &AtomicBool) {
    // A round and the sync itself are part of what a record may wait.
    let round = (sync_interval / 8).clamp(Duration::from_millis(1), ROUND_MAX);
    let patience = sync_interval.saturating_sub(2 * round).max(round);
    loop {
        let stopping = stop.load(Ordering::Acquire);
        for lane in &mut lanes {
            lane.sync_if_due(counters, patience);
            if stopping {
                lane.sync(counters.core(lane.core).written);
            }
        }
        if stopping {
            return;
        }
        std::thread::park_timeout(round);
    }
}
