//! The columns of the table, one after the other, from packed batches into a row group.

use super::rows::{Gathered, Places, Row, cast_all, columns, gather, is_blank, members};
use super::text::Texts;
use super::values::{Column, Encoder, Number, no_text};
use ::parquet::errors::ParquetError;
use ::parquet::file::statistics::Statistics;
use ::parquet::file::writer::SerializedRowGroupWriter;
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int64Type, SchemaRef, TimestampMicrosecondType, UInt16Type,
    UInt32Type, UInt64Type,
};
use std::io::Write;

/// Most rows of one data page; a page is the smallest thing that a query skips.
const PAGE_ROWS: usize = 20_000;
/// Ids that people look up.
const LOOKED_UP: [&str; 2] = ["request_id", "trace_id"];
/// Numbers that rise, or nearly so.
const RISING: [&str; 2] = ["time", "sequence"];

/// Writes some rows as one row group.
pub(super) fn row_group<W: Write + Send>(
    mut group: SerializedRowGroupWriter<'_, W>,
    encoder: &mut Encoder,
    schema: &SchemaRef,
    descr: &SchemaDescriptor,
    batches: &[RecordBatch],
    rows: &[Row],
    bloom_ids: bool,
) -> Result<(), ParquetError> {
    let flat = Places::flat(rows, PAGE_ROWS);
    let mut leaves = descr.columns().iter();
    let mut append = |field: &Field, places: &Places, columns| {
        let leaf = leaves.next().ok_or_else(|| ParquetError::General("too few columns".to_owned()))?;
        let (bytes, close) = column(encoder, leaf, field, rows.len(), places, columns, bloom_ids)?;
        group.append_column(&bytes, close)?;
        // Nobody else holds the bytes any more, so this copies nothing.
        encoder.memory().bytes = bytes.into();
        Ok::<(), ParquetError>(())
    };
    for field in schema.fields() {
        let found = columns(batches, field.name());
        let item = match field.data_type() {
            DataType::List(item) | DataType::Map(item, _) => item,
            _ => {
                append(field, &flat, found)?;
                continue;
            }
        };
        let DataType::Struct(fields) = item.data_type() else {
            return Err(ParquetError::General(format!("column {} holds no structs", field.name())));
        };
        let items = Places::items(rows, PAGE_ROWS, &found);
        for field in fields {
            append(field, &items, members(&found, field.name()))?;
        }
    }
    group.close()?;
    Ok(())
}

/// One leaf column.
fn column(
    encoder: &mut Encoder,
    leaf: &ColumnDescPtr,
    field: &Field,
    rows: usize,
    places: &Places,
    columns: Vec<Option<ArrayRef>>,
    bloom_ids: bool,
) -> Column {
    // Of lists whose items all lack the field, the levels still say how many there are.
    let blank = is_blank(&columns) && (leaf.max_rep_level() == 0 || places.all.is_empty());
    let nulls = Some(rows as u64);
    match field.data_type() {
        DataType::Utf8View if blank => encoder.blank(leaf, rows, no_text(rows as u64)),
        DataType::Utf8View => encoder.text(leaf, places, &Texts::unite(&columns)?),
        DataType::FixedSizeBinary(_) if blank => {
            let none = Statistics::fixed_len_byte_array(None, None, None, nulls, false);
            encoder.blank(leaf, rows, none)
        }
        DataType::FixedSizeBinary(16) => {
            let bloom = bloom_ids && LOOKED_UP.contains(&field.name().as_str());
            let memory = std::mem::take(&mut encoder.memory().long_ids);
            let gathered = gather(&places.all, &columns, ids, |id| id, memory);
            let column = encoder.ids::<16>(leaf, places, &gathered, bloom);
            encoder.memory().long_ids = gathered.values;
            column
        }
        DataType::FixedSizeBinary(8) => {
            let memory = std::mem::take(&mut encoder.memory().short_ids);
            let gathered = gather(&places.all, &columns, ids, |id| id, memory);
            let column = encoder.ids::<8>(leaf, places, &gathered, false);
            encoder.memory().short_ids = gathered.values;
            column
        }
        DataType::Boolean if blank => {
            encoder.blank(leaf, rows, Statistics::boolean(None, None, None, nulls, false))
        }
        DataType::Boolean => encoder.bools(leaf, places, &bools(places, &columns)),
        data_type => {
            let kind = Number {
                bytes: if matches!(data_type, DataType::UInt16 | DataType::UInt32) { 4 } else { 8 },
                signed: matches!(data_type, DataType::Int64 | DataType::Timestamp(..)),
                rising: RISING.contains(&field.name().as_str()),
            };
            if blank {
                return encoder.blank(leaf, rows, kind.statistics(None, nulls));
            }
            let columns = cast_all(columns, data_type)?;
            let memory = std::mem::take(&mut encoder.memory().numbers);
            let all = &places.all;
            let gathered = match data_type {
                DataType::UInt16 => gather(all, &columns, values::<UInt16Type>, u64::from, memory),
                DataType::UInt32 => gather(all, &columns, values::<UInt32Type>, u64::from, memory),
                DataType::UInt64 => gather(all, &columns, values::<UInt64Type>, |value| value, memory),
                DataType::Int64 => gather(all, &columns, values::<Int64Type>, i64::cast_unsigned, memory),
                DataType::Timestamp(..) => {
                    gather(all, &columns, values::<TimestampMicrosecondType>, i64::cast_unsigned, memory)
                }
                other => return Err(ParquetError::NYI(format!("column {} of {other}", field.name()))),
            };
            let column = encoder.numbers(leaf, places, &gathered, kind);
            encoder.memory().numbers = gathered.values;
            column
        }
    }
}

fn values<T: ArrowPrimitiveType>(column: &ArrayRef) -> &[T::Native] {
    column.as_primitive::<T>().values()
}

fn ids<const N: usize>(column: &ArrayRef) -> &[[u8; N]] {
    column.as_fixed_size_binary().value_data().as_chunks().0
}

fn bools(places: &Places, columns: &[Option<ArrayRef>]) -> Gathered<bool> {
    let one = |(batch, at): &(u32, u32)| {
        let column = columns[*batch as usize].as_ref().filter(|column| column.is_valid(*at as usize));
        column.map(|column| column.as_boolean().value(*at as usize))
    };
    let all: Vec<Option<bool>> = places.all.iter().map(one).collect();
    let valid = all.contains(&None).then(|| all.iter().map(Option::is_some).collect());
    Gathered { values: all.into_iter().map(Option::unwrap_or_default).collect(), valid }
}
