//! Where the files of a data folder are, and the two small files that tie them together: the manifest (which Parquet
//! files are the table, and how far each lane is stored) and the ledger (what became of every event).

mod manifest;

mod ledger;

mod damage;

use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

pub use damage::Damage;
pub use ledger::{Ledger, LedgerRow};
pub use manifest::{FileEntry, Manifest, Place, Removed, RollupEntry, SetAside};

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
        // Addresses, names and paths of everybody are in it: nobody else on this host reads them, unless its owner says so.
        let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(&root);
        private.map_err(LayoutError::io("create", &root))?;
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_data_folder_is_its_owners_and_one_that_is_there_stays_as_it_is() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("a/data");
        DataFolder::open(&root).unwrap();
        assert_eq!(mode(&root), 0o700);
        fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
        DataFolder::open(&root).unwrap();
        assert_eq!(mode(&root), 0o750);
    }
}
