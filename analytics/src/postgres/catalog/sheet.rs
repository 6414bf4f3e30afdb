//! A small table, written row by row with the columns that matter; the rest has its default.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int64Array, ListBuilder, StringArray, StringBuilder,
};
use datafusion::catalog::MemTable;
use datafusion::common::Result;

use crate::system::table;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Null,
    Number(i64),
    Truth(bool),
    Text(String),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// Columns by name and kind: `i` whole numbers, `f` numbers, `b` truths, `t` texts, `l` lists of text. Those of a large
/// letter are null where nothing is said, those of a small one 0, false or empty.
pub(super) struct Sheet {
    columns: Vec<(&'static str, char)>,
    rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// Of columns as in `oid i, relname t`.
    pub(super) fn new(columns: &'static str) -> Self {
        let columns = columns.split(',').filter_map(|column| {
            let (name, kind) = column.trim().split_once(' ')?;
            Some((name, kind.chars().next()?))
        });
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row of some columns.
    pub(super) fn row(&mut self, cells: &[(&str, Cell)]) {
        let cell = |(name, kind): &(&str, char)| match cells.iter().find(|(known, _)| known == name) {
            Some((_, cell)) => cell.clone(),
            None => match kind {
                'i' | 'f' => Cell::Number(0),
                'b' => Cell::Truth(false),
                't' => Cell::Text(String::new()),
                _ => Cell::Null,
            },
        };
        debug_assert!(
            cells.iter().all(|(name, _)| self.columns.iter().any(|(known, _)| known == name)),
            "a row names columns that there are"
        );
        self.rows.push(self.columns.iter().map(cell).collect());
    }

    pub(super) fn table(self) -> Result<MemTable> {
        let columns = self.columns.iter().enumerate().map(|(index, (name, kind))| {
            let cells = self.rows.iter().map(move |row| &row[index]);
            (*name, array(kind.to_ascii_lowercase(), cells))
        });
        table(columns.collect())
    }
}

fn array<'a>(kind: char, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    match kind {
        'i' => Arc::new(Int64Array::from_iter(cells.map(|cell| match cell {
            Cell::Number(number) => Some(*number),
            _ => None,
        }))),
        'f' => Arc::new(Float32Array::from_iter(cells.map(|cell| match cell {
            Cell::Number(number) => Some(*number as f32),
            _ => None,
        }))),
        'b' => Arc::new(BooleanArray::from_iter(cells.map(|cell| match cell {
            Cell::Truth(truth) => Some(*truth),
            _ => None,
        }))),
        'l' => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            cells.for_each(|_| lists.append_null());
            Arc::new(lists.finish())
        }
        _ => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
            Cell::Text(text) => Some(text.as_str()),
            _ => None,
        }))),
    }
}
