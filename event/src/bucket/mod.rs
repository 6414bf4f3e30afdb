//! The bucket that collectors fill and analytics read: one table of several collectors in one object store.
//!
//! Under its prefix are `manifest.json`, the [`Root`], and for each collector `collectors/ID/` with its files, named as in
//! its data folder, and its [`List`] of them; and `_delta_log`, where one is written for other engines. Collectors know
//! nothing of one another but what the root says. The store has to have conditional writes: S3 (and what speaks its protocol)
//! by `If-Match`, Google Cloud Storage, Azure; a folder has a lock in their place.

mod config;

mod open;

mod manifest;

mod identity;

mod error;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use serde::de::DeserializeOwned;

use crate::layout;

pub use config::{BucketConfig, BucketPlan, validate};
pub use error::{BucketError, Cause};
pub use identity::Identity;
pub use manifest::{List, Pointer, ROOT, Root, folder_of, object_of};

/// Where the lock of a bucket is that is a folder.
const LOCK: &str = "manifest.lock";

/// A bucket. Opening one connects to nothing.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
    url: Arc<str>,
}

/// Which root was read, for a change of it or for another look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    /// What the store calls it; none where there was no root.
    version: Option<UpdateVersion>,
    /// What it begins with, its checksum.
    sum: Vec<u8>,
}

impl Bucket {
    /// The bucket of a configuration.
    ///
    /// # Errors
    /// When it is a folder that is not there.
    pub fn open(plan: &BucketPlan) -> Result<Self, BucketError> {
        let opened = open::open(plan.url(), plan.config()).map_err(|reason| {
            let cause = Cause::Other(reason);
            BucketError { doing: "open", object: String::new(), bucket: plan.url().to_owned(), cause }
        })?;
        Ok(Self { store: opened.store, folder: opened.folder, url: plan.url().into() })
    }

    /// A folder as a bucket.
    ///
    /// # Errors
    /// When it is not there.
    pub fn of_folder(folder: &Path) -> Result<Self, BucketError> {
        let url = format!("file://{}", folder.display());
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| BucketError::new("open", "", &url, &error))?;
        Ok(Self { store: Arc::new(store), folder: Some(folder.to_owned()), url: url.into() })
    }

    /// The store, in which names begin behind the prefix.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is said of an error of the store.
    #[must_use]
    pub fn error(&self, doing: &'static str, object: &str, error: &object_store::Error) -> BucketError {
        BucketError::new(doing, object, &self.url, error)
    }

    /// The root as it is now; an empty one of a bucket that nobody has used.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub async fn root(&self) -> Result<(Root, Stamp), BucketError> {
        Ok(self.newer_root(&Stamp::default()).await?.unwrap_or_default())
    }

    /// The root, if it is another one than `known`.
    ///
    /// # Errors
    /// As of [`Self::root`].
    pub async fn newer_root(&self, known: &Stamp) -> Result<Option<(Root, Stamp)>, BucketError> {
        let if_none_match = known.version.as_ref().and_then(|version| version.e_tag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let got = match self.store.get_opts(&ObjectPath::from(ROOT), options).await {
            Err(object_store::Error::NotModified { .. }) => return Ok(None),
            Err(error) => {
                let error = self.error("read", ROOT, &error);
                return match error.cause {
                    Cause::Missing => Ok(Some(Default::default())),
                    _ => Err(error),
                };
            }
            Ok(got) => got,
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(|error| self.error("read", ROOT, &error))?;
        let root = self.decoded(ROOT, &bytes)?;
        Ok(Some((root, Stamp { version: Some(version), sum: first_line(&bytes) })))
    }

    /// Puts a root in the place of the one that was read; false if another one stands there by now.
    ///
    /// # Errors
    /// When the store refuses. It may have made the change all the same.
    pub async fn swap_root(&self, root: &Root, read: &Stamp) -> Result<bool, BucketError> {
        let bytes = self.encoded(ROOT, root)?;
        if let Some(folder) = &self.folder {
            return swap_in_folder(folder, &bytes, read).map_err(|error| self.io("write", ROOT, &error));
        }
        let mode = read.version.clone().map_or(PutMode::Create, PutMode::Update);
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&ObjectPath::from(ROOT), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(self.error("write", ROOT, &error)),
        }
    }

    /// Puts an object where none is; false if there is one. It is whole and durable before anybody sees it.
    ///
    /// # Errors
    /// When the store refuses. It may be there all the same.
    pub async fn create(&self, object: &str, bytes: Vec<u8>) -> Result<bool, BucketError> {
        if let Some(folder) = &self.folder {
            let linked = publish(&folder.join(object), &bytes, |half, path| std::fs::hard_link(half, path));
            return match linked {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
                linked => linked.map(|()| true).map_err(|error| self.io("write", object, &error)),
            };
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&ObjectPath::from(object), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(self.error("write", object, &error)),
        }
    }

    /// Puts an object in the place of what is there, if anything is. It is whole and durable before anybody sees it.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn replace(&self, object: &str, bytes: Vec<u8>) -> Result<(), BucketError> {
        if let Some(folder) = &self.folder {
            let renamed = publish(&folder.join(object), &bytes, |half, path| std::fs::rename(half, path));
            return renamed.map_err(|error| self.io("write", object, &error));
        }
        let put = self.store.put(&ObjectPath::from(object), bytes.into()).await;
        put.map(drop).map_err(|error| self.error("write", object, &error))
    }

    /// A list of a collector.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub async fn list(&self, object: &str) -> Result<List, BucketError> {
        let read = async { self.store.get(&ObjectPath::from(object)).await?.bytes().await };
        let bytes = read.await.map_err(|error| self.error("read", object, &error))?;
        self.decoded(object, &bytes)
    }

    /// Puts a list where nothing is yet.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn put_list(&self, object: &str, list: &List) -> Result<(), BucketError> {
        let bytes = self.encoded(object, list)?;
        let put = self.store.put(&ObjectPath::from(object), bytes.into()).await;
        put.map_err(|error| self.error("write", object, &error))?;
        self.settle(object)
    }

    /// Makes an object durable that was put. A store has done that when it answers; a folder has not.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn settle(&self, object: &str) -> Result<(), BucketError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(object);
        let synced = File::open(&path).and_then(|file| file.sync_all());
        let named = || path.ancestors().skip(1).take_while(|above| above.starts_with(folder));
        synced
            .and_then(|()| named().try_for_each(layout::sync_folder))
            .map_err(|error| self.io("write", object, &error))
    }

    /// Removes halves of objects that a crash left in a folder; a store shows none. Nothing may be on its way there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_halves(&self, prefix: &str) -> Result<(), BucketError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        remove_halves(&folder.join(prefix)).map_err(|error| self.io("sweep", prefix, &error))
    }

    fn encoded<T: serde::Serialize>(&self, object: &str, value: &T) -> Result<Vec<u8>, BucketError> {
        layout::encode(value).map_err(|error| self.because("write", object, Cause::Other(error.to_string())))
    }

    fn decoded<T: DeserializeOwned>(&self, object: &str, bytes: &[u8]) -> Result<T, BucketError> {
        layout::decode(bytes).map_err(|reason| self.because("read", object, Cause::Damaged(reason)))
    }

    fn io(&self, doing: &'static str, object: &str, error: &std::io::Error) -> BucketError {
        self.because(doing, object, Cause::Other(error.to_string()))
    }

    fn because(&self, doing: &'static str, object: &str, cause: Cause) -> BucketError {
        BucketError { doing, object: object.to_owned(), bucket: self.url.to_string(), cause }
    }
}

/// Files of names that the crate gives to what it has not written whole, as in `a.parquet#1`.
fn remove_halves(folder: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            remove_halves(&path)?;
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let number = name.rsplit_once('#').map(|(_, number)| number.to_owned());
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Writes a file beside its place, and gives it the place once it is on disk.
fn publish(
    path: &Path,
    bytes: &[u8],
    place: impl FnOnce(&Path, &Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // That something else is there already is told of the place alone.
    std::fs::create_dir_all(folder).map_err(std::io::Error::other)?;
    // The store shows no file of such a name, and `remove_halves` removes it.
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut half = path.as_os_str().to_owned();
    half.push(format!("#{nanos}{}", std::process::id()));
    let half = PathBuf::from(half);
    let written = File::create_new(&half).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let written = written.map_err(std::io::Error::other);
    let placed = written.and_then(|()| place(&half, path));
    // It has no other name after a rename; what stays is removed by a sweep.
    drop(std::fs::remove_file(&half));
    placed?;
    layout::sync_folder(folder)
}

fn first_line(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().take_while(|byte| **byte != b'\n').copied().collect()
}

/// The same for a folder: whoever has the lock compares, and renames.
fn swap_in_folder(folder: &Path, bytes: &[u8], read: &Stamp) -> std::io::Result<bool> {
    let lock = File::create(folder.join(LOCK))?;
    lock.lock()?;
    let path = folder.join(ROOT);
    let there = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        there => first_line(&there?),
    };
    if there != read.sum {
        return Ok(false);
    }
    // The store takes no file with this name for an object of its own.
    let temporary = folder.join("manifest.json#1");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    layout::sync_folder(folder)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
