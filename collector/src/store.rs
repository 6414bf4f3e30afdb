//! The hot file that rows go to, from its creation to the moment it is handed to sealing.
//!
//! Intake gives it each batch with the watermarks that it brings the lanes to. `store` returns once both are on disk
//! (fdatasync), and only then may intake release what it read. After any error the file is never written or synced
//! again: what it held after its last good sync is cut off, so that no row is found twice, and the same batch goes
//! to a new file when it is tried again.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use event::hot::{HotError, HotWriter, Watermarks};
use event::layout::DataFolder;

use crate::config::SealConfig;
use crate::seal::Queue;

/// Why a batch is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The hot file could not be made, written or synced.
    #[error(transparent)]
    Hot(#[from] HotError),
    /// The commit log cannot be measured.
    #[error("cannot measure {path}: {source}")]
    Measure {
        /// The commit log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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

/// Where batches go.
pub(crate) struct Store {
    folder: DataFolder,
    limits: SealConfig,
    queue: Queue,
    next: u64,
    open: Option<Open>,
    /// A failed file that is still to be cut back: nothing is written before that is done.
    failed: Option<Failed>,
}

/// The file that is being written.
struct Open {
    writer: HotWriter,
    since: Instant,
    /// Length of the commit log after its last good sync, in bytes.
    good_bytes: u64,
}

#[derive(Debug)]
struct Failed {
    number: u64,
    good_bytes: u64,
}

impl Store {
    /// A store whose first file has number `next`, or a higher one.
    pub(crate) fn new(folder: DataFolder, limits: SealConfig, queue: Queue, next: u64) -> Self {
        Self { folder, limits, queue, next, open: None, failed: None }
    }

    /// Puts a batch on disk, together with the position of each lane after it.
    ///
    /// # Errors
    /// Nothing of the batch is stored then, and it is to be given again, after a pause.
    pub(crate) fn store(&mut self, batch: &RecordBatch, marks: &Watermarks) -> Result<(), StoreError> {
        self.cut_failed()?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        match self.write(&mut open, batch, marks) {
            Ok(good_bytes) => {
                open.good_bytes = good_bytes;
                self.open = Some(open);
                self.rotate_if_due();
                Ok(())
            }
            Err(error) => {
                self.failed = Some(Failed { number: open.writer.number(), good_bytes: open.good_bytes });
                drop(open);
                self.cut_failed()?;
                Err(error)
            }
        }
    }

    /// Writes and syncs; gives the length of the commit log, in bytes.
    fn write(&self, open: &mut Open, batch: &RecordBatch, marks: &Watermarks) -> Result<u64, StoreError> {
        open.writer.append(batch, marks)?;
        open.writer.sync()?;
        let path = self.folder.hot_commits(open.writer.number());
        match std::fs::metadata(&path) {
            Ok(found) => Ok(found.len()),
            Err(source) => Err(StoreError::Measure { path, source }),
        }
    }

    fn create(&mut self) -> Result<Open, StoreError> {
        let number = self.next;
        // A number is used once, whatever comes of it.
        self.next += 1;
        match HotWriter::create(&self.folder, number) {
            Ok(writer) => Ok(Open { writer, since: Instant::now(), good_bytes: 0 }),
            Err(error) => {
                self.failed = Some(Failed { number, good_bytes: 0 });
                self.cut_failed()?;
                Err(error.into())
            }
        }
    }

    /// Cuts a failed file back to what is known to be on disk, and hands it to sealing.
    fn cut_failed(&mut self) -> Result<(), StoreError> {
        let Some(failed) = &self.failed else { return Ok(()) };
        let path = self.folder.hot_commits(failed.number);
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
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

    /// Hands the file to sealing when it is old or big enough.
    pub(crate) fn rotate_if_due(&mut self) {
        let due = self.open.as_ref().is_some_and(|open| {
            open.since.elapsed() >= Duration::from_secs(self.limits.interval_s.into())
                || open.writer.rows() >= self.limits.rows_max
                || open.writer.bytes() >= self.limits.bytes_max
        });
        if due {
            self.rotate();
        }
    }

    /// Hands the file to sealing.
    pub(crate) fn rotate(&mut self) {
        if let Some(open) = self.open.take() {
            self.queue.push(open.writer.number());
        }
    }
}
