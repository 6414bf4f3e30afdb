//! Rows that another receiver has too, in `state/revoked.json`: their sender took them back here.
//!
//! A sender that got no acknowledgement goes to another receiver with the same rows. What this one stored of them all the
//! same is not to count. [`Revoked::remove`] is the one place where that is said; whoever removes rows from files finds the
//! ranges in [`ranges`].

use std::path::PathBuf;

use event::layout::{DataFolder, LayoutError, load, store};
use serde::{Deserialize, Serialize};

/// Rows of one lane that are to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// As in the rows' columns.
    pub(crate) node: String,
    pub(crate) core: u16,
    /// The data folder that they came from.
    pub(crate) instance: String,
    /// Sequences, both ends included.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The list.
#[derive(Debug)]
pub(super) struct Revoked {
    folder: DataFolder,
    ranges: Vec<Range>,
}

impl Revoked {
    /// What was said before.
    pub(super) fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        Ok(Self { folder: folder.clone(), ranges: ranges(folder)? })
    }

    /// Says, durably, that rows are to go.
    ///
    /// # Errors
    /// When the disk refuses; nothing is said then.
    pub(super) fn remove(&mut self, gone: Vec<Range>) -> Result<(), LayoutError> {
        let mut next = self.ranges.clone();
        for range in gone {
            let same = |known: &&mut Range| {
                (&known.node, known.core, &known.instance) == (&range.node, range.core, &range.instance)
                    && range.first <= known.last.saturating_add(1)
                    && known.first <= range.last.saturating_add(1)
            };
            match next.iter_mut().find(same) {
                Some(known) => {
                    (known.first, known.last) = (known.first.min(range.first), known.last.max(range.last));
                }
                None => next.push(range),
            }
        }
        if next != self.ranges {
            store(&path(&self.folder), &next, true)?;
            self.ranges = next;
        }
        Ok(())
    }
}

/// Every range that was taken back.
///
/// # Errors
/// When the list cannot be read, or is damaged.
pub(crate) fn ranges(folder: &DataFolder) -> Result<Vec<Range>, LayoutError> {
    Ok(load(&path(folder))?.unwrap_or_default())
}

fn path(folder: &DataFolder) -> PathBuf {
    folder.state().join("revoked.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_and_those_that_touch_are_one() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let range = |core, first, last| Range { node: "a".into(), core, instance: "i".into(), first, last };
        let mut revoked = Revoked::load(&folder).unwrap();
        revoked.remove(vec![range(0, 5, 9), range(1, 5, 9)]).unwrap();
        revoked.remove(vec![range(0, 10, 12), range(1, 20, 30)]).unwrap();
        revoked.remove(vec![range(0, 5, 9)]).unwrap();
        assert_eq!(ranges(&folder).unwrap(), [range(0, 5, 12), range(1, 5, 9), range(1, 20, 30)]);
    }
}
