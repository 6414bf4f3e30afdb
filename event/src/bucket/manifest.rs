//! What several collectors agree on: one small root that names each collector's list of files, and those lists.
//!
//! A list is an object that is written once. The root is the one object that changes, by compare-and-swap: whoever reads it
//! has one moment of the table, and to change it costs the same however large the table is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::layout::{FileEntry, Removed, RollupEntry};

/// The name of the root.
pub const ROOT: &str = "manifest.json";

/// Which collectors there are, and what each of them has uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Root {
    /// Rises with every change.
    pub version: u64,
    /// By their ids.
    pub collectors: BTreeMap<String, Pointer>,
}

/// One collector's part of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Names the change that made it, once in all time.
    pub tag: String,
    /// The object with its list, from the top of the bucket.
    pub list: String,
    /// Files in it, for people.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it changed, microseconds since 1970 (UTC), by the collector's clock.
    pub at_us: i64,
}

/// What one collector has uploaded. Paths are under [`folder_of`] its id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct List {
    /// Whose it is.
    pub collector: String,
    /// Rises with every change of it.
    pub version: u64,
    /// Files of the table `requests`.
    pub files: Vec<FileEntry>,
    /// Roll-ups of their rows.
    pub rollups: Vec<RollupEntry>,
    /// Objects to delete soon: files that left the table, and lists of before.
    pub removed: Vec<Removed>,
}

impl List {
    /// All files, of rows and of roll-ups.
    pub fn all(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain(self.rollups.iter().map(|entry| &entry.file))
    }

    /// The list as its collector names it in the root.
    #[must_use]
    pub fn pointer(&self, tag: &str, list: String, at_us: i64) -> Pointer {
        Pointer {
            tag: tag.to_owned(),
            list,
            files: self.files.len() as u64,
            rows: self.files.iter().map(|file| file.rows).sum(),
            bytes: self.all().map(|file| file.bytes).sum(),
            at_us,
        }
    }
}

/// The folder of one collector's objects, which are named as in its data folder.
#[must_use]
pub fn folder_of(collector: &str) -> String {
    format!("collectors/{collector}")
}

/// The object of a file of a collector.
#[must_use]
pub fn object_of(collector: &str, path: &str) -> String {
    format!("collectors/{collector}/{path}")
}
