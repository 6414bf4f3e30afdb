//! Groups of roll-ups as a source of the engine, whose columns stay in memory as they were read.
//!
//! A dashboard asks for the same few files again and again. Each is small: to open it, to decompress its columns and to decode
//! them takes longer than to add up what is in them. A file never changes, so the columns that were asked for are kept
//! until their room is wanted for others, or the file leaves the table. Large files, of which a question may want a few
//! rows only, are left to the engine's own source.

mod cache;

use std::fmt::{self, Formatter};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;

use crate::leaf::Leaf;
use crate::sealed::Sealed;
pub(crate) use cache::{GroupCache, name};

/// Files that EXPLAIN names.
const FILES_SHOWN: usize = 5;
/// Groups that are worth another partition.
const GROUPS_MIN: usize = 4_096;

/// A file of roll-ups, and how many groups it has.
#[derive(Debug, Clone)]
pub(crate) struct GroupFile {
    /// What the manifest calls it.
    pub(crate) name: String,
    pub(crate) file: PartitionedFile,
    pub(crate) groups: usize,
}

/// Files in partitions.
#[derive(Debug)]
pub(crate) struct GroupSource {
    url: ObjectStoreUrl,
    partitions: Vec<Arc<[Share]>>,
    reading: Reading,
}

/// Some of the groups of a file.
#[derive(Debug, Clone)]
struct Share {
    file: GroupFile,
    rows: Range<usize>,
}

/// Deals files out to at most so many partitions, each of which has as many groups; few groups go to few. A file that has to
/// be read first is read by one of them.
fn dealt(files: Vec<GroupFile>, partitions: usize, is_there: impl Fn(&GroupFile) -> bool) -> Vec<Vec<Share>> {
    let all: usize = files.iter().map(|file| file.groups).sum();
    let count = all.div_ceil(GROUPS_MIN).clamp(1, partitions.max(1));
    let most = all.div_ceil(count);
    let (mut dealt, mut room) = (vec![Vec::new()], most);
    for file in files {
        let (mut from, is_whole) = (0, !is_there(&file));
        while from < file.groups {
            if room == 0 {
                dealt.push(Vec::new());
                room = most;
            }
            let until = if is_whole { file.groups } else { file.groups.min(from + room) };
            let rows = from..until;
            (from, room) = (until, room.saturating_sub(rows.len()));
            let last = dealt.len() - 1;
            dealt[last].push(Share { file: file.clone(), rows });
        }
    }
    dealt
}

/// What is read of each file.
#[derive(Debug, Clone)]
struct Reading {
    cache: Arc<GroupCache>,
    sealed: Arc<Sealed>,
    /// Places in the schema of roll-ups.
    columns: Arc<[usize]>,
    schema: SchemaRef,
}

impl GroupSource {
    /// Deals files out to partitions. Without `columns` it is all of them.
    pub(crate) fn new(
        (cache, sealed): (Arc<GroupCache>, Arc<Sealed>),
        url: ObjectStoreUrl,
        files: Vec<GroupFile>,
        partitions: usize,
        columns: Option<&Vec<usize>>,
    ) -> Result<Self> {
        let table = event::rollup::schema();
        let columns: Arc<[usize]> = match columns {
            Some(columns) => columns.as_slice().into(),
            None => (0..table.fields().len()).collect(),
        };
        let schema = Arc::new(table.project(&columns)?);
        let partitions = dealt(files, partitions, |file| cache.has(&file.name, &columns));
        let partitions = partitions.into_iter().map(Arc::from).collect();
        Ok(Self { url, partitions, reading: Reading { cache, sealed, columns, schema } })
    }
}

impl Reading {
    /// Groups of a file.
    async fn groups(
        &self,
        Share { file, rows }: Share,
        readers: &CachedParquetFileReaderFactory,
        context: &TaskContext,
    ) -> Result<RecordBatch> {
        let mut columns = self.cache.get(&file.name, &self.columns);
        if columns.iter().any(Option::is_none) {
            self.read(&file, &mut columns, readers, context).await?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(file.groups));
        let columns = columns.into_iter().flatten().collect();
        let all = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(all.slice(rows.start, rows.len()))
    }

    /// Reads the columns that are not there, and keeps them.
    async fn read(
        &self,
        file: &GroupFile,
        columns: &mut [Option<ArrayRef>],
        readers: &CachedParquetFileReaderFactory,
        context: &TaskContext,
    ) -> Result<()> {
        let metrics = ExecutionPlanMetricsSet::new();
        let reader: Box<dyn AsyncFileReader> = readers.create_reader(0, file.file.clone(), None, &metrics)?;
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
        let missing: Vec<usize> = (0..columns.len()).filter(|place| columns[*place].is_none()).collect();
        let names = missing.iter().map(|place| self.schema.field(*place).name().as_str());
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        let chunks = builder.metadata().row_groups().iter().flat_map(|group| group.columns()).enumerate();
        let leaves = builder.parquet_schema().num_columns();
        let read = chunks.filter(|(chunk, _)| mask.leaf_included(chunk % leaves));
        let bytes: i64 = read.map(|(_, chunk)| chunk.uncompressed_size()).sum();
        let memory = MemoryConsumer::new("groups of roll-ups").register(context.memory_pool());
        memory.try_grow(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let batches = builder.with_projection(mask).with_batch_size(file.groups.max(1)).build()?;
        let batches: Vec<RecordBatch> = batches.try_collect().await?;
        let groups: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if groups != file.groups {
            let text = format!("{} has {groups} groups, the manifest says {}", file.name, file.groups);
            return Err(ParquetError::General(text).into());
        }
        for place in &missing {
            let field = self.schema.field(*place);
            let parts = batches.iter().filter_map(|batch| batch.column_by_name(field.name()));
            let parts: Vec<_> = parts.map(|part| part.as_ref()).collect();
            // A file of an older version lacks what came later.
            columns[*place] = Some(match parts.as_slice() {
                [] => new_null_array(field.data_type(), file.groups),
                parts => cast(&concat(parts)?, field.data_type())?,
            });
        }
        let read = missing.iter().filter_map(|place| Some((self.columns[*place], columns[*place].clone()?)));
        self.cache.put(&self.sealed, &file.name, read);
        Ok(())
    }
}

impl Leaf for GroupSource {
    fn schema(&self) -> &SchemaRef {
        &self.reading.schema
    }

    fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn rows(&self, partition: usize) -> Option<usize> {
        Some(self.partitions.get(partition)?.iter().map(|share| share.rows.len()).sum())
    }

    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let shares = self.partitions.get(partition).cloned().unwrap_or_default();
        let runtime = context.runtime_env();
        let readers = Arc::new(CachedParquetFileReaderFactory::new(
            runtime.object_store(&self.url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        ));
        let rows = context.session_config().batch_size();
        let reading = self.reading.clone();
        let batches = futures::stream::iter(0..shares.len()).then(move |index| {
            let (reading, share) = (reading.clone(), shares[index].clone());
            let (readers, context) = (Arc::clone(&readers), Arc::clone(&context));
            async move { reading.groups(share, &readers, &context).await }
        });
        let pieces = batches.map_ok(move |batch| futures::stream::iter(pieces(&batch, rows).map(Ok)));
        Ok(pieces.try_flatten().boxed())
    }

    fn show(&self, kind: DisplayFormatType, out: &mut Formatter) -> fmt::Result {
        let sizes: Vec<usize> = (0..self.partitions()).filter_map(|partition| self.rows(partition)).collect();
        let shares = self.partitions.iter().flat_map(|shares| shares.iter());
        let mut files: Vec<&str> = shares.map(|share| share.file.name.as_str()).collect();
        files.dedup();
        let shown =
            if kind == DisplayFormatType::Verbose { files.len() } else { files.len().min(FILES_SHOWN) };
        let more = if shown < files.len() { ", ..." } else { "" };
        write!(out, "groups={sizes:?}, files=[{}{more}]", files[..shown].join(", "))
    }
}

/// A batch in pieces of at most so many rows.
fn pieces(batch: &RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> + use<> {
    let (batch, rows) = (batch.clone(), rows.max(1));
    (0..batch.num_rows()).step_by(rows).map(move |from| batch.slice(from, rows.min(batch.num_rows() - from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(files: &[usize], partitions: usize, is_there: bool) -> Vec<Vec<(String, Range<usize>)>> {
        let file = |(index, groups): (usize, &usize)| GroupFile {
            name: index.to_string(),
            file: PartitionedFile::new("a", 1),
            groups: *groups,
        };
        let dealt = dealt(files.iter().enumerate().map(file).collect(), partitions, |_| is_there);
        let named = |share: Share| (share.file.name, share.rows);
        dealt.into_iter().map(|shares| shares.into_iter().map(named).collect()).collect()
    }

    #[test]
    fn partitions_have_as_many_groups_and_each_group_once() {
        assert_eq!(
            sizes(&[5_000, 45_000], 2, true),
            [
                vec![("0".to_owned(), 0..5_000), ("1".to_owned(), 0..20_000)],
                vec![("1".to_owned(), 20_000..45_000)],
            ]
        );
        assert_eq!(sizes(&[7, 0, 60], 8, true), [[("0".to_owned(), 0..7), ("2".to_owned(), 0..60)]]);
        assert_eq!(sizes(&[], 4, true), [[]]);
        let whole = sizes(&[9_000, 4_097, 3, 12_345], 3, false);
        let names = |shares: &Vec<(String, Range<usize>)>| {
            shares.iter().map(|(name, _)| name.clone()).collect::<String>()
        };
        assert_eq!(whole.iter().map(names).collect::<Vec<_>>(), ["0", "123"]);
        for partitions in 1..9 {
            let dealt = sizes(&[1, 9_000, 4_097, 3, 12_345], partitions, true);
            let rows = |shares: &Vec<(String, Range<usize>)>| {
                shares.iter().map(|(_, rows)| rows.len()).sum::<usize>()
            };
            let counts: Vec<usize> = dealt.iter().map(rows).collect();
            assert_eq!(
                (counts.iter().sum::<usize>(), dealt.len()),
                (25_446, partitions.min(7)),
                "{counts:?}"
            );
            assert!(counts.iter().all(|count| count.abs_diff(counts[0]) < partitions), "{counts:?}");
        }
    }
}
