//! The readers' side: what is committed, mapped and not copied.

use super::{Commit, HotError, Watermarks};
use crate::layout::{DataFolder, LayoutError, checksum};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

/// What a hot file held when it was opened.
#[derive(Debug, Clone)]
pub struct HotReader {
    /// Its number.
    pub number: u64,
    /// The committed batches as they were packed; their buffers are the mapped file. [`super::unpack`] makes the
    /// columns of the table of them.
    pub batches: Vec<RecordBatch>,
    /// Rows of all batches.
    pub rows: u64,
    /// Bytes of all batches.
    pub bytes: u64,
    /// Rows of damaged batches that were cut out of it.
    pub lost: u64,
    /// How far each lane is stored with them.
    pub watermarks: Watermarks,
    /// Bytes of the commit log that they are read from, and which file that is.
    log_bytes: u64,
    log_file: u64,
}

impl HotReader {
    /// Opens a hot file and reads what is committed; none when there is no such file (any more).
    ///
    /// # Errors
    /// When it cannot be read, or a committed batch is damaged.
    pub fn open(folder: &DataFolder, number: u64) -> Result<Option<Self>, HotError> {
        Self::empty(number).read(folder, true)
    }

    /// The same without a look at the checksums: for the many reads of a file that its writer is still filling.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open_unchecked(folder: &DataFolder, number: u64) -> Result<Option<Self>, HotError> {
        Self::empty(number).read(folder, false)
    }

    /// The file as it is now: the batches that are known are taken over, and only what was committed since is read.
    ///
    /// # Errors
    /// When it cannot be read, or a new batch is damaged.
    pub fn read_on(&self, folder: &DataFolder) -> Result<Option<Self>, HotError> {
        let log = std::fs::metadata(folder.hot_commits(self.number));
        match log {
            // A torn tail was cut off by a new start of the writer, or damage was cut out: nothing of it counts.
            Ok(log) if log.len() < self.log_bytes || log.ino() != self.log_file => {
                Self::open(folder, self.number)
            }
            _ => self.clone().read(folder, true),
        }
    }

    fn empty(number: u64) -> Self {
        let watermarks = Watermarks::new();
        Self {
            number,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            lost: 0,
            watermarks,
            log_bytes: 0,
            log_file: 0,
        }
    }

    fn read(mut self, folder: &DataFolder, check: bool) -> Result<Option<Self>, HotError> {
        let Some((commits, log_bytes, log_file)) = commits(folder, self.number, self.log_bytes)? else {
            return Ok(None);
        };
        self.log_file = log_file;
        if commits.is_empty() {
            return Ok(Some(self));
        }
        let path = folder.hot_file(self.number);
        let Some(all) = map(&path)? else { return Ok(None) };
        let damaged = |reason: &str| {
            HotError::from(LayoutError::Damaged { path: path.clone(), reason: reason.to_owned() })
        };
        for commit in &commits {
            let place = |at| usize::try_from(at).map_err(|_| damaged("it is too long"));
            let (begin, end) = (place(commit.begin.unwrap_or(self.bytes))?, place(commit.end)?);
            if end > all.len() || end < begin {
                return Err(damaged("it is shorter than its commit log says"));
            }
            let mut piece = all.slice_with_length(begin, end - begin);
            if check && checksum(&piece) != commit.checksum {
                return Err(damaged(&format!("the batch at byte {begin} does not match its checksum")));
            }
            let mut decoder = StreamDecoder::new();
            while !piece.is_empty() {
                self.batches.extend(decoder.decode(&mut piece)?);
            }
            (self.bytes, self.rows) = (commit.end, self.rows + commit.rows);
            self.lost += commit.lost;
        }
        if let Some(last) = commits.into_iter().next_back() {
            self.watermarks = last.watermarks;
        }
        self.log_bytes = log_bytes;
        Ok(Some(self))
    }
}

/// The whole lines of a commit log after its first `from` bytes, how many bytes the log has with them, and which file it
/// is; none when there is no log.
fn commits(
    folder: &DataFolder,
    number: u64,
    from: u64,
) -> Result<Option<(Vec<Commit>, u64, u64)>, LayoutError> {
    let path = folder.hot_commits(number);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut text)?;
        Ok(file.metadata()?.ino())
    });
    let file = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| LayoutError::Io { doing: "read", path: path.clone(), source })?,
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let commits = whole_lines(&text).map(|line| {
        Commit::of_line(line).map_err(|reason| LayoutError::Damaged { path: path.clone(), reason })
    });
    let bytes = from + u64::try_from(whole).expect("usize fits in u64");
    commits.collect::<Result<_, _>>().map(|commits| Some((commits, bytes, file)))
}

/// The lines of a commit log that end.
pub(super) fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A file as a buffer that is mapped, not read; none when it does not exist.
pub(super) fn map(path: &Path) -> Result<Option<Buffer>, HotError> {
    // SAFETY: hot files only grow and are unlinked, never cut or changed in place; an unlinked file stays mapped.
    let map = match File::open(path).and_then(|file| unsafe { Mmap::map(&file) }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        map => map.map_err(|source| LayoutError::Io { doing: "map", path: path.to_owned(), source })?,
    };
    let map = Arc::new(map);
    let Some(start) = NonNull::new(map.as_ptr().cast_mut()) else {
        return Ok(Some(Buffer::from_vec(Vec::<u8>::new())));
    };
    let length = map.len();
    // SAFETY: the buffer owns the map, so the bytes live as long as it does.
    Ok(Some(unsafe { Buffer::from_custom_allocation(start, length, map) }))
}
