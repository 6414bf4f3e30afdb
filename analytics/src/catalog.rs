//! One immutable view of the data folder per query: the sealed files of the manifest and the hot batches after them.
//!
//! The collector seals a hot file in this order: Parquet file, manifest, hot file gone. A snapshot reads the manifest,
//! opens the hot files above `sealed_through`, and reads the manifest again; only when it has not changed in
//! between is the pair one moment of the table, so no row is seen twice and none is missed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::hot::{HotError, HotReader};
use event::layout::{DataFolder, FileEntry, LayoutError, Manifest};

/// Attempts at a snapshot while files are being sealed; one seal takes seconds, one attempt about a millisecond.
const ATTEMPTS_MAX: u32 = 50;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(4);

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The manifest cannot be read.
    #[error("the manifest cannot be read: {0}")]
    Manifest(#[from] LayoutError),
    /// The manifest changed during every attempt.
    #[error("the files changed {ATTEMPTS_MAX} times while a snapshot was taken")]
    Unsettled,
}

/// A file that cannot be read, and why. Its rows are missing in the answer, which is marked as partial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Path under the data folder.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The table at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The manifest in force.
    pub manifest: Arc<Manifest>,
    /// Sealed files that can be read, with their absolute paths.
    pub files: Vec<(PathBuf, FileEntry)>,
    /// Hot files after `sealed_through`, in order.
    pub hot: Vec<HotReader>,
    /// Files left out.
    pub quarantined: Vec<Quarantined>,
}

/// Makes snapshots of one data folder; keeps the parsed manifest and the verdict on each sealed file.
#[derive(Debug)]
pub struct Catalog {
    folder: DataFolder,
    manifest: Mutex<Option<(Stamp, Arc<Manifest>)>>,
    verdicts: Mutex<HashMap<String, Option<String>>>,
}

/// What changes when a file is replaced by renaming.
type Stamp = (u64, u64, i64, i64);

impl Catalog {
    /// A catalog over a data folder. Reads nothing yet.
    #[must_use]
    pub fn new(folder: DataFolder) -> Self {
        Self { folder, manifest: Mutex::new(None), verdicts: Mutex::new(HashMap::new()) }
    }

    /// The folder that it reads.
    #[must_use]
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// Takes a snapshot. Blocks on the disk: call it off the async threads.
    ///
    /// # Errors
    /// When the manifest is unreadable or never settles.
    pub fn snapshot(&self) -> Result<Snapshot, CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(snapshot) = self.attempt()? {
                return Ok(snapshot);
            }
            std::thread::sleep(ATTEMPT_PAUSE);
        }
        Err(CatalogError::Unsettled)
    }

    fn attempt(&self) -> Result<Option<Snapshot>, CatalogError> {
        let manifest = self.manifest()?;
        let mut hot = Vec::new();
        let mut quarantined = Vec::new();
        for number in self.folder.hot_numbers()? {
            if number <= manifest.sealed_through {
                continue;
            }
            match HotReader::open(&self.folder, number) {
                Ok(Some(reader)) => hot.push(reader),
                // Gone, or just being made: the second look at the manifest tells which.
                Ok(None) => {}
                Err(HotError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => quarantined
                    .push(Quarantined { path: format!("hot/{number:010}.arrow"), reason: error.to_string() }),
            }
        }
        if self.manifest()?.version != manifest.version {
            return Ok(None);
        }
        let mut files = Vec::with_capacity(manifest.files.len());
        for entry in &manifest.files {
            let path = self.folder.root().join(&entry.path);
            match self.verdict(&path, entry) {
                None => files.push((path, entry.clone())),
                Some(reason) => quarantined.push(Quarantined { path: entry.path.clone(), reason }),
            }
        }
        Ok(Some(Snapshot { manifest, files, hot, quarantined }))
    }

    fn manifest(&self) -> Result<Arc<Manifest>, LayoutError> {
        let stamp = stamp(&Manifest::path(&self.folder));
        let mut cached = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(stamp), Some((known, manifest))) = (stamp, cached.as_ref())
            && *known == stamp
        {
            return Ok(Arc::clone(manifest));
        }
        let manifest = Arc::new(Manifest::load(&self.folder)?);
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() > 2 * manifest.files.len() + 16 {
            verdicts.clear();
        }
        // A stamp older than the load only means one more load.
        *cached = stamp.map(|stamp| (stamp, Arc::clone(&manifest)));
        Ok(manifest)
    }

    /// Whether a sealed file is whole, looked at once per file: its length and both magic marks.
    fn verdict(&self, path: &Path, entry: &FileEntry) -> Option<String> {
        let known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&entry.path).cloned();
        known.unwrap_or_else(|| {
            let verdict = whole(path, entry.bytes).err();
            if let Some(reason) = &verdict {
                tracing::error!(path = entry.path, reason, "a Parquet file is left out");
            }
            let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.insert(entry.path.clone(), verdict.clone());
            verdict
        })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn whole(path: &Path, bytes: u64) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length != bytes {
        return Err(format!("it has {length} bytes, the manifest says {bytes}"));
    }
    let mut mark = [0; 4];
    for from in [SeekFrom::Start(0), SeekFrom::End(-4)] {
        let read = file.seek(from).and_then(|_| file.read_exact(&mut mark));
        if read.is_err() || mark != *b"PAR1" {
            return Err("it is no Parquet file".into());
        }
    }
    Ok(())
}
