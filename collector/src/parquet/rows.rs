//! Which rows a file gets, and in which order: packed batches, and the places of their rows sorted by time.

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use std::ops::Range;

/// Where a row stands in the batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) time: i64,
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// All rows by time; rows of the same time stay in the order of their arrival.
pub(crate) fn order(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (batch, columns) in (0_u32..).zip(batches) {
        let Some(time) = columns.column_by_name("time") else { continue };
        let time = time.as_primitive::<TimestampMicrosecondType>().values();
        rows.extend((0_u32..).zip(time.iter()).map(|(row, time)| Row { time: *time, batch, row }));
    }
    if !rows.is_sorted_by_key(|row| row.time) {
        rows.sort_by_key(|row| row.time);
    }
    rows
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
    Rows(&'a [Row]),
    Items(Vec<Place>),
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
    pub(super) fn items(rows: &[Row], page_rows: usize, lists: &[Option<ArrayRef>]) -> Self {
        let offsets: Vec<Option<&[i32]>> =
            lists.iter().map(|list| list.as_ref().and_then(|list| offsets(list))).collect();
        let (mut all, mut pages) = (Vec::with_capacity(rows.len()), Vec::new());
        for rows in rows.chunks(page_rows) {
            let begin = all.len();
            let mut repetition = Vec::with_capacity(rows.len());
            let mut definition = Vec::with_capacity(rows.len());
            for row in rows {
                let list = lists[row.batch as usize].as_ref().zip(offsets[row.batch as usize]);
                let (from, to) = match list {
                    Some((list, _)) if list.is_null(row.row as usize) => {
                        repetition.push(0);
                        definition.push(0);
                        continue;
                    }
                    Some((_, offsets)) => (offsets[row.row as usize], offsets[row.row as usize + 1]),
                    None => (0, 0),
                };
                if from == to {
                    repetition.push(0);
                    definition.push(1);
                }
                for item in from..to {
                    repetition.push(u8::from(item > from));
                    definition.push(2);
                    all.push((row.batch, item.cast_unsigned()));
                }
            }
            let lists = Some(Lists { repetition, definition });
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

    /// Shows some of them in their order.
    #[inline]
    pub(super) fn each(&self, range: Range<usize>, mut visit: impl FnMut(Place)) {
        match &self.all {
            All::Rows(rows) => rows[range].iter().for_each(|row| visit((row.batch, row.row))),
            All::Items(items) => items[range].iter().for_each(|place| visit(*place)),
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
pub(super) fn columns(batches: &[RecordBatch], name: &str) -> Vec<Option<ArrayRef>> {
    batches.iter().map(|batch| batch.column_by_name(name).cloned()).collect()
}

/// A field of the items of each list, if it has it.
pub(super) fn members(lists: &[Option<ArrayRef>], name: &str) -> Vec<Option<ArrayRef>> {
    let member = |list: &ArrayRef| match list.data_type() {
        DataType::Map(..) => list.as_map().entries().column_by_name(name).cloned(),
        _ => list.as_list_opt::<i32>()?.values().as_struct_opt()?.column_by_name(name).cloned(),
    };
    lists.iter().map(|list| list.as_ref().and_then(member)).collect()
}

/// Columns in the type that is wanted; a cast is needed only for files of another version.
pub(super) fn cast_all(
    columns: Vec<Option<ArrayRef>>,
    to: &DataType,
) -> Result<Vec<Option<ArrayRef>>, ArrowError> {
    let one = |column: ArrayRef| match column.data_type() == to {
        true => Ok(column),
        false => cast(&column, to),
    };
    columns.into_iter().map(|column| column.map(one).transpose()).collect()
}

/// The values of a column where they stand: the plain values of each batch, and which of them are there. What is taken
/// out of it is taken page by page, so that it stays in the processor's cache and no memory is needed for a whole column.
pub(super) struct Source<'a, T> {
    batches: Vec<(&'a [T], Presence<'a>)>,
    /// Whether all are there.
    whole: bool,
}

/// Which values of a batch are there.
#[derive(Clone, Copy)]
enum Presence<'a> {
    All,
    Some(&'a NullBuffer),
    None,
}

impl<'a, T: Copy> Source<'a, T> {
    /// Of arrays, of which `slice` gives the plain values.
    pub(super) fn new(columns: &'a [Option<ArrayRef>], slice: impl Fn(&'a ArrayRef) -> &'a [T]) -> Self {
        let batch = |column: &'a Option<ArrayRef>| match column {
            None => (&[][..], Presence::None),
            Some(column) => match column.nulls().filter(|nulls| nulls.null_count() > 0) {
                Some(nulls) => (slice(column), Presence::Some(nulls)),
                None => (slice(column), Presence::All),
            },
        };
        let batches: Vec<_> = columns.iter().map(batch).collect();
        let whole = batches.iter().all(|(_, presence)| matches!(presence, Presence::All));
        Self { batches, whole }
    }

    /// Which values of some places are there; none if all are. `valid` is memory to use.
    pub(super) fn valid<'m>(
        &self,
        places: &Places<'_>,
        range: Range<usize>,
        valid: &'m mut Vec<bool>,
    ) -> Option<&'m [bool]> {
        if self.whole {
            return None;
        }
        valid.clear();
        valid.reserve(range.len());
        places.each(range, |place| valid.push(self.is_there(place)));
        valid.contains(&false).then_some(&valid[..])
    }

    /// Shows the values of some places in their order, without those that are not there.
    #[inline]
    pub(super) fn each(&self, places: &Places<'_>, range: Range<usize>, mut visit: impl FnMut(T)) {
        if self.whole {
            places.each(range, |(batch, at)| visit(self.batches[batch as usize].0[at as usize]));
        } else {
            places.each(range, |(batch, at)| {
                if self.is_there((batch, at)) {
                    visit(self.batches[batch as usize].0[at as usize]);
                }
            });
        }
    }

    #[inline]
    fn is_there(&self, (batch, at): Place) -> bool {
        match self.batches[batch as usize].1 {
            Presence::All => true,
            Presence::Some(nulls) => nulls.is_valid(at as usize),
            Presence::None => false,
        }
    }
}

/// Whether no batch has a value of a column.
pub(super) fn is_blank(columns: &[Option<ArrayRef>]) -> bool {
    columns.iter().flatten().all(|column| column.null_count() == column.len())
}
