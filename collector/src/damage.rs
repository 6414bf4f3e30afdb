//! A damaged hot file: what is whole of it stays in the table, and the bytes are kept for a person to look at.

use std::fs;
use std::io;

use event::hot::{HotError, cut_damage};
use event::layout::{DataFolder, FileEntry, LayoutError, Place, SetAside, sync_folder};

/// Whether an error says that bytes are not those that were written.
pub(crate) fn is_damage(error: &HotError) -> bool {
    matches!(error, HotError::File(LayoutError::Damaged { .. }) | HotError::Arrow(_))
}

/// Keeps a damaged hot file in quarantine and cuts its damage out; gives the rows that are lost by it, none if there was
/// no damage. With `note` the file says so until it is sealed.
pub(crate) fn mend(folder: &DataFolder, number: u64, note: bool) -> Result<Option<u64>, HotError> {
    let place = folder.quarantine().join("hot");
    let io = |source| LayoutError::Io { doing: "keep a damaged file in", path: place.clone(), source };
    fs::create_dir_all(&place).map_err(io)?;
    let file = folder.hot_file(number);
    // The rows are not changed: another name keeps them. The log is about to be replaced.
    let kept = fs::hard_link(&file, place.join(file_name(number, "arrow"))).or_else(known);
    let copied = || fs::copy(folder.hot_commits(number), place.join(file_name(number, "commits"))).map(drop);
    kept.and_then(|()| copied().or_else(known)).and_then(|()| sync_folder(&place)).map_err(io)?;
    cut_damage(folder, number, note)
}

/// What the manifest says of it from then on.
pub(crate) fn set_aside(number: u64, bytes: u64, rows: u64, is_unseen: bool) -> SetAside {
    let file = FileEntry {
        path: format!("hot/{}", file_name(number, "arrow")),
        rows,
        bytes,
        checksum: String::new(),
        time_min_us: 0,
        time_max_us: 0,
        hot: number,
        level: 0,
        place: Place::Local,
    };
    let kept = format!("quarantine/{}", file.path);
    let reason = "batches of it do not match their checksums".to_owned();
    SetAside { file, reason, kept, at_us: crate::now_us(), is_unseen }
}

/// An attempt before this one kept it, or there is nothing to keep.
fn known(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn file_name(number: u64, kind: &str) -> String {
    format!("{number:010}.{kind}")
}
