//! Columns of numbers, times, truth values and ids: absent values become nulls when a batch is finished.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;

/// Takes numbers out; those that equal `absent` become null. None if all do.
pub(super) fn numbers<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    absent: Option<T::Native>,
) -> Option<ArrayRef> {
    let nulls = match absent.map_or(Some(None), |absent| nulls(values, absent)) {
        Some(nulls) => nulls,
        None => {
            values.clear();
            return None;
        }
    };
    Some(Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(take(values)), nulls)))
}

/// Takes times out, which are UTC.
pub(super) fn times(values: &mut Vec<i64>) -> ArrayRef {
    let times = PrimitiveArray::<TimestampMicrosecondType>::new(ScalarBuffer::from(take(values)), None);
    Arc::new(times.with_timezone("UTC"))
}

/// Takes truth values out.
pub(super) fn booleans(values: &mut Vec<u8>) -> ArrayRef {
    let array = BooleanArray::new(BooleanBuffer::collect_bool(values.len(), |row| values[row] != 0), None);
    values.clear();
    Arc::new(array)
}

/// Takes ids out; those of zeros become null. None if all do.
///
/// # Errors
/// Never with ids of one length.
pub(super) fn ids<const N: usize>(values: &mut Vec<[u8; N]>) -> Result<Option<ArrayRef>, ArrowError> {
    let Some(nulls) = nulls(values, [0; N]) else {
        values.clear();
        return Ok(None);
    };
    let size = i32::try_from(N).expect("an id has few bytes");
    let bytes = Buffer::from_vec(take(values).into_flattened());
    Ok(Some(Arc::new(FixedSizeBinaryArray::try_new(size, bytes, nulls)?)))
}

/// Which values are there.
pub(super) fn present<T: PartialEq>(values: &[T], absent: T) -> NullBuffer {
    NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |row| values[row] != absent))
}

/// The mask of a column with both; `Some(None)` if no value is absent, none if all are. Most columns are one or the
/// other, which a plain look tells before any mask is made.
fn nulls<T: PartialEq>(values: &[T], absent: T) -> Option<Option<NullBuffer>> {
    let holes = values.iter().filter(|value| **value == absent).count();
    match holes {
        0 => Some(None),
        _ if holes == values.len() => None,
        _ => Some(Some(present(values, absent))),
    }
}

/// Takes the values out and leaves room for as many.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}
