//! A column of text as Arrow string views, built for values that repeat.
//!
//! `columns` pushes the bytes of one value per row. A value of at most 12 bytes lives in its view; a longer one is
//! looked up in a small direct-mapped cache, so that a name that repeats is stored once per batch and costs one
//! comparison per row: no hash of the whole value, no allocation. Any bytes are accepted; what is not UTF-8 is
//! stored with replacement characters.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};

/// Most bytes that a view holds itself (Arrow columnar format, "Variable-size Binary View Layout").
const INLINE_MAX: usize = 12;
/// Stands for an absent value until the batch is finished; no real view has this length.
const ABSENT: u128 = u128::MAX;
/// Places of the cache of recent long values. A power of two.
const RECENT: usize = 256;
/// The top bit of each of the 12 inline bytes.
const NON_ASCII: u128 = 0x8080_8080_8080_8080_8080_8080 << 32;

/// Text values of one column of the batch in the making.
#[derive(Debug)]
pub(crate) struct TextColumn {
    views: Vec<u128>,
    block: Vec<u8>,
    recent: Box<[u128; RECENT]>,
    rows: usize,
}

impl TextColumn {
    /// Room for `rows` values.
    pub(crate) fn new(rows: usize) -> Self {
        Self { views: Vec::with_capacity(rows), block: Vec::new(), recent: Box::new([ABSENT; RECENT]), rows }
    }

    /// Bytes kept beside the views.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block.len()
    }

    /// Values so far.
    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    /// Appends "no value".
    #[inline]
    pub(crate) fn push_absent(&mut self) {
        self.views.push(ABSENT);
    }

    /// Appends a value or its absence.
    #[inline]
    pub(crate) fn push_option(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.push(value),
            None => self.push_absent(),
        }
    }

    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) {
        let view = self.view(value);
        self.views.push(view);
    }

    /// Appends a view that `view` of this column returned since the last `finish`.
    #[inline]
    pub(crate) fn push_view(&mut self, view: u128) {
        self.views.push(view);
    }

    /// The view of a value, which is stored if it has not been met lately.
    #[inline]
    pub(crate) fn view(&mut self, value: &[u8]) -> u128 {
        if value.len() <= INLINE_MAX {
            let view = inline(value);
            if view & NON_ASCII == 0 || std::str::from_utf8(value).is_ok() {
                return view;
            }
            return self.store(value);
        }
        let slot = slot(value);
        let known = self.recent[slot];
        if known != ABSENT && known as u32 as usize == value.len() {
            let offset = (known >> 96) as usize;
            if self.block.get(offset..offset + value.len()) == Some(value) {
                return known;
            }
        }
        let view = self.store(value);
        self.recent[slot] = view;
        view
    }

    /// Stores a value that is long, new, or not UTF-8.
    #[cold]
    fn store(&mut self, value: &[u8]) -> u128 {
        let repaired;
        let bytes = match std::str::from_utf8(value) {
            Ok(_) => value,
            Err(_) => {
                repaired = String::from_utf8_lossy(value);
                repaired.as_bytes()
            }
        };
        if bytes.len() <= INLINE_MAX {
            return inline(bytes);
        }
        let offset = u32::try_from(self.block.len()).expect("a batch is flushed long before 4 GiB of text");
        self.block.extend_from_slice(bytes);
        let prefix = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // Length, first four bytes, number of the block (the only one: 0), offset in it.
        u128::from(bytes.len() as u32) | u128::from(prefix) << 32 | u128::from(offset) << 96
    }

    /// Takes the values out as an array and starts anew. With `nullable` false an absent value becomes empty text.
    pub(crate) fn finish(&mut self, nullable: bool) -> ArrayRef {
        let views = std::mem::replace(&mut self.views, Vec::with_capacity(self.rows));
        let block = std::mem::take(&mut self.block);
        self.block.reserve(block.len());
        self.recent.fill(ABSENT);
        Arc::new(array(
            views,
            if block.is_empty() { vec![] } else { vec![Buffer::from_vec(block)] },
            nullable,
        ))
    }
}

/// Makes the array; views that are absent become null, or empty where the column has no nulls.
fn array(mut views: Vec<u128>, blocks: Vec<Buffer>, nullable: bool) -> StringViewArray {
    let present = BooleanBuffer::collect_bool(views.len(), |row| views[row] != ABSENT);
    let nulls = NullBuffer::new(present);
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    if nulls.is_some() {
        for view in &mut views {
            if *view == ABSENT {
                *view = 0;
            }
        }
    }
    // SAFETY: each view is inline UTF-8 or points at a whole UTF-8 value inside block 0 with its own first four
    // bytes as prefix (`view` and `store` make no other); absent ones are zero, the empty text.
    unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), blocks, nulls.filter(|_| nullable)) }
}

/// A view that holds its value itself. `value` has at most 12 bytes.
#[inline]
fn inline(value: &[u8]) -> u128 {
    let mut view = [0_u8; 16];
    view[0] = value.len() as u8;
    view[4..4 + value.len()].copy_from_slice(value);
    u128::from_le_bytes(view)
}

/// The place of a value of more than 12 bytes in the cache: from its length and both its ends.
#[inline]
fn slot(value: &[u8]) -> usize {
    let end = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let mixed = end(&value[..8]).rotate_left(23) ^ end(&value[value.len() - 8..]) ^ value.len() as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

/// A column of the names of a closed vocabulary: one byte per row, turned into views when the batch is finished.
#[derive(Debug)]
pub(crate) struct NameColumn {
    codes: Vec<u8>,
    views: Box<[u128; 256]>,
    block: Option<Buffer>,
    rows: usize,
}

impl NameColumn {
    /// Room for `rows` values. `name` gives the name of a code, `None` for a code that is stored as null.
    pub(crate) fn new(rows: usize, name: impl Fn(u8) -> Option<&'static str>) -> Self {
        let mut names = TextColumn::new(0);
        let mut views = Box::new([ABSENT; 256]);
        for code in 0..=u8::MAX {
            if let Some(name) = name(code) {
                views[usize::from(code)] = names.view(name.as_bytes());
            }
        }
        let block = (!names.block.is_empty()).then(|| Buffer::from_vec(names.block));
        Self { codes: Vec::with_capacity(rows), views, block, rows }
    }

    /// Appends the name of a code.
    #[inline]
    pub(crate) fn push(&mut self, code: u8) {
        self.codes.push(code);
    }

    /// Takes the values out as an array and starts anew.
    pub(crate) fn finish(&mut self, nullable: bool) -> ArrayRef {
        let views = self.codes.iter().map(|code| self.views[usize::from(*code)]).collect();
        self.codes.clear();
        self.codes.reserve(self.rows);
        Arc::new(array(views, self.block.clone().into_iter().collect(), nullable))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn values_of_every_length_come_back_and_repeats_are_stored_once() {
        let mut column = TextColumn::new(4);
        let values: Vec<String> = (0..40).map(|length| "abcdefghij".repeat(4)[..length].to_owned()).collect();
        for value in values.iter().chain(&values) {
            column.push(value.as_bytes());
        }
        column.push_absent();
        let once: usize = values.iter().map(String::len).filter(|length| *length > INLINE_MAX).sum();
        assert!(column.block_bytes() <= 2 * once);
        let array = column.finish(true);
        array.to_data().validate_full().unwrap();
        let array = array.as_string_view();
        for (row, value) in values.iter().chain(&values).enumerate() {
            assert_eq!(array.value(row), value);
        }
        assert!(array.is_null(80));
        for _ in 0..1000 {
            column.push(b"a name of more than twelve bytes");
        }
        assert_eq!(column.block_bytes(), 32);
    }

    #[test]
    fn any_bytes_give_valid_text() {
        let mut column = TextColumn::new(4);
        let hostile: [&[u8]; 7] = [
            b"\xff",
            b"\r\n\0\x1b[31m",
            b"0123456789\xc3",
            b"\xff\xff\xff\xff\xff",
            b"long enough to be stored aside \xf0\x9f\x92 \x00",
            "h\u{e9}".as_bytes(),
            "a long value with an umlaut: \u{fc}".as_bytes(),
        ];
        for value in hostile {
            column.push(value);
            column.push(value);
        }
        let array = column.finish(true);
        array.to_data().validate_full().unwrap();
        let array = array.as_string_view();
        for (index, value) in hostile.iter().enumerate() {
            assert_eq!(array.value(2 * index), String::from_utf8_lossy(value));
            assert_eq!(array.value(2 * index + 1), String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn names_of_a_vocabulary_long_and_short_and_absent() {
        let name =
            |code| [Some("gateway"), Some("sidecar_inbound"), None].get(usize::from(code)).copied().flatten();
        let mut column = NameColumn::new(2, name);
        for _ in 0..2 {
            for code in [0, 1, 2, 9] {
                column.push(code);
            }
            let array = column.finish(true);
            array.to_data().validate_full().unwrap();
            let values: Vec<_> = array.as_string_view().iter().collect();
            assert_eq!(values, [Some("gateway"), Some("sidecar_inbound"), None, None]);
        }
    }
}
