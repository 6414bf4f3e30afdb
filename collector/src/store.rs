//! The hot file that rows go to, from its creation to the moment it is handed to sealing.
//!
//! Intake gives it each batch with the watermarks that it brings the lanes to. `store` returns once the batch is
//! committed: queries see it, and it outlives this process. `sync` makes what was committed durable, and only then may
//! intake release what it read; the two are apart because a sync costs as much as thousands of rows. After any error the
//! file is never written or synced again: what is not known to be on disk is cut off, so that no row is found twice, and
//! goes to a new file together with what comes next.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use event::hot::{HotError, HotWriter, Watermarks};
use event::layout::{DataFolder, LayoutError};

use crate::config::SealConfig;
use crate::seal::Queue;

/// Most bytes that are committed before they are made durable: what is kept in memory to be written again.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;

/// Why a batch is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The hot file could not be made, written or synced.
    #[error(transparent)]
    Hot(#[from] HotError),
    /// What other hosts have acknowledged cannot be noted.
    #[error(transparent)]
    Notes(#[from] LayoutError),
    /// What a failed write may have left behind could not be cut off yet.
    #[error("cannot cut {path} back to {length} bytes: {source}")]
    Cut {
        /// The commit log.
        path: PathBuf,
        /// Bytes that are known to be on disk.
        length: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// A batch, and the position of each lane after it.
type Batch = (RecordBatch, Watermarks);

/// Where batches go.
pub(crate) struct Store {
    folder: DataFolder,
    limits: SealConfig,
    sync_interval: Duration,
    queue: Queue,
    next: u64,
    open: Option<Open>,
    /// A failed file that is still to be cut back: nothing is written before that is done.
    failed: Option<Failed>,
    /// Batches of failed files, to be written again before any other.
    again: VecDeque<Batch>,
    /// How far each lane is committed, and how far that is durable.
    committed: Watermarks,
    durable: Watermarks,
}

/// The file that is being written.
struct Open {
    writer: HotWriter,
    since: Instant,
    /// What was committed and is not durable yet, since when, and its bytes.
    unsynced: Vec<Batch>,
    unsynced_since: Instant,
    durable_bytes: u64,
}

#[derive(Debug)]
struct Failed {
    number: u64,
    /// Length of the commit log that is known to be on disk.
    good_bytes: u64,
}

impl Store {
    /// A store whose first file has number `next`, or a higher one, behind what is stored.
    pub(crate) fn new(
        folder: DataFolder,
        limits: SealConfig,
        sync_interval: Duration,
        queue: Queue,
        next: u64,
        stored: Watermarks,
    ) -> Self {
        Self {
            folder,
            limits,
            sync_interval,
            queue,
            next,
            open: None,
            failed: None,
            again: VecDeque::new(),
            committed: stored.clone(),
            durable: stored,
        }
    }

    /// How far each lane is in the table.
    pub(crate) fn committed(&self) -> &Watermarks {
        &self.committed
    }

    /// How far each lane is on disk.
    pub(crate) fn durable(&self) -> &Watermarks {
        &self.durable
    }

    /// Commits a batch, together with the position of each lane after it.
    ///
    /// # Errors
    /// Nothing of the batch is stored then, and it is to be given again, after a pause.
    pub(crate) fn store(&mut self, batch: &RecordBatch, marks: &Watermarks) -> Result<(), StoreError> {
        self.store_again()?;
        self.append(batch, marks)
    }

    fn append(&mut self, batch: &RecordBatch, marks: &Watermarks) -> Result<(), StoreError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        match open.writer.append(batch, marks) {
            Ok(()) => {
                if open.unsynced.is_empty() {
                    open.unsynced_since = Instant::now();
                }
                open.unsynced.push((batch.clone(), marks.clone()));
                self.committed.clone_from(marks);
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                // What was committed before may still become durable.
                drop(self.finish(open));
                Err(error.into())
            }
        }
    }

    /// Whether something waits to be made durable for as long, or takes as much memory, as it may.
    pub(crate) fn sync_is_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            !open.unsynced.is_empty()
                && (open.unsynced_since.elapsed() >= self.sync_interval
                    || open.writer.bytes() - open.durable_bytes >= UNSYNCED_BYTES_MAX)
        })
    }

    /// Makes everything that was committed durable.
    ///
    /// # Errors
    /// What was not durable before is not stored any more, and is written again before the next batch.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        self.cut_failed()?;
        let Some(mut open) = self.open.take() else { return Ok(()) };
        match open.sync() {
            Ok(()) => {
                self.open = Some(open);
                self.durable.clone_from(&self.committed);
                Ok(())
            }
            Err(error) => {
                self.fail(open);
                Err(error.into())
            }
        }
    }

    /// Writes the batches of failed files again, if there are any and the disk takes them.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn store_again(&mut self) -> Result<(), StoreError> {
        self.cut_failed()?;
        while let Some((batch, marks)) = self.again.pop_front() {
            if let Err(error) = self.append(&batch, &marks) {
                self.again.push_front((batch, marks));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether batches wait to be written again.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.again.is_empty()
    }

    /// Whether everything that was given is on disk.
    pub(crate) fn is_durable(&self) -> bool {
        self.again.is_empty() && self.open.as_ref().is_none_or(|open| open.unsynced.is_empty())
    }

    fn create(&mut self) -> Result<Open, StoreError> {
        let number = self.next;
        // A number is used once, whatever comes of it.
        self.next += 1;
        match HotWriter::create(&self.folder, number) {
            Ok(writer) => {
                let now = Instant::now();
                let unsynced = Vec::new();
                Ok(Open { writer, since: now, unsynced, unsynced_since: now, durable_bytes: 0 })
            }
            Err(error) => {
                self.failed = Some(Failed { number, good_bytes: 0 });
                self.cut_failed()?;
                Err(error.into())
            }
        }
    }

    /// Ends a file: makes it durable and hands it to sealing, or, if that fails, what is durable of it.
    fn finish(&mut self, mut open: Open) -> Result<(), StoreError> {
        let synced = open.sync();
        if synced.is_ok() {
            self.durable.clone_from(&self.committed);
        }
        self.fail(open);
        Ok(synced?)
    }

    /// Gives a file up at what is durable of it; the rest is written again.
    fn fail(&mut self, open: Open) {
        let (number, (_, good_bytes)) = (open.writer.number(), open.writer.log_bytes());
        self.again.extend(open.unsynced);
        self.committed.clone_from(&self.durable);
        self.failed = Some(Failed { number, good_bytes });
        // If the disk refuses that too, it is tried again before anything else is written.
        if let Err(error) = self.cut_failed() {
            tracing::warn!(%error, "a failed hot file waits to be cut back");
        }
    }

    /// Cuts a failed file back to what is known to be on disk, and hands it to sealing.
    fn cut_failed(&mut self) -> Result<(), StoreError> {
        let Some(failed) = &self.failed else { return Ok(()) };
        let path = self.folder.hot_commits(failed.number);
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
            if file.metadata()?.len() == failed.good_bytes {
                return Ok(());
            }
            file.set_len(failed.good_bytes)?;
            file.sync_all()
        });
        match cut {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Cut { path, length: failed.good_bytes, source: error })
            }
            _ => {
                self.queue.push(failed.number);
                self.failed = None;
                Ok(())
            }
        }
    }

    /// Whether the file is old or big enough to be sealed.
    pub(crate) fn rotation_is_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.since.elapsed() >= Duration::from_secs(self.limits.interval_s.into())
                || open.writer.rows() >= self.limits.rows_max
                || open.writer.bytes() >= self.limits.bytes_max
        })
    }

    /// Makes the file durable and hands it to sealing.
    ///
    /// # Errors
    /// As of [`Self::sync`].
    pub(crate) fn rotate(&mut self) -> Result<(), StoreError> {
        self.cut_failed()?;
        match self.open.take() {
            Some(open) => self.finish(open),
            None => Ok(()),
        }
    }
}

impl Open {
    fn sync(&mut self) -> Result<(), HotError> {
        if !self.unsynced.is_empty() {
            self.writer.sync()?;
            self.unsynced.clear();
            self.durable_bytes = self.writer.bytes();
        }
        Ok(())
    }
}
