//! Batches as rows of PostgreSQL, in text and in binary.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, ListArray,
    StringViewArray, UInt64Array,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};

use super::calendar;
use super::numeric;
use super::reply::{self, Described, format_of};
use super::types::{self, PgType};
use crate::format::json_text;

/// A column whose type is one of those that can be written.
enum Column {
    Null,
    Bool(BooleanArray),
    Int2(arrow::array::Int16Array),
    Int4(arrow::array::Int32Array),
    Int8(arrow::array::Int64Array),
    Unsigned(UInt64Array),
    Float4(arrow::array::Float32Array),
    Float8(arrow::array::Float64Array),
    Decimal(arrow::array::Decimal128Array, i8),
    /// Numbers too large for that, as their digits.
    Digits(StringViewArray),
    Text(StringViewArray),
    Bytes(BinaryViewArray),
    Id(FixedSizeBinaryArray),
    Date(arrow::array::Date32Array),
    Time(arrow::array::Time64MicrosecondArray),
    Timestamp(arrow::array::TimestampMicrosecondArray, bool),
    Interval(arrow::array::IntervalMonthDayNanoArray),
    List(ListArray, Box<Column>, PgType),
}

/// The rows of a batch.
pub(super) struct Rows {
    columns: Vec<(Column, bool)>,
    pub(super) count: usize,
    /// The next one to write.
    pub(super) next: usize,
}

/// Texts are put together here.
#[derive(Default)]
pub(super) struct Scratch(String);

impl Rows {
    /// Those of a batch, as they were announced.
    pub(super) fn new(
        batch: &RecordBatch,
        announced: &[Described],
        formats: &[i16],
    ) -> Result<Self, ArrowError> {
        let schema = batch.schema();
        let columns =
            schema.fields().iter().zip(batch.columns()).enumerate().map(|(index, (field, values))| {
                let wanted =
                    announced.get(index).map_or_else(|| types::of(field.data_type()), |one| one.kind);
                Ok((column(field, values, wanted)?, format_of(formats, index) == 1))
            });
        Ok(Self { columns: columns.collect::<Result<_, ArrowError>>()?, count: batch.num_rows(), next: 0 })
    }

    /// What is left of them is written as this; each FETCH of a cursor may say another format.
    pub(super) fn show_as(&mut self, formats: &[i16]) {
        for (index, (_, binary)) in self.columns.iter_mut().enumerate() {
            *binary = format_of(formats, index) == 1;
        }
    }

    /// Writes the next row.
    pub(super) fn write(&mut self, out: &mut BytesMut, scratch: &mut Scratch) {
        let row = self.next;
        reply::row(out, self.columns.len(), |out| {
            for (column, binary) in &self.columns {
                column.write(out, row, *binary, scratch);
            }
        });
        self.next += 1;
    }
}

/// A column as one of a type that was announced.
fn column(field: &Field, values: &ArrayRef, wanted: PgType) -> Result<Column, ArrowError> {
    let own = types::of(field.data_type());
    if own == wanted {
        return plain(field, values);
    }
    // It was announced before its parameters were known.
    let kind = arrow_type(wanted.oid).unwrap_or(DataType::Utf8View);
    let values = cast_with_options(values, &kind, &CastOptions { safe: false, ..CastOptions::default() })?;
    plain(&Field::new(field.name(), kind, true), &values)
}

/// The Arrow type that a type of PostgreSQL is written from.
pub(super) fn arrow_type(oid: u32) -> Option<DataType> {
    if let Some(place) = types::LISTS.iter().position(|list| list.oid == oid) {
        let item = arrow_type(types::SCALARS[place].oid)?;
        return Some(DataType::List(Arc::new(Field::new("item", item, true))));
    }
    Some(match oid {
        16 => DataType::Boolean,
        17 => DataType::BinaryView,
        20 => DataType::Int64,
        21 => DataType::Int16,
        23 => DataType::Int32,
        700 => DataType::Float32,
        701 => DataType::Float64,
        1082 => DataType::Date32,
        1083 => DataType::Time64(TimeUnit::Microsecond),
        1114 => DataType::Timestamp(TimeUnit::Microsecond, None),
        1184 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        1186 => DataType::Interval(IntervalUnit::MonthDayNano),
        1700 => DataType::Decimal128(38, 9),
        25 | 114 => DataType::Utf8View,
        _ => return None,
    })
}

fn plain(field: &Field, values: &ArrayRef) -> Result<Column, ArrowError> {
    let to = |kind: DataType| cast(values, &kind);
    Ok(match field.data_type() {
        DataType::Null => Column::Null,
        DataType::Boolean => Column::Bool(values.as_boolean().clone()),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => {
            Column::Int2(to(DataType::Int16)?.as_primitive::<Int16Type>().clone())
        }
        DataType::UInt16 | DataType::Int32 => {
            Column::Int4(to(DataType::Int32)?.as_primitive::<Int32Type>().clone())
        }
        DataType::UInt32 | DataType::Int64 => {
            Column::Int8(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
        }
        DataType::UInt64 => Column::Unsigned(values.as_primitive::<UInt64Type>().clone()),
        DataType::Float16 | DataType::Float32 => {
            Column::Float4(to(DataType::Float32)?.as_primitive::<Float32Type>().clone())
        }
        DataType::Float64 => Column::Float8(values.as_primitive::<Float64Type>().clone()),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            let wide = to(DataType::Decimal128(38, *scale))?;
            Column::Decimal(wide.as_primitive::<Decimal128Type>().clone(), *scale)
        }
        DataType::Decimal256(..) => {
            let wide = values.as_primitive::<Decimal256Type>();
            let digits = (0..wide.len()).map(|row| wide.is_valid(row).then(|| wide.value_as_string(row)));
            Column::Digits(digits.collect())
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Column::Text(to(DataType::Utf8View)?.as_string_view().clone())
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            Column::Bytes(to(DataType::BinaryView)?.as_binary_view().clone())
        }
        DataType::FixedSizeBinary(_) => Column::Id(values.as_fixed_size_binary().clone()),
        DataType::Date32 | DataType::Date64 => {
            Column::Date(to(DataType::Date32)?.as_primitive::<Date32Type>().clone())
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let time = to(DataType::Time64(TimeUnit::Microsecond))?;
            Column::Time(time.as_primitive::<Time64MicrosecondType>().clone())
        }
        DataType::Timestamp(_, zone) => {
            let time = to(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            Column::Timestamp(time.as_primitive::<TimestampMicrosecondType>().clone(), zone.is_some())
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let interval = to(DataType::Interval(IntervalUnit::MonthDayNano))?;
            Column::Interval(interval.as_primitive::<IntervalMonthDayNanoType>().clone())
        }
        DataType::Dictionary(_, kind) => {
            let field = Field::new(field.name(), kind.as_ref().clone(), true);
            return plain(&field, &to(kind.as_ref().clone())?);
        }
        DataType::RunEndEncoded(_, kind) => {
            let field = Field::new(field.name(), kind.data_type().clone(), true);
            return plain(&field, &to(kind.data_type().clone())?);
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if !item.data_type().is_nested() =>
        {
            let list = to(DataType::List(Arc::clone(item)))?.as_list::<i32>().clone();
            let (kind, items) = (types::of(item.data_type()), plain(item, list.values())?);
            Column::List(list, Box::new(items), kind)
        }
        _ => Column::Text(cast(&json_text(field, values)?, &DataType::Utf8View)?.as_string_view().clone()),
    })
}

/// Writes a value with its length before it.
fn sized(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    write(out);
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

impl Column {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(values) => values.is_null(row),
            Self::Int2(values) => values.is_null(row),
            Self::Int4(values) => values.is_null(row),
            Self::Int8(values) => values.is_null(row),
            Self::Unsigned(values) => values.is_null(row),
            Self::Float4(values) => values.is_null(row),
            Self::Float8(values) => values.is_null(row),
            Self::Decimal(values, _) => values.is_null(row),
            Self::Digits(values) | Self::Text(values) => values.is_null(row),
            Self::Bytes(values) => values.is_null(row),
            Self::Id(values) => values.is_null(row),
            Self::Date(values) => values.is_null(row),
            Self::Time(values) => values.is_null(row),
            Self::Timestamp(values, _) => values.is_null(row),
            Self::Interval(values) => values.is_null(row),
            Self::List(values, ..) => values.is_null(row),
        }
    }

    fn write(&self, out: &mut BytesMut, row: usize, binary: bool, scratch: &mut Scratch) {
        if self.is_null(row) {
            out.put_i32(-1);
        } else if let Self::Text(values) = self {
            // The most frequent one, without a detour.
            sized(out, |out| out.put_slice(values.value(row).as_bytes()));
        } else if binary {
            sized(out, |out| self.binary(out, row));
        } else {
            scratch.0.clear();
            self.text(&mut scratch.0, row);
            sized(out, |out| out.put_slice(scratch.0.as_bytes()));
        }
    }

    /// Writes a value that is not null. Writing to a text cannot fail.
    fn text(&self, out: &mut String, row: usize) {
        let _ = match self {
            Self::Null => Ok(()),
            Self::Bool(values) => out.write_str(if values.value(row) { "t" } else { "f" }),
            Self::Int2(values) => write!(out, "{}", values.value(row)),
            Self::Int4(values) => write!(out, "{}", values.value(row)),
            Self::Int8(values) => write!(out, "{}", values.value(row)),
            Self::Unsigned(values) => write!(out, "{}", values.value(row)),
            Self::Float4(values) => {
                let value = values.value(row);
                float(out, value.is_finite().then(|| format!("{value:e}")), value.into(), 6)
            }
            Self::Float8(values) => {
                let value = values.value(row);
                float(out, value.is_finite().then(|| format!("{value:e}")), value, 15)
            }
            Self::Decimal(values, _) => out.write_str(&values.value_as_string(row)),
            Self::Digits(values) | Self::Text(values) => out.write_str(values.value(row)),
            Self::Bytes(values) => out.write_str("\\x").and_then(|()| hex(out, values.value(row))),
            Self::Id(values) => hex(out, values.value(row)),
            Self::Date(values) => {
                calendar::write_date(out, values.value(row));
                Ok(())
            }
            Self::Time(values) => {
                calendar::write_time(out, values.value(row));
                Ok(())
            }
            Self::Timestamp(values, with_zone) => {
                calendar::write_timestamp(out, values.value(row), *with_zone);
                Ok(())
            }
            Self::Interval(values) => {
                let value = values.value(row);
                calendar::write_interval(out, value.months, value.days, value.nanoseconds / 1_000);
                Ok(())
            }
            Self::List(values, items, _) => {
                list(out, items, range(values, row));
                Ok(())
            }
        };
    }

    /// Writes a value that is not null as its type's `send` function does.
    fn binary(&self, out: &mut BytesMut, row: usize) {
        match self {
            Self::Null => {}
            Self::Bool(values) => out.put_u8(u8::from(values.value(row))),
            Self::Int2(values) => out.put_i16(values.value(row)),
            Self::Int4(values) => out.put_i32(values.value(row)),
            Self::Int8(values) => out.put_i64(values.value(row)),
            Self::Unsigned(values) => numeric::send(out, i128::from(values.value(row)), 0),
            Self::Float4(values) => out.put_f32(values.value(row)),
            Self::Float8(values) => out.put_f64(values.value(row)),
            Self::Decimal(values, scale) => numeric::send(out, values.value(row), *scale),
            Self::Digits(values) => numeric::send_digits(out, values.value(row)),
            Self::Text(values) => out.put_slice(values.value(row).as_bytes()),
            Self::Bytes(values) => out.put_slice(values.value(row)),
            Self::Id(values) => {
                let mut text = String::new();
                let _ = hex(&mut text, values.value(row));
                out.put_slice(text.as_bytes());
            }
            Self::Date(values) => out.put_i32(values.value(row).saturating_sub(calendar::EPOCH_DAYS)),
            Self::Time(values) => out.put_i64(values.value(row)),
            Self::Timestamp(values, _) => out.put_i64(values.value(row).saturating_sub(calendar::EPOCH_US)),
            Self::Interval(values) => {
                let value = values.value(row);
                out.put_i64(value.nanoseconds / 1_000);
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Self::List(values, items, kind) => {
                let range = range(values, row);
                let nulls = range.clone().any(|row| items.is_null(row));
                out.put_i32(i32::from(!range.is_empty()));
                out.put_i32(i32::from(nulls));
                out.put_u32(kind.oid);
                if !range.is_empty() {
                    out.put_i32(i32::try_from(range.len()).unwrap_or(i32::MAX));
                    out.put_i32(1);
                }
                for row in range {
                    match items.is_null(row) {
                        true => out.put_i32(-1),
                        false => sized(out, |out| items.binary(out, row)),
                    }
                }
            }
        }
    }
}

fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    // Offsets of a list are never negative.
    offsets[row] as usize..offsets[row + 1] as usize
}

fn hex(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// The shortest digits that give the number again, with an exponent where PostgreSQL has one; `scientific` are those digits
/// with an exponent in any case, none for what is no number.
fn float(out: &mut String, scientific: Option<String>, value: f64, digits_max: i32) -> std::fmt::Result {
    let Some(scientific) = scientific else {
        return out.write_str(match value {
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "Infinity",
            _ => "-Infinity",
        });
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..digits_max).contains(&exponent) {
        return plain_digits(out, mantissa, exponent);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{mantissa}e{sign}{:02}", exponent.abs())
}

/// `1.5` and an exponent of 2 is `150`.
fn plain_digits(out: &mut String, mantissa: &str, exponent: i32) -> std::fmt::Result {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    out.write_str(sign)?;
    match usize::try_from(exponent) {
        Ok(exponent) if exponent + 1 >= digits.len() => {
            out.write_str(&digits)?;
            (digits.len()..=exponent).try_for_each(|_| out.write_char('0'))
        }
        Ok(exponent) => write!(out, "{}.{}", &digits[..=exponent], &digits[exponent + 1..]),
        Err(_) => {
            out.write_str("0.")?;
            (exponent + 1..0).try_for_each(|_| out.write_char('0'))?;
            out.write_str(&digits)
        }
    }
}

/// `{a,"b c",NULL}`.
fn list(out: &mut String, items: &Column, range: std::ops::Range<usize>) {
    out.push('{');
    let mut item = String::new();
    for (index, row) in range.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if items.is_null(row) {
            out.push_str("NULL");
            continue;
        }
        item.clear();
        items.text(&mut item, row);
        let special = |character: char| character.is_whitespace() || "{},\"\\".contains(character);
        if item.is_empty() || item.contains(special) || item.eq_ignore_ascii_case("null") {
            out.push('"');
            for character in item.chars() {
                if "\"\\".contains(character) {
                    out.push('\\');
                }
                out.push(character);
            }
            out.push('"');
        } else {
            out.push_str(&item);
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray, UInt64Array};

    fn texts(values: ArrayRef) -> Vec<String> {
        let field = Field::new("x", values.data_type().clone(), true);
        let column = column(&field, &values, types::of(values.data_type())).unwrap();
        (0..values.len())
            .map(|row| {
                let mut out = String::new();
                if column.is_null(row) {
                    "null".to_owned()
                } else {
                    column.text(&mut out, row);
                    out
                }
            })
            .collect()
    }

    #[test]
    fn numbers_are_written_as_postgresql_does() {
        let floats =
            [0.0, -0.5, 1.0, 150.0, 1e14, 1e15, 1.25e300, 0.0001, 0.00001, f64::NAN, f64::NEG_INFINITY];
        assert_eq!(
            texts(Arc::new(Float64Array::from(floats.to_vec()))),
            [
                "0",
                "-0.5",
                "1",
                "150",
                "100000000000000",
                "1e+15",
                "1.25e+300",
                "0.0001",
                "1e-05",
                "NaN",
                "-Infinity"
            ]
        );
        assert_eq!(
            texts(Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
            ["18446744073709551615", "null"]
        );
    }

    #[test]
    fn lists_are_quoted_where_they_must_be() {
        let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        for text in [Some("a"), None, Some("b c"), Some(""), Some("nUll"), Some("\"\\")] {
            builder.values().append_option(text);
        }
        builder.append(true);
        builder.append(true);
        builder.append(false);
        assert_eq!(
            texts(Arc::new(builder.finish())),
            ["{a,NULL,\"b c\",\"\",\"nUll\",\"\\\"\\\\\"}", "{}", "null"]
        );
    }

    #[test]
    fn what_was_announced_is_what_is_written() {
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
        let field = Field::new("x", DataType::Int32, true);
        let column = column(&field, &values, types::INT8).unwrap();
        let mut out = BytesMut::new();
        column.write(&mut out, 0, true, &mut Scratch::default());
        column.write(&mut out, 1, true, &mut Scratch::default());
        assert_eq!(out.as_ref(), b"\0\0\0\x08\0\0\0\0\0\0\0\x07\xff\xff\xff\xff");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        assert!(super::column(&Field::new("x", DataType::Utf8, true), &text, types::INT4).is_err());
    }
}
