//! Which rows a file gets, and in which order: packed batches, and the places of their rows sorted by time.

use super::source::{Piece, Pieces};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use event::hot::unpack_column;
use std::ops::Range;
use std::sync::Arc;

/// Where a row stands in the batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) time: i64,
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// All rows by time; rows of the same time stay in the order of their arrival.
///
/// # Errors
/// When a batch has no times.
pub(crate) fn order(batches: &[RecordBatch]) -> Result<Vec<Row>, ArrowError> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (batch, columns) in (0_u32..).zip(batches) {
        let Some(time) = unpack_column(columns, "time")? else { continue };
        let time = time.as_primitive::<TimestampMicrosecondType>().values();
        rows.extend((0_u32..).zip(time.iter()).map(|(row, time)| Row { time: *time, batch, row }));
    }
    if !rows.is_sorted_by_key(|row| row.time) {
        rows.sort_by_key(|row| row.time);
    }
    Ok(rows)
}

/// Where a value stands: batch, and place in its array there.
pub(super) type Place = (u32, u32);

/// One data page: whole rows, and the places of their values.
pub(super) struct Span {
    pub(super) rows: usize,
    pub(super) places: Range<usize>,
    /// Of a column inside a list; a flat column has one place per row.
    pub(super) lists: Option<Lists>,
}

/// Levels of the entries of a page, before what the column itself adds.
pub(super) struct Lists {
    /// Whether each row has one item: the levels say nothing else then, and are left out.
    pub(super) single: bool,
    /// 0 where a row begins, 1 where it goes on.
    pub(super) repetition: Vec<u8>,
    /// 0 for no list, 1 for an empty one, 2 for an item.
    pub(super) definition: Vec<u8>,
}

/// The places of the values of a column, page by page.
pub(super) struct Places<'a> {
    all: All<'a>,
    pub(super) pages: Vec<Span>,
}

/// Of one value per row, or of the items of lists.
enum All<'a> {
    Rows(&'a [Place]),
    Items(Vec<Place>),
}

impl<'a> Places<'a> {
    /// Of columns with one value per row.
    pub(super) fn flat(rows: &'a [Place], page_rows: usize) -> Self {
        let pages = (0..rows.len()).step_by(page_rows).map(|begin| {
            let end = rows.len().min(begin + page_rows);
            Span { rows: end - begin, places: begin..end, lists: None }
        });
        Self { all: All::Rows(rows), pages: pages.collect() }
    }

    /// Of the items of a column of lists or maps, of which some batches have none.
    pub(super) fn items(rows: &'a [Place], page_rows: usize, lists: &Pieces) -> Self {
        let is_single = |list: &Option<Piece>| list.as_ref().is_some_and(Piece::is_list_of_one);
        if lists.iter().all(is_single) {
            // An item stands where its row does.
            let mut flat = Self::flat(rows, page_rows);
            for page in &mut flat.pages {
                page.lists = Some(Lists { single: true, repetition: Vec::new(), definition: Vec::new() });
            }
            return flat;
        }
        let (mut all, mut pages) = (Vec::with_capacity(rows.len()), Vec::new());
        for rows in rows.chunks(page_rows) {
            let begin = all.len();
            let mut repetition = Vec::with_capacity(rows.len());
            let mut definition = Vec::with_capacity(rows.len());
            for (batch, row) in rows {
                let (from, to) = match &lists[*batch as usize] {
                    Some(list) if list.array.is_null(*row as usize) => {
                        repetition.push(0);
                        definition.push(0);
                        continue;
                    }
                    Some(list) if list.is_list_of_one() => (row.cast_signed(), row.cast_signed() + 1),
                    Some(list) => offsets(&list.array)
                        .map_or((0, 0), |offsets| (offsets[*row as usize], offsets[*row as usize + 1])),
                    None => (0, 0),
                };
                if from == to {
                    repetition.push(0);
                    definition.push(1);
                }
                for item in from..to {
                    repetition.push(u8::from(item > from));
                    definition.push(2);
                    all.push((*batch, item.cast_unsigned()));
                }
            }
            let lists = Some(Lists { single: false, repetition, definition });
            pages.push(Span { rows: rows.len(), places: begin..all.len(), lists });
        }
        Self { all: All::Items(all), pages }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    /// Some of them, as pieces of one batch each, in their order.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[Place]> {
        self.all()[range].chunk_by(|a, b| a.0 == b.0)
    }

    fn all(&self) -> &[Place] {
        match &self.all {
            All::Rows(rows) => rows,
            All::Items(items) => items,
        }
    }
}

fn offsets(list: &ArrayRef) -> Option<&[i32]> {
    match list.data_type() {
        DataType::Map(..) => Some(list.as_map().value_offsets()),
        _ => list.as_list_opt::<i32>().map(|list| list.value_offsets()),
    }
}

/// A column of each batch, if it has it.
pub(super) fn columns(batches: &[RecordBatch], name: &str) -> Pieces {
    let column = |batch: &RecordBatch| {
        let schema = batch.schema_ref();
        let (index, field) = schema.fields().find(name)?;
        Some(Piece { field: Arc::clone(field), array: Arc::clone(batch.column(index)) })
    };
    batches.iter().map(column).collect()
}

/// A field of the items of each list, if it has it.
pub(super) fn members(lists: &Pieces, name: &str) -> Pieces {
    let member = |list: &Piece| {
        let items: &ArrayRef = match list.array.data_type() {
            DataType::Map(..) => {
                let entries = list.array.as_map().entries();
                let (index, field) = entries.fields().find(name)?;
                return Some(Piece { field: Arc::clone(field), array: Arc::clone(entries.column(index)) });
            }
            DataType::FixedSizeList(..) => list.array.as_fixed_size_list().values(),
            _ => list.array.as_list_opt::<i32>()?.values(),
        };
        let items = items.as_struct_opt()?;
        let (index, field) = items.fields().find(name)?;
        Some(Piece { field: Arc::clone(field), array: Arc::clone(items.column(index)) })
    };
    lists.iter().map(|list| list.as_ref().and_then(member)).collect()
}
