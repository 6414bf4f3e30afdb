//! How a column of a packed batch says what it holds in its field, where that takes less room than to write it out.
//!
//! A column whose values are all the same is of the type Null and its field says the value. Whole numbers and times are
//! what they are above the least of them, in the fewest bytes that hold that, and their field says the least.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, DictionaryArray, PrimitiveArray, StringArray,
    UInt8Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Key of the one value of a column of the type Null.
const VALUE: &str = "value";
/// Key of the least number of a column.
const BASE: &str = "base";

/// The field of a column that has one value only: a text as it is, a number in decimal (a signed one as the unsigned
/// number of the same bits), `true` or `false`.
pub fn field_of_one(name: &str, value: &str) -> Field {
    // Nullable, since that is what the type Null looks like to Arrow.
    Field::new(name, DataType::Null, true).with_metadata([(VALUE.to_owned(), value.to_owned())].into())
}

/// The field of a column of numbers above a base.
pub fn field_of_numbers(name: &str, width: DataType, nullable: bool, base: u64) -> Field {
    let field = Field::new(name, width, nullable);
    match base {
        0 => field,
        base => field.with_metadata([(BASE.to_owned(), base.to_string())].into()),
    }
}

/// The one value of a column; none if it is written out, or absent.
pub fn one_value(field: &Field) -> Option<&str> {
    field.metadata().get(VALUE).map(String::as_str)
}

/// What is to be added to each number of a column, with wrap-around.
///
/// # Errors
/// When the field says no number.
pub fn base(field: &Field) -> Result<u64, ArrowError> {
    field.metadata().get(BASE).map_or(Ok(0), |base| number(field.name(), base))
}

/// A column as the table has it.
pub(super) fn unfold(field: &Field, column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if let Some(value) = one_value(field) {
        return repeat(field.name(), value, to, column.len());
    }
    if !column.data_type().is_unsigned_integer() {
        return cast(column, to);
    }
    let base = base(field)?;
    Ok(match to {
        DataType::UInt16 => Arc::new(above::<UInt16Type>(column, |number| number.wrapping_add(base) as u16)?),
        DataType::UInt32 => Arc::new(above::<UInt32Type>(column, |number| number.wrapping_add(base) as u32)?),
        DataType::UInt64 => Arc::new(above::<UInt64Type>(column, |number| number.wrapping_add(base))?),
        DataType::Int64 => {
            Arc::new(above::<Int64Type>(column, |number| number.wrapping_add(base).cast_signed())?)
        }
        DataType::Timestamp(_, zone) => {
            let times =
                above::<TimestampMicrosecondType>(column, |number| number.wrapping_add(base).cast_signed())?;
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        other => return Err(ArrowError::CastError(format!("column {} is no {other}", field.name()))),
    })
}

fn number(name: &str, text: &str) -> Result<u64, ArrowError> {
    text.parse().map_err(|_| ArrowError::CastError(format!("column {name} says no number: {text:?}")))
}

/// A column of one value.
fn repeat(name: &str, value: &str, to: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let bits = || number(name, value);
    Ok(match to {
        DataType::UInt16 => Arc::new(PrimitiveArray::<UInt16Type>::from_value(bits()? as u16, rows)),
        DataType::UInt32 => Arc::new(PrimitiveArray::<UInt32Type>::from_value(bits()? as u32, rows)),
        DataType::UInt64 => Arc::new(PrimitiveArray::<UInt64Type>::from_value(bits()?, rows)),
        DataType::Int64 => Arc::new(PrimitiveArray::<Int64Type>::from_value(bits()?.cast_signed(), rows)),
        DataType::Timestamp(_, zone) => {
            let times = PrimitiveArray::<TimestampMicrosecondType>::from_value(bits()?.cast_signed(), rows);
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        DataType::Boolean if value == "true" => {
            Arc::new(BooleanArray::new(BooleanBuffer::new_set(rows), None))
        }
        DataType::Boolean => Arc::new(BooleanArray::new(BooleanBuffer::new_unset(rows), None)),
        to => {
            let text = Arc::new(StringArray::from(vec![value]));
            let codes = UInt8Array::from_value(0, rows);
            cast(&DictionaryArray::<UInt8Type>::try_new(codes, text)?, to)?
        }
    })
}

/// Numbers of any width, each made what it stands for.
fn above<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    to: impl Fn(u64) -> T::Native,
) -> Result<PrimitiveArray<T>, ArrowError> {
    Ok(match column.data_type() {
        DataType::UInt8 => column.as_primitive::<UInt8Type>().unary(|number| to(number.into())),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().unary(|number| to(number.into())),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().unary(|number| to(number.into())),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().unary(to),
        other => return Err(ArrowError::CastError(format!("numbers above a base are no {other}"))),
    })
}
