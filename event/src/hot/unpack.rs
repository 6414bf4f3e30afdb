//! A packed batch as columns of the table `requests`.

use super::packed::unfold;
use crate::columns::schema;
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use std::sync::Arc;

/// The columns of a packed batch, as the schema of the table has them: all, or those of `projection` (indices into the
/// schema). Codes become text; a column that was left out is null, or has empty lists. Nothing is copied of what is
/// not packed.
///
/// # Errors
/// When a column has a type that the table's cannot be made of.
pub fn unpack(packed: &RecordBatch, projection: Option<&[usize]>) -> Result<RecordBatch, ArrowError> {
    let schema = match projection {
        Some(projection) => Arc::new(schema().project(projection)?),
        None => schema(),
    };
    if packed.schema_ref() == &schema {
        return Ok(packed.clone());
    }
    let columns =
        schema.fields().iter().map(|field| match packed.schema_ref().column_with_name(field.name()) {
            Some((index, from)) => widen(from, packed.column(index), field.data_type()),
            None => Ok(blank(field.data_type(), packed.num_rows())),
        });
    let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(packed.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// One column of a packed batch as the table has it; none if it was left out.
///
/// # Errors
/// When it has a type that the table's cannot be made of.
pub fn unpack_column(packed: &RecordBatch, name: &str) -> Result<Option<ArrayRef>, ArrowError> {
    let Some((index, from)) = packed.schema_ref().column_with_name(name) else { return Ok(None) };
    let schema = schema();
    widen(from, packed.column(index), schema.field_with_name(name)?.data_type()).map(Some)
}

fn widen(from: &Field, column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to && from.metadata().is_empty() {
        return Ok(Arc::clone(column));
    }
    match (column.data_type(), to) {
        (DataType::List(_), DataType::List(item)) => {
            let list = column.as_list::<i32>();
            let items = members(list.values().as_struct_opt(), item)?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(items), nulls)?))
        }
        (DataType::FixedSizeList(_, size), DataType::List(item)) => {
            let list = column.as_fixed_size_list();
            let items = members(list.values().as_struct_opt(), item)?;
            let lengths = std::iter::repeat_n(usize::try_from(*size).unwrap_or_default(), list.len());
            let (offsets, nulls) = (OffsetBuffer::from_lengths(lengths), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(items), nulls)?))
        }
        (DataType::Map(..), DataType::Map(entry, sorted)) => {
            let map = column.as_map();
            let entries = members(Some(map.entries()), entry)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entry), offsets, entries, nulls, *sorted)?))
        }
        _ => unfold(from, column, to),
    }
}

/// The fields of a struct by their names.
fn members(packed: Option<&StructArray>, field: &FieldRef) -> Result<StructArray, ArrowError> {
    let (Some(packed), DataType::Struct(fields)) = (packed, field.data_type()) else {
        return Err(ArrowError::CastError(format!("column {} holds no structs", field.name())));
    };
    let columns = fields.iter().map(|field| match packed.fields().find(field.name()) {
        Some((index, from)) => widen(from, packed.column(index), field.data_type()),
        None => Ok(blank(field.data_type(), packed.len())),
    });
    StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, packed.nulls().cloned())
}

/// A column without values.
fn blank(data_type: &DataType, rows: usize) -> ArrayRef {
    let offsets = || OffsetBuffer::new_zeroed(rows);
    match data_type {
        DataType::List(item) => {
            let items = new_empty_array(item.data_type());
            Arc::new(ListArray::new(Arc::clone(item), offsets(), items, None))
        }
        DataType::Map(entry, sorted) => {
            let entries = new_empty_array(entry.data_type());
            let entries = entries.as_struct().clone();
            Arc::new(MapArray::new(Arc::clone(entry), offsets(), entries, None, *sorted))
        }
        other => new_null_array(other, rows),
    }
}
