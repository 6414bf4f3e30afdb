//! What readers of the table found damaged, left for who shows it: metrics are made by another part of the house.

use super::{DataFolder, LayoutError, load, store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Sealed files that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Damage {
    /// What is wrong with each, by its path under the data folder. Files that left the table since may still be named.
    pub files: BTreeMap<String, String>,
}

impl Damage {
    /// What was last said; nothing for a folder of which nobody said anything.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged itself.
    pub fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(load(&Self::path(folder))?.unwrap_or_default())
    }

    /// Puts this in the place of it. Atomic but not durable: what is damaged is found again.
    ///
    /// # Errors
    /// When the disk refuses; what was said before stays.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        store(&Self::path(folder), self, false)
    }

    /// Where it is.
    pub fn path(folder: &DataFolder) -> PathBuf {
        folder.state().join("damage.json")
    }
}
