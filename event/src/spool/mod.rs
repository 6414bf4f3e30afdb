//! The spool: a crash-safe hand-over from the gateway's cores to the collector, and the write-ahead log of events.
//!
//! Each core appends to segments of its own, pre-allocated files mapped into memory, so an append is two copies, a
//! checksum and one store: no lock, no system call, no allocation. The commit mark of a record is stored last. A
//! killed process loses nothing that was committed, since the page cache outlives it; the [`Spool`]'s keeper thread
//! calls fdatasync at an interval, which bounds what a power loss can take, unless the collector has put the records on
//! its own disk by then. The collector tails the segments with
//! [`LaneReader`], also from another process, and gives each back once all of it is stored: a few are written to again,
//! which costs a fraction of a new one, the rest is unlinked.
//!
//! While one process hands over to another, each writes to lanes of its own: those of its bank. A lane's number is
//! `bank * CORES_MAX + core`, and what events call their core.
//!
//! A sequence is `segment number << 24 | index in the segment`. Segment numbers are never used twice, so a sequence
//! names one event of a node's core for ever.

mod writer;

mod bank;

mod keeper;

mod syncer;

mod segment;

mod record;

mod reader;

mod counters;

pub use bank::{BANKS_MAX, CORES_MAX, place_of};
pub use counters::{CoreCounts, Counters, DropReason};
pub use keeper::Spool;
pub use reader::{LaneReader, Position, ReadError};
pub use writer::Writer;

use std::path::{Path, PathBuf};

/// Where events wait for the collector, and how many.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Size of one segment file in bytes; each core holds at least two.
    pub segment_bytes: u64,
    /// Most bytes of segments on disk, of all cores. When they are full, events are dropped and counted.
    pub bytes_max: u64,
    /// Longest that an event is on no disk, in milliseconds: the most that a power loss can take. A killed process loses
    /// nothing.
    pub sync_interval_ms: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, bytes_max: 1 << 30, sync_interval_ms: 200 }
    }
}

impl SpoolConfig {
    /// Least size of a segment.
    pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

    /// What is wrong with these values; `path` is where they stand.
    pub fn problems(&self, path: &str) -> Vec<crate::Problem> {
        let mut problems = Vec::new();
        if self.segment_bytes < Self::SEGMENT_BYTES_MIN || self.segment_bytes > 1 << 30 {
            problems.push(crate::Problem::new(
                format!("{path}.segment_bytes"),
                format!("must be from {} to {} bytes", Self::SEGMENT_BYTES_MIN, 1u64 << 30),
            ));
        }
        if self.bytes_max < self.segment_bytes.saturating_mul(2) {
            problems.push(
                crate::Problem::new(format!("{path}.bytes_max"), "holds fewer than two segments")
                    .hint("raise it, or lower segment_bytes"),
            );
        }
        if !(1..=60_000).contains(&self.sync_interval_ms) {
            problems.push(crate::Problem::new(
                format!("{path}.sync_interval_ms"),
                "must be from 1 to 60000 milliseconds",
            ));
        }
        problems
    }
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process has it.
    #[error("the spool {folder} is in use by another process: stop it, or choose another data folder")]
    InUse {
        /// The spool's folder.
        folder: PathBuf,
    },
    /// As many processes as may write to one spool do so already: they have handed over and still end.
    #[error("{BANKS_MAX} processes still write to the spool {folder}: wait until one of them has drained")]
    Banks {
        /// The spool's folder.
        folder: PathBuf,
    },
    /// More cores than a bank has lanes.
    #[error("a spool has room for {CORES_MAX} cores, not for {cores}")]
    Cores {
        /// As asked for.
        cores: u16,
    },
    /// The disk refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SpoolError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

fn lane_folder(folder: &Path, lane: u16) -> PathBuf {
    folder.join(format!("core-{lane:03}"))
}
