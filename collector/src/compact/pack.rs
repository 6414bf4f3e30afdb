//! Batches as the reader gives them, made small: rows of many files wait in memory until their minute is complete.
//!
//! A column without a value goes. Text keeps only the codes of texts that the batch has, in as few bytes as they need:
//! the reader's dictionary is that of a whole row group. Lists that each have one item say so by their type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, ListArray, MapArray, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StructArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, Field, FieldRef, Fields, Schema, UInt8Type,
    UInt16Type, UInt32Type,
};
use arrow::error::ArrowError;

/// The batch with its columns packed.
pub(super) fn pack(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (fields, columns) = pack_all(batch.schema_ref().fields(), batch.columns())?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn pack_all(fields: &Fields, columns: &[ArrayRef]) -> Result<(Vec<FieldRef>, Vec<ArrayRef>), ArrowError> {
    let (mut packed_fields, mut packed) = (Vec::new(), Vec::new());
    for (field, column) in fields.iter().zip(columns) {
        let is_list = matches!(column.data_type(), DataType::List(_) | DataType::Map(..));
        if field.is_nullable() && !is_list && column.null_count() == column.len() {
            continue;
        }
        let column = pack_one(column)?;
        packed_fields.push(Arc::new(Field::new(
            field.name(),
            column.data_type().clone(),
            field.is_nullable(),
        )));
        packed.push(column);
    }
    Ok((packed_fields, packed))
}

fn pack_one(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Dictionary(key, _) if **key == DataType::UInt32 => narrow(column.as_dictionary())?,
        DataType::List(item) => {
            let list = column.as_list::<i32>();
            let items = pack_struct(list.values().as_struct())?;
            let item = Arc::new(Field::new(item.name(), items.data_type().clone(), item.is_nullable()));
            let one_each = items.len() == list.len()
                && list.null_count() == 0
                && (0_i32..).zip(list.offsets().iter()).all(|(row, offset)| row == *offset);
            match one_each {
                true => Arc::new(FixedSizeListArray::try_new(item, 1, Arc::new(items), None)?),
                false => Arc::new(ListArray::try_new(
                    item,
                    list.offsets().clone(),
                    Arc::new(items),
                    list.nulls().cloned(),
                )?),
            }
        }
        DataType::Map(entry, sorted) => {
            let map = column.as_map();
            // Keys and values stay, also where no row has any: a map has both.
            let columns = map.entries().columns().iter().map(pack_one).collect::<Result<Vec<_>, _>>()?;
            let fields: Fields = map.entries().fields().iter().zip(&columns).map(field_as).collect();
            let entries = StructArray::try_new(fields, columns, None)?;
            let entry = Arc::new(Field::new(entry.name(), entries.data_type().clone(), false));
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(entry, offsets, entries, nulls, *sorted)?)
        }
        _ => Arc::clone(column),
    })
}

fn field_as((field, column): (&FieldRef, &ArrayRef)) -> FieldRef {
    Arc::new(Field::new(field.name(), column.data_type().clone(), field.is_nullable()))
}

fn pack_struct(items: &StructArray) -> Result<StructArray, ArrowError> {
    let (fields, columns) = pack_all(items.fields(), items.columns())?;
    StructArray::try_new_with_length(fields.into(), columns, items.nulls().cloned(), items.len())
}

/// A dictionary of the texts that are there, with keys as narrow as their number allows.
fn narrow(column: &DictionaryArray<UInt32Type>) -> Result<ArrayRef, ArrowError> {
    const NEW: u32 = u32::MAX;
    let mut new_of = vec![NEW; column.values().len()];
    let mut used: Vec<u32> = Vec::new();
    let nulls = column.nulls();
    let keys = column.keys().values();
    for (row, key) in keys.iter().enumerate() {
        if nulls.is_none_or(|nulls| nulls.is_valid(row)) && new_of[*key as usize] == NEW {
            new_of[*key as usize] = used.len() as u32;
            used.push(*key);
        }
    }
    let texts = used.len();
    let values = take(column.values(), &UInt32Array::from(used), None)?;
    // The key of an absent text stands for nothing.
    let new_key = |key: &u32| match new_of.get(*key as usize) {
        Some(&new) if new != NEW => new,
        _ => 0,
    };
    fn array<K: ArrowDictionaryKeyType>(
        keys: impl Iterator<Item = u32>,
        column: &DictionaryArray<UInt32Type>,
        values: ArrayRef,
    ) -> Result<ArrayRef, ArrowError> {
        let keys = keys.map(|key| K::Native::usize_as(key as usize)).collect();
        let keys = PrimitiveArray::<K>::new(keys, column.nulls().cloned());
        Ok(Arc::new(DictionaryArray::<K>::try_new(keys, values)?))
    }
    let new_keys = keys.iter().map(new_key);
    match texts {
        0..=0x100 => array::<UInt8Type>(new_keys, column, values),
        0x101..=0x1_0000 => array::<UInt16Type>(new_keys, column, values),
        _ => array::<UInt32Type>(new_keys, column, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::compute::cast;

    #[test]
    fn only_texts_that_are_there_stay() {
        let texts = StringArray::from(vec!["a", "b", "c", "d"]);
        let keys = UInt32Array::from(vec![Some(2), None, Some(0), Some(2)]);
        let packed = narrow(&DictionaryArray::try_new(keys, Arc::new(texts)).unwrap()).unwrap();
        assert_eq!(packed.as_any_dictionary().values().len(), 2);
        assert!(matches!(packed.data_type(), DataType::Dictionary(key, _) if **key == DataType::UInt8));
        let plain = cast(&packed, &DataType::Utf8).unwrap();
        assert_eq!(plain.as_string::<i32>(), &StringArray::from(vec![Some("c"), None, Some("a"), Some("c")]));
    }

    #[test]
    fn many_texts_have_wide_keys() {
        let texts = StringArray::from_iter_values((0..70_000).map(|number| number.to_string()));
        let keys = UInt32Array::from_iter_values((0..70_000).rev());
        let column = DictionaryArray::try_new(keys, Arc::new(texts)).unwrap();
        for (rows, key) in [(256, DataType::UInt8), (257, DataType::UInt16), (70_000, DataType::UInt32)] {
            let packed = narrow(&column.slice(0, rows)).unwrap();
            assert!(matches!(packed.data_type(), DataType::Dictionary(found, _) if **found == key), "{rows}");
            let plain = cast(&packed, &DataType::Utf8).unwrap();
            assert_eq!(plain.as_string::<i32>().value(rows - 1), (70_000 - rows).to_string());
        }
    }
}
