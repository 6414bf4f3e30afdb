//! Which rows go, for all orders that are carried out together.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::{UInt16Type, UInt32Type, UInt64Type};
use event::erasure::{LaneRange, Order, Subject};

/// The column that names whose a row is.
pub(super) const CONSUMER: &str = "consumer";
/// The columns that say which event it is.
const IDENTITY: [&str; 3] = ["node", "core", "sequence"];

/// What the orders are about, each with the place of its order.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    consumers: BTreeMap<String, usize>,
    lanes: Vec<(LaneRange, usize)>,
    pub(super) orders: usize,
}

impl Subjects {
    pub(super) fn of(orders: &[Order]) -> Self {
        let mut subjects = Self { orders: orders.len(), ..Self::default() };
        for (place, order) in orders.iter().enumerate() {
            match &order.subject {
                Subject::Consumer(name) => {
                    subjects.consumers.insert(name.clone(), place);
                }
                Subject::Lane(range) => subjects.lanes.push((range.clone(), place)),
            }
        }
        subjects
    }

    /// The same for roll-ups, whose groups know no lanes.
    pub(super) fn of_groups(&self) -> Self {
        Self { consumers: self.consumers.clone(), lanes: Vec::new(), orders: self.orders }
    }

    /// Whether a group of this consumer goes.
    pub(super) fn has_consumer(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.consumers.contains_key(name))
    }

    /// Whether an order is about a lane.
    pub(super) fn is_of_lane(&self, order: usize) -> bool {
        self.lanes.iter().any(|(_, place)| *place == order)
    }

    /// The columns that are to be read.
    pub(super) fn columns(&self) -> impl Iterator<Item = &'static str> {
        let identity = if self.lanes.is_empty() { &[][..] } else { &IDENTITY };
        std::iter::once(CONSUMER).chain(identity.iter().copied())
    }

    /// By which order each row goes, of a batch as the reader gives it; none for a row that stays. Nothing at all if a
    /// column is missing.
    pub(super) fn rows(&self, batch: &RecordBatch) -> Option<Vec<Option<usize>>> {
        let consumers = coded(batch, CONSUMER)?;
        let by_code = by_code(consumers, |name| self.consumers.get(name).copied())?;
        let mut rows: Vec<Option<usize>> = codes(consumers).map(|code| *by_code.get(code?)?).collect();
        if self.lanes.is_empty() {
            return Some(rows);
        }
        let nodes = coded(batch, "node")?;
        let cores = batch.column_by_name("core")?.as_primitive_opt::<UInt16Type>()?;
        let sequences = batch.column_by_name("sequence")?.as_primitive_opt::<UInt64Type>()?;
        for (range, order) in &self.lanes {
            let is_node = by_code_is(nodes, &range.node)?;
            for (at, code) in codes(nodes).enumerate() {
                let is_lane = code.is_some_and(|code| is_node.get(code) == Some(&true))
                    && cores.value(at) == range.core;
                if is_lane && (range.first..=range.last).contains(&sequences.value(at)) {
                    rows[at].get_or_insert(*order);
                }
            }
        }
        Some(rows)
    }
}

fn coded<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a DictionaryArray<UInt32Type>> {
    batch.column_by_name(name)?.as_dictionary_opt::<UInt32Type>()
}

/// The code of each row; none where the text is absent.
fn codes(column: &DictionaryArray<UInt32Type>) -> impl Iterator<Item = Option<usize>> {
    let keys = column.keys();
    (0..keys.len()).map(|at| keys.is_valid(at).then(|| keys.value(at) as usize))
}

/// What is said of each text of a dictionary.
fn by_code(
    column: &DictionaryArray<UInt32Type>,
    of: impl Fn(&str) -> Option<usize>,
) -> Option<Vec<Option<usize>>> {
    let texts: &StringArray = column.values().as_string_opt::<i32>()?;
    Some(texts.iter().map(|text| of(text?)).collect())
}

/// Which texts of a dictionary are this one.
fn by_code_is(column: &DictionaryArray<UInt32Type>, name: &str) -> Option<Vec<bool>> {
    Some(by_code(column, |text| (text == name).then_some(0))?.iter().map(Option::is_some).collect())
}
