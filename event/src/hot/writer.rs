//! The collector's side: appends batches and makes them durable.

use super::{Commit, HotError, Watermarks};
use crate::layout::{DataFolder, LayoutError, checksum, sync_folder};
use arrow::array::RecordBatch;
use arrow::ipc::MetadataVersion;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// What buffers of a batch begin at a multiple of, in bytes: the widest number in them.
const ALIGNMENT: usize = 8;

/// Writes one hot file. After an error the file takes nothing more: what was committed before stays, and the caller
/// goes on in a new file.
pub struct HotWriter {
    number: u64,
    path: PathBuf,
    data: File,
    commits: File,
    /// The batch being written; kept for its memory.
    encoded: Vec<u8>,
    end: u64,
    durable: u64,
    /// Length of the commit log, and how much of it is durable.
    log_end: u64,
    log_durable: u64,
    rows: u64,
    failed: bool,
}

impl HotWriter {
    /// Begins the hot file of a number.
    ///
    /// # Errors
    /// When it exists already, or the disk refuses.
    pub fn create(folder: &DataFolder, number: u64) -> Result<Self, HotError> {
        let path = folder.hot_file(number);
        let fail = |doing| {
            let path = path.clone();
            move |source| LayoutError::Io { doing, path, source }
        };
        let new = |path: &PathBuf| OpenOptions::new().append(true).create_new(true).open(path);
        // The commit log first: a data file without one would look like a loss.
        let commits = new(&folder.hot_commits(number)).map_err(fail("create the commit log of"))?;
        let data = new(&path).map_err(fail("create"))?;
        sync_folder(&folder.hot()).map_err(fail("make durable the name of"))?;
        Ok(Self {
            number,
            path,
            data,
            commits,
            encoded: Vec::new(),
            end: 0,
            durable: 0,
            log_end: 0,
            log_durable: 0,
            rows: 0,
            failed: false,
        })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Rows committed so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }
    /// Bytes committed so far.
    pub fn bytes(&self) -> u64 {
        self.end
    }
    /// Bytes of the commit log that were committed, and those of them that are durable.
    pub fn log_bytes(&self) -> (u64, u64) {
        (self.log_end, self.log_durable)
    }

    /// Commits a batch, which has columns of the table `requests` as they are or packed, and how far the lanes are
    /// stored with it. Visible at once; durable after [`Self::sync`].
    ///
    /// # Errors
    /// When the disk refuses: the batch is not part of the table, and this file is finished.
    pub fn append(&mut self, batch: &RecordBatch, watermarks: &Watermarks) -> Result<(), HotError> {
        if self.failed {
            return Err(self.io("append to", io::Error::other("an earlier write failed")));
        }
        self.failed = true;
        self.encoded.clear();
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
        let mut encoder = StreamWriter::try_new_with_options(&mut self.encoded, &batch.schema(), options)?;
        encoder.write(batch)?;
        drop(encoder);
        self.data.write_all(&self.encoded).map_err(|error| self.io("append to", error))?;
        let end = self.end + u64::try_from(self.encoded.len()).expect("usize fits in u64");
        let rows = u64::try_from(batch.num_rows()).expect("usize fits in u64");
        let (checksum, watermarks) = (checksum(&self.encoded), watermarks.clone());
        let begin = Some(self.end);
        let commit = Commit { begin, end, rows, checksum, watermarks, durable: self.durable, lost: 0 };
        let mut line = Vec::new();
        commit.write_line(&mut line).map_err(|error| self.io("append to", error))?;
        self.commits.write_all(&line).map_err(|error| self.io("append to the commit log of", error))?;
        self.end = end;
        self.log_end += u64::try_from(line.len()).expect("usize fits in u64");
        self.rows += rows;
        self.failed = false;
        Ok(())
    }

    /// Makes all that was committed durable: rows first, then the lines that name them.
    ///
    /// # Errors
    /// When fdatasync fails; it must not be tried again on this file.
    pub fn sync(&mut self) -> Result<(), HotError> {
        match self.data.sync_data().and_then(|()| self.commits.sync_data()) {
            Ok(()) => {
                (self.durable, self.log_durable) = (self.end, self.log_end);
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(self.io("make durable", error))
            }
        }
    }

    fn io(&self, doing: &'static str, source: io::Error) -> HotError {
        LayoutError::Io { doing, path: self.path.clone(), source }.into()
    }
}
