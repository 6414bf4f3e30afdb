//! What is left of a hot file that a disk has changed: the batches that are whole.
//!
//! Each batch has a checksum and each line of the commit log one of its own, so damage costs the batches that it is in and
//! no other. They are cut out by a new commit log, which takes the place of the old one in one step; the rows themselves
//! are left as they are. The new log ends with a line that says how many rows are lost, and how far the lanes were stored
//! with them: what is lost is counted, and not read again beside what is not.

use super::reader::{map, whole_lines};
use super::{Commit, HotError, Watermarks};
use crate::layout::{DataFolder, LayoutError, checksum, sync_folder};
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use std::fs::File;
use std::io::{self, Write};

/// The mark of the end of a stream, which follows its batch.
const STREAM_END_BYTES: usize = 8;

/// Rows in the damaged batches of a hot file, as far as that is known; none if all of it is whole, or gone.
///
/// # Errors
/// When it cannot be read.
pub fn damaged_rows(folder: &DataFolder, number: u64) -> Result<Option<u64>, HotError> {
    Ok(judge(folder, number)?.filter(|judged| judged.is_damaged).map(|judged| judged.lost))
}

/// Cuts the damaged batches out of a hot file that nobody writes any more, durably and at once. Gives the rows of them;
/// none if there was nothing to cut out. With `note` the file says so from then on ([`super::HotReader::lost`]).
///
/// # Errors
/// When the disk refuses; the file is as it was then.
pub fn cut_damage(folder: &DataFolder, number: u64, note: bool) -> Result<Option<u64>, HotError> {
    let Some(judged) = judge(folder, number)?.filter(|judged| judged.is_damaged) else { return Ok(None) };
    let path = folder.hot_commits(number);
    let io = |source| LayoutError::Io { doing: "cut the damage out of", path: path.clone(), source };
    let end = judged.whole.last().map_or(0, |commit| commit.end);
    let last = Commit {
        begin: Some(end),
        end,
        rows: 0,
        checksum: checksum(b""),
        watermarks: judged.marks,
        durable: end,
        lost: if note { judged.lost } else { 0 },
    };
    let mut text = Vec::new();
    for commit in judged.whole.iter().chain([&last]) {
        commit.write_line(&mut text).map_err(io)?;
    }
    let new = path.with_extension("commits.tmp");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_folder(&folder.hot())
    });
    written.map_err(io)?;
    Ok(Some(judged.lost))
}

struct Judged {
    /// The lines of whole batches.
    whole: Vec<Commit>,
    /// How far the lanes are with all lines that can be believed.
    marks: Watermarks,
    /// Rows of the others.
    lost: u64,
    is_damaged: bool,
}

fn judge(folder: &DataFolder, number: u64) -> Result<Option<Judged>, HotError> {
    let path = folder.hot_commits(number);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| LayoutError::Io { doing: "read", path: path.clone(), source })?,
    };
    let data = map(&folder.hot_file(number))?.unwrap_or_else(|| Buffer::from_vec(Vec::<u8>::new()));
    let mut judged = Judged { whole: Vec::new(), marks: Watermarks::new(), lost: 0, is_damaged: false };
    // Where the last batch ends that is known, and whether lines behind it cannot be believed.
    let (mut end, mut gap) = (0, false);
    for line in whole_lines(&text) {
        let Ok(mut commit) = Commit::of_line(line) else {
            (gap, judged.is_damaged) = (true, true);
            continue;
        };
        let begin = match commit.begin {
            Some(begin) => begin,
            // Of a version that did not say so: it begins where the one before ends.
            None if !gap => end,
            None => {
                judged.lost += commit.rows;
                judged.marks.clone_from(&commit.watermarks);
                end = commit.end;
                continue;
            }
        };
        if std::mem::take(&mut gap) {
            judged.lost += rows(&data, end, begin).unwrap_or_default();
        }
        let is_whole = piece(&data, begin, commit.end)
            .is_some_and(|piece| checksum(&piece) == commit.checksum)
            && rows(&data, begin, commit.end) == Some(commit.rows);
        (judged.marks, end) = (commit.watermarks.clone(), commit.end);
        judged.lost += commit.lost;
        if is_whole {
            (commit.begin, commit.lost) = (Some(begin), 0);
            judged.whole.push(commit);
        } else {
            judged.lost += commit.rows;
            judged.is_damaged = true;
        }
    }
    if gap {
        // Nothing says how far the lanes were with these: what the spool still has of them comes again.
        let length = u64::try_from(data.len()).expect("usize fits in u64");
        judged.lost += rows(&data, end, length).unwrap_or_default();
    }
    Ok(Some(judged))
}

fn piece(data: &Buffer, begin: u64, end: u64) -> Option<Buffer> {
    let (begin, end) = (usize::try_from(begin).ok()?, usize::try_from(end).ok()?);
    (begin <= end && end <= data.len()).then(|| data.slice_with_length(begin, end - begin))
}

/// Rows of all batches in a stretch; none if it cannot be decoded.
fn rows(data: &Buffer, begin: u64, end: u64) -> Option<u64> {
    let mut piece = piece(data, begin, end)?;
    let mut rows = 0;
    while !piece.is_empty() {
        let batch = StreamDecoder::new().decode(&mut piece).ok()?;
        rows += batch.map_or(0, |batch| batch.num_rows() as u64);
        piece.advance(piece.len().min(STREAM_END_BYTES));
    }
    Some(rows)
}
