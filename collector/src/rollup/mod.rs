//! Roll-ups: what is kept of requests by the minute and by the hour (`event::rollup` says what a group is).
//!
//! They are written when a hot file is sealed, from its rows, and one manifest names its Parquet files and its roll-ups:
//! at any moment a row is either in a hot file or counted in the roll-ups, as it is in exactly one Parquet file. `group`
//! makes groups of rows, by the numbers in `codes`; `totals` is what a group counts; `file` writes and reads them; `merge`
//! makes one file of many; `rebuild` makes roll-ups anew from the rows that are kept.

mod codes;

mod totals;

mod group;

mod file;

mod merge;

mod rebuild;

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use event::layout::{DataFolder, FileEntry, Place, RollupEntry};
use event::rollup::{Grouping, Resolution};

use crate::config::CollectorConfig;
use crate::parquet::{ParquetFileError, Written};
use crate::seal::{hour_folder, under};
use file::Contents;
use group::{Grouper, Rolled};

pub(crate) use merge::{Merger, without};
pub(crate) use rebuild::of_files;
pub use rebuild::{RebuildError, Rebuilt, rebuild};
pub(crate) use totals::Key;

/// What a file is of.
type Kind = (Resolution, Grouping);

/// Why roll-ups cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RollupError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] ParquetFileError),
    /// Rows are not as the schema says.
    #[error("rows cannot be rolled up: {0}")]
    Rows(#[from] ArrowError),
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Writes the roll-ups of the batches of a hot file: of each grouping a file for each hour, by the minute, and one for each
/// day, by the hour.
pub(crate) fn seal(
    folder: &DataFolder,
    config: &CollectorConfig,
    (name, hot): (&str, u64),
    batches: &[RecordBatch],
) -> Result<Vec<RollupEntry>, RollupError> {
    let mut grouper = Grouper::new(&config.rollup);
    for batch in batches {
        grouper.add(batch)?;
    }
    write(folder, config, (name, hot), grouper.finish())
}

/// Writes groups as files of a name.
fn write(
    folder: &DataFolder,
    config: &CollectorConfig,
    (name, hot): (&str, u64),
    rolled: Vec<Rolled>,
) -> Result<Vec<RollupEntry>, RollupError> {
    let mut entries = Vec::new();
    for Rolled { kind, groups } in rolled {
        let resolution = kind.0;
        let mut groups = groups.into_iter().peekable();
        while let Some((first, _)) = groups.peek() {
            let number = first.time_us.div_euclid(resolution.file_us());
            let path = place(folder, kind, number).join(format!("{name}.parquet"));
            let of_file = std::iter::from_fn(|| {
                groups.next_if(|(key, _)| key.time_us.div_euclid(resolution.file_us()) == number).map(Ok)
            });
            let written = file::write(&path, config.parquet.zstd_level, of_file)?;
            entries.push(entry(folder, kind, &path, written, hot));
        }
    }
    Ok(entries)
}

/// What the manifest says of a file; none of one without groups.
fn entry(
    folder: &DataFolder,
    (resolution, grouping): Kind,
    path: &Path,
    (written, contents): (Written, Contents),
    hot: u64,
) -> RollupEntry {
    let (time_min_us, time_max_us) = contents.times_us.unwrap_or_default();
    let file = FileEntry {
        path: under(folder, path),
        rows: contents.groups,
        bytes: written.bytes,
        checksum: written.checksum,
        time_min_us,
        time_max_us,
        hot,
        level: 0,
        place: Place::Local,
    };
    let Contents { requests, overflowed, .. } = contents;
    RollupEntry { file, resolution, grouping, requests, overflowed }
}

/// The folder of the files of an hour or of a day since 1970 (UTC).
fn place(folder: &DataFolder, (resolution, grouping): Kind, number: i64) -> PathBuf {
    let all = folder.rollups().join(format!("{}{}", resolution.as_str(), grouping.suffix()));
    match resolution {
        Resolution::Minute => all.join(hour_folder(number)),
        Resolution::Hour => {
            let hour = hour_folder(number.saturating_mul(24));
            all.join(hour.split('/').next().unwrap_or_default())
        }
    }
}
