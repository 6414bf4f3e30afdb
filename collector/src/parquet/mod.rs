//! Rows into one Parquet file, step by step safe against a crash.
//!
//! The file is written under a temporary name, closed, synced, renamed, and its folder synced; its checksum is taken
//! on the way. It names no Arrow type: any reader finds plain strings, unsigned integers and UTC microseconds.
//!
//! Hot batches hold text as codes already, so the columns are encoded here and not by the crate's Arrow writer, which
//! would hash every value of every row anew: `rows` puts rows in order, `source` reads packed columns, `text` unites the
//! batches' dictionaries, `values` chooses an encoding for each kind of column, `chunk` lays out its pages, `table` goes
//! through the schema, `output` is the whole file, `unfinished` any file on its way to the disk. Pages, footer, page index
//! and bloom filters are serialised by the crate.

mod rows;

mod source;

mod text;

mod bits;

mod chunk;

mod few;

mod values;

mod table;

mod output;

mod unfinished;

use std::io;
use std::path::{Path, PathBuf};

use ::parquet::errors::ParquetError;
use arrow::array::RecordBatch;

use crate::config::ParquetConfig;
pub(crate) use output::{Order, Output};
pub(crate) use rows::{HOUR_US, ROWS_MAX, Row, bounded, columns, order};
pub(crate) use text::Texts;
pub(crate) use unfinished::Unfinished;

/// Ends the name of a file that is being written.
pub(crate) const TEMPORARY: &str = "tmp";
/// Key of the version of the schema in a file's metadata.
pub(crate) const VERSION_KEY: &str = "tollhouse.schema_version";

/// Why a Parquet file was not written.
#[derive(Debug, thiserror::Error)]
pub enum ParquetFileError {
    /// The disk.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The encoder, or the disk under it.
    #[error("cannot write {path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: ParquetError,
    },
    /// Whoever wanted it has no time any more.
    #[error("writing was stopped")]
    Stopped,
}

/// A file that stands whole on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// XXH3-64 as hex, as `event::layout::checksum` gives it.
    pub(crate) checksum: String,
}

/// Writes rows of packed batches, which are [`bounded`] and in order of time, as the file `path`.
///
/// # Errors
/// When the disk refuses; nothing is left then of what was begun.
pub(crate) fn write(
    path: &Path,
    config: &ParquetConfig,
    batches: &[RecordBatch],
    rows: &[Row],
) -> Result<Written, ParquetFileError> {
    let mut output = Output::create(path, config, Order::Time)?;
    for rows in rows.chunks(config.row_group_rows as usize) {
        let (batches, rows) = rows::within(batches, rows);
        output.row_group(batches, &rows, &|| false)?;
    }
    output.finish()
}

/// The name of a file while it is written.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    name.into()
}

#[cfg(test)]
mod tests;
