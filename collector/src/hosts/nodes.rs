//! Which data folders' rows have a node's name, in `state/receive.json`. Rows are taken back by the name of their node, so of
//! a name that two have nothing is: that must be known of a host also while it says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use event::hot::Watermarks;
use event::layout::{DataFolder, LayoutError, load, store};

/// The folders that have sent rows, by the names of nodes in them.
pub(super) struct Nodes {
    path: PathBuf,
    known: BTreeMap<String, BTreeSet<String>>,
}

impl Nodes {
    /// What is known of earlier starts.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub(super) fn load(folder: &DataFolder) -> Result<Self, LayoutError> {
        let path = folder.state().join("receive.json");
        let known: Option<BTreeMap<String, BTreeSet<String>>> = load(&path)?;
        Ok(Self { known: known.unwrap_or_default(), path })
    }

    /// Whether somebody else has sent rows of a node.
    pub(super) fn is_of_others(&self, node: &str, instance: &str) -> bool {
        self.known.get(node).is_some_and(|instances| instances.iter().any(|other| other != instance))
    }

    /// Notes, before any row of it is stored, that a folder's rows have a node's name. Folders without a mark have no rows
    /// here, and are left out: there are never more than marks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn note(&mut self, node: &str, instance: &str, marks: &Watermarks) -> Result<(), LayoutError> {
        if self.known.get(node).is_some_and(|instances| instances.contains(instance)) {
            return Ok(());
        }
        let stored: BTreeSet<&str> = marks.keys().filter_map(|key| Some(key.split_once('@')?.1)).collect();
        let mut known = self.known.clone();
        known.retain(|_, instances| {
            instances.retain(|other| other == instance || stored.contains(other.as_str()));
            !instances.is_empty()
        });
        known.entry(node.to_owned()).or_default().insert(instance.to_owned());
        store(&self.path, &known, true)?;
        self.known = known;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use event::spool::Position;

    use super::*;

    #[test]
    fn a_name_of_two_folders_is_known_after_a_start_too() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        let at = Position { sequence: 1, life_us: 1, ordinal: 1 };
        let marks: Watermarks = [("0@a".to_owned(), at), ("0@b".to_owned(), at)].into();
        let mut nodes = Nodes::load(&folder).unwrap();
        nodes.note("edge", "a", &marks).unwrap();
        assert!(!nodes.is_of_others("edge", "a") && nodes.is_of_others("edge", "b"));
        nodes.note("edge", "b", &marks).unwrap();
        let mut nodes = Nodes::load(&folder).unwrap();
        assert!(nodes.is_of_others("edge", "a") && nodes.is_of_others("edge", "b"));
        assert!(!nodes.is_of_others("other", "a"));
        // What has no rows here any more is forgotten with the next one who comes.
        let marks: Watermarks = [("0@b".to_owned(), at)].into();
        nodes.note("other", "c", &marks).unwrap();
        let nodes = Nodes::load(&folder).unwrap();
        assert!(!nodes.is_of_others("edge", "b") && nodes.is_of_others("other", "a"));
    }
}
