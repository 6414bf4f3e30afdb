//! Columns of numbers, times, truth values and ids: what is absent becomes null when a batch is finished, and what takes
//! less room than its type (`event::hot::packed`) gets no more.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use event::hot::packed::{field_of_numbers, field_of_one};

use super::Packed;

/// Values that go to a column at once: kept side by side until then, each costs one store. A power of two.
pub(super) const BLOCK: usize = 32;

/// The values of one column of the batch in the making.
#[derive(Debug)]
pub(super) struct Values<T> {
    /// The last values, which are not in `all` yet.
    block: [T; BLOCK],
    all: Vec<T>,
}

impl<T: Copy> Values<T> {
    /// No values; `blank` is any value.
    pub(super) fn new(blank: T) -> Self {
        Self { block: [blank; BLOCK], all: Vec::new() }
    }

    /// Sets the value of a row. After each [`BLOCK`] rows, and before they are taken out, [`Self::spill`] is due.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, value: T) {
        self.block[row % BLOCK] = value;
    }

    /// Takes over the rows up to a number of them.
    pub(super) fn spill(&mut self, rows: usize) {
        let fresh = rows - self.all.len();
        self.all.extend_from_slice(&self.block[..fresh]);
    }

    /// All values that were taken over.
    pub(super) fn all(&self) -> &[T] {
        &self.all
    }

    /// Forgets them and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// Takes them out and leaves room for as many.
    fn take(&mut self) -> Vec<T> {
        let room = Vec::with_capacity(self.all.len());
        std::mem::replace(&mut self.all, room)
    }
}

/// A whole number.
pub(super) trait Whole: Copy + Ord {
    /// As 64 bits; the difference of two is that of their bits.
    fn bits(self) -> u64;
}

impl Whole for u16 {
    fn bits(self) -> u64 {
        self.into()
    }
}

impl Whole for u32 {
    fn bits(self) -> u64 {
        self.into()
    }
}

impl Whole for u64 {
    fn bits(self) -> u64 {
        self
    }
}

impl Whole for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }
}

/// Takes numbers out; those that equal `absent` become null. None if all do, or there are none.
pub(super) fn numbers<T: Whole>(name: &str, values: &mut Values<T>, absent: Option<T>) -> Option<Packed> {
    let packed = pack(name, values.all(), absent);
    values.clear();
    packed
}

fn pack<T: Whole>(name: &str, values: &[T], absent: Option<T>) -> Option<Packed> {
    let first = *values.first()?;
    // Most columns of a batch have one value, or none.
    if is_uniform(values) {
        let one = || Packed::one(field_of_one(name, &first.bits().to_string()), values.len());
        return (Some(first) != absent).then(one);
    }
    let nulls = absent.filter(|absent| values.contains(absent)).map(|absent| present(values, absent));
    let there = |value: &&T| nulls.is_none() || Some(**value) != absent;
    let (least, most) = match nulls {
        None => (values.iter().copied().fold(first, T::min), values.iter().copied().fold(first, T::max)),
        Some(_) => {
            let least = values.iter().filter(there).min()?;
            (*least, *values.iter().filter(there).max()?)
        }
    };
    let base = least.bits();
    let above = values.iter().map(|value| value.bits().wrapping_sub(base));
    let nullable = absent.is_some();
    let field = |width| field_of_numbers(name, width, nullable, base);
    Some(match most.bits().wrapping_sub(base) {
        0..=0xff => Packed {
            field: field(DataType::UInt8),
            array: array::<UInt8Type>(above.map(|number| number as u8).collect(), nulls),
        },
        0x100..=0xffff => Packed {
            field: field(DataType::UInt16),
            array: array::<UInt16Type>(above.map(|number| number as u16).collect(), nulls),
        },
        0x1_0000..=0xffff_ffff => Packed {
            field: field(DataType::UInt32),
            array: array::<UInt32Type>(above.map(|number| number as u32).collect(), nulls),
        },
        _ => Packed { field: field(DataType::UInt64), array: array::<UInt64Type>(above.collect(), nulls) },
    })
}

fn array<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

/// Takes truth values out; none if there are none.
pub(super) fn booleans(name: &str, values: &mut Values<u8>) -> Option<Packed> {
    let all = values.all();
    let first = *all.first()? != 0;
    let packed = if is_uniform(all) {
        Packed::one(field_of_one(name, if first { "true" } else { "false" }), all.len())
    } else {
        let bits = BooleanBuffer::collect_bool(all.len(), |row| all[row] != 0);
        let field = Field::new(name, DataType::Boolean, false);
        Packed { field, array: Arc::new(BooleanArray::new(bits, None)) }
    };
    values.clear();
    Some(packed)
}

/// Takes ids out; those of zeros become null. None if all do.
///
/// # Errors
/// Never with ids of one length.
pub(super) fn ids<const N: usize>(
    name: &str,
    values: &mut Values<[u8; N]>,
) -> Result<Option<Packed>, ArrowError> {
    let absent = [0; N];
    let holes = values.all().iter().filter(|value| **value == absent).count();
    if holes == values.all().len() {
        values.clear();
        return Ok(None);
    }
    let nulls = (holes > 0).then(|| present(values.all(), absent));
    let size = i32::try_from(N).expect("an id has few bytes");
    let bytes = Buffer::from_vec(values.take().into_flattened());
    let array = Arc::new(FixedSizeBinaryArray::try_new(size, bytes, nulls)?);
    Ok(Some(Packed { field: Field::new(name, DataType::FixedSizeBinary(size), true), array }))
}

/// Which values are there.
pub(super) fn present<T: PartialEq>(values: &[T], absent: T) -> NullBuffer {
    NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |row| values[row] != absent))
}

/// Whether all values are the same. Piece by piece without a branch, which the processor does on several at once.
pub(super) fn is_uniform<T: PartialEq>(values: &[T]) -> bool {
    let Some(first) = values.first() else { return true };
    values.chunks(256).all(|piece| piece.iter().fold(true, |same, value| same & (value == first)))
}
