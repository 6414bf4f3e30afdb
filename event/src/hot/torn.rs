//! What a power loss may leave of a hot file: batches that were committed and never made durable.
//!
//! Their events are still in the spool, which is released only behind durable rows. So a start cuts them off before it
//! looks how far the lanes are stored. Damage in front of what was durable is another matter: those rows are lost, and
//! the file is left as it is for sealing to report.

use super::reader::{map, whole_lines};
use super::{Commit, HotError};
use crate::layout::{DataFolder, LayoutError, checksum};
use std::fs::OpenOptions;
use std::io;

/// Cuts the commit log of a hot file back to the batches that are whole, if every one that is not was still to be made
/// durable. Gives the number of bytes cut off the log. To be called when nobody writes the file.
///
/// # Errors
/// When the disk refuses.
pub fn cut_torn_tail(folder: &DataFolder, number: u64) -> Result<u64, HotError> {
    let path = folder.hot_commits(number);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        text => text.map_err(|source| LayoutError::Io { doing: "read", path: path.clone(), source })?,
    };
    let data = map(&folder.hot_file(number))?;
    let data: &[u8] = data.as_deref().unwrap_or_default();
    let (mut good_bytes, mut begin, mut torn, mut durable) = (0, 0, false, 0);
    for line in whole_lines(&text) {
        let commit = Commit::of_line(line).ok();
        durable = commit.as_ref().map_or(durable, |commit| durable.max(commit.durable));
        let end = commit.as_ref().and_then(|commit| usize::try_from(commit.end).ok());
        let said = commit.as_ref().and_then(|commit| commit.begin);
        let from = said.map_or(Some(begin), |from| usize::try_from(from).ok());
        let piece = end.zip(from).and_then(|(end, from)| data.get(from..end));
        let whole =
            piece.zip(commit.as_ref()).is_some_and(|(piece, commit)| checksum(piece) == commit.checksum);
        if whole && !torn {
            begin = end.unwrap_or(begin);
            good_bytes += line.len() + 1;
        }
        torn |= !whole;
    }
    let (good, all) = (good_bytes as u64, text.len() as u64);
    if good == all || durable > begin as u64 {
        return Ok(0);
    }
    let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
        file.set_len(good)?;
        file.sync_all()
    });
    cut.map_err(|source| LayoutError::Io { doing: "cut the torn tail of", path, source })?;
    Ok(all - good)
}
