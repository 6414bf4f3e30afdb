//! What a start finds on disk, put in order before the first event is read.
//!
//! The manifest says which hot files are sealed and which Parquet files count. Everything else that a crash may have
//! left is removed (temporary files, Parquet files without an entry, hot files that are sealed) or taken up again
//! (hot files that are not).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use event::hot::{HotReader, Watermarks, cut_torn_tail};
use event::layout::{DataFolder, LayoutError, Manifest};

use crate::seal::unlink_hot;
use crate::{damage, merge, parquet};

/// What cannot be put in order.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The manifest is damaged, or a folder cannot be listed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What an interrupted sealing left cannot be removed.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where to go on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    /// Hot files to seal.
    pub(crate) hot: Vec<u64>,
    /// Number of the next hot file.
    pub(crate) next: u64,
    /// What of each lane is stored, in Parquet or hot.
    pub(crate) marks: Watermarks,
}

/// Puts the data folder in order.
pub(crate) fn recover(folder: &DataFolder) -> Result<Found, RecoverError> {
    let manifest = Manifest::load(folder)?;
    if !Manifest::exists(folder)? {
        // From now on one that is not there is one that was lost.
        manifest.store(folder)?;
    }
    let mut marks = manifest.watermarks.clone();
    let mut next = manifest.sealed_through + 1;
    let mut hot = Vec::new();
    for number in hot_numbers(&folder.hot())? {
        next = next.max(number + 1);
        if number <= manifest.sealed_through {
            unlink_hot(folder, number);
            continue;
        }
        let torn = torn_tail(folder, number);
        torn.map_err(|source| RecoverError::Io { path: folder.hot_file(number), source })?;
        let mut opened = HotReader::open(folder, number);
        if let Err(error) = &opened
            && damage::is_damage(error)
        {
            tracing::error!(number, %error, "a hot file is damaged: batches that are whole stay");
            damage::mend(folder, number, true).map_err(|error| RecoverError::Io {
                path: folder.hot_file(number),
                source: io::Error::other(error),
            })?;
            opened = HotReader::open(folder, number);
        }
        // One that cannot be read now is reported by sealing.
        if let Ok(Some(reader)) = opened {
            merge(&mut marks, &reader.watermarks);
        }
        hot.push(number);
    }
    let known =
        manifest.files.iter().map(|file| &file.path).chain(manifest.removed.iter().map(|file| &file.path));
    let known = known.chain(manifest.rollups.iter().map(|entry| &entry.file.path));
    let known: BTreeSet<PathBuf> = known.map(|path| folder.root().join(path)).collect();
    remove_strays(&folder.requests(), &known)?;
    remove_strays(&folder.rollups(), &known)?;
    Ok(Found { manifest, hot, next, marks })
}

/// Cuts off what a power loss left of a hot file, and makes the rest durable: the spool is released behind it.
fn torn_tail(folder: &DataFolder, number: u64) -> io::Result<()> {
    let cut = cut_torn_tail(folder, number).map_err(io::Error::other)?;
    if cut > 0 {
        tracing::warn!(number, cut, "rows that were not on disk yet are read again from the spool");
    }
    for path in [folder.hot_file(number), folder.hot_commits(number)] {
        match File::open(path).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Numbers of the hot files of a folder, in order.
fn hot_numbers(folder: &Path) -> Result<BTreeSet<u64>, RecoverError> {
    let mut numbers = BTreeSet::new();
    for path in entries(folder)? {
        let kind = path.extension().and_then(|kind| kind.to_str());
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (Some("arrow" | "commits"), Some(number)) = (kind, number) {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

/// Removes temporary files, and Parquet files that no manifest names, in a folder and those below it.
fn remove_strays(folder: &Path, known: &BTreeSet<PathBuf>) -> Result<(), RecoverError> {
    for path in entries(folder)? {
        if path.is_dir() {
            if crate::delta::is_log(&path) {
                continue;
            }
            remove_strays(&path, known)?;
            continue;
        }
        let stray = match path.extension().and_then(|kind| kind.to_str()) {
            Some(kind) if kind == parquet::TEMPORARY => true,
            Some("parquet") => !known.contains(&path),
            _ => false,
        };
        if stray {
            tracing::info!(path = %path.display(), "removing what an interrupted sealing left");
            std::fs::remove_file(&path).map_err(|source| RecoverError::Io { path, source })?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, RecoverError> {
    let listed = std::fs::read_dir(folder).and_then(|found| found.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(|source| RecoverError::Io { path: folder.to_owned(), source })
}
