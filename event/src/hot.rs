//! Hot files: Arrow IPC streams that grow by a batch at a time, readable while they grow.
//!
//! Beside each file stands its commit log, a JSON line per batch with where the batch ends, its checksum and how far
//! each lane is stored with it. A batch counts once its line is whole; whatever lies behind the last whole line was
//! being written when the process died, and is not part of the table.

use crate::layout::{DataFolder, LayoutError, checksum, sync_folder};
use crate::spool::Position;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes_of_map::MappedBytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// How far each lane is stored, by `node/core`.
pub type Watermarks = BTreeMap<String, Position>;

#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    /// Length of the file with this batch.
    end: u64,
    rows: u64,
    /// XXH3-64 of what this commit added to the file, as hex.
    checksum: String,
    watermarks: Watermarks,
}

/// Why a hot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// The disk refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its bytes are not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// Arrow refused a batch.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// The folder could not be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Writes one hot file. After an error the file takes nothing more: what was committed before stays, and the caller
/// goes on in a new file.
pub struct HotWriter {
    number: u64,
    path: PathBuf,
    data: File,
    commits: File,
    encoder: StreamWriter<Vec<u8>>,
    end: u64,
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
            move |source| HotError::Io { doing, path, source }
        };
        let new = |path: &PathBuf| OpenOptions::new().append(true).create_new(true).open(path);
        // The commit log first: a data file without one would look like a loss.
        let commits = new(&folder.hot_commits(number)).map_err(fail("create the commit log of"))?;
        let data = new(&path).map_err(fail("create"))?;
        sync_folder(&folder.hot()).map_err(fail("make durable the name of"))?;
        let encoder = StreamWriter::try_new(Vec::new(), &crate::columns::schema())?;
        Ok(Self { number, path, data, commits, encoder, end: 0, rows: 0, failed: false })
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

    /// Commits a batch and how far the lanes are stored with it. Visible at once; durable after [`Self::sync`].
    ///
    /// # Errors
    /// When the disk refuses: the batch is not part of the table, and this file is finished.
    pub fn append(&mut self, batch: &RecordBatch, watermarks: &Watermarks) -> Result<(), HotError> {
        if self.failed {
            return Err(self.io("append to", io::Error::other("an earlier write failed")));
        }
        self.failed = true;
        self.encoder.write(batch)?;
        let bytes = std::mem::take(self.encoder.get_mut());
        self.data.write_all(&bytes).map_err(|error| self.io("append to", error))?;
        let end = self.end + u64::try_from(bytes.len()).expect("usize fits in u64");
        let rows = u64::try_from(batch.num_rows()).expect("usize fits in u64");
        let commit = Commit { end, rows, checksum: checksum(&bytes), watermarks: watermarks.clone() };
        let mut line = serde_json::to_vec(&commit).map_err(|error| self.io("append to", error.into()))?;
        line.push(b'\n');
        self.commits.write_all(&line).map_err(|error| self.io("append to the commit log of", error))?;
        self.end = end;
        self.rows += rows;
        self.failed = false;
        Ok(())
    }

    /// Makes all that was committed durable: rows first, then the lines that name them.
    ///
    /// # Errors
    /// When fdatasync fails; it must not be tried again on this file.
    pub fn sync(&mut self) -> Result<(), HotError> {
        let synced = self.data.sync_data().and_then(|()| self.commits.sync_data());
        synced.map_err(|error| {
            self.failed = true;
            self.io("make durable", error)
        })
    }

    fn io(&self, doing: &'static str, source: io::Error) -> HotError {
        HotError::Io { doing, path: self.path.clone(), source }
    }
}

/// What a hot file held when it was opened.
#[derive(Debug, Clone)]
pub struct HotReader {
    /// Its number.
    pub number: u64,
    /// The committed batches; their buffers are the mapped file.
    pub batches: Vec<RecordBatch>,
    /// Rows of all batches.
    pub rows: u64,
    /// Bytes of all batches.
    pub bytes: u64,
    /// How far each lane is stored with them.
    pub watermarks: Watermarks,
}

impl HotReader {
    /// Opens a hot file and reads what is committed; none when there is no such file (any more).
    ///
    /// # Errors
    /// When it cannot be read, or a committed batch is damaged.
    pub fn open(folder: &DataFolder, number: u64) -> Result<Option<Self>, HotError> {
        Self::open_with(folder, number, true)
    }

    /// The same without a look at the checksums: for the many reads of a file that its writer is still filling.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open_unchecked(folder: &DataFolder, number: u64) -> Result<Option<Self>, HotError> {
        Self::open_with(folder, number, false)
    }

    fn open_with(folder: &DataFolder, number: u64, check: bool) -> Result<Option<Self>, HotError> {
        let path = folder.hot_file(number);
        let commits = match commits(folder, number)? {
            Some(commits) if commits.is_empty() => {
                let watermarks = Watermarks::new();
                return Ok(Some(Self { number, batches: Vec::new(), rows: 0, bytes: 0, watermarks }));
            }
            Some(commits) => commits,
            None => return Ok(None),
        };
        let map = match File::open(&path).and_then(|file| MappedBytes::of(&file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            map => map.map_err(|source| HotError::Io { doing: "map", path: path.clone(), source })?,
        };
        let damaged = |reason: &str| HotError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let all: Buffer = map.into_buffer();
        let (mut begin, mut rows, mut batches) = (0, 0, Vec::with_capacity(commits.len()));
        let mut decoder = StreamDecoder::new();
        for commit in &commits {
            let end = usize::try_from(commit.end).map_err(|_| damaged("it is too long"))?;
            if end > all.len() || end < begin {
                return Err(damaged("it is shorter than its commit log says"));
            }
            let mut piece = all.slice_with_length(begin, end - begin);
            if check && checksum(&piece) != commit.checksum {
                return Err(damaged(&format!("the batch at byte {begin} does not match its checksum")));
            }
            while !piece.is_empty() {
                batches.extend(decoder.decode(&mut piece)?);
            }
            (begin, rows) = (end, rows + commit.rows);
        }
        let bytes = u64::try_from(begin).expect("usize fits in u64");
        let watermarks = commits.into_iter().next_back().map(|commit| commit.watermarks).unwrap_or_default();
        Ok(Some(Self { number, batches, rows, bytes, watermarks }))
    }
}

/// The whole lines of a commit log; none when there is no log.
fn commits(folder: &DataFolder, number: u64) -> Result<Option<Vec<Commit>>, HotError> {
    let path = folder.hot_commits(number);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| HotError::Io { doing: "read", path: path.clone(), source })?,
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let damaged = |error: serde_json::Error| HotError::Damaged {
                path: path.clone(),
                reason: error.to_string(),
            };
            serde_json::from_slice(line).map_err(damaged)
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

mod bytes_of_map {
    //! A mapped file as the owner of an Arrow buffer.

    use arrow::buffer::Buffer;
    use memmap2::Mmap;
    use std::fs::File;
    use std::io;
    use std::ptr::NonNull;
    use std::sync::Arc;

    pub(super) struct MappedBytes(Mmap);

    impl MappedBytes {
        pub(super) fn of(file: &File) -> io::Result<Self> {
            // SAFETY: hot files only grow and are unlinked, never cut or changed in place; an unlinked file stays
            // mapped.
            unsafe { Mmap::map(file) }.map(Self)
        }

        pub(super) fn into_buffer(self) -> Buffer {
            let map = Arc::new(self.0);
            let Some(start) = NonNull::new(map.as_ptr().cast_mut()) else {
                return Buffer::from_vec(Vec::<u8>::new());
            };
            let length = map.len();
            // SAFETY: the buffer owns the map, so the bytes live as long as it does.
            unsafe { Buffer::from_custom_allocation(start, length, map) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, new_null_array};
    use std::sync::Arc;

    fn batch(rows: usize) -> RecordBatch {
        let schema = crate::columns::schema();
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| {
                let nulls = new_null_array(field.data_type(), rows);
                if field.is_nullable() {
                    return nulls;
                }
                // No nulls where none may be: the same values with their null mask left out.
                let data = nulls.to_data().into_builder().nulls(None).build().unwrap();
                arrow::array::make_array(data)
            })
            .collect();
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    }

    #[test]
    fn what_is_committed_is_read_and_a_torn_tail_is_not() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        assert!(HotReader::open(&folder, 1).unwrap().is_none());
        let mut writer = HotWriter::create(&folder, 1).unwrap();
        assert_eq!(HotReader::open(&folder, 1).unwrap().unwrap().rows, 0);
        let mark = |n| Watermarks::from([("n/0".into(), Position { sequence: n, life_us: 0, ordinal: n })]);
        writer.append(&batch(3), &mark(3)).unwrap();
        let first = writer.bytes();
        writer.append(&batch(2), &mark(5)).unwrap();
        writer.sync().unwrap();
        let read = HotReader::open(&folder, 1).unwrap().unwrap();
        assert_eq!((read.rows, read.bytes, read.watermarks), (5, writer.bytes(), mark(5)));
        assert_eq!(read.batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2]);

        let log = std::fs::read(folder.hot_commits(1)).unwrap();
        let first_line = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first_line..log.len() {
            std::fs::write(folder.hot_commits(1), &log[..cut]).unwrap();
            let read = HotReader::open(&folder, 1).unwrap().unwrap();
            assert_eq!((read.rows, read.bytes), (3, first), "cut at {cut}");
        }
        std::fs::write(folder.hot_commits(1), &log).unwrap();
        let mut data = std::fs::read(folder.hot_file(1)).unwrap();
        let last = data.len() - 20;
        data[last] ^= 1;
        std::fs::write(folder.hot_file(1), &data).unwrap();
        assert!(matches!(HotReader::open(&folder, 1), Err(HotError::Damaged { .. })));
        std::fs::write(folder.hot_file(1), &data[..last]).unwrap();
        assert!(matches!(HotReader::open(&folder, 1), Err(HotError::Damaged { .. })));
    }
}
