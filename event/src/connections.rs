//! What became of client connections, as the gateway counts it: a small file in the data folder beside that of its
//! upstreams, written anew as often and read by whoever shows it.

use crate::layout::{DataFolder, LayoutError, load, store};
use crate::upstreams::is_late;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The counts, of the gateway's present life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionStates {
    /// When they were read, microseconds since 1970 (UTC).
    pub at_us: i64,
    /// How long until the next time, microseconds.
    pub interval_us: i64,
    /// Name of the gateway.
    pub node: String,
    /// Connections that are open.
    pub open: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Requests that were answered 503 because too many were under way.
    pub overloaded: u64,
    /// Connections that were turned away or ended early, by the name of the bound or the reason.
    pub ended: BTreeMap<String, u64>,
}

impl ConnectionStates {
    /// The counts as last written; empty for a folder without any.
    ///
    /// # Errors
    /// When they cannot be read, or are damaged.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(load(&Self::path(folder))?.unwrap_or_default())
    }

    /// Puts them in the place of the last ones. Atomic but not durable: the next ones come at once.
    ///
    /// # Errors
    /// When the disk refuses; the old ones stay.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        store(&Self::path(folder), self, false)
    }

    /// Where they are.
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("connections.json")
    }

    /// Whether the next ones should have been there long ago.
    #[must_use]
    pub fn is_old(&self, now_us: i64) -> bool {
        is_late(self.at_us, self.interval_us, now_us)
    }
}
