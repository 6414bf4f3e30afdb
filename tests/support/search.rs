//! Whether something of a consumer is in a file.

use std::fs::File;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Whether a Parquet file has a row of the consumer, or any file its name in plain bytes, as statistics have it.
pub fn has_consumer(path: &Path, name: &str) -> bool {
    let bytes = std::fs::read(path).unwrap();
    if bytes.windows(name.len()).any(|window| window == name.as_bytes()) {
        return true;
    }
    if path.extension().is_none_or(|kind| kind != "parquet") {
        return false;
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap());
    reader.unwrap().build().unwrap().any(|batch| {
        let column = batch.unwrap().column_by_name("consumer").unwrap().clone();
        let column = arrow::compute::cast(&column, &DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().flatten().any(|consumer| consumer == name)
    })
}
