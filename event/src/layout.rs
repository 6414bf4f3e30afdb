//! Where the files of a data folder are, and the two small files that tie them together: the manifest (which Parquet
//! files are the table, and how far each lane is stored) and the ledger (what became of every event).

use crate::erasure::Erasure;
use crate::rollup::Resolution;
use crate::spool::Position;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

/// Why a file of the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The disk refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its bytes are not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
}

impl LayoutError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// The data folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// Opens a data folder and makes what is missing of it.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        // Absolute, since the folder's name goes through URLs of an object store, which know no working directory.
        let root = std::path::absolute(root).map_err(LayoutError::io("find", root))?;
        let folder = Self { root };
        let folders = [folder.spool(), folder.hot(), folder.requests(), folder.rollups(), folder.state()];
        for path in folders {
            fs::create_dir_all(&path).map_err(LayoutError::io("create", &path))?;
        }
        Ok(folder)
    }

    /// A data folder that is there, of which nothing is made: for who only looks.
    ///
    /// # Errors
    /// When it is none.
    pub fn existing(root: &Path) -> Result<Self, LayoutError> {
        let root = std::path::absolute(root).map_err(LayoutError::io("find", root))?;
        let folder = Self { root };
        let state = folder.state();
        fs::read_dir(&state).map_err(LayoutError::io("list", &state))?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Segments that the collector has not stored yet.
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }
    /// Arrow files of the newest rows.
    pub fn hot(&self) -> PathBuf {
        self.root.join("hot")
    }
    /// Sealed Parquet files, in `date=YYYY-MM-DD/hour=HH/`.
    pub fn requests(&self) -> PathBuf {
        self.root.join("requests")
    }
    /// Damaged files that were set aside; made when the first one is.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
    /// Roll-ups, in `1m/date=YYYY-MM-DD/hour=HH/` and `1h/date=YYYY-MM-DD/`.
    pub fn rollups(&self) -> PathBuf {
        self.root.join("rollups")
    }
    /// Manifest, ledger and the state of upstreams.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }
    /// Orders to erase rows ([`crate::erasure`]); made when the first one is given.
    pub fn erasures(&self) -> PathBuf {
        self.state().join("erasures")
    }
    /// The hot file of a number.
    pub fn hot_file(&self, number: u64) -> PathBuf {
        self.hot().join(format!("{number:010}.arrow"))
    }
    /// The commit log of a hot file.
    pub fn hot_commits(&self, number: u64) -> PathBuf {
        self.hot().join(format!("{number:010}.commits"))
    }

    /// Numbers of the hot files that exist, rising.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn hot_numbers(&self) -> Result<Vec<u64>, LayoutError> {
        let path = self.hot();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&path).map_err(LayoutError::io("list", &path))? {
            let name = entry.map_err(LayoutError::io("list", &path))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".arrow")?.parse().ok());
            numbers.extend::<Option<u64>>(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

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

/// A damaged file that a person had set aside: its rows are missing in the table.
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
    /// Requests of all groups.
    pub requests: u64,
    /// Those of them whose names were too many.
    pub overflowed: u64,
}

impl RollupEntry {
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
    /// The manifest in force; an empty one for a new folder.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(load(&Self::path(folder))?.unwrap_or_default())
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

/// What became of the events of one node's present life, for one sink.
/// `produced + recovered = stored + dropped + in_flight`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Name of the gateway.
    pub node: String,
    /// `parquet`, `prometheus` or `otlp`.
    pub sink: String,
    /// Events that ended in this life of the gateway.
    pub produced: u64,
    /// Events of an earlier life that this collector found in the spool.
    pub recovered: u64,
    /// Events that the sink holds.
    pub stored: u64,
    /// Events that were given up.
    pub dropped: u64,
    /// Events on their way.
    pub in_flight: u64,
    /// The dropped ones by reason.
    pub reasons: BTreeMap<String, u64>,
}

impl LedgerRow {
    /// Whether every event is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.produced + self.recovered == self.stored + self.dropped + self.in_flight
    }
}

/// The books.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// When they were written, microseconds since 1970 (UTC).
    pub at_us: i64,
    /// One row for each node and sink.
    pub rows: Vec<LedgerRow>,
}

impl Ledger {
    /// The books as last written; empty for a new folder.
    ///
    /// # Errors
    /// When they cannot be read, or are damaged.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(load(&Self::path(folder))?.unwrap_or_default())
    }

    /// Writes the books. Atomic but not durable: they are derived anew after a crash.
    ///
    /// # Errors
    /// When the disk refuses; the old ones stay.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        store(&Self::path(folder), self, false)
    }

    /// Where they are.
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("ledger.json")
    }
}

/// XXH3-64 of bytes, as the hex text that a manifest holds.
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What the system says.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A value as a line of checksum, then JSON.
pub(crate) fn encode<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    Ok([checksum(&json).as_bytes(), b"\n", &json].concat())
}

/// The value of such bytes, or how they are damaged.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Some((sum, json)) = bytes.split_at_checked(17).filter(|(sum, _)| sum[16] == b'\n') else {
        return Err("no checksum in its first line".into());
    };
    if sum[..16] != *checksum(json).as_bytes() {
        return Err("its checksum does not match".into());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Writes a small file of the state folder in one step: a line of checksum, then JSON. Whoever loads it sees the old one
/// or this one; `durable` for one that must outlive a power loss.
///
/// # Errors
/// When the disk refuses; the old one stays.
pub fn store<T: Serialize>(path: &Path, value: &T, durable: bool) -> Result<(), LayoutError> {
    let temporary = path.with_extension("tmp");
    let bytes = encode(value).map_err(io::Error::other).map_err(LayoutError::io("encode", path))?;
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        if durable { file.sync_all() } else { Ok(()) }
    });
    written.map_err(LayoutError::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(LayoutError::io("replace", path))?;
    match path.parent() {
        Some(parent) if durable => sync_folder(parent).map_err(LayoutError::io("sync", parent)),
        _ => Ok(()),
    }
}

/// Reads what [`store`] wrote; none if there is no such file.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LayoutError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(LayoutError::io("read", path))?,
    };
    decode(&bytes).map(Some).map_err(|reason| LayoutError::Damaged { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

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
