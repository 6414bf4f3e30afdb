//! The readers' side: what is committed, mapped and not copied.

use super::{Commit, HotError, Watermarks};
use crate::layout::{DataFolder, checksum};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use memmap2::Mmap;
use std::fs::File;
use std::io;
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
        let Some(all) = map(&path)? else { return Ok(None) };
        let damaged = |reason: &str| HotError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let (mut begin, mut rows, mut batches) = (0, 0, Vec::with_capacity(commits.len()));
        for commit in &commits {
            let end = usize::try_from(commit.end).map_err(|_| damaged("it is too long"))?;
            if end > all.len() || end < begin {
                return Err(damaged("it is shorter than its commit log says"));
            }
            let mut piece = all.slice_with_length(begin, end - begin);
            if check && checksum(&piece) != commit.checksum {
                return Err(damaged(&format!("the batch at byte {begin} does not match its checksum")));
            }
            let mut decoder = StreamDecoder::new();
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
    whole_lines(&text)
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
        map => map.map_err(|source| HotError::Io { doing: "map", path: path.to_owned(), source })?,
    };
    let map = Arc::new(map);
    let Some(start) = NonNull::new(map.as_ptr().cast_mut()) else {
        return Ok(Some(Buffer::from_vec(Vec::<u8>::new())));
    };
    let length = map.len();
    // SAFETY: the buffer owns the map, so the bytes live as long as it does.
    Ok(Some(unsafe { Buffer::from_custom_allocation(start, length, map) }))
}
