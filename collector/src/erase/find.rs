//! Which files have rows of the names that are ordered, and how many: one column of each is read.

use std::fs::File;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::errors::ParquetError;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt32Type;
use event::layout::{DataFolder, FileEntry};

use super::Names;
use crate::compact::{InputError, coded_metadata};

/// The column that names whose a row is.
pub(super) const COLUMN: &str = "consumer";

/// How many rows of each order a file has; none if it has none of any.
pub(super) fn count(
    folder: &DataFolder,
    entry: &FileEntry,
    names: &Names,
    orders: usize,
) -> Result<Option<Vec<u64>>, InputError> {
    let damaged =
        |error: &dyn ToString| InputError::Damaged { path: entry.path.clone(), reason: error.to_string() };
    let path = folder.root().join(&entry.path);
    let file = File::open(&path).map_err(|source| InputError::Io { path: entry.path.clone(), source })?;
    let metadata = coded_metadata(&file).map_err(|error| damaged(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let mask = ProjectionMask::columns(builder.parquet_schema(), [COLUMN]);
    let batches = builder.with_projection(mask).build().map_err(|error: ParquetError| damaged(&error))?;
    let mut counts = vec![0; orders];
    for batch in batches {
        let batch = batch.map_err(|error| damaged(&error))?;
        each(&batch, names, |_, order| {
            if let Some(order) = order {
                counts[order] += 1;
            }
        })
        .ok_or_else(|| damaged(&"it has no consumers"))?;
    }
    Ok(counts.iter().any(|count| *count > 0).then_some(counts))
}

/// Says of each row of a batch as the reader gives it whether it goes, and by which order. None if there is no such
/// column.
pub(super) fn each(
    batch: &RecordBatch,
    names: &Names,
    mut row: impl FnMut(usize, Option<usize>),
) -> Option<()> {
    let column = batch.column_by_name(COLUMN)?.as_dictionary_opt::<UInt32Type>()?;
    let texts = column.values().as_string_opt::<i32>()?;
    let orders: Vec<Option<usize>> =
        texts.iter().map(|text| text.and_then(|text| names.get(text).copied())).collect();
    for (at, key) in column.keys().values().iter().enumerate() {
        let is_there = column.keys().is_valid(at);
        row(at, if is_there { orders.get(*key as usize).copied().flatten() } else { None });
    }
    Some(())
}
