//! Orders to erase rows, such as all that was recorded of someone: files in `state/erasures/` of the data folder, from a command to the
//! collector. What became of an order is in the manifest, which names nobody.

use crate::layout::{self, DataFolder, LayoutError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Most orders that are looked at at a time; more wait.
pub const ORDERS_MAX: usize = 1_000;
/// Kind of the files.
const KIND: &str = "order";

/// An order. It is about what was recorded before it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name, under which the manifest says what became of it.
    pub id: String,
    /// Which rows are to go.
    pub subject: Subject,
    /// When it was given, microseconds since 1970 (UTC).
    pub at_us: i64,
}

/// Which rows an order is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// All of a consumer, by its name.
    Consumer(String),
    /// Some of a lane: another collector stores them.
    Lane(LaneRange),
}

/// Events of one lane, by their sequences, which are unsigned and rise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRange {
    /// Name of the gateway.
    pub node: String,
    /// Number of the lane.
    pub core: u16,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

/// Orders of this process so far: of two in one microsecond each has a name.
static GIVEN: AtomicU32 = AtomicU32::new(0);

impl Order {
    /// An order of a moment, by this process.
    #[must_use]
    pub fn new(subject: Subject, at_us: i64) -> Self {
        let number = GIVEN.fetch_add(1, Ordering::Relaxed);
        Self { id: format!("{at_us:016}-{}-{number}", std::process::id()), subject, at_us }
    }

    /// Gives the order, durably: from now on it will be carried out.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn give(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        let orders = folder.erasures();
        fs::create_dir_all(&orders).map_err(LayoutError::io("create", &orders))?;
        layout::sync_folder(&folder.state()).map_err(LayoutError::io("sync", &folder.state()))?;
        layout::store(&self.path(folder), self, true)
    }

    /// Takes the order away: it was carried out, and the manifest says so.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take_away(&self, folder: &DataFolder) -> Result<(), LayoutError> {
        let path = self.path(folder);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
        .map_err(LayoutError::io("remove", &path))
    }

    fn path(&self, folder: &DataFolder) -> PathBuf {
        folder.erasures().join(&self.id).with_extension(KIND)
    }
}

/// Names of the orders that wait, oldest first, at most [`ORDERS_MAX`].
///
/// # Errors
/// When the folder cannot be listed.
pub fn waiting(folder: &DataFolder) -> Result<Vec<PathBuf>, LayoutError> {
    let path = folder.erasures();
    let listed = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(LayoutError::io("list", &path))?,
    };
    let mut orders = Vec::new();
    for entry in listed {
        let path = entry.map_err(LayoutError::io("list", &path))?.path();
        if path.extension().is_some_and(|kind| kind == KIND) {
            orders.push(path);
        }
    }
    orders.sort_unstable();
    orders.truncate(ORDERS_MAX);
    Ok(orders)
}

/// Reads an order; none if it has been taken away.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn read(path: &std::path::Path) -> Result<Option<Order>, LayoutError> {
    layout::load(path)
}

/// What became of an order. It does not say whom it was about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Erasure {
    /// Of which order.
    pub id: String,
    /// When it was given, microseconds since 1970 (UTC).
    pub at_us: i64,
    /// Rows of `requests` that left the table by it.
    pub rows: u64,
    /// Files that were written anew without them, roll-ups included.
    pub files: u64,
    /// Damaged files that had been set aside when it was done: nobody looked into them.
    #[serde(default)]
    pub set_aside: u64,
    /// When the last file with such rows was gone, microseconds since 1970 (UTC); none while it is being carried out.
    pub done_at_us: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_waits_until_it_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        assert!(waiting(&folder).unwrap().is_empty());
        let range = LaneRange { node: "n".into(), core: 1, first: 7, last: u64::MAX };
        let orders =
            [Order::new(Subject::Consumer("b'\u{1f4e6}/..".into()), 7), Order::new(Subject::Lane(range), 5)];
        orders.iter().for_each(|order| order.give(&folder).unwrap());
        fs::write(folder.erasures().join("note.txt"), "not an order").unwrap();
        let paths = waiting(&folder).unwrap();
        let read: Vec<_> = paths.iter().map(|path| super::read(path).unwrap().unwrap()).collect();
        assert_eq!(read, [orders[1].clone(), orders[0].clone()]);
        orders[1].take_away(&folder).unwrap();
        orders[1].take_away(&folder).unwrap();
        assert_eq!(super::read(&paths[0]).unwrap(), None);
        assert_eq!(waiting(&folder).unwrap(), paths[1..]);
        fs::write(&paths[1], "torn").unwrap();
        assert!(super::read(&paths[1]).is_err());
    }
}
