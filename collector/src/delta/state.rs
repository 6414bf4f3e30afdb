//! What a log says when all of it is read.

use std::collections::BTreeMap;

use super::action::{Action, Add, Metadata, Protocol, Remove};

/// The sum of all commits up to one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// The last commit; none where there is no log.
    pub(super) version: Option<u64>,
    pub(super) protocol: Option<Protocol>,
    pub(super) metadata: Option<Metadata>,
    /// Files of the table, by their paths.
    pub(super) files: BTreeMap<String, Add>,
    /// Files that were of the table not long ago.
    pub(super) removed: BTreeMap<String, Remove>,
}

impl State {
    /// The version of the next commit.
    pub(super) fn next(&self) -> u64 {
        self.version.map_or(0, |version| version + 1)
    }

    /// Takes in the next action. (Protocol: "Action Reconciliation".)
    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::CommitInfo(_) => {}
            Action::Protocol(protocol) => self.protocol = Some(protocol),
            Action::MetaData(metadata) => self.metadata = Some(metadata),
            Action::Add(add) => {
                self.removed.remove(&add.path);
                self.files.insert(add.path.clone(), add);
            }
            Action::Remove(remove) => {
                self.files.remove(&remove.path);
                self.removed.insert(remove.path.clone(), remove);
            }
        }
    }

    /// Forgets files that nobody reads any more.
    pub(super) fn forget_removed_before(&mut self, then_ms: i64) {
        self.removed.retain(|_, remove| remove.deletion_timestamp >= then_ms);
    }

    /// All of it as actions, as a checkpoint has them.
    pub(super) fn actions(&self) -> impl Iterator<Item = Action> {
        let protocol = self.protocol.clone().map(Action::Protocol);
        let metadata = self.metadata.clone().map(Action::MetaData);
        let files = self.files.values().map(|add| Action::Add(Add { data_change: false, ..add.clone() }));
        let removed = self.removed.values();
        let removed = removed.map(|remove| Action::Remove(Remove { data_change: false, ..remove.clone() }));
        protocol.into_iter().chain(metadata).chain(files).chain(removed)
    }
}
