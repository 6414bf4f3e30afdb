//! Columns as drivers take them: views and nulls of no type become plain texts and bytes, codes the values that they stand for, and ids text of
//! hexadecimal digits, as at the other doors.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

/// The type that a column is sent as.
pub(super) fn sent_as(kind: &DataType) -> DataType {
    match kind {
        DataType::FixedSizeBinary(_) => DataType::Utf8,
        kind => plain(kind),
    }
}

/// The same inside of lists and structures, where bytes stay bytes.
fn plain(kind: &DataType) -> DataType {
    let field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())));
    match kind {
        // Nulls of no type are nothing that JDBC could get.
        DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::List(item) | DataType::ListView(item) => DataType::List(field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        kind => kind.clone(),
    }
}

/// The columns of an answer. Each may be null: planning and running differ in what they know of that, and a client compares
/// what it was told with what comes.
pub(super) fn schema(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| Field::new(field.name(), sent_as(field.data_type()), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// A batch with such columns.
///
/// # Errors
/// When a column cannot be made one of its type.
pub(super) fn batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |(column, field): (&ArrayRef, &FieldRef)| match column.as_any().downcast_ref() {
        Some(ids) => Ok(hexadecimal(ids)),
        None if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        None => cast(column, field.data_type()),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn hexadecimal(ids: &FixedSizeBinaryArray) -> ArrayRef {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut texts =
        StringBuilder::with_capacity(ids.len(), ids.len() * 2 * ids.value_length().max(0) as usize);
    let mut text = String::new();
    for id in ids {
        let Some(id) = id else {
            texts.append_null();
            continue;
        };
        text.clear();
        for byte in id {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        texts.append_value(&text);
    }
    Arc::new(texts.finish())
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, ListBuilder, StringViewArray, StringViewBuilder};
    use arrow::datatypes::Int32Type;
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    #[test]
    fn what_drivers_may_not_know_becomes_plain_at_any_depth() {
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        lists.append_value([Some("one that is longer than twelve bytes"), None]);
        lists.append_null();
        let ids = vec![Some(&[0x0a_u8, 0xf1][..]), None].into_iter();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", Arc::new(StringViewArray::from(vec![Some("a"), None]))),
            ("id", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 2).unwrap())),
            ("list", Arc::new(lists.finish())),
            ("code", Arc::new(DictionaryArray::<Int32Type>::from_iter(["x", "x"]))),
            ("number", Arc::new(Int32Array::from(vec![1, 2]))),
        ];
        let made = RecordBatch::try_from_iter(columns).unwrap();
        let schema = schema(&made.schema());
        let sent = batch(&made, &schema).unwrap();
        let kinds: Vec<String> =
            sent.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(kinds[..2], ["Utf8", "Utf8"]);
        assert!(kinds[2].contains("Utf8") && !kinds[2].contains("View"), "{kinds:?}");
        assert_eq!(kinds[3..], ["Utf8", "Int32"]);
        let shown = pretty_format_batches(&[sent]).unwrap().to_string();
        assert!(
            shown.contains("| a    | 0af1 | [one that is longer than twelve bytes, ] | x    | 1      |"),
            "{shown}"
        );
    }
}
