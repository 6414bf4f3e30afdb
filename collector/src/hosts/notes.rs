//! What a sender must know after a crash, in `state/forward.json`: who it is, which receiver it used, how far its lanes
//! are acknowledged, and what receivers may have that others acknowledged.
//!
//! The rule that keeps books exact: nothing is taken back at a receiver that is not acknowledged by another and noted so
//! here, durably; and nothing is released from the spool before that either. So what is sent again after a crash was taken
//! back nowhere.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use event::hot::Watermarks;
use event::layout::{DataFolder, LayoutError, load, store};
use serde::{Deserialize, Serialize};

use super::wire::Span;

/// The notes of a sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Names this data folder's rows for receivers, whatever the node is called; random.
    pub(super) instance: String,
    /// The last session that was begun.
    pub(super) session: u64,
    /// The receiver in use.
    pub(super) current: Option<String>,
    /// How far each lane is acknowledged, by `node/core`.
    pub(super) marks: Watermarks,
    /// How far metrics and spans are, by lane.
    pub(super) observed: BTreeMap<u16, u64>,
    /// Receivers that were left with batches on the way.
    pub(super) doubts: Vec<Doubt>,
}

/// A receiver that may have rows that it did not acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Doubt {
    pub(super) url: String,
    /// What of each lane was acknowledged when it was left: rows behind it are in doubt.
    pub(super) after: BTreeMap<u16, u64>,
}

impl Notes {
    /// The notes of a data folder, or new ones.
    pub(super) fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        let found: Option<Self> = load(&path(folder))?;
        Ok(found.unwrap_or_else(|| {
            let part = || RandomState::new().hash_one(crate::now_us());
            Self { instance: format!("{:016x}{:016x}", part(), part()), ..Self::default() }
        }))
    }

    /// Writes them durably.
    pub(super) fn store(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        store(&path(folder), self, true)
    }

    /// What a receiver is to give up: what may be there behind its doubt, and others have acknowledged.
    pub(super) fn spans(&self, url: &str) -> BTreeMap<u16, Span> {
        let Some(doubt) = self.doubts.iter().find(|doubt| doubt.url == url) else { return BTreeMap::new() };
        let spans = self
            .sequences()
            .into_iter()
            .map(|(core, through)| (core, Span { after: doubt.after.get(&core).copied(), through }));
        spans.filter(|(_, span)| span.after.is_none_or(|after| after < span.through)).collect()
    }

    /// Says that a receiver may have rows that are acknowledged from now on by others.
    pub(super) fn leave(&mut self, url: &str) {
        // A doubt of before stands: what is in doubt since then was never settled.
        if !self.doubts.iter().any(|doubt| doubt.url == url) {
            self.doubts.push(Doubt { url: url.to_owned(), after: self.sequences() });
        }
    }

    /// Takes in what a receiver has after it gave up what it was told to: whether all is settled with it.
    pub(super) fn settle(&mut self, url: &str, told: &BTreeMap<u16, u64>, has: &BTreeMap<u16, u64>) -> bool {
        let settled = has.iter().all(|(core, has)| told.get(core).is_some_and(|through| through >= has));
        if settled {
            self.doubts.retain(|doubt| doubt.url != url);
        } else if let Some(doubt) = self.doubts.iter_mut().find(|doubt| doubt.url == url) {
            doubt.after.clone_from(told);
        }
        settled
    }

    /// How far each lane is acknowledged, by its number: the furthest, whatever the node was called.
    pub(super) fn sequences(&self) -> BTreeMap<u16, u64> {
        let mut sequences = BTreeMap::new();
        for (key, position) in &self.marks {
            if let Some(core) = core_of(key) {
                let known = sequences.entry(core).or_insert(position.sequence);
                *known = (*known).max(position.sequence);
            }
        }
        sequences
    }
}

/// The lane of a key `node/core`.
pub(super) fn core_of(key: &str) -> Option<u16> {
    key.rsplit_once('/')?.1.parse().ok()
}

/// How far each lane of a data folder was acknowledged by other hosts; nothing for one that never sent.
///
/// # Errors
/// When the notes cannot be read, or are damaged.
pub(crate) fn marks(folder: &DataFolder) -> Result<Watermarks, LayoutError> {
    let found: Option<Notes> = load(&path(folder))?;
    Ok(found.map(|notes| notes.marks).unwrap_or_default())
}

fn path(folder: &DataFolder) -> PathBuf {
    folder.state().join("forward.json")
}

#[cfg(test)]
mod tests {
    use event::spool::Position;

    use super::*;

    fn acknowledged(sequence: u64) -> Notes {
        let position = Position { sequence, life_us: 1, ordinal: sequence };
        Notes { marks: [("a/0".to_owned(), position)].into(), ..Notes::default() }
    }

    #[test]
    fn what_is_taken_back_lies_between_the_doubt_and_what_others_acknowledged() {
        let mut notes = acknowledged(5);
        notes.leave("A");
        assert!(notes.spans("A").is_empty(), "nothing is acknowledged elsewhere yet");
        notes.marks = acknowledged(9).marks;
        assert_eq!(notes.spans("A"), [(0, Span { after: Some(5), through: 9 })].into());
        assert!(notes.spans("B").is_empty());
        // A second leave does not forget what was in doubt before.
        notes.leave("A");
        assert_eq!(notes.doubts, [Doubt { url: "A".into(), after: [(0, 5)].into() }]);
    }

    #[test]
    fn a_doubt_ends_when_all_that_the_receiver_has_is_acknowledged_elsewhere() {
        let mut notes = acknowledged(5);
        notes.leave("A");
        notes.marks = acknowledged(9).marks;
        // It has rows up to 12, of which only those up to 9 are safe elsewhere.
        assert!(!notes.settle("A", &[(0, 9)].into(), &[(0, 12)].into()));
        notes.marks = acknowledged(12).marks;
        assert_eq!(notes.spans("A"), [(0, Span { after: Some(9), through: 12 })].into());
        assert!(notes.settle("A", &[(0, 12)].into(), &[(0, 12)].into()));
        assert!(notes.doubts.is_empty());
    }

    #[test]
    fn a_lane_that_is_new_since_the_doubt_is_in_doubt_from_its_beginning() {
        let mut notes = Notes::default();
        notes.leave("A");
        notes.marks = acknowledged(3).marks;
        assert_eq!(notes.spans("A"), [(0, Span { after: None, through: 3 })].into());
    }
}
