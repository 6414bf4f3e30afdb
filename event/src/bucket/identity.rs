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
    /// Changes that were tried after it; one of them may be in force.
    pub tried: Vec<String>,
}

/// Most changes that are remembered without knowing what became of them: all but the newest have long failed.
const TRIED_MAX: usize = 64;

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
            Some(tag) => self.last.as_deref() == Some(tag) || self.tried.iter().any(|tried| tried == tag),
        }
    }

    /// Notes a change that is about to be tried; to be stored before it is.
    pub fn will_try(&mut self, tag: &str) {
        if self.tried.len() >= TRIED_MAX {
            self.tried.remove(0);
        }
        self.tried.push(tag.to_owned());
    }

    /// Notes a change that is in force.
    pub fn settle(&mut self, tag: &str) {
        self.last = Some(tag.to_owned());
        self.tried.clear();
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
        let mut identity = Identity { collector: "c".into(), last: None, tried: Vec::new() };
        assert!(identity.knows(None) && !identity.knows(Some("1")));
        identity.will_try("1");
        assert!(identity.knows(None) && identity.knows(Some("1")));
        identity.settle("1");
        assert!(!identity.knows(None) && identity.knows(Some("1")));
        identity.will_try("2");
        identity.will_try("3");
        assert!(["1", "2", "3"].iter().all(|tag| identity.knows(Some(tag))) && !identity.knows(Some("4")));
        identity.settle("3");
        assert!(!identity.knows(Some("1")) && !identity.knows(Some("2")));
    }
}
