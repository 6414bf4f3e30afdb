//! Which rows a file gets, and in which order: packed batches, and the places of their rows sorted by time.

use super::source::{Column, Columns};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use event::hot::{unpack, unpack_column};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Microseconds of an hour: the rows of one go into one file.
pub(crate) const HOUR_US: i64 = 3_600_000_000;
/// Most batches of a file, and most rows of a batch: a place has two bytes for each.
const BATCHES_MAX: usize = 1 << 16;
/// Most rows of a batch whose places have a [`Row`].
pub(crate) const ROWS_MAX: usize = BATCHES_MAX;

/// Where a row stands in the batches, and when in its hour it was: `[microsecond u32][batch u16][row u16]`, the row in the
/// low bits. In order of these numbers rows are in order of their times, and those of one time in that of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row(u64);

impl Row {
    /// The row of a place, and its microseconds since its hour began.
    #[inline]
    pub(crate) fn new(us: u32, batch: u16, at: u16) -> Self {
        Self(u64::from(us) << 32 | u64::from(batch) << 16 | u64::from(at))
    }

    /// Microseconds since its hour began.
    pub(crate) fn us(self) -> i64 {
        (self.0 >> 32).cast_signed()
    }

    /// The index of its batch.
    #[inline]
    pub(crate) fn batch(self) -> usize {
        usize::from((self.0 >> 16) as u16)
    }

    /// Its index in the batch.
    #[inline]
    pub(crate) fn at(self) -> usize {
        usize::from(self.0 as u16)
    }
}

/// The rows of each hour by time; hours since 1970 (UTC).
///
/// # Errors
/// When a batch has no times.
pub(crate) fn order(batches: &[RecordBatch]) -> Result<BTreeMap<i64, Vec<Row>>, ArrowError> {
    let all = batches.iter().map(RecordBatch::num_rows).sum();
    let mut hours: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for (batch, columns) in (0_u64..).zip(batches) {
        let Some(time) = unpack_column(columns, "time")? else { continue };
        let mut times = (0_u64..).zip(time.as_primitive::<TimestampMicrosecondType>().values()).peekable();
        while let Some((_, first)) = times.peek() {
            let hour = first.div_euclid(HOUR_US);
            let (begin, end) = (hour * HOUR_US, hour.saturating_add(1).saturating_mul(HOUR_US));
            // Nearly always there is one hour.
            let room = if hours.is_empty() { all } else { 0 };
            let rows = hours.entry(hour).or_insert_with(|| Vec::with_capacity(room));
            while let Some((row, time)) = times.next_if(|(_, time)| (begin..end).contains(*time)) {
                let us = (time - begin).cast_unsigned();
                rows.push(Row(us << 32 | batch << 16 | row));
            }
        }
    }
    for rows in hours.values_mut() {
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
    }
    Ok(hours)
}

/// Some rows of a file, and the batches from the first to the last that they are in. A row group that is looked at with them
/// alone has no text of the others.
pub(super) fn within<'a>(batches: &'a [RecordBatch], rows: &'a [Row]) -> (&'a [RecordBatch], Cow<'a, [Row]>) {
    let first = rows.iter().map(|row| row.batch()).min().unwrap_or_default();
    let last = rows.iter().map(|row| row.batch()).max().unwrap_or_default();
    let batches = &batches[first..batches.len().min(last + 1)];
    if first == 0 {
        return (batches, Cow::Borrowed(rows));
    }
    (batches, rows.iter().map(|row| Row(row.0 - ((first as u64) << 16))).collect())
}

/// Batches of which there are not too many, and none has too many rows: of a file of very many small ones each is made of
/// several.
///
/// # Errors
/// When they cannot be unpacked.
pub(crate) fn bounded(batches: &[RecordBatch]) -> Result<Cow<'_, [RecordBatch]>, ArrowError> {
    bounded_by(batches, BATCHES_MAX)
}

/// The same for another bound of both.
pub(super) fn bounded_by(batches: &[RecordBatch], max: usize) -> Result<Cow<'_, [RecordBatch]>, ArrowError> {
    if batches.len() <= max && batches.iter().all(|batch| batch.num_rows() <= max) {
        return Ok(Cow::Borrowed(batches));
    }
    let (mut bounded, mut few, mut rows) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        for begin in (0..batch.num_rows()).step_by(max) {
            let piece = batch.slice(begin, max.min(batch.num_rows() - begin));
            if rows + piece.num_rows() > max {
                bounded.push(concat_batches(&event::columns::schema(), &few)?);
                (few, rows) = (Vec::new(), 0);
            }
            rows += piece.num_rows();
            few.push(unpack(&piece, None)?);
        }
    }
    bounded.push(concat_batches(&event::columns::schema(), &few)?);
    Ok(Cow::Owned(bounded))
}

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

/// Of one value per row, or of the items of lists: batch, and place in its array there.
enum All<'a> {
    Rows(&'a [Row]),
    Items(Vec<(u32, u32)>),
}

/// Places that are all in one batch.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    Rows(&'a [Row]),
    Items(&'a [(u32, u32)]),
}

impl Piece<'_> {
    /// The batch.
    pub(super) fn batch(self) -> usize {
        match self {
            Self::Rows(rows) => rows.first().map_or(0, |row| row.batch()),
            Self::Items(items) => items.first().map_or(0, |(batch, _)| *batch as usize),
        }
    }

    /// How many there are.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Items(items) => items.len(),
        }
    }

    /// Appends what is made of each place.
    #[inline]
    pub(super) fn extend<V>(self, out: &mut Vec<V>, value: impl Fn(usize) -> V) {
        match self {
            Self::Rows(rows) => out.extend(rows.iter().map(|row| value(row.at()))),
            Self::Items(items) => out.extend(items.iter().map(|(_, at)| value(*at as usize))),
        }
    }

    /// Shows each place.
    #[inline]
    pub(super) fn each(self, mut visit: impl FnMut(usize)) {
        match self {
            Self::Rows(rows) => rows.iter().for_each(|row| visit(row.at())),
            Self::Items(items) => items.iter().for_each(|(_, at)| visit(*at as usize)),
        }
    }
}

impl<'a> Places<'a> {
    /// Of columns with one value per row.
    pub(super) fn flat(rows: &'a [Row], page_rows: usize) -> Self {
        let pages = (0..rows.len()).step_by(page_rows).map(|begin| {
            let end = rows.len().min(begin + page_rows);
            Span { rows: end - begin, places: begin..end, lists: None }
        });
        Self { all: All::Rows(rows), pages: pages.collect() }
    }

    /// Of the items of a column of lists or maps, of which some batches have none.
    pub(super) fn items(rows: &'a [Row], page_rows: usize, lists: &Columns) -> Self {
        let is_single = |list: &Option<Column>| list.as_ref().is_some_and(Column::is_list_of_one);
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
            for row in rows {
                let (batch, at) = (row.batch() as u32, row.at());
                let (from, to) = match &lists[row.batch()] {
                    Some(list) if list.array.is_null(at) => {
                        repetition.push(0);
                        definition.push(0);
                        continue;
                    }
                    Some(list) if list.is_list_of_one() => (at as i32, at as i32 + 1),
                    Some(list) => {
                        offsets(&list.array).map_or((0, 0), |offsets| (offsets[at], offsets[at + 1]))
                    }
                    None => (0, 0),
                };
                if from == to {
                    repetition.push(0);
                    definition.push(1);
                }
                for item in from..to {
                    repetition.push(u8::from(item > from));
                    definition.push(2);
                    all.push((batch, item.cast_unsigned()));
                }
            }
            let lists = Some(Lists { single: false, repetition, definition });
            pages.push(Span { rows: rows.len(), places: begin..all.len(), lists });
        }
        Self { all: All::Items(all), pages }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match &self.all {
            All::Rows(rows) => rows.len(),
            All::Items(items) => items.len(),
        }
    }

    /// Shows some of them, as pieces of one batch each, in their order.
    pub(super) fn pieces(&self, range: Range<usize>, mut visit: impl FnMut(Piece<'_>)) {
        match &self.all {
            All::Rows(rows) => {
                let pieces = rows[range].chunk_by(|a, b| a.batch() == b.batch());
                pieces.for_each(|rows| visit(Piece::Rows(rows)));
            }
            All::Items(items) => {
                items[range].chunk_by(|a, b| a.0 == b.0).for_each(|items| visit(Piece::Items(items)));
            }
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
pub(crate) fn columns(batches: &[RecordBatch], name: &str) -> Columns {
    let column = |batch: &RecordBatch| {
        let schema = batch.schema_ref();
        let (index, field) = schema.fields().find(name)?;
        Some(Column { field: Arc::clone(field), array: Arc::clone(batch.column(index)) })
    };
    batches.iter().map(column).collect()
}

/// A field of the items of each list, if it has it.
pub(super) fn members(lists: &Columns, name: &str) -> Columns {
    let member = |list: &Column| {
        let items: &ArrayRef = match list.array.data_type() {
            DataType::Map(..) => {
                let entries = list.array.as_map().entries();
                let (index, field) = entries.fields().find(name)?;
                return Some(Column { field: Arc::clone(field), array: Arc::clone(entries.column(index)) });
            }
            DataType::FixedSizeList(..) => list.array.as_fixed_size_list().values(),
            _ => list.array.as_list_opt::<i32>()?.values(),
        };
        let items = items.as_struct_opt()?;
        let (index, field) = items.fields().find(name)?;
        Some(Column { field: Arc::clone(field), array: Arc::clone(items.column(index)) })
    };
    lists.iter().map(|list| list.as_ref().and_then(member)).collect()
}
