//! The one try that a row need not list.
//!
//! Nearly every request is tried once and answered, and then all that the list `attempts` says of it stands in other
//! columns of the row: [`TELLING`]. Files leave such a list empty, and who reads them for SQL puts it back.

use crate::{ABSENT_U16, ABSENT_U32, AttemptError, RequestEvent, Text};

/// The columns that tell of it, in the order in which [`restore`] takes them.
pub const TELLING: [&str; 6] =
    ["upstream_addr", "upstream_status", "first_byte_us", "upstream_us", "connect_us", "upstream_span_id"];

/// Whether an event has one try, and its other columns say everything of it.
#[must_use]
pub fn is_told(event: &RequestEvent<'_>) -> bool {
    let mut tries = event.attempts();
    let (Some(only), None) = (tries.next(), tries.next()) else { return false };
    let head = event.head;
    only.error == AttemptError::None
        && only.status == head.upstream_status
        && only.status != ABSENT_U16
        && only.span_id == head.upstream_span_id
        && only.span_id != [0; 8]
        && only.duration_us == head.upstream_us
        && only.reused == (head.connect_us == ABSENT_U32)
        && head.first_byte_us != ABSENT_U32
        && head.first_byte_us.checked_sub(head.upstream_us) == Some(only.start_us)
        && event.text(Text::UpstreamAddr) == Some(only.addr)
}

#[cfg(feature = "arrow")]
pub use put_back::restore;

#[cfg(feature = "arrow")]
mod put_back {
    use super::TELLING;
    use crate::columns::{Kind, attempt_fields};
    use arrow::array::{
        Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray, UInt32Array, new_null_array,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::compute::{concat, filter, is_null, take};
    use arrow::datatypes::{DataType, UInt32Type};
    use arrow::error::ArrowError;
    use std::ops::Range;
    use std::sync::Arc;

    /// The column `attempts` with what [`super::is_told`] left out of it, from the columns [`TELLING`]. A row without a
    /// try has an empty list.
    ///
    /// # Errors
    /// When a column has another type than that of the table.
    pub fn restore(
        attempts: &ListArray,
        telling: &[ArrayRef; TELLING.len()],
    ) -> Result<ListArray, ArrowError> {
        let listed = |row: usize| -> Range<u32> {
            let [from, to] = [row, row + 1].map(|end| attempts.value_offsets()[end] as u32);
            if attempts.is_null(row) { 0..0 } else { from..to }
        };
        // A connection that was there already took no time to be made: its column says nothing.
        let [addr, status, first_byte, waited, _, span] = telling;
        let there =
            NullBuffer::union_many([addr, status, first_byte, waited, span].map(|column| column.nulls()));
        let is_told = |row| listed(row).is_empty() && there.as_ref().is_none_or(|there| there.is_valid(row));
        let told = BooleanArray::from_iter((0..attempts.len()).map(|row| Some(is_told(row))));
        let told_rows = told.values();

        let only = only_tries(&told, telling)?;
        let lengths = (0..attempts.len()).map(|row| if told_rows.value(row) { 1 } else { listed(row).len() });
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let values: ArrayRef = match offsets.last() {
            // Nothing is listed, as is usual.
            Some(&end) if end as usize == only.len() => Arc::new(only),
            _ => {
                let mut next = attempts.values().len() as u32;
                let places = (0..attempts.len()).flat_map(|row| match told_rows.value(row) {
                    true => {
                        next += 1;
                        next - 1..next
                    }
                    false => listed(row),
                });
                let places: UInt32Array = places.collect::<Vec<u32>>().into();
                take(&concat(&[attempts.values().as_ref(), &only])?, &places, None)?
            }
        };
        let DataType::List(item) = Kind::Attempts.data_type() else { unreachable!("attempts are a list") };
        ListArray::try_new(item, offsets, values, None)
    }

    /// The tries of the rows that are told.
    fn only_tries(
        told: &BooleanArray,
        telling: &[ArrayRef; TELLING.len()],
    ) -> Result<StructArray, ArrowError> {
        let chosen = telling.iter().map(|column| filter(column, told)).collect::<Result<Vec<_>, _>>()?;
        let [addr, status, first_byte, waited, connect, span] = &chosen[..] else {
            unreachable!("as many as there were")
        };
        let number = |column: &ArrayRef| {
            let wrong = || ArrowError::CastError("a duration is no unsigned 32".into());
            column.as_primitive_opt::<UInt32Type>().cloned().ok_or_else(wrong)
        };
        let (first_byte, duration) = (number(first_byte)?, number(waited)?);
        let both = first_byte.values().iter().zip(duration.values());
        let start: UInt32Array =
            both.map(|(first_byte, waited)| first_byte.saturating_sub(*waited)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::clone(addr),
            Arc::clone(status),
            new_null_array(&DataType::Utf8View, addr.len()),
            Arc::new(start),
            Arc::new(duration),
            Arc::new(is_null(connect)?),
            Arc::clone(span),
        ];
        StructArray::try_new(attempt_fields(), columns, None)
    }
}
