//! Intake's side of a sender: takes the place of hot files.
//!
//! A batch counts as committed when a receiver has acknowledged it, and as durable when that is noted on disk; between the
//! two it may be sent again, which receivers notice. As many batches as may be in flight are taken; then intake keeps
//! the next one, reads no more, and events wait in the spool.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use event::hot::Watermarks;
use event::layout::{DataFolder, LayoutError};
use event::spool::Position;
use tokio::sync::{mpsc, watch};

use super::account::Account;
use super::config::ForwardConfig;
use super::courier::Courier;
use super::notes::{Notes, core_of};
use super::wire::Step;

/// How long what was acknowledged may be noted nowhere, unless segments wait for it.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) batch: RecordBatch,
    /// What it brings lanes to.
    pub(super) lanes: BTreeMap<u16, Step>,
    /// The same by `node/core`.
    pub(super) marks: Watermarks,
}

/// What both sides of a sender see.
#[derive(Debug)]
pub(super) struct Shared {
    folder: DataFolder,
    book: Mutex<Book>,
    /// Batches that were acknowledged.
    done: AtomicU64,
    intake: OnceLock<Thread>,
    pub(super) account: Arc<Account>,
}

#[derive(Debug)]
struct Book {
    /// As they are on disk.
    notes: Notes,
    acknowledged: Watermarks,
    observed: BTreeMap<u16, u64>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The notes as they are on disk.
    pub(super) fn notes(&self) -> Notes {
        self.book().notes.clone()
    }

    /// Changes the notes, durably, and gives them; what is acknowledged by now stands in them too.
    ///
    /// # Errors
    /// When the disk refuses; the old ones stay.
    pub(super) fn note(&self, change: impl FnOnce(&mut Notes)) -> Result<Notes, LayoutError> {
        let mut book = self.book();
        let mut next = book.notes.clone();
        next.marks.clone_from(&book.acknowledged);
        next.observed.clone_from(&book.observed);
        change(&mut next);
        if next != book.notes {
            next.store(&self.folder)?;
            self.account.sent.in_doubt.store(next.doubts.len() as u64, Ordering::Relaxed);
            book.notes = next;
        }
        Ok(book.notes.clone())
    }

    /// Says that a receiver has a batch on its disk.
    pub(super) fn acknowledge(&self, marks: Watermarks) {
        self.book().acknowledged.extend(marks);
        self.done.fetch_add(1, Ordering::Release);
        if let Some(intake) = self.intake.get() {
            intake.unpark();
        }
    }
}

/// Where batches go that leave the host.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Parcel>,
    stop: watch::Sender<bool>,
    window: u64,
    given: u64,
    /// How far each lane is with what was given.
    marks: Watermarks,
    committed: Watermarks,
    durable: Watermarks,
    noted: Instant,
}

impl Forwarder {
    /// A forwarder, and what its thread is to run. `stored` is what of each lane is stored here, from a time before.
    ///
    /// # Errors
    /// When the notes of before cannot be read.
    pub(crate) fn new(
        folder: &DataFolder,
        config: &ForwardConfig,
        stored: &Watermarks,
        account: Arc<Account>,
    ) -> Result<(Self, Courier), LayoutError> {
        let mut notes = Notes::load(folder)?;
        crate::merge(&mut notes.marks, stored);
        account.sent.is_on.store(true, Ordering::Relaxed);
        account.sent.in_doubt.store(notes.doubts.len() as u64, Ordering::Relaxed);
        let marks = notes.marks.clone();
        let observed = notes.observed.clone();
        let book = Mutex::new(Book { notes, acknowledged: marks.clone(), observed });
        let (done, intake) = (AtomicU64::new(0), OnceLock::new());
        let shared = Arc::new(Shared { folder: folder.clone(), book, done, intake, account });
        let (queue, parcels) = mpsc::channel(config.in_flight_batches_max as usize);
        let (stop, stopped) = watch::channel(false);
        let courier = Courier::new(config.clone(), Arc::clone(&shared), parcels, stopped);
        let forwarder = Self {
            shared,
            queue,
            stop,
            window: config.in_flight_batches_max.into(),
            given: 0,
            marks: marks.clone(),
            committed: marks.clone(),
            durable: marks,
            noted: Instant::now(),
        };
        Ok((forwarder, courier))
    }

    /// Has this thread woken by each acknowledgement.
    pub(crate) fn wakes(&self, intake: Thread) {
        // A second thread would be woken by nobody and come round by itself.
        drop(self.shared.intake.set(intake));
    }

    /// Whether another batch may be given.
    pub(crate) fn has_room(&self) -> bool {
        self.given - self.shared.done.load(Ordering::Acquire) < self.window && self.queue.capacity() > 0
    }

    /// Takes a batch and how far each lane is with it; false if there is no room after all.
    pub(crate) fn give(&mut self, batch: &RecordBatch, marks: &Watermarks) -> bool {
        let changed = marks.iter().filter(|(key, after)| self.marks.get(*key) != Some(after));
        let changed: Watermarks = changed.map(|(key, after)| (key.clone(), *after)).collect();
        let step = |(key, after): (&String, &Position)| {
            Some((core_of(key)?, Step { before: self.marks.get(key).copied(), after: *after }))
        };
        let lanes = changed.iter().filter_map(step).collect();
        let parcel = Parcel { batch: batch.clone(), lanes, marks: changed };
        if self.queue.try_send(parcel).is_err() {
            return false;
        }
        self.given += 1;
        self.marks.clone_from(marks);
        true
    }

    /// How far metrics and spans of a lane were before this start; none for a lane that is new.
    pub(crate) fn observed(&self, core: u16) -> Option<u64> {
        self.shared.book().observed.get(&core).copied()
    }

    /// Says how far they are now.
    pub(crate) fn observe(&self, core: u16, sequence: u64) {
        self.shared.book().observed.insert(core, sequence);
    }

    /// Takes over what was acknowledged.
    pub(crate) fn refresh(&mut self) {
        self.committed.clone_from(&self.shared.book().acknowledged);
    }

    /// How far each lane is acknowledged.
    pub(crate) fn committed(&self) -> &Watermarks {
        &self.committed
    }

    /// How far that is noted.
    pub(crate) fn durable(&self) -> &Watermarks {
        &self.durable
    }

    /// Whether something is to be noted.
    pub(crate) fn note_is_due(&self) -> bool {
        self.noted.elapsed() >= NOTE_INTERVAL && {
            let book = self.shared.book();
            book.notes.marks != book.acknowledged || book.notes.observed != book.observed
        }
    }

    /// Notes what is acknowledged.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn note(&mut self) -> Result<(), LayoutError> {
        self.noted = Instant::now();
        self.durable = self.shared.note(|_| ())?.marks;
        Ok(())
    }

    /// Whether everything that was given is acknowledged and noted.
    pub(crate) fn is_durable(&self) -> bool {
        self.given == self.shared.done.load(Ordering::Acquire)
            && self.durable == self.shared.book().acknowledged
    }
}

impl Drop for Forwarder {
    /// What is on its way then is sent again by the next start.
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
