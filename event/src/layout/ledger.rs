//! The books: what became of every event.

use super::{DataFolder, LayoutError, load, store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

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
