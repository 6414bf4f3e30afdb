//! Hot files: the newest rows, readable while they are written.
//!
//! A hot file is a run of Arrow IPC streams, one per batch, each with a schema of its own: text is dictionary codes of
//! one or two bytes, numbers are as narrow as their spread, a column of one value says it in the schema, and one without
//! a value in the batch is left out ([`packed`] has the rules, [`unpack`] gives the full table back).
//! Beside the file stands its commit log, a JSON line per batch with where the batch ends, its checksum, how far each
//! lane is stored with it, and how much of the file was durable by then. A batch counts once its line is whole; whatever
//! lies behind the last whole line was being written when the process died, and is not part of the table.

mod writer;

mod reader;

mod torn;

pub mod packed;

mod unpack;

use crate::layout::LayoutError;
use crate::spool::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use reader::HotReader;
pub use torn::cut_torn_tail;
pub use unpack::{unpack, unpack_column};
pub use writer::HotWriter;

/// How far each lane is stored, by `node/core`.
pub type Watermarks = BTreeMap<String, Position>;

/// A line of the commit log.
#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    /// Length of the file with this batch.
    end: u64,
    rows: u64,
    /// XXH3-64 of what this commit added to the file, as hex.
    checksum: String,
    watermarks: Watermarks,
    /// Length of the file that was durable, with its lines, when this line was written.
    #[serde(default)]
    durable: u64,
}

/// Why a hot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// The disk refused, or a file's bytes are not what was written.
    #[error(transparent)]
    File(#[from] LayoutError),
    /// Arrow refused a batch.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

#[cfg(test)]
mod tests;
