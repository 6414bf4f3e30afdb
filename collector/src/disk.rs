//! What is left of the disk, and of the spool's share of it.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use event::layout::DataFolder;

/// The disk of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Free for this process.
    pub(crate) free_bytes: u64,
    /// Of the whole file system.
    pub(crate) size_bytes: u64,
}

/// The disk of a folder; none if the system does not say.
pub(crate) fn room(folder: &Path) -> Option<Room> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero statvfs is valid, the path ends with a zero, and both live through the call.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
            return None;
        }
        stat
    };
    Some(Room {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Bytes of the spool's segments, those that wait for events included; none when the folder cannot be listed.
pub(crate) fn spool_bytes(folder: &DataFolder) -> Option<u64> {
    let mut bytes = 0;
    for lane in fs::read_dir(folder.spool()).ok()?.flatten() {
        // Beside the folders of the lanes stand locks and counters.
        let Ok(files) = fs::read_dir(lane.path()) else { continue };
        let segments =
            files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "seg"));
        // A segment may be given back in between.
        bytes += segments.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room() {
        let Room { free_bytes, size_bytes } = room(Path::new("/")).unwrap();
        assert!(0 < free_bytes && free_bytes <= size_bytes);
        assert_eq!(room(Path::new("/no such folder")), None);
    }

    #[test]
    fn segments_are_counted_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        assert_eq!(spool_bytes(&folder), Some(0));
        let lane = folder.spool().join("core-000");
        fs::create_dir(&lane).unwrap();
        for (name, bytes) in [("1.seg", 100), ("2.seg", 20), ("3.free", 3)] {
            fs::write(lane.join(name), vec![0; bytes]).unwrap();
        }
        fs::write(folder.spool().join("counters"), "counters").unwrap();
        assert_eq!(spool_bytes(&folder), Some(120));
    }
}
