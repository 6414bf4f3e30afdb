//! The columns that hold several values per row: tries at upstreams, and pairs that the configuration names.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, UInt16Type, UInt32Type};
use event::{ABSENT_U16, AttemptError, RequestEvent};

use super::numbers::{booleans, ids, numbers};
use super::text::{NameColumn, TextColumn};
use super::{ColumnsError, field};

/// The tries at upstreams: a list of structs.
#[derive(Debug)]
pub(super) struct Attempts {
    ends: Vec<i32>,
    addr: TextColumn,
    status: Vec<u16>,
    error: NameColumn,
    start_us: Vec<u32>,
    duration_us: Vec<u32>,
    reused: Vec<u8>,
    span_id: Vec<[u8; 8]>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            ends: vec![0],
            addr: TextColumn::new(),
            status: Vec::new(),
            error: NameColumn::new(|code| {
                let error = AttemptError::from_u8(code);
                (error != AttemptError::None).then_some(error.as_str())
            }),
            start_us: Vec::new(),
            duration_us: Vec::new(),
            reused: Vec::new(),
            span_id: Vec::new(),
        }
    }

    /// Bytes of dictionaries.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.addr.dictionary_bytes()
    }

    #[inline]
    pub(super) fn push(&mut self, event: &RequestEvent<'_>) {
        for attempt in event.attempts() {
            self.addr.push(self.status.len(), attempt.addr);
            self.status.push(attempt.status);
            self.error.push(attempt.error as u8);
            self.start_us.push(attempt.start_us);
            self.duration_us.push(attempt.duration_us);
            self.reused.push(u8::from(attempt.reused));
            self.span_id.push(attempt.span_id);
        }
        self.ends.push(end(self.status.len()));
    }

    /// Takes the values out; none if no row has a try.
    pub(super) fn finish(&mut self) -> Result<Option<ArrayRef>, ColumnsError> {
        let tries = self.status.len();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])));
        if tries == 0 {
            return Ok(None);
        }
        let columns = [
            ("addr", false, self.addr.finish(tries, false)),
            ("status", true, numbers::<UInt16Type>(&mut self.status, Some(ABSENT_U16))),
            ("error", true, self.error.finish()),
            ("start_us", false, numbers::<UInt32Type>(&mut self.start_us, None)),
            ("duration_us", false, numbers::<UInt32Type>(&mut self.duration_us, None)),
            ("connection_reused", false, Some(booleans(&mut self.reused))),
            ("span_id", true, ids(&mut self.span_id)?),
        ];
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns
            .into_iter()
            .filter_map(|(name, nullable, column)| {
                column.map(|column| (field(name, nullable, &column), column))
            })
            .unzip();
        let fields = Fields::from(fields);
        let item = Field::new("item", DataType::Struct(fields.clone()), false);
        let tries = StructArray::try_new(fields, columns, None)?;
        Ok(Some(Arc::new(ListArray::try_new(Arc::new(item), offsets, Arc::new(tries), None)?)))
    }
}

/// Pairs that the configuration names: a map of text to text.
#[derive(Debug)]
pub(super) struct Extra {
    ends: Vec<i32>,
    keys: TextColumn,
    values: TextColumn,
    pairs: usize,
}

impl Extra {
    pub(super) fn new() -> Self {
        Self { ends: vec![0], keys: TextColumn::new(), values: TextColumn::new(), pairs: 0 }
    }

    /// Bytes of dictionaries.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.keys.dictionary_bytes() + self.values.dictionary_bytes()
    }

    #[inline]
    pub(super) fn push(&mut self, event: &RequestEvent<'_>) {
        for (key, value) in event.extra() {
            self.keys.push(self.pairs, key);
            self.values.push(self.pairs, value);
            self.pairs += 1;
        }
        self.ends.push(end(self.pairs));
    }

    /// Takes the values out; none if no row has a pair.
    pub(super) fn finish(&mut self) -> Result<Option<ArrayRef>, ColumnsError> {
        let pairs = std::mem::take(&mut self.pairs);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])));
        let (Some(keys), Some(values)) = (
            self.keys.finish(pairs, true).filter(|_| pairs > 0),
            self.values.finish(pairs, true).filter(|_| pairs > 0),
        ) else {
            return Ok(None);
        };
        let fields = Fields::from(vec![field("keys", false, &keys), field("values", true, &values)]);
        let entries = Field::new("entries", DataType::Struct(fields.clone()), false);
        let pairs = StructArray::try_new(fields, vec![keys, values], None)?;
        Ok(Some(Arc::new(MapArray::try_new(Arc::new(entries), offsets, pairs, None, false)?)))
    }
}

fn end(length: usize) -> i32 {
    i32::try_from(length).expect("a batch has at most 65535 rows of 16 each")
}
