//! The columns of the table, one after the other, from packed batches into a row group.

use super::rows::{Places, Row, columns, members};
use super::source::{Bools, Columns, Ids, Numbers, cast_all, is_blank};
use super::text::Texts;
use super::values::{Column, Encoder, Number, no_text};
use ::parquet::errors::ParquetError;
use ::parquet::file::statistics::Statistics;
use ::parquet::file::writer::SerializedRowGroupWriter;
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use std::io::Write;

/// Most rows of one data page; a page is the smallest thing that a query skips.
const PAGE_ROWS: usize = 20_000;
/// Ids that people look up.
const LOOKED_UP: [&str; 2] = ["request_id", "trace_id"];
/// Numbers that rise, or nearly so.
const RISING: [&str; 2] = ["time", "sequence"];

/// Writes some rows as one row group; `stop` is asked after each column whether to give up.
#[expect(clippy::too_many_arguments, reason = "what a file is written with, and what of it this is")]
pub(super) fn row_group<W: Write + Send>(
    mut group: SerializedRowGroupWriter<'_, W>,
    encoder: &mut Encoder,
    schema: &SchemaRef,
    descr: &SchemaDescriptor,
    batches: &[RecordBatch],
    rows: &[Row],
    bloom_ids: bool,
    stop: &dyn Fn() -> bool,
) -> Result<(), ParquetError> {
    let flat = Places::flat(rows, PAGE_ROWS);
    let mut leaves = descr.columns().iter();
    let mut append = |field: &Field, places: &Places<'_>, columns| {
        let leaf = leaves.next().ok_or_else(|| ParquetError::General("too few columns".to_owned()))?;
        let (bytes, close) = column(encoder, leaf, field, rows.len(), places, columns, bloom_ids)?;
        group.append_column(&bytes, close)?;
        encoder.recycle(bytes);
        if stop() {
            return Err(ParquetError::General("stopped".to_owned()));
        }
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
    places: &Places<'_>,
    columns: Columns,
    bloom_ids: bool,
) -> Column {
    // Of lists whose items all lack the field, the levels still say how many there are.
    let blank = is_blank(&columns) && (leaf.max_rep_level() == 0 || places.len() == 0);
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
            encoder.ids::<16>(leaf, places, &Ids::of(&columns)?, bloom)
        }
        DataType::FixedSizeBinary(8) => encoder.ids::<8>(leaf, places, &Ids::of(&columns)?, false),
        DataType::Boolean if blank => {
            encoder.blank(leaf, rows, Statistics::boolean(None, None, None, nulls, false))
        }
        DataType::Boolean => encoder.bools(leaf, places, &Bools::of(&columns)?),
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
            encoder.numbers(leaf, places, &Numbers::of(&columns)?, kind)
        }
    }
}
