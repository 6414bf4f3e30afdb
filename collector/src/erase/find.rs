//! Which files have rows that are ordered to go, and how many: a few columns of each are read.

use std::fs::File;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use event::layout::{DataFolder, FileEntry};

use super::subjects::Subjects;
use crate::compact::{InputError, coded_metadata};

/// How many rows of each order a file has; none if it has none of any.
pub(super) fn count(
    folder: &DataFolder,
    entry: &FileEntry,
    subjects: &Subjects,
) -> Result<Option<Vec<u64>>, InputError> {
    let damaged =
        |error: &dyn ToString| InputError::Damaged { path: entry.path.clone(), reason: error.to_string() };
    let path = folder.root().join(&entry.path);
    let file = File::open(&path).map_err(|source| InputError::Io { path: entry.path.clone(), source })?;
    let metadata = coded_metadata(&file).map_err(|error| damaged(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let mask = ProjectionMask::columns(builder.parquet_schema(), subjects.columns());
    let batches = builder.with_projection(mask).build().map_err(|error| damaged(&error))?;
    let mut counts = vec![0; subjects.orders];
    for batch in batches {
        let batch = batch.map_err(|error| damaged(&error))?;
        let rows = subjects.rows(&batch).ok_or_else(|| damaged(&"a column is missing"))?;
        rows.into_iter().flatten().for_each(|order| counts[order] += 1);
    }
    Ok(counts.iter().any(|count| *count > 0).then_some(counts))
}
