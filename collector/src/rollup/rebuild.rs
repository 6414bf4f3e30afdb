//! Roll-ups anew, from the rows that are kept: for a data folder of a version without roll-ups, or with another idea of
//! what a group is.
//!
//! An hour is rolled up anew when its rows are all still there, which is when its Parquet files have at least as many rows
//! as its roll-ups count requests; the roll-ups of other hours stay as they are. All new files are written first, then one
//! manifest puts them in the place of the old ones: until then nothing has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use event::layout::{DataFolder, FileEntry, LayoutError, Manifest, RollupEntry};
use event::rollup::{HOUR_US, NAMES, Resolution};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::file::Reader;
use super::group::Grouper;
use super::totals::Key;
use super::{RollupError, merge, write};
use crate::StartError;
use crate::config::{CollectorConfig, Plan};
use crate::lock::Lock;
use crate::retention;

/// The columns of a row that are rolled up, beside the names.
const COLUMNS: [&str; 8] = [
    "time",
    "client_ip",
    "request_bytes",
    "status",
    "response_bytes",
    "duration_us",
    "gateway_us",
    "outcome",
];

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Hours that were rolled up anew.
    pub hours: usize,
    /// Requests of them.
    pub requests: u64,
    /// Hours whose roll-ups stay as they were, since not all of their rows are there any more.
    pub kept: usize,
}

/// Why roll-ups were not made anew; those of before stay in force.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// A collector is at work, or its lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] StartError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] LayoutError),
    /// A file.
    #[error(transparent)]
    Rollup(#[from] RollupError),
}

/// Makes the roll-ups of a data folder anew. No collector may be at work on it.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild(plan: &Plan, folder: &DataFolder) -> Result<Rebuilt, RebuildError> {
    let _lock = Lock::take(folder)?;
    let config = &plan.config;
    let manifest = Manifest::load(folder)?;
    let (whole, kept) = whole_hours(folder, &manifest);
    let mut rebuilt = Rebuilt { kept, ..Rebuilt::default() };
    let mut new = Vec::new();
    let version = manifest.version + 1;
    for (hour, files) in &whole {
        let name = format!("rebuilt-{version:010}-{:02}", hour.rem_euclid(24));
        let entries = of_files(folder, config, files, &name)?;
        let is_counted = |entry: &&RollupEntry| entry.resolution == Resolution::Minute && entry.is_original();
        let by_minute = entries.iter().filter(is_counted);
        rebuilt.requests += by_minute.map(|entry| entry.requests).sum::<u64>();
        rebuilt.hours += 1;
        new.extend(entries);
    }
    let mut going = BTreeSet::new();
    for old in &manifest.rollups {
        if !hours(old).any(|hour| whole.contains_key(&hour)) {
            continue;
        }
        going.insert(old.file.path.clone());
        // A file of a day may have hours that stay.
        if hours(old).any(|hour| !whole.contains_key(&hour)) {
            let name = format!("rebuilt-{version:010}-rest-{}.parquet", going.len());
            let stays = |of: &Key| !whole.contains_key(&of.time_us.div_euclid(HOUR_US));
            new.extend(merge::without(folder, config, old, &name, stays)?);
        }
    }
    if whole.is_empty() {
        return Ok(rebuilt);
    }
    let mut next = manifest.clone();
    retention::remove(&mut next, &going, crate::now_us());
    next.rollups.extend(new);
    next.version = version;
    next.store(folder)?;
    Ok(rebuilt)
}

/// Writes the roll-ups of the rows of some files, under a name.
pub(crate) fn of_files(
    folder: &DataFolder,
    config: &CollectorConfig,
    files: &[&FileEntry],
    name: &str,
) -> Result<Vec<RollupEntry>, RollupError> {
    let mut grouper = Grouper::new(&config.rollup);
    for file in files {
        let path = folder.root().join(&file.path);
        read(&path, &mut grouper).map_err(|reason| RollupError::Unreadable { path, reason })?;
    }
    write(folder, config, (name, 0), grouper.finish())
}

/// The files of each hour whose rows are all there, and how many hours have roll-ups of more rows than there are.
fn whole_hours<'a>(
    folder: &DataFolder,
    manifest: &'a Manifest,
) -> (BTreeMap<i64, Vec<&'a FileEntry>>, usize) {
    let mut rows: BTreeMap<i64, Vec<&FileEntry>> = BTreeMap::new();
    for file in &manifest.files {
        rows.entry(file.time_min_us.div_euclid(HOUR_US)).or_default().push(file);
    }
    // Of each resolution, since the other one may have gone by its age.
    let [mut counted, mut by_hour]: [BTreeMap<i64, u64>; 2] = Default::default();
    for entry in manifest.rollups.iter().filter(|entry| entry.is_original()) {
        if !entry.file.place.is_on_disk() {
            // What is in the bucket only is not counted, so its hours stay as they are.
            counted.extend(hours(entry).map(|hour| (hour, u64::MAX)));
            continue;
        }
        match entry.resolution {
            Resolution::Minute => {
                let counted = counted.entry(entry.partition()).or_default();
                *counted = counted.saturating_add(entry.requests);
            }
            Resolution::Hour => {
                if let Err(error) = count_hours(folder, entry, &mut by_hour) {
                    tracing::warn!(%error, "its hours are taken for what the roll-ups by the minute say");
                }
            }
        }
    }
    for (hour, requests) in by_hour {
        let minutes = counted.entry(hour).or_default();
        *minutes = requests.max(*minutes);
    }
    let is_whole = |hour: &i64, files: &Vec<&FileEntry>| {
        let there: u64 = files.iter().map(|file| file.rows).sum();
        // A file of several hours does not say how many rows each of them has.
        let single = files.iter().all(|file| file.time_max_us.div_euclid(HOUR_US) == *hour);
        let on_disk = files.iter().all(|file| file.place.is_on_disk());
        single && on_disk && counted.get(hour).is_none_or(|counted| there >= *counted)
    };
    rows.retain(|hour, files| is_whole(hour, files));
    let kept = counted.keys().filter(|hour| !rows.contains_key(hour)).count();
    (rows, kept)
}

/// Adds up the requests of each hour of a file.
fn count_hours(
    folder: &DataFolder,
    entry: &RollupEntry,
    hours: &mut BTreeMap<i64, u64>,
) -> Result<(), RollupError> {
    let mut reader = Reader::open(folder.root().join(&entry.file.path))?;
    while let Some(time_us) = reader.time_us()? {
        let (_, totals) = reader.take()?;
        *hours.entry(time_us.div_euclid(HOUR_US)).or_default() += totals.requests;
    }
    Ok(())
}

/// The hours that a file has groups of, or may have.
fn hours(entry: &RollupEntry) -> impl Iterator<Item = i64> + use<> {
    entry.file.time_min_us.div_euclid(HOUR_US)..=entry.file.time_max_us.div_euclid(HOUR_US)
}

/// Adds the rows of a Parquet file.
fn read(path: &PathBuf, grouper: &mut Grouper) -> Result<(), String> {
    let text = |error: ParquetError| error.to_string();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(text)?;
    let wanted = COLUMNS.into_iter().chain(NAMES);
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    for batch in builder.with_projection(mask).build().map_err(text)? {
        let batch = batch.map_err(|error| error.to_string())?;
        grouper.add(&batch).map_err(|error| error.to_string())?;
    }
    Ok(())
}
