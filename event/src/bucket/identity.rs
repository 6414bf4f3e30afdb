//! Who a data folder is in the bucket: an id, made once, and the change that it made last.
//!
//! The tag of each change is on disk before the change is tried. So a start knows whether the bucket is as this folder left
//! it, whatever moment it was killed in; and a folder that was copied finds a tag that it does not know.

use serde::{Deserialize, Serialize};

use crate::layout::{self, DataFolder, LayoutError};

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Of the collector of this data folder.
    pub collector: String,
    /// The change that is known to be in force; none before the first.
    pub last: Option<String>,
    /// The change that was tried after it, and may be in force.
    pub next: Option<String>,
}

impl Identity {
    /// Who the folder is, if it ever was in a bucket.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn load(folder: &DataFolder) -> Result<Option<Self>, LayoutError> {
        layout::load(&Self::path(folder))
    }

    /// Puts it on disk, durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        layout::store(&Self::path(folder), self, true)
    }

    /// Whether the bucket is as this folder left it, by the tag that is found there.
    #[must_use]
    pub fn knows(&self, tag: Option<&str>) -> bool {
        match tag {
            None => self.last.is_none(),
            tag => tag == self.last.as_deref() || tag == self.next.as_deref(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(folder: &DataFolder) -> std::path::PathBuf {
        folder.state().join("bucket.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_folder_did_is_known_and_nothing_else() {
        let of = |last: Option<&str>, next: Option<&str>| Identity {
            collector: "c".into(),
            last: last.map(Into::into),
            next: next.map(Into::into),
        };
        assert!(of(None, None).knows(None) && !of(None, None).knows(Some("1")));
        assert!(of(None, Some("1")).knows(None) && of(None, Some("1")).knows(Some("1")));
        assert!(of(Some("1"), Some("2")).knows(Some("1")) && of(Some("1"), Some("2")).knows(Some("2")));
        assert!(!of(Some("1"), Some("2")).knows(Some("3")) && !of(Some("1"), Some("2")).knows(None));
    }
}
