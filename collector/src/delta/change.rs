//! The difference of a table and its log, as commits.

use std::collections::{BTreeMap, BTreeSet};

use event::layout::FileEntry;
use jiff::Timestamp;

use super::action::{Action, Add, CommitInfo, Metadata, Protocol, Remove, Stats};
use super::schema::PARTITIONS;
use super::state::State;
use crate::erase;

/// The next commit on the way to a log that is equal to the files of a collector, by their names, which all begin with
/// `prefix`, and to what the table is to say of itself; nothing where it is.
///
/// What was sealed comes first, then what was merged, then the rest: a stream may leave out a commit that takes rows away, or
/// one that changes nothing, so neither has new rows beside it.
pub(super) fn next(
    state: &State,
    files: &BTreeMap<String, FileEntry>,
    prefix: &str,
    table: Metadata,
    now_ms: i64,
) -> Vec<Action> {
    let mine = state.files.range(prefix.to_owned()..).take_while(|(path, _)| path.starts_with(prefix));
    let mut going: Vec<&Add> =
        mine.filter(|(path, _)| !files.contains_key(*path)).map(|(_, add)| add).collect();
    // One of another size has its name anew, as in a folder that came back from a backup.
    let is_known = |path: &str, file: &FileEntry| {
        state.files.get(path).is_some_and(|add| u64::try_from(add.size) == Ok(file.bytes))
    };
    let coming = files.iter().filter(|(path, file)| !is_known(path, file));
    let (sealed, mut coming): (Vec<_>, Vec<_>) = coming.partition(|(path, file)| is_sealed(path, file));
    let moved = moved(&going, &coming);
    let (operation, data_change) = if !sealed.is_empty() {
        (going, coming) = (Vec::new(), sealed);
        ("WRITE", true)
    } else if !moved.is_empty() {
        going.retain(|add| moved.contains(folder(&add.path)));
        coming.retain(|(path, _)| moved.contains(folder(path)));
        ("OPTIMIZE", false)
    } else {
        (if going.is_empty() { "WRITE" } else { "DELETE" }, true)
    };
    let mut actions = Vec::new();
    if state.protocol.is_none() {
        actions.push(Action::Protocol(Protocol::ours()));
    }
    if state.metadata.as_ref() != Some(&table) {
        actions.push(Action::MetaData(table));
    }
    actions.extend(going.into_iter().map(|add| remove(add, data_change, now_ms)).map(Action::Remove));
    actions.extend(coming.into_iter().map(|(path, file)| Action::Add(add(path, file, data_change, now_ms))));
    if !actions.is_empty() {
        let info = CommitInfo {
            timestamp: now_ms,
            operation: operation.to_owned(),
            operation_parameters: BTreeMap::new(),
            engine_info: concat!("Tollhouse/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        actions.insert(0, Action::CommitInfo(info));
    }
    actions
}

/// Whether a file is as it was sealed: all its rows are new.
fn is_sealed(path: &str, file: &FileEntry) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    file.level == 0 && !name.starts_with(erase::PREFIX)
}

/// Folders in which the rows are those of before, in other files: merged ones came for others with as many rows.
fn moved<'a>(going: &[&'a Add], coming: &[(&'a String, &FileEntry)]) -> BTreeSet<&'a str> {
    // Rows that went and that came, by hour; a file of which nobody knows the rows has more than all others together.
    let mut hours: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for add in going {
        let (gone, _) = hours.entry(folder(&add.path)).or_default();
        *gone = gone.saturating_add(add.rows().unwrap_or(u64::MAX));
    }
    for (path, file) in coming {
        let (_, came) = hours.entry(folder(path)).or_default();
        *came = came.saturating_add(file.rows);
    }
    hours.retain(|_, (gone, came)| gone == came);
    hours.into_keys().collect()
}

/// The folder that a file is in, which is that of an hour.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn remove(add: &Add, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        path: add.path.clone(),
        deletion_timestamp: now_ms,
        data_change,
        extended_file_metadata: true,
        partition_values: add.partition_values.clone(),
        size: add.size,
    }
}

fn add(path: &str, file: &FileEntry, data_change: bool, now_ms: i64) -> Add {
    let values = PARTITIONS.map(|column| {
        let value = path.split('/').find_map(|part| part.strip_prefix(column)?.strip_prefix('='));
        // A number has no noughts before it.
        let number = value.and_then(|value| value.parse::<u64>().ok()).map(|number| number.to_string());
        (column.to_owned(), number.or(value.map(str::to_owned)))
    });
    Add {
        path: path.to_owned(),
        partition_values: values.into(),
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: now_ms,
        data_change,
        stats: serde_json::to_string(&stats(file)).ok(),
    }
}

/// Rows and times of a file. Times have three digits behind the second, the later one rounded up, as Spark expects.
fn stats(file: &FileEntry) -> Stats {
    let text = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|at| format!("{at:.3}"));
    let value = |text: Option<String>| text.map(|text| ("time".to_owned(), text)).into_iter().collect();
    let last_ms = file.time_max_us.div_euclid(1_000) + i64::from(file.time_max_us.rem_euclid(1_000) > 0);
    Stats {
        num_records: file.rows,
        min_values: value(text(file.time_min_us.div_euclid(1_000))),
        max_values: value(text(last_ms)),
    }
}
