//! One immutable view of the data folder per query: the sealed files of the manifest and the hot batches after them.
//!
//! The collector seals a hot file in this order: Parquet file, manifest, hot file gone. A snapshot reads the manifest,
//! opens the hot files above `sealed_through`, and reads the manifest again; only when it has not changed in
//! between is the pair one moment of the table, so no row is seen twice and none is missed.
//!
//! A sealed file is looked at once for its length and its magic marks. All of its bytes are compared with the checksum
//! of the manifest in the background, at a bounded pace and again every day, and at once when a query fails on what it
//! reads.
//!
//! Files that are in the bucket only are read there: those of this folder's collector by the local manifest, those of other
//! collectors by the last picture of the bucket. They are not looked at before; a query that cannot read one fails on it.
//!
//! Of a hot file only what was committed since the last query is mapped, decoded and compared with its checksums.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hasher;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use event::bucket::object_of;
use event::hot::{HotError, HotReader};
use event::layout::{Damage, DataFolder, FileEntry, LayoutError, Manifest, Place};
use twox_hash::XxHash3_64;

use crate::bucket::{Follower, Others};
use crate::lookup::Lookup;
use crate::sealed::{Moment, Sealed, Source};

/// Attempts at a snapshot while files are being sealed; one seal takes seconds, one attempt about a millisecond.
const ATTEMPTS_MAX: u32 = 50;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(4);
/// Bytes of a file that are summed at a time.
const SUMMED_BYTES: usize = 1 << 20;
/// When a file is compared with its checksum again: in the background, and for a query that failed on what it read.
const SUMMED_AGAIN: Duration = Duration::from_secs(24 * 3_600);
const BLAMED_AGAIN: Duration = Duration::from_secs(5);

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
    /// Sealed files and roll-ups.
    pub sealed: Arc<Sealed>,
    /// Hot files after `sealed_through`, in order.
    pub hot: Vec<Arc<HotFile>>,
    /// Files left out.
    pub quarantined: Vec<Quarantined>,
    /// The version of the bucket's root that other collectors' files are by; 0 without one.
    pub bucket_version: u64,
    pub(crate) lookup: Arc<Lookup>,
}

/// A hot file as it was when a snapshot was taken.
#[derive(Debug)]
pub struct HotFile {
    /// Its rows.
    pub reader: HotReader,
    /// Least and greatest `time` of each batch of it; none for a batch without rows.
    pub ranges: Vec<Option<(i64, i64)>>,
}

impl HotFile {
    /// `ranges` are those of the first batches, which are known.
    fn new(reader: HotReader, mut ranges: Vec<Option<(i64, i64)>>) -> Self {
        let new: Vec<_> = reader.batches.iter().skip(ranges.len()).map(time_range).collect();
        ranges.extend(new);
        Self { reader, ranges }
    }
}

/// Makes snapshots of one data folder; keeps the parsed manifest, the verdict on each sealed file, and the hot files.
#[derive(Debug)]
pub struct Catalog {
    folder: DataFolder,
    bucket: Option<Arc<Follower>>,
    /// Whether files that are on the disk and in the bucket are read from the bucket.
    prefers_bucket: bool,
    manifest: Mutex<Option<(Stamp, Arc<Manifest>)>>,
    verdicts: Mutex<HashMap<String, Verdict>>,
    /// How often a verdict became another one.
    judged: AtomicU64,
    /// The files of the last snapshot, and what they were of.
    sealed: Mutex<Option<(Moment, Arc<Sealed>)>>,
    /// What was last said of them in the data folder; none before the first look.
    said: Mutex<Option<Damage>>,
    hot: Mutex<HashMap<u64, Arc<HotFile>>>,
    lookup: Arc<Lookup>,
}

/// What is known of a sealed file.
#[derive(Debug, Clone)]
struct Verdict {
    /// What is wrong with it.
    bad: Option<String>,
    /// When all of its bytes were last compared with the checksum of the manifest.
    summed: Option<Instant>,
}

impl Verdict {
    /// Whether its bytes were compared with the checksum no longer ago.
    fn is_of(&self, last: Duration) -> bool {
        self.summed.is_some_and(|at| at.elapsed() < last)
    }
}

/// What changes when a file is replaced by renaming.
type Stamp = (u64, u64, i64, i64);

impl Catalog {
    /// A catalog over a data folder. Reads nothing yet.
    #[must_use]
    pub fn new(folder: DataFolder) -> Self {
        let (manifest, verdicts, hot) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (bucket, prefers_bucket) = (None, false);
        Self {
            folder,
            bucket,
            prefers_bucket,
            manifest,
            verdicts,
            judged: AtomicU64::new(0),
            sealed: Mutex::default(),
            said: Mutex::default(),
            hot,
            lookup: Arc::default(),
        }
    }

    /// The same with the files of a bucket, from which `prefers_bucket` reads also those that are on the disk as well.
    pub(crate) fn with_bucket(self, bucket: Option<Arc<Follower>>, prefers_bucket: bool) -> Self {
        Self { bucket, prefers_bucket, ..self }
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
        let mut numbers = self.folder.hot_numbers()?;
        numbers.retain(|&number| number > manifest.sealed_through);
        // Held while files are opened, so that queries at one time decode a new batch once.
        let mut known = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|number, _| numbers.binary_search(number).is_ok());
        for &number in &numbers {
            match self.hot_file(number, known.get(&number)) {
                Ok(Some(file)) => {
                    known.insert(number, Arc::clone(&file));
                    hot.push(file);
                }
                // Gone, or just being made: the second look at the manifest tells which.
                Ok(None) => {}
                Err(HotError::File(LayoutError::Io { source, .. }))
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => quarantined
                    .push(Quarantined { path: format!("hot/{number:010}.arrow"), reason: error.to_string() }),
            }
        }
        drop(known);
        if self.manifest()?.version != manifest.version {
            return Ok(None);
        }
        let mended = hot.iter().filter(|file| file.reader.lost > 0);
        quarantined.extend(
            mended.map(|file| lost(&format!("hot/{:010}.arrow", file.reader.number), file.reader.lost)),
        );
        let others = self.bucket.as_ref().map(|bucket| bucket.others());
        let sealed = self.sealed(&manifest, others.as_ref());
        quarantined.extend_from_slice(&sealed.quarantined);
        let bucket_version = others.as_ref().map_or(0, |others| others.version);
        if let (Some(bucket), Some(reason)) = (&self.bucket, others.and_then(|others| others.away)) {
            quarantined.push(Quarantined { path: bucket.root(), reason });
        }
        let lookup = Arc::clone(&self.lookup);
        Ok(Some(Snapshot { manifest, sealed, hot, quarantined, bucket_version, lookup }))
    }

    /// The files of a manifest and of other collectors, as they were last told of, unless something changed.
    fn sealed(&self, manifest: &Arc<Manifest>, others: Option<&Others>) -> Arc<Sealed> {
        let moment = Moment {
            manifest: Arc::clone(manifest),
            judged: self.judged.load(Ordering::Acquire),
            others: others.map(|others| (others.version, others.own.clone())),
        };
        let mut last = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, sealed)) = last.as_ref()
            && *of == moment
        {
            return Arc::clone(sealed);
        }
        let own = others.and_then(|others| others.own.as_deref());
        let mut sealed = Sealed::default();
        let unseen = manifest.set_aside.iter().filter(|aside| aside.is_unseen);
        sealed.quarantined.extend(unseen.map(|aside| lost(&aside.file.path, aside.file.rows)));
        for entry in &manifest.files {
            match self.source(entry, own) {
                Ok(source) => sealed.files.push((source, entry.clone())),
                Err(reason) => sealed.quarantined.push(Quarantined { path: entry.path.clone(), reason }),
            }
        }
        for entry in &manifest.rollups {
            match self.source(&entry.file, own) {
                Ok(source) => sealed.rollups.push((source, entry.clone())),
                Err(reason) => sealed.quarantined.push(Quarantined { path: entry.file.path.clone(), reason }),
            }
        }
        for list in others.iter().flat_map(|others| &others.lists) {
            let source = |file: &FileEntry| Source::Bucket(file.path.clone());
            sealed.files.extend(list.files.iter().map(|file| (source(file), file.clone())));
            sealed.rollups.extend(list.rollups.iter().map(|entry| (source(&entry.file), entry.clone())));
        }
        let sealed = Arc::new(sealed);
        *last = Some((moment, Arc::clone(&sealed)));
        sealed
    }

    /// Where to read a file of this folder's collector, or why it cannot be read.
    fn source(&self, entry: &FileEntry, own: Option<&str>) -> Result<Source, String> {
        let in_bucket = || own.map(|own| Source::Bucket(object_of(own, &entry.path)));
        if entry.place == Place::Bucket {
            let unknown = || "it is in a bucket, and object_store.url does not say in which".to_owned();
            return in_bucket().ok_or_else(unknown);
        }
        if entry.place == Place::Both
            && self.prefers_bucket
            && let Some(source) = in_bucket()
        {
            return Ok(source);
        }
        let path = self.folder.root().join(&entry.path);
        match (self.verdict(&path, entry), entry.place) {
            (None, _) => Ok(Source::Disk(path)),
            // The other one is whole, as far as anybody knows.
            (Some(reason), Place::Both) => in_bucket().ok_or(reason),
            (Some(reason), _) => Err(reason),
        }
    }

    /// A hot file as far as it is committed now; `known` is what an earlier query saw of it.
    fn hot_file(&self, number: u64, known: Option<&Arc<HotFile>>) -> Result<Option<Arc<HotFile>>, HotError> {
        let Some(known) = known else {
            let reader = HotReader::open(&self.folder, number)?;
            return Ok(reader.map(|reader| Arc::new(HotFile::new(reader, Vec::new()))));
        };
        Ok(known.reader.read_on(&self.folder)?.map(|reader| {
            // Batches leave a file only when its tail or its damage is cut out.
            let grew = reader.lost == known.reader.lost && reader.bytes >= known.reader.bytes;
            match reader.bytes == known.reader.bytes {
                true if grew => Arc::clone(known),
                _ => {
                    let ranges = if grew { known.ranges.clone() } else { Vec::new() };
                    Arc::new(HotFile::new(reader, ranges))
                }
            }
        }))
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
        if verdicts.len() > 2 * (manifest.files.len() + manifest.rollups.len()) + 16 {
            verdicts.clear();
        }
        // A stamp older than the load only means one more load.
        *cached = stamp.map(|stamp| (stamp, Arc::clone(&manifest)));
        Ok(manifest)
    }

    /// Whether a sealed file is whole, looked at once per file: its length and both magic marks. [`Self::verify`]
    /// looks at all of it.
    fn verdict(&self, path: &Path, entry: &FileEntry) -> Option<String> {
        let known = self.known(entry);
        known.map_or_else(|| self.judge(entry, whole(path, entry.bytes), false), |verdict| verdict.bad)
    }

    fn known(&self, entry: &FileEntry) -> Option<Verdict> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&entry.path).cloned()
    }

    fn judge(&self, entry: &FileEntry, found: Result<(), String>, summed: bool) -> Option<String> {
        let bad = found.err();
        if let Some(reason) = &bad {
            tracing::error!(path = entry.path, reason, "a Parquet file is left out");
        }
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let summed_at = summed.then(Instant::now);
        let before = verdicts.insert(entry.path.clone(), Verdict { bad: bad.clone(), summed: summed_at });
        if before.and_then(|before| before.bad) != bad {
            self.judged.fetch_add(1, Ordering::Release);
        }
        drop(verdicts);
        if bad.is_some() || summed {
            self.say(&entry.path, bad.as_ref());
        }
        bad
    }

    /// Leaves what is damaged in the data folder, for metrics; a folder that takes nothing has none.
    fn say(&self, path: &str, bad: Option<&String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let damage = said.get_or_insert_with(|| Damage::load(&self.folder).unwrap_or_default());
        let is_new = match bad {
            Some(reason) => damage.files.insert(path.to_owned(), reason.clone()).as_ref() != Some(reason),
            None => damage.files.remove(path).is_some(),
        };
        if is_new && let Err(error) = damage.store(&self.folder) {
            tracing::debug!(%error, "what is damaged cannot be left for metrics");
        }
    }

    /// Compares every file of a snapshot with its checksum, unless that was done a moment ago; whether one is bad. For a
    /// query that failed on what it read.
    #[must_use]
    pub fn verify(&self, snapshot: &Snapshot) -> bool {
        let rows = snapshot.sealed.files.iter().map(|(source, entry)| (source, entry));
        let rollups = snapshot.sealed.rollups.iter().map(|(source, entry)| (source, &entry.file));
        let bad = rows.chain(rollups).filter(|(source, entry)| match (source, self.known(entry)) {
            (Source::Bucket(_), _) => false,
            (_, Some(verdict)) if verdict.is_of(BLAMED_AGAIN) => verdict.bad.is_some(),
            (Source::Disk(path), _) => self.judge(entry, sum(path, entry), true).is_some(),
        });
        // Every file gets its verdict, also behind a bad one.
        bad.count() > 0
    }

    /// Compares the newest file that was not compared with its checksum for a day; how many bytes that were. `None`
    /// when there is none.
    ///
    /// # Errors
    /// When the manifest is unreadable.
    pub fn verify_next(&self) -> Result<Option<u64>, CatalogError> {
        let manifest = self.manifest()?;
        let rollups = manifest.rollups.iter().map(|entry| &entry.file);
        let next = rollups.chain(&manifest.files).rev().find(|entry| {
            let known = self.known(entry);
            entry.place.is_on_disk()
                && known.is_none_or(|verdict| !verdict.is_of(SUMMED_AGAIN) && verdict.bad.is_none())
        });
        Ok(next.map(|entry| {
            self.judge(entry, sum(&self.folder.root().join(&entry.path), entry), true);
            entry.bytes
        }))
    }
}

/// A file of which some rows are set aside.
fn lost(path: &str, rows: u64) -> Quarantined {
    let reason = format!("{rows} rows of it were damaged and are set aside: see `tollhouse storage check`");
    Quarantined { path: path.to_owned(), reason }
}

/// Whether the bytes of a file are those that were sealed.
fn sum(path: &Path, entry: &FileEntry) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut hasher = XxHash3_64::new();
    let mut piece = vec![0; SUMMED_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => hasher.write(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let found = format!("{:016x}", hasher.finish());
    match found == entry.checksum {
        true => Ok(()),
        false => Err(format!("its checksum is {found}, the manifest says {}", entry.checksum)),
    }
}

/// Least and greatest `time`; all times for a batch that does not say.
fn time_range(batch: &RecordBatch) -> Option<(i64, i64)> {
    let time = event::hot::unpack_column(batch, "time").ok().flatten();
    let times = time.as_ref().and_then(|time| time.as_primitive_opt::<TimestampMicrosecondType>());
    let known = times.and_then(|times| Some((arrow::compute::min(times)?, arrow::compute::max(times)?)));
    (batch.num_rows() > 0).then(|| known.unwrap_or((i64::MIN, i64::MAX)))
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
