//! A look at a data folder from outside, for people: is all of it whole, what is in it, and what can be done about damage.
//!
//! `check` compares every file with what the manifest, a commit log or a header says of it and changes nothing; it may run
//! beside a collector. `repair` does what a check found to be done, with the collector's lock in hand: damaged files go
//! into `quarantine/`, out of the table, with a note of what is missing. `inspect` says what files are made of.

mod check;

mod sealed;

mod identities;

mod repair;

mod inspect;

use std::io;
use std::path::PathBuf;

use event::layout::LayoutError;
use serde::Serialize;

use crate::StartError;

pub use check::{Checked, check, is_at_work};
#[cfg(test)]
pub(crate) use inspect::data_encodings;
pub use inspect::{ColumnView, FileView, Part, TableView, inspect_files, inspect_table};
pub use repair::{Repaired, SetAsideFile, repair};

/// Why a look at a folder came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The manifest, or a folder.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A collector is at work, or the lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] StartError),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is to be shown is no Parquet file of ours.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing has that name.
    #[error("{0} is neither a Parquet file nor an hour of the table (as in `date=2026-01-31/hour=07`)")]
    Unknown(String),
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The manifest cannot be read.
    Manifest,
    /// A file of the table is not there.
    Missing,
    /// A file of the table is not what was written.
    Damaged,
    /// A file of roll-ups is not there, or not what was written.
    Rollup,
    /// A hot file is not what was committed.
    HotDamaged,
    /// A hot file that the collector found damaged and cut the damage out of.
    SetAside,
    /// A file that no manifest names.
    Stray,
    /// Half a file, left by a crash.
    Half,
    /// Records of the spool that are not what was written.
    Spool,
    /// The same event is in the table more than once.
    Duplicate,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind it is of.
    pub kind: Kind,
    /// Which file, under the data folder.
    pub file: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
    /// Rows of the table that cannot be read because of it, as far as that is known.
    pub rows: Option<u64>,
}

impl Kind {
    /// What a person can do.
    fn advice(self) -> &'static str {
        match self {
            Self::Manifest => {
                "stop Tollhouse and put state/manifest.json of a backup in its place; without one nobody can say \
                 which files are the table"
            }
            Self::Missing | Self::Damaged => {
                "put the file of a backup in its place, or stop Tollhouse and run `tollhouse storage repair`: answers \
                 are partial until then"
            }
            Self::Rollup => {
                "put the file of a backup in its place, or stop Tollhouse and run `tollhouse storage repair`, then \
                 `tollhouse rollup rebuild`, which counts hours anew whose rows are all there; no row is touched by it"
            }
            Self::HotDamaged => {
                "nothing: the collector, or `tollhouse storage repair`, keeps the batches that are whole and sets the file \
                 aside"
            }
            Self::SetAside => {
                "take note: stop Tollhouse and run `tollhouse storage repair`; answers are partial until then"
            }
            Self::Stray => {
                "nothing of the table is in it; the next start of the collector removes it, `tollhouse storage repair` \
                 keeps it in quarantine/"
            }
            Self::Half => "nothing: the next start of the collector removes it",
            Self::Spool => "nothing: the collector passes over them and counts them as dropped (corrupt)",
            Self::Duplicate => "report it as a bug with both files; counts are too high by these rows",
        }
    }
}

impl Problem {
    fn new(kind: Kind, file: impl Into<String>, what: impl Into<String>, rows: Option<u64>) -> Self {
        Self { kind, file: file.into(), what: what.into(), advice: kind.advice(), rows }
    }
}

/// How far a long look is: bytes looked at, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

#[cfg(test)]
mod tests;
