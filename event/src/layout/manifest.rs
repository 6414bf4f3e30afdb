//! The manifest: which Parquet files are the table, which are its roll-ups, and how far each lane is stored.

use super::{DataFolder, LayoutError, load, store};
use crate::erasure::Erasure;
use crate::rollup::{Grouping, Resolution};
use crate::spool::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the bytes of a sealed file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the local disk only.
    #[default]
    Local,
    /// On the local disk and in the bucket.
    Both,
    /// In the bucket only.
    Bucket,
}

impl Place {
    /// As manifests and `system.files` have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Both => "both",
            Self::Bucket => "bucket",
        }
    }

    /// Whether the file can be read from the local disk.
    #[must_use]
    pub fn is_on_disk(self) -> bool {
        self != Self::Bucket
    }

    /// What needs no word in a manifest.
    fn is_default(&self) -> bool {
        *self == Self::Local
    }
}

/// One sealed Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path under the data folder.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// XXH3-64 of the whole file, as hex.
    pub checksum: String,
    /// Earliest `time` in it, microseconds since 1970 (UTC).
    pub time_min_us: i64,
    /// Latest `time` in it, microseconds since 1970 (UTC).
    pub time_max_us: i64,
    /// Number of the hot file that it was sealed from; of several, the highest.
    pub hot: u64,
    /// How often its rows were merged with others into larger files: 0 as it was sealed. Files of before that was
    /// counted were never merged.
    #[serde(default)]
    pub level: u8,
    /// Where it is. Files of before there was a bucket are on the disk.
    #[serde(default, skip_serializing_if = "Place::is_default")]
    pub place: Place,
}

/// A damaged file that was set aside, or what of one was: its rows are missing in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// What it was in the table.
    pub file: FileEntry,
    /// What was wrong with it.
    pub reason: String,
    /// Where it is now, under the data folder; empty if there was nothing to keep.
    pub kept: String,
    /// When that was, microseconds since 1970 (UTC).
    pub at_us: i64,
    /// Whether the collector did it by itself, and no person took note of it since: answers say until then that rows are
    /// missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_unseen: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// One Parquet file of groups ([`crate::rollup`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupEntry {
    /// The file; its rows are groups, its times when the first and the last group begin. `hot` is 0 once it is made of
    /// several.
    #[serde(flatten)]
    pub file: FileEntry,
    /// How much time a group is of.
    pub resolution: Resolution,
    /// By which names they differ.
    #[serde(default, skip_serializing_if = "Grouping::is_default")]
    pub grouping: Grouping,
    /// Requests of all groups.
    pub requests: u64,
    /// Those of them whose names were too many.
    pub overflowed: u64,
}

impl RollupEntry {
    /// Whether it is the only one that says what its groups say: those by fewer names can be made of these.
    #[must_use]
    pub fn is_original(&self) -> bool {
        self.grouping == Grouping::All
    }

    /// The hour or the day that the file is of, since 1970 (UTC).
    #[must_use]
    pub fn partition(&self) -> i64 {
        self.file.time_min_us.div_euclid(self.resolution.file_us())
    }
}

/// A file that left the table and stays a while for queries that began before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Path under the data folder.
    pub path: String,
    /// When it left, microseconds since 1970 (UTC).
    pub at_us: i64,
}

/// Which files are the table `requests`. The rows of hot files up to `sealed_through` are in `files`; those of later
/// hot files are not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Rises with every change.
    pub version: u64,
    /// Hot files up to this number are sealed; 0 for none, since numbers begin at 1.
    pub sealed_through: u64,
    /// The sealed files.
    pub files: Vec<FileEntry>,
    /// Roll-ups of the rows that were ever in `files`; none in a manifest of a version without roll-ups.
    #[serde(default)]
    pub rollups: Vec<RollupEntry>,
    /// Files to unlink soon.
    pub removed: Vec<Removed>,
    /// How far each lane is in `files`, by `node/core`.
    pub watermarks: BTreeMap<String, Position>,
    /// Files that were damaged and are no part of the table any more.
    #[serde(default)]
    pub set_aside: Vec<SetAside>,
    /// What became of orders to erase rows, oldest first.
    #[serde(default)]
    pub erasures: Vec<Erasure>,
}

impl Manifest {
    /// The manifest in force; an empty one for a new folder. It is made before the first file is sealed, so where files are
    /// and it is not, it was lost.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or lost.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        let path = Self::path(folder);
        if let Some(manifest) = load(&path)? {
            return Ok(manifest);
        }
        match sealed_file(&folder.requests())? {
            Some(file) => {
                // Whoever makes it was quicker.
                let reason = format!("it is missing, though there is {}", file.display());
                load(&path)?.ok_or(LayoutError::Damaged { path, reason })
            }
            None => Ok(Self::default()),
        }
    }

    /// Whether it was made.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn exists(folder: &DataFolder) -> Result<bool, LayoutError> {
        let path = Self::path(folder);
        path.try_exists().map_err(LayoutError::io("find", &path))
    }

    /// Puts this manifest in force, durably and at once: whoever loads sees the old one or this one.
    ///
    /// # Errors
    /// When the disk refuses; the old one stays in force.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        store(&Self::path(folder), self, true)
    }

    /// Where it is.
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("manifest.json")
    }
}

/// A Parquet file in a folder or one below it, if there is one.
fn sealed_file(folder: &Path) -> Result<Option<PathBuf>, LayoutError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LayoutError::io("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(LayoutError::io("list", folder))?.path();
        let found = match path.is_dir() {
            // A log for other engines, in which no rows are.
            true if path.ends_with("_delta_log") => None,
            true => sealed_file(&path)?,
            false => path.extension().is_some_and(|kind| kind == "parquet").then_some(path),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_is_missing_beside_sealed_files_was_lost() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        assert_eq!(Manifest::load(&folder).unwrap(), Manifest::default());
        let hour = folder.requests().join("date=2026-01-01/hour=00");
        fs::create_dir_all(&hour).unwrap();
        fs::write(hour.join("a.parquet.tmp"), "").unwrap();
        assert_eq!(Manifest::load(&folder).unwrap(), Manifest::default());
        fs::write(hour.join("a.parquet"), "").unwrap();
        let error = Manifest::load(&folder).unwrap_err();
        assert!(error.to_string().contains("missing, though"), "{error}");
        Manifest::default().store(&folder).unwrap();
        assert_eq!(Manifest::load(&folder).unwrap(), Manifest::default());
    }
    use crate::layout::checksum;
    use std::fs;

    #[test]
    fn a_manifest_of_the_version_before_is_read() {
        let old = r#"{"version":3,"sealed_through":2,"files":[{"path":"requests/a.parquet","rows":1,"bytes":2,
            "checksum":"0","time_min_us":3,"time_max_us":4,"hot":2}],"removed":[],"watermarks":{}}"#;
        let manifest: Manifest = serde_json::from_str(old).unwrap();
        assert_eq!((manifest.version, manifest.files[0].level, manifest.set_aside.len()), (3, 0, 0));
        assert_eq!(manifest.files[0].place, Place::Local);
        // What an older version may have to read says nothing new as long as there is no bucket.
        let again = serde_json::to_string(&manifest).unwrap();
        assert!(!again.contains("place"), "{again}");
    }

    #[test]
    fn a_manifest_without_rollups_is_read_and_entries_come_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let json = br#"{"version":7,"sealed_through":3,"files":[],"removed":[],"watermarks":{}}"#;
        let old = [checksum(json).as_bytes(), b"\n", json].concat();
        fs::write(Manifest::path(&folder), old).unwrap();
        let mut manifest = Manifest::load(&folder).unwrap();
        assert_eq!((manifest.version, manifest.rollups.len()), (7, 0));
        let file = FileEntry {
            path: "rollups/1m/date=2026-01-01/hour=05/a.parquet".into(),
            rows: 4,
            bytes: 900,
            checksum: "00".into(),
            time_min_us: 5 * 3_600_000_000,
            time_max_us: 5 * 3_600_000_000 + 60_000_000,
            hot: 3,
            level: 0,
            place: Place::Local,
        };
        manifest.rollups.push(RollupEntry {
            file,
            resolution: Resolution::Minute,
            grouping: Grouping::All,
            requests: 90,
            overflowed: 1,
        });
        manifest.store(&folder).unwrap();
        assert_eq!(Manifest::load(&folder).unwrap(), manifest);
        assert_eq!(manifest.rollups[0].partition(), 5);
    }

    #[test]
    fn a_manifest_comes_back_as_it_was_and_damage_shows() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        assert_eq!(Manifest::load(&folder).unwrap(), Manifest::default());
        let position = Position { sequence: 5, life_us: 1, ordinal: 2 };
        let manifest = Manifest {
            version: 3,
            sealed_through: 2,
            watermarks: [("n/0".into(), position)].into(),
            ..Manifest::default()
        };
        manifest.store(&folder).unwrap();
        assert_eq!(Manifest::load(&folder).unwrap(), manifest);
        let path = Manifest::path(&folder);
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(Manifest::load(&folder), Err(LayoutError::Damaged { .. })), "byte {at}");
            bytes[at] ^= 4;
        }
        fs::write(&path, b"").unwrap();
        assert!(Manifest::load(&folder).is_err());
    }
}
