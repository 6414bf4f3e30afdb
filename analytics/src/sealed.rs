//! The sealed files of one moment. All snapshots share them that are taken before the next change, so that a question does
//! not cost the more the more files there are.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use event::layout::{FileEntry, Manifest, RollupEntry};

use crate::catalog::Quarantined;
use crate::rolled::Coverage;

/// Sealed files and roll-ups.
#[derive(Debug, Default)]
pub struct Sealed {
    /// Those of the table `requests` that can be read, with where to read them.
    pub files: Vec<(Source, FileEntry)>,
    /// Roll-ups that can be read; those of the rows of hot files are not among them.
    pub rollups: Vec<(Source, RollupEntry)>,
    /// What is left out.
    pub quarantined: Vec<Quarantined>,
    /// What roll-ups answer for; found out by the first question that can be answered from them.
    pub(crate) coverage: OnceLock<Coverage>,
}

/// Where a sealed file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On the disk, by its absolute path.
    Disk(PathBuf),
    /// In the bucket, by the name of its object.
    Bucket(String),
}

/// What files were found in; what was found in the same is the same.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) manifest: Arc<Manifest>,
    /// How often a file was found to be damaged, or to be whole after all.
    pub(crate) judged: u64,
    /// The version of the bucket's root, and which of its collectors is that of the manifest.
    pub(crate) others: Option<(u64, Option<String>)>,
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        // A manifest that is read again is another one.
        Arc::ptr_eq(&self.manifest, &other.manifest)
            && (self.judged, &self.others) == (other.judged, &other.others)
    }
}
