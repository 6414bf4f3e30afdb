//! What a commit of a Delta log is made of: one JSON object in each line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What writers of the table must know, which nobody else does.
pub(super) const FEATURE: &str = "tollhouse";

/// One line. (Protocol: "Actions".)
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// Who made the commit, for people and for `DESCRIBE HISTORY`; of what is read it is left out.
    CommitInfo(CommitInfo),
    Protocol(Protocol),
    MetaData(Metadata),
    Add(Add),
    Remove(Remove),
}

/// Lines as actions; of those that say nothing about which files are the table none is made, since others may have any.
pub(super) fn parse(lines: &[u8]) -> Result<Vec<Action>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        protocol: Option<Protocol>,
        meta_data: Option<Metadata>,
        add: Option<Add>,
        remove: Option<Remove>,
    }
    let mut actions = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Line { protocol, meta_data, add, remove } = serde_json::from_slice(line)?;
        actions.extend(protocol.map(Action::Protocol));
        actions.extend(meta_data.map(Action::MetaData));
        actions.extend(add.map(Action::Add));
        actions.extend(remove.map(Action::Remove));
    }
    Ok(actions)
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitInfo {
    pub(super) timestamp: i64,
    pub(super) operation: String,
    pub(super) operation_parameters: BTreeMap<String, String>,
    pub(super) engine_info: String,
}

/// What readers and writers must be able to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) min_reader_version: i32,
    pub(super) min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer_features: Option<Vec<String>>,
}

impl Protocol {
    /// Every reader can read it, and no other writer can write it.
    pub(super) fn ours() -> Self {
        Self { min_reader_version: 1, min_writer_version: 7, writer_features: Some(vec![FEATURE.to_owned()]) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    /// A GUID that the table keeps.
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) format: Format,
    /// The columns, as JSON in a text.
    pub(super) schema_string: String,
    pub(super) partition_columns: Vec<String>,
    #[serde(default)]
    pub(super) configuration: BTreeMap<String, String>,
    pub(super) created_time: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) provider: String,
    #[serde(default)]
    pub(super) options: BTreeMap<String, String>,
}

/// A file that is of the table from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    pub(super) path: String,
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    pub(super) size: i64,
    pub(super) modification_time: i64,
    pub(super) data_change: bool,
    /// [`Stats`], as JSON in a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<String>,
}

impl Add {
    /// Rows of the file, where that is said.
    pub(super) fn rows(&self) -> Option<u64> {
        serde_json::from_str::<Stats>(self.stats.as_deref()?).ok().map(|stats| stats.num_records)
    }
}

/// What is in a file. (Protocol: "Per-file Statistics".)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    pub(super) num_records: u64,
    #[serde(default)]
    pub(super) min_values: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) max_values: BTreeMap<String, String>,
}

/// A file that is not of the table any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub(super) path: String,
    #[serde(default)]
    pub(super) deletion_timestamp: i64,
    pub(super) data_change: bool,
    #[serde(default)]
    pub(super) extended_file_metadata: bool,
    #[serde(default)]
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(super) size: i64,
}
