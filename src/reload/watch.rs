//! Whether files have changed, found out by looking at them now and then. What a name leads to is what counts, so a file
//! that is replaced by another of its name and a link that leads elsewhere are changes too.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    /// None for a file that is not there, which is a state as well.
    fn of(path: &Path) -> Option<Self> {
        let stamp = |meta: Metadata| Self {
            place: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            modified_ns: (meta.mtime(), meta.mtime_nsec()),
            changed_ns: (meta.ctime(), meta.ctime_nsec()),
        };
        std::fs::metadata(path).ok().map(stamp)
    }
}

/// Files and their states when they were last looked at.
#[derive(Debug, Default)]
pub struct Watch(BTreeMap<PathBuf, Option<Stamp>>);

impl Watch {
    /// Watches these and no others. One that was watched keeps its state: what changed since then is still to be seen.
    pub fn set(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.0);
        for path in paths {
            let stamp = before.remove(&path).unwrap_or_else(|| Stamp::of(&path));
            self.0.insert(path, stamp);
        }
    }

    /// Looks at all of them; says whether any has changed since the last look.
    pub fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, known) in &mut self.0 {
            let now = Stamp::of(path);
            if *known != now {
                *known = now;
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_removed_or_reached_by_another_link_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut watch = Watch::default();
        std::fs::write(at("file"), "one").unwrap();
        std::fs::create_dir(at("v1")).unwrap();
        std::fs::create_dir(at("v2")).unwrap();
        for version in ["v1", "v2"] {
            std::fs::write(at(version).join("mounted"), "the same").unwrap();
        }
        std::os::unix::fs::symlink("v1", at("current")).unwrap();
        watch.set([at("file"), at("missing"), at("current").join("mounted")]);
        assert!(!watch.look());
        std::fs::write(at("next"), "two").unwrap();
        std::fs::rename(at("next"), at("file")).unwrap();
        assert!(watch.look() && !watch.look(), "another file of the same name and length");
        std::os::unix::fs::symlink("v2", at("link")).unwrap();
        std::fs::rename(at("link"), at("current")).unwrap();
        assert!(watch.look() && !watch.look(), "the same bytes by another link");
        std::fs::write(at("missing"), "").unwrap();
        assert!(watch.look() && !watch.look(), "a file that has come");
        std::fs::remove_file(at("missing")).unwrap();
        assert!(watch.look() && !watch.look(), "a file that has gone");
        std::fs::write(at("file"), "2").unwrap();
        watch.set([at("file")]);
        assert!(watch.look(), "what changed before the list did");
    }
}
