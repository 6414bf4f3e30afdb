//! The columns that hold several values per row: tries at upstreams, and pairs that the configuration names.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use event::{ABSENT_U16, AttemptError, RequestEvent};

use super::numbers::{BLOCK, Values, booleans, ids, numbers};
use super::text::{NameColumn, TextColumn};
use super::{ColumnsError, Packed};

/// The tries at upstreams: a list of structs.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Where the tries of a row begin, and those of the last that has some end.
    ends: Vec<i32>,
    tries: usize,
    addr: TextColumn,
    status: Values<u16>,
    errors: NameColumn,
    error: Values<u8>,
    start_us: Values<u32>,
    duration_us: Values<u32>,
    reused: Values<u8>,
    span_id: Values<[u8; 8]>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            ends: Vec::new(),
            tries: 0,
            addr: TextColumn::new(),
            status: Values::new(0),
            errors: NameColumn::new(|code| {
                let error = AttemptError::from_u8(code);
                (error != AttemptError::None).then_some(error.as_str())
            }),
            error: Values::new(0),
            start_us: Values::new(0),
            duration_us: Values::new(0),
            reused: Values::new(0),
            span_id: Values::new([0; 8]),
        }
    }

    /// Bytes of dictionaries.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.addr.dictionary_bytes()
    }

    /// Takes the tries of a row, unless other columns tell of the only one.
    #[inline]
    pub(super) fn push(&mut self, row: usize, event: &RequestEvent<'_>) {
        if event::tries::is_told(event) {
            return;
        }
        let before = self.tries;
        for attempt in event.attempts() {
            let at = self.tries;
            self.addr.push(at, attempt.addr);
            self.status.put(at, attempt.status);
            self.error.put(at, attempt.error as u8);
            self.start_us.put(at, attempt.start_us);
            self.duration_us.put(at, attempt.duration_us);
            self.reused.put(at, u8::from(attempt.reused));
            self.span_id.put(at, attempt.span_id);
            self.tries += 1;
            if self.tries.is_multiple_of(BLOCK) {
                self.spill();
            }
        }
        if self.tries > before {
            // The rows before that have none end where the last one that has ended.
            self.ends.resize(row + 1, end(before));
            self.ends.push(end(self.tries));
        }
    }

    fn spill(&mut self) {
        self.status.spill(self.tries);
        self.error.spill(self.tries);
        self.start_us.spill(self.tries);
        self.duration_us.spill(self.tries);
        self.reused.spill(self.tries);
        self.span_id.spill(self.tries);
    }

    /// Takes the values out; none if no row lists a try.
    pub(super) fn finish(&mut self, name: &str, rows: usize) -> Result<Option<Packed>, ColumnsError> {
        self.spill();
        let (tries, mut ends) = (std::mem::take(&mut self.tries), std::mem::take(&mut self.ends));
        if tries == 0 {
            return Ok(None);
        }
        ends.resize(rows + 1, end(tries));
        let error = self.errors.finish("error", true, self.error.all());
        self.error.clear();
        let columns = [
            self.addr.finish("addr", tries, false),
            numbers("status", &mut self.status, Some(ABSENT_U16)),
            error,
            numbers("start_us", &mut self.start_us, None),
            numbers("duration_us", &mut self.duration_us, None),
            booleans("connection_reused", &mut self.reused),
            ids("span_id", &mut self.span_id)?,
        ];
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) =
            columns.into_iter().flatten().map(|packed| (packed.field, packed.array)).unzip();
        let fields = Fields::from(fields);
        let item: FieldRef = Arc::new(Field::new("item", DataType::Struct(fields.clone()), false));
        let tries = Arc::new(StructArray::try_new(fields, columns, None)?);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let array: ArrayRef = Arc::new(ListArray::try_new(item, offsets, tries, None)?);
        Ok(Some(Packed { field: Field::new(name, array.data_type().clone(), true), array }))
    }
}

/// Pairs that the configuration names: a map of text to text.
#[derive(Debug)]
pub(super) struct Extra {
    /// Where the pairs of a row begin, and those of the last that has some end.
    ends: Vec<i32>,
    keys: TextColumn,
    values: TextColumn,
    pairs: usize,
}

impl Extra {
    pub(super) fn new() -> Self {
        Self { ends: Vec::new(), keys: TextColumn::new(), values: TextColumn::new(), pairs: 0 }
    }

    /// Bytes of dictionaries.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.keys.dictionary_bytes() + self.values.dictionary_bytes()
    }

    #[inline]
    pub(super) fn push(&mut self, row: usize, event: &RequestEvent<'_>) {
        let before = self.pairs;
        for (key, value) in event.extra() {
            self.keys.push(self.pairs, key);
            self.values.push(self.pairs, value);
            self.pairs += 1;
        }
        if self.pairs > before {
            // The rows before that have none end where the last one that has ended.
            self.ends.resize(row + 1, end(before));
            self.ends.push(end(self.pairs));
        }
    }

    /// Takes the values out; none if no row has a pair.
    pub(super) fn finish(&mut self, name: &str, rows: usize) -> Result<Option<Packed>, ColumnsError> {
        let pairs = std::mem::take(&mut self.pairs);
        let mut ends = std::mem::take(&mut self.ends);
        let (Some(keys), Some(values)) = (
            self.keys.finish_written(pairs, true, None).filter(|_| pairs > 0),
            self.values.finish_written(pairs, true, None).filter(|_| pairs > 0),
        ) else {
            return Ok(None);
        };
        ends.resize(rows + 1, end(pairs));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let fields = Fields::from(vec![
            Field::new("keys", keys.data_type().clone(), false),
            Field::new("values", values.data_type().clone(), true),
        ]);
        let entries = Field::new("entries", DataType::Struct(fields.clone()), false);
        let pairs = StructArray::try_new(fields, vec![keys, values], None)?;
        let array = Arc::new(MapArray::try_new(Arc::new(entries), offsets, pairs, None, false)?);
        Ok(Some(Packed { field: Field::new(name, array.data_type().clone(), true), array }))
    }
}

fn end(length: usize) -> i32 {
    i32::try_from(length).expect("a batch has at most 65535 rows of 16 each")
}
