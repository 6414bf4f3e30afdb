//! A column of text as dictionary codes, built for values that repeat.
//!
//! A value that was met before, in this batch or an earlier one, costs one hash and one comparison: no allocation, no
//! look at its UTF-8. Each batch has its own small dictionary of the values that occur in it, so its codes mostly
//! take one byte. Any bytes are accepted; what is not UTF-8 is shown with replacement characters.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowDictionaryKeyType, Field, UInt8Type, UInt16Type, UInt32Type};
use event::hot::packed::field_of_one;
use foldhash::fast::RandomState;

use super::{Packed, numbers};
use crate::compare::is_same;

/// Code of an absent value until the batch is finished.
const ABSENT: u32 = u32::MAX;
/// Values that are remembered from batch to batch; with more, memory begins anew at the next batch.
const KNOWN_MAX: usize = 1 << 16;
/// Bytes of them.
const KNOWN_BYTES_MAX: usize = 4 << 20;
/// Places of the table at the beginning. A power of two.
const PLACES_MIN: usize = 64;
/// A free place of the table.
const FREE: u32 = u32::MAX;

/// A value that was met.
#[derive(Debug, Clone, Copy)]
struct Known {
    hash: u64,
    /// Where in `bytes` it stands as it came.
    raw: (u32, u32),
    /// Where in `bytes` its text stands.
    text: (u32, u32),
    /// The batch that it was last met in.
    batch: u64,
    /// Its code there.
    code: u32,
}

/// Text values of one column of the batch in the making.
#[derive(Debug)]
pub(crate) struct TextColumn {
    hasher: RandomState,
    table: Vec<u32>,
    known: Vec<Known>,
    bytes: Vec<u8>,
    last: usize,
    batch: u64,
    /// The dictionary of this batch: indices into `known`, by code.
    dictionary: Vec<u32>,
    dictionary_bytes: usize,
    codes: Vec<u32>,
    present: usize,
}

impl TextColumn {
    /// A column without values.
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            table: vec![FREE; PLACES_MIN],
            known: Vec::new(),
            bytes: Vec::new(),
            last: 0,
            batch: 1,
            dictionary: Vec::new(),
            dictionary_bytes: 0,
            codes: Vec::new(),
            present: 0,
        }
    }

    /// Bytes of the dictionary of this batch.
    pub(crate) fn dictionary_bytes(&self) -> usize {
        self.dictionary_bytes
    }

    /// Sets the value of a row, the last one set or one behind it; the rows between have none.
    #[inline]
    pub(crate) fn push(&mut self, row: usize, value: &[u8]) {
        self.push_as(row, value, String::from_utf8_lossy);
    }

    /// The same for a value whose text is to be made of its bytes.
    #[inline]
    pub(crate) fn push_as(&mut self, row: usize, value: &[u8], text: impl FnOnce(&[u8]) -> Cow<'_, str>) {
        let code = self.code(value, text);
        if let Some(before) = self.codes.get_mut(row) {
            *before = code;
            return;
        }
        if self.codes.len() < row {
            self.codes.resize(row, ABSENT);
        }
        self.codes.push(code);
        self.present += 1;
    }

    #[inline]
    fn code(&mut self, value: &[u8], text: impl FnOnce(&[u8]) -> Cow<'_, str>) -> u32 {
        // Most columns often have the value of the row before.
        let index = match self.known.get(self.last) {
            Some(last) if is_same(self.raw(last), value) => self.last,
            _ => self.find(value, text),
        };
        self.last = index;
        let known = &mut self.known[index];
        if known.batch != self.batch {
            known.batch = self.batch;
            known.code = small(self.dictionary.len());
            self.dictionary.push(small(index));
            self.dictionary_bytes += (known.text.1 - known.text.0) as usize;
        }
        known.code
    }

    fn raw(&self, known: &Known) -> &[u8] {
        &self.bytes[known.raw.0 as usize..known.raw.1 as usize]
    }

    fn find(&mut self, value: &[u8], text: impl FnOnce(&[u8]) -> Cow<'_, str>) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(value);
        let hash = hasher.finish();
        let mask = self.table.len() - 1;
        let mut place = hash as usize & mask;
        // The table is at most half full, so a free place comes.
        while self.table[place] != FREE {
            let index = self.table[place] as usize;
            let known = &self.known[index];
            if known.hash == hash && is_same(self.raw(known), value) {
                return index;
            }
            place = (place + 1) & mask;
        }
        self.learn(hash, value, text)
    }

    #[cold]
    fn learn(&mut self, hash: u64, value: &[u8], text: impl FnOnce(&[u8]) -> Cow<'_, str>) -> usize {
        let raw = self.keep(value);
        let text = text(value);
        let text = if text.as_bytes() == value { raw } else { self.keep(text.as_bytes()) };
        self.known.push(Known { hash, raw, text, batch: 0, code: 0 });
        if self.table.len() < 2 * self.known.len() {
            self.table = vec![FREE; 2 * self.table.len()];
            (0..self.known.len()).for_each(|index| self.place(index));
        } else {
            self.place(self.known.len() - 1);
        }
        self.known.len() - 1
    }

    fn place(&mut self, index: usize) {
        let mask = self.table.len() - 1;
        let mut place = self.known[index].hash as usize & mask;
        while self.table[place] != FREE {
            place = (place + 1) & mask;
        }
        self.table[place] = small(index);
    }

    fn keep(&mut self, value: &[u8]) -> (u32, u32) {
        let begin = small(self.bytes.len());
        self.bytes.extend_from_slice(value);
        (begin, small(self.bytes.len()))
    }

    /// Takes the values of `rows` rows out and starts anew; none if no row has a value and `nullable`. Otherwise an
    /// absent value is null, or, where the column has no nulls, empty text.
    pub(crate) fn finish(&mut self, name: &str, rows: usize, nullable: bool) -> Option<Packed> {
        self.finish_groups(name, rows, nullable, None)
    }

    /// The same where the values were not set by row: `groups` has the place at which each row's value was.
    pub(crate) fn finish_groups(
        &mut self,
        name: &str,
        set: usize,
        nullable: bool,
        groups: Option<&[u32]>,
    ) -> Option<Packed> {
        let rows = groups.map_or(set, <[u32]>::len);
        if self.present == set && self.dictionary.len() == 1 {
            let (begin, end) = self.known[self.dictionary[0] as usize].text;
            // SAFETY: each piece is the whole of a `Cow<str>`.
            let text = unsafe { str::from_utf8_unchecked(&self.bytes[begin as usize..end as usize]) };
            let packed = Packed::one(field_of_one(name, text), rows);
            self.begin_batch();
            return Some(packed);
        }
        let array = self.finish_written(set, nullable, groups)?;
        Some(Packed { field: Field::new(name, array.data_type().clone(), nullable), array })
    }

    /// The same, always with each row's code written out.
    pub(crate) fn finish_written(
        &mut self,
        set: usize,
        nullable: bool,
        groups: Option<&[u32]>,
    ) -> Option<ArrayRef> {
        if self.present == 0 && nullable {
            return None;
        }
        if self.present < set && !nullable {
            let empty = self.code(b"", |_| Cow::Borrowed(""));
            self.codes.iter_mut().filter(|code| **code == ABSENT).for_each(|code| *code = empty);
            self.codes.resize(set, empty);
            self.present = set;
        }
        self.codes.resize(set, ABSENT);
        let is_there = |place: usize| self.codes[place] != ABSENT;
        let nulls = (self.present < set).then(|| match groups {
            None => numbers::present(&self.codes, ABSENT),
            Some(groups) => {
                let bit = |row: usize| is_there(groups[row] as usize);
                NullBuffer::new(BooleanBuffer::collect_bool(groups.len(), bit))
            }
        });
        if nulls.is_some() {
            // The code of a null says nothing, but has to exist.
            self.codes.iter_mut().filter(|code| **code == ABSENT).for_each(|code| *code = 0);
        }
        let values = self.values();
        let array = match self.dictionary.len() {
            0..=0x100 => coded::<UInt8Type>(self.spread(groups, |code| code as u8), nulls, values),
            0x101..=0x1_0000 => coded::<UInt16Type>(self.spread(groups, |code| code as u16), nulls, values),
            _ => coded::<UInt32Type>(self.spread(groups, |code| code), nulls, values),
        };
        self.begin_batch();
        Some(array)
    }

    /// The code of each row.
    fn spread<C: Copy>(&self, groups: Option<&[u32]>, narrow: impl Fn(u32) -> C) -> Vec<C> {
        let codes: Vec<C> = self.codes.iter().map(|code| narrow(*code)).collect();
        match groups {
            None => codes,
            Some(groups) => groups.iter().map(|group| codes[*group as usize]).collect(),
        }
    }

    fn values(&self) -> StringArray {
        let mut offsets = Vec::with_capacity(self.dictionary.len() + 1);
        let mut bytes = Vec::with_capacity(self.dictionary_bytes);
        offsets.push(0);
        for index in &self.dictionary {
            let (begin, end) = self.known[*index as usize].text;
            bytes.extend_from_slice(&self.bytes[begin as usize..end as usize]);
            offsets.push(i32::try_from(bytes.len()).expect("batch_bytes_max is far below 2 GiB"));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        // SAFETY: each piece is the whole of a `Cow<str>`, and the offsets stand between pieces.
        unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(bytes), None) }
    }

    fn begin_batch(&mut self) {
        self.codes.clear();
        self.present = 0;
        self.dictionary.clear();
        self.dictionary_bytes = 0;
        self.batch += 1;
        if self.known.len() > KNOWN_MAX || self.bytes.len() > KNOWN_BYTES_MAX {
            self.known.clear();
            self.bytes.clear();
            self.table = vec![FREE; PLACES_MIN];
            self.last = 0;
        }
    }
}

/// Codes and their dictionary as an array. Every code is a place in the dictionary.
fn coded<K: ArrowDictionaryKeyType>(
    codes: Vec<K::Native>,
    nulls: Option<NullBuffer>,
    values: StringArray,
) -> ArrayRef {
    let keys = PrimitiveArray::<K>::new(ScalarBuffer::from(codes), nulls);
    // SAFETY: each code was given out for a place in the dictionary; that of a null is 0, and where all are null there
    // is no array.
    Arc::new(unsafe { DictionaryArray::new_unchecked(keys, Arc::new(values)) })
}

/// Bounded by the bytes of a batch and by what is remembered.
fn small(count: usize) -> u32 {
    u32::try_from(count).expect("a batch is flushed long before 4 GiB of text")
}

/// A column of the names of a closed vocabulary: one byte per row, which the dictionary turns into names.
#[derive(Debug)]
pub(crate) struct NameColumn {
    /// The code in the array, by the code in the event; none for null.
    places: Box<[Option<u8>; 256]>,
    names: StringArray,
}

impl NameColumn {
    /// A vocabulary. `name` gives the name of a code, `None` for a code that is stored as null.
    pub(crate) fn new(name: impl Fn(u8) -> Option<&'static str>) -> Self {
        let mut names: Vec<&'static str> = Vec::new();
        let mut places = Box::new([None; 256]);
        for code in 0..=u8::MAX {
            let Some(name) = name(code) else { continue };
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            places[usize::from(code)] = u8::try_from(place).ok();
        }
        Self { places, names: StringArray::from(names) }
    }

    /// The names of codes; none if all are null.
    pub(crate) fn finish(&self, name: &str, nullable: bool, codes: &[u8]) -> Option<Packed> {
        let place = |code: &u8| self.places[usize::from(*code)];
        if numbers::is_uniform(codes) {
            let only = codes.first().and_then(place)?;
            let only = self.names.value(usize::from(only));
            return Some(Packed::one(field_of_one(name, only), codes.len()));
        }
        let nulls = NullBuffer::from_iter(codes.iter().map(|code| place(code).is_some()));
        if nulls.null_count() == nulls.len() {
            return None;
        }
        let codes: Vec<u8> = codes.iter().map(|code| place(code).unwrap_or_default()).collect();
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        let array = coded::<UInt8Type>(codes, nulls, self.names.clone());
        Some(Packed { field: Field::new(name, array.data_type().clone(), nullable), array })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::compute::cast;
    use arrow::datatypes::DataType;

    use super::*;

    fn texts(array: &ArrayRef) -> Vec<Option<String>> {
        array.to_data().validate_full().unwrap();
        let plain = cast(array, &DataType::Utf8).unwrap();
        plain.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
    }

    #[test]
    fn values_come_back_batch_after_batch_and_each_is_in_the_dictionary_once() {
        let mut column = TextColumn::new();
        let values: Vec<String> =
            (0..1000).map(|number| format!("{number}").repeat(number % 5)).chain([String::new()]).collect();
        let distinct: std::collections::BTreeSet<&String> = values.iter().collect();
        for few in [1001, 7, 1001] {
            let rows = values[..few].iter().chain(&values[..few]);
            rows.enumerate().for_each(|(row, value)| column.push(2 * row, value.as_bytes()));
            let array = column.finish_written(4 * few, true, None).unwrap();
            let read = texts(&array);
            assert_eq!(read.len(), 4 * few);
            for (row, value) in values[..few].iter().chain(&values[..few]).enumerate() {
                assert_eq!(read[2 * row].as_ref(), Some(value));
                assert_eq!(read[2 * row + 1], None);
            }
            let dictionary = array.as_any_dictionary().values();
            assert_eq!(dictionary.len(), if few == 7 { 6 } else { distinct.len() });
        }
    }

    #[test]
    fn a_column_without_a_value_is_left_out_or_filled_with_empty_text() {
        let mut column = TextColumn::new();
        assert!(column.finish("c", 3, true).is_none());
        assert_eq!(
            texts(&column.finish_written(2, false, None).unwrap()),
            [Some(String::new()), Some(String::new())]
        );
        column.push(1, b"x");
        let read = texts(&column.finish_written(3, false, None).unwrap());
        assert_eq!(read, ["", "x", ""].map(|value| Some(value.to_owned())));
    }

    #[test]
    fn any_bytes_give_valid_text() {
        let mut column = TextColumn::new();
        let hostile: [&[u8]; 7] = [
            b"\xff",
            b"\r\n\0\x1b[31m",
            b"0123456789\xc3",
            b"\xff\xff\xff\xff\xff",
            b"long enough to be stored aside \xf0\x9f\x92 \x00",
            "h\u{e9}".as_bytes(),
            "a long value with an umlaut: \u{fc}".as_bytes(),
        ];
        for (row, value) in hostile.iter().flat_map(|value| [value, value]).enumerate() {
            column.push(row, value);
        }
        let read = texts(&column.finish_written(14, true, None).unwrap());
        for (index, value) in hostile.iter().enumerate() {
            assert_eq!(read[2 * index].as_deref(), Some(&*String::from_utf8_lossy(value)));
            assert_eq!(read[2 * index + 1], read[2 * index]);
        }
    }

    #[test]
    fn a_flood_of_values_is_forgotten_between_batches() {
        let mut column = TextColumn::new();
        for batch in 0..4 {
            for row in 0..70_000 {
                column.push(row, format!("{batch}-{row}").as_bytes());
            }
            let read = texts(&column.finish_written(70_000, true, None).unwrap());
            assert_eq!(read[12_345].as_deref(), Some(&*format!("{batch}-12345")));
            assert!(column.known.len() <= KNOWN_MAX);
        }
    }

    #[test]
    fn names_of_a_vocabulary_and_absent_ones() {
        let name = |code| [Some("gateway"), Some("sidecar"), None].get(usize::from(code)).copied().flatten();
        let column = NameColumn::new(name);
        let read = texts(&column.finish("c", true, &[0, 1, 2, 9]).unwrap().array);
        assert_eq!(read, [Some("gateway".to_owned()), Some("sidecar".to_owned()), None, None]);
        let one = column.finish("c", true, &[1, 1]).unwrap();
        assert_eq!(event::hot::packed::one_value(&one.field), Some("sidecar"));
        assert!(column.finish("c", true, &[2, 2]).is_none() && column.finish("c", true, &[2, 9]).is_none());
    }

    #[test]
    fn rows_of_groups_have_the_values_of_their_groups() {
        let mut column = TextColumn::new();
        column.push(0, b"first");
        column.push(2, b"not this");
        column.push(2, b"third");
        let read = texts(&column.finish_written(4, true, Some(&[2, 0, 0, 1, 3, 2])).unwrap());
        let (first, third) = (Some("first".to_owned()), Some("third".to_owned()));
        assert_eq!(read, [third.clone(), first.clone(), first, None, None, third]);
        column.push(0, b"same");
        column.push(1, b"same");
        let one = column.finish_groups("c", 2, true, Some(&[1, 0, 1])).unwrap();
        assert_eq!(event::hot::packed::one_value(&one.field), Some("same"));
        assert_eq!(one.array.len(), 3);
    }
}
