//! Which configuration a gateway runs with, and how the last attempt to change it went: a small file of the data folder
//! that the gateway writes, for metrics and for people.

use crate::layout::{self, DataFolder, LayoutError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// The process that runs with it.
    pub pid: u32,
    /// Reloads that were attempted since its start.
    pub attempts: u64,
    /// Whether the last attempt, or else the start, succeeded.
    pub successful: bool,
    /// When the last attempt was, or else the start; microseconds since 1970 (UTC).
    pub at_us: i64,
    /// When the one in force was read, microseconds since 1970 (UTC).
    pub success_at_us: i64,
    /// As its events name it.
    pub version: u64,
    /// Why the last attempt failed.
    pub problems: Vec<String>,
    /// Settings that differ from those of the start and need a restart.
    pub restart: Vec<String>,
}

impl Configuration {
    /// What a gateway has written last; none where none ever ran.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn load(folder: &DataFolder) -> Result<Option<Self>, LayoutError> {
        layout::load(&Self::path(folder))
    }

    /// Writes it. Atomic but not durable: a start writes it anew.
    ///
    /// # Errors
    /// When the disk refuses; the old one stays.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        layout::store(&Self::path(folder), self, false)
    }

    /// Where it is.
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("configuration.json")
    }
}
