//! What the fuzzers call (`fuzz/`): a lane of the spool as a crash or a bad disk may leave it.
#![allow(clippy::unwrap_used)]

use crate::spool::{LaneReader, Spool, SpoolConfig};
use crate::{Draft, Text};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Events in the segment that is damaged.
const EVENTS: u64 = 12;
/// Bytes of the segment that may be damaged: all that is used of it, and some that is not.
const DAMAGED_BYTES: usize = 8 << 10;

const CONFIG: SpoolConfig =
    SpoolConfig { segment_bytes: 64 << 10, bytes_max: 1 << 20, sync_interval_ms: 1000 };

/// The name and the bytes of a good segment.
fn good() -> &'static (PathBuf, Vec<u8>) {
    static GOOD: OnceLock<(PathBuf, Vec<u8>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let folder = fresh("good");
        let (spool, mut writers) = Spool::open(&CONFIG, &folder, "node", 1).unwrap();
        for n in 0..EVENTS {
            let mut draft = Draft::new();
            draft.reset(i64::try_from(n).unwrap());
            draft.text(Text::Path, format!("/{n}").as_bytes());
            draft.extra(b"key", b"value");
            writers[0].append(&draft).unwrap();
        }
        // As after a kill: nobody marks the end.
        std::mem::forget(writers);
        spool.close();
        let lane = std::fs::read_dir(folder.join("core-000")).unwrap();
        let mut names: Vec<_> = lane.map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.extension().is_some_and(|end| end == "seg"));
        names.sort();
        let bytes = std::fs::read(&names[0]).unwrap();
        let name = PathBuf::from(names[0].file_name().unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        (name, bytes)
    })
}

/// A folder of this thread.
fn fresh(what: &str) -> PathBuf {
    let id = std::thread::current().id();
    let folder = std::env::temp_dir().join(format!("tollhouse-{what}-{}-{id:?}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(folder.join("core-000")).unwrap();
    folder
}

/// Damages a segment: of every three bytes two say where, and one what is written there; what is left over cuts the file
/// short. The reader gives only what was written, each event once, and a gateway opens its spool on it again.
pub fn segment(damage: &[u8]) {
    let (name, bytes) = good();
    let mut bytes = bytes.clone();
    let mut changes = damage.chunks_exact(3);
    for change in &mut changes {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % DAMAGED_BYTES;
        bytes[at] = change[2];
    }
    if let [low, high] = changes.remainder() {
        bytes.truncate(usize::from(u16::from_le_bytes([*low, *high])));
    }
    let folder = fresh("damaged");
    std::fs::write(folder.join("core-000").join(name), bytes).unwrap();
    let first = read(&folder);
    assert_eq!(first, read(&folder), "read twice");
    if let Ok((spool, writers)) = Spool::open(&CONFIG, &folder, "node", 1) {
        drop(writers);
        spool.close();
        // The recovery may have made a hole of what was an end: more is read then, and still only what was written.
        read(&folder);
    }
    drop(std::fs::remove_dir_all(&folder));
}

/// The sequences and times of all events that are read.
fn read(folder: &Path) -> HashSet<(u64, i64)> {
    let Ok(mut reader) = LaneReader::open(folder, 0, None) else { return HashSet::new() };
    let mut found = HashSet::new();
    // Bounded: an endless reader is a finding.
    for _ in 0..1000 {
        let read = reader.read(100, |event| {
            assert!(event.head.time_us < i64::try_from(EVENTS).unwrap(), "an event that nobody wrote");
            assert_eq!(event.str(Text::Path).unwrap(), format!("/{}", event.head.time_us));
            assert!(found.insert((event.sequence, event.head.time_us)), "an event twice");
            let _shown = format!("{event:?}");
        });
        match read {
            Ok(0) => return found,
            Ok(_) => {}
            Err(_) => return found,
        }
    }
    panic!("the reader does not come to an end");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_holds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/segment");
        let mut files = 0;
        for file in std::fs::read_dir(&folder).unwrap() {
            super::segment(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 10, "{files} files in {}", folder.display());
    }
}
