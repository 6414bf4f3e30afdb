//! Hot files: the newest rows, readable while they are written.
//!
//! A hot file is a run of Arrow IPC streams, one per batch, each with a schema of its own: text is dictionary codes of
//! one or two bytes, numbers are as narrow as their spread, a column of one value says it in the schema, and one without
//! a value in the batch is left out ([`packed`] has the rules, [`unpack`] gives the full table back).
//! Beside the file stands its commit log, a JSON line per batch with where the batch ends, its checksum, how far each
//! lane is stored with it, how much of the file was durable by then, and a checksum of the line. A batch counts once its
//! line is whole; whatever lies behind the last whole line was being written when the process died, and is not part of the
//! table.

mod writer;

mod reader;

mod torn;

mod mend;

pub mod packed;

mod unpack;

use crate::layout::{LayoutError, checksum};
use crate::spool::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

pub use mend::{cut_damage, damaged_rows};
pub use reader::HotReader;
pub use torn::cut_torn_tail;
pub use unpack::{unpack, unpack_column};
pub use writer::HotWriter;

/// How far each lane is stored, by `node/core`.
pub type Watermarks = BTreeMap<String, Position>;

/// A line of the commit log.
#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    /// Where the batch begins; none in files of versions that did not say so: where the one before ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begin: Option<u64>,
    /// Length of the file with this batch.
    end: u64,
    rows: u64,
    /// XXH3-64 of what this commit added to the file, as hex.
    checksum: String,
    watermarks: Watermarks,
    /// Length of the file that was durable, with its lines, when this line was written.
    #[serde(default)]
    durable: u64,
    /// Rows of damaged batches that were cut out of the file.
    #[serde(default, skip_serializing_if = "is_zero")]
    lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What stands before the checksum of a line, which is of all that is before this.
const SUM: &str = ",\"sum\":\"";

impl Commit {
    /// Of a line without its end. Lines of versions that did not sum them are believed.
    fn of_line(line: &[u8]) -> Result<Self, String> {
        let said = line.windows(SUM.len()).rposition(|window| window == SUM.as_bytes());
        if let Some(at) = said
            && line[at + SUM.len()..] != *[checksum(&line[..at]).as_bytes(), b"\"}"].concat()
        {
            return Err("a line of the commit log does not match its checksum".into());
        }
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    fn write_line(&self, to: &mut Vec<u8>) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.pop();
        let sum = checksum(&line);
        write!(line, "{SUM}{sum}\"}}")?;
        to.append(&mut line);
        to.push(b'\n');
        Ok(())
    }
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
