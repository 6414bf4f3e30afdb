//! Whether the table has an event twice: by `(node, core, sequence)`, which names one event for ever.
//!
//! An event keeps its time however often it is read again, so both rows of a duplicate would be of one hour: each hour is
//! looked at by itself, and takes eight bytes per row.

use std::collections::BTreeMap;
use std::fs::File;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType, UInt16Type, UInt64Type};
use arrow::error::ArrowError;
use event::hot::{HotReader, unpack_column};
use event::layout::{DataFolder, FileEntry};

use super::{Kind, Problem};
use crate::parquet::HOUR_US;

/// Sequences by node and core.
type Seen = BTreeMap<(String, u16), Vec<u64>>;

/// The hours of hot rows.
pub(super) type HotHours = BTreeMap<i64, Seen>;

/// Adds the rows of a hot file.
pub(super) fn add_hot(reader: &HotReader, hours: &mut HotHours) -> Result<(), ArrowError> {
    for batch in &reader.batches {
        let column = |name| {
            unpack_column(batch, name)?.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
        };
        let times = column("time")?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        each(&column("node")?, &column("core")?, &column("sequence")?, |row, node, core, sequence| {
            let seen = hours.entry(times.value(row).div_euclid(HOUR_US)).or_default();
            add(seen, node, core, sequence);
        })?;
    }
    Ok(())
}

/// Looks at the files of one hour, beside the hot rows of it; files that cannot be read are another matter.
pub(super) fn duplicates(folder: &DataFolder, files: &[&FileEntry], hot: Seen) -> Vec<Problem> {
    let mut seen = hot;
    for entry in files {
        if let Err(error) = add_file(folder, entry, &mut seen) {
            tracing::debug!(path = entry.path, %error, "left out of the look for duplicates");
        }
    }
    let mut problems = Vec::new();
    for ((node, core), mut sequences) in seen {
        sequences.sort_unstable();
        let twice: Vec<u64> = sequences.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
        if let (Some(first), Some(entry)) = (twice.first(), files.first()) {
            let hour = entry.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let count = twice.len();
            let what =
                format!("{count} events of core {core} of {node} are there twice, the first is {first}");
            problems.push(Problem::new(Kind::Duplicate, hour, what, Some(count as u64)));
        }
    }
    problems
}

fn add_file(
    folder: &DataFolder,
    entry: &FileEntry,
    seen: &mut Seen,
) -> Result<(), Box<dyn std::error::Error>> {
    let file = File::open(folder.root().join(&entry.path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(reader.parquet_schema(), ["node", "core", "sequence"]);
    for batch in reader.with_projection(mask).with_batch_size(65_536).build()? {
        let batch: RecordBatch = batch?;
        let column = |name: &str| {
            let column = batch.column_by_name(name).cloned();
            column.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
        };
        each(&column("node")?, &column("core")?, &column("sequence")?, |_, node, core, sequence| {
            add(seen, node, core, sequence);
        })?;
    }
    Ok(())
}

fn each(
    nodes: &ArrayRef,
    cores: &ArrayRef,
    sequences: &ArrayRef,
    mut row: impl FnMut(usize, &str, u16, u64),
) -> Result<(), ArrowError> {
    let (nodes, cores) = (cast(nodes, &DataType::Utf8)?, cast(cores, &DataType::UInt16)?);
    let sequences = cast(sequences, &DataType::UInt64)?;
    let (nodes, cores) = (nodes.as_string::<i32>(), cores.as_primitive::<UInt16Type>());
    let sequences = sequences.as_primitive::<UInt64Type>();
    (0..sequences.len()).for_each(|at| row(at, nodes.value(at), cores.value(at), sequences.value(at)));
    Ok(())
}

fn add(seen: &mut Seen, node: &str, core: u16, sequence: u64) {
    // Nearly always there is one node; its name is not copied for each row.
    match seen.iter_mut().find(|((known, at), _)| *at == core && known == node) {
        Some((_, sequences)) => sequences.push(sequence),
        None => {
            seen.insert((node.to_owned(), core), vec![sequence]);
        }
    }
}
