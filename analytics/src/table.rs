//! The table `requests` and the roll-ups: one snapshot as a DataFusion table.
//!
//! Sealed files whose time range cannot match the filters are left out before they are opened; the rest goes to
//! DataFusion's Parquet source (page index, bloom filters, late materialisation), which reads a column that an older
//! file lacks as null. Files of the disk and of the bucket are a source each. Hot batches whose times can match are a memory source beside it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetAccessPlan, RowGroupAccess,
};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use event::layout::{FileEntry, RollupEntry};
use event::rollup::{Grouping, Resolution};

use crate::access::{Scope, ScopedSource};
use crate::catalog::Snapshot;
use crate::groups::{self, GroupCache, GroupFile, GroupSource};
use crate::hot::{HotBatch, HotSource};
use crate::leaf;
use crate::lookup;
use crate::rolled::Spans;
use crate::sealed::Source;
use crate::{times, tries};

/// To open a file takes about as long as to go through so many rows.
const ROWS_FOR_A_FILE: usize = 256;

/// What the engine calls the bucket.
pub(crate) fn bucket_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse("bucket://collectors")
}

/// One snapshot as a table, or a part of it.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    schema: SchemaRef,
    pub(crate) snapshot: Arc<Snapshot>,
    part: Part,
    pub(crate) scope: Scope,
    /// What files and hot batches are of: those of other times are left out.
    span: Spans,
}

/// A file to read, and which of its row groups; without, all of them.
struct Found<'a> {
    source: &'a Source,
    entry: &'a FileEntry,
    access: Option<ParquetAccessPlan>,
}

/// A source of some files, if there are any of its kind, and those that are left.
type Parted<'a> = (Option<Arc<dyn ExecutionPlan>>, Vec<Found<'a>>);

impl Found<'_> {
    fn file(&self) -> PartitionedFile {
        match self.source {
            Source::Disk(path) => PartitionedFile::new(path.to_string_lossy(), self.entry.bytes),
            Source::Bucket(object) => PartitionedFile::new(object.as_str(), self.entry.bytes),
        }
    }
}

/// What of a snapshot is in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All requests.
    Requests,
    /// Those of Parquet files.
    Sealed,
    /// Those of hot files.
    Live,
    /// Roll-ups of sealed files: groups of a minute or an hour, which differ by some names.
    Rollups(Resolution, Grouping),
}

impl Rows {
    fn of(part: Part, schema: SchemaRef, snapshot: Arc<Snapshot>, scope: Scope) -> Self {
        Self { schema, snapshot, part, scope, span: Spans::all() }
    }

    /// The table `requests`.
    pub(crate) fn requests(snapshot: Arc<Snapshot>, scope: Scope) -> Self {
        Self::of(Part::Requests, event::columns::schema(), snapshot, scope)
    }

    /// The rows that are in no roll-up yet.
    pub(crate) fn live(snapshot: Arc<Snapshot>, scope: Scope) -> Self {
        Self::of(Part::Live, event::columns::schema(), snapshot, scope)
    }

    /// The rows that were sealed.
    pub(crate) fn sealed(snapshot: Arc<Snapshot>, scope: Scope) -> Self {
        Self::of(Part::Sealed, event::columns::schema(), snapshot, scope)
    }

    /// Whether it is the table `requests`.
    pub(crate) fn is_requests(&self) -> bool {
        self.part == Part::Requests
    }

    /// The groups of sealed rows. A key may be there several times.
    pub(crate) fn rollups(
        snapshot: Arc<Snapshot>,
        (resolution, grouping): (Resolution, Grouping),
        scope: Scope,
    ) -> Self {
        Self::of(Part::Rollups(resolution, grouping), event::rollup::schema(), snapshot, scope)
    }

    /// The same without the files and hot batches of other times. Those that are left may have rows of other times too.
    pub(crate) fn within(self, span: &Spans) -> Self {
        Self { span: span.clone(), ..self }
    }

    /// Whether all there is to read is of the time of [`Rows::within`].
    pub(crate) fn is_within(&self) -> bool {
        let files = self.files();
        let files = files.iter().map(|(_, entry)| (entry.time_min_us, entry.time_max_us));
        files.chain(self.batches().map(|(_, range)| range)).all(|(first, last)| self.span.holds(first, last))
    }

    /// Rows, or groups, to read before conditions are looked at. A file to open is as much as some of them; files of the bucket
    /// are worth several threads however few there are, since each has to be waited for.
    pub(crate) fn to_read(&self) -> usize {
        let of_file = |(source, entry): &(&Source, &FileEntry)| match source {
            Source::Disk(_) => ROWS_FOR_A_FILE.saturating_add(entry.rows as usize),
            Source::Bucket(_) => usize::MAX,
        };
        let files = self.files().iter().map(of_file).fold(0, usize::saturating_add);
        let batches = self.batches().map(|(batch, _)| batch.packed().num_rows());
        batches.fold(files, usize::saturating_add)
    }

    /// The Parquet files.
    fn files(&self) -> Vec<(&Source, &FileEntry)> {
        let sealed = &self.snapshot.sealed;
        let mut files: Vec<(&Source, &FileEntry)> = match self.part {
            Part::Requests | Part::Sealed => {
                sealed.files.iter().map(|(source, entry)| (source, entry)).collect()
            }
            Part::Live => Vec::new(),
            Part::Rollups(resolution, grouping) => {
                let kind = |entry: &RollupEntry| (entry.resolution, entry.grouping);
                let wanted = sealed.rollups.iter().filter(|(_, entry)| kind(entry) == (resolution, grouping));
                wanted.map(|(source, entry)| (source, &entry.file)).collect()
            }
        };
        files.retain(|(_, entry)| self.span.meets(entry.time_min_us, entry.time_max_us));
        files
    }

    /// The batches of hot files that have rows, and their least and greatest times.
    fn batches(&self) -> impl Iterator<Item = (HotBatch, (i64, i64))> {
        let hot = match self.part {
            Part::Rollups(..) | Part::Sealed => &[],
            Part::Requests | Part::Live => self.snapshot.hot.as_slice(),
        };
        let all = hot.iter().flat_map(|file| {
            let batches = file.ranges.iter().enumerate();
            batches.filter_map(|(index, range)| Some((HotBatch { file: Arc::clone(file), index }, (*range)?)))
        });
        all.filter(|(_, (first, last))| self.span.meets(*first, *last))
    }

    /// The sealed files that may hold matching rows.
    fn matching_files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<(&Source, &FileEntry)>> {
        let files = self.files();
        let ranges = files.iter().map(|(_, entry)| (entry.time_min_us, entry.time_max_us));
        let keep = times::matching(&self.schema, state, filters, ranges.collect())?;
        Ok(files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
    }

    /// Of some files those parts that may hold the ids that filters ask for. Time tells who waits for an answer which
    /// ids there are, so rows of others are not looked up.
    fn looked_up<'a>(&self, files: Vec<(&'a Source, &'a FileEntry)>, filters: &[Expr]) -> Vec<Found<'a>> {
        let sought = if self.scope.is_all() { lookup::sought(filters) } else { Vec::new() };
        let found = files.into_iter().filter_map(|(source, entry)| {
            let whole = Found { source, entry, access: None };
            let Source::Disk(path) = source else { return Some(whole) };
            if sought.is_empty() {
                return Some(whole);
            }
            // The engine meets the error of a file that cannot be read, and says it.
            let Ok(may) = self.snapshot.lookup.row_groups(path, &sought) else { return Some(whole) };
            let access = |may: &bool| if *may { RowGroupAccess::Scan } else { RowGroupAccess::Skip };
            let plan = ParquetAccessPlan::new(may.iter().map(access).collect());
            may.contains(&true).then_some(Found { access: Some(plan), ..whole })
        });
        found.collect()
    }

    fn statistics_of(&self, entries: &[&FileEntry]) -> Statistics {
        let mut columns = vec![ColumnStatistics::new_unknown(); self.schema.fields().len()];
        let time = |us| Precision::Exact(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        let (min, max) = (
            entries.iter().map(|entry| entry.time_min_us).min(),
            entries.iter().map(|entry| entry.time_max_us).max(),
        );
        if let (Some(min), Some(max)) = (min, max) {
            columns[0].min_value = time(min);
            columns[0].max_value = time(max);
            columns[0].null_count = Precision::Exact(0);
        }
        let sum = |field: fn(&FileEntry) -> u64| entries.iter().map(|entry| field(entry) as usize).sum();
        Statistics {
            num_rows: Precision::Exact(sum(|entry| entry.rows)),
            total_byte_size: Precision::Inexact(sum(|entry| entry.bytes)),
            column_statistics: columns,
        }
    }

    fn parquet(
        &self,
        state: &dyn Session,
        url: ObjectStoreUrl,
        files: &[Found<'_>],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let runtime = state.runtime_env();
        let reader = CachedParquetFileReaderFactory::new(
            runtime.object_store(&url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let mut parquet = state.config_options().execution.parquet.clone();
        parquet.schema_force_view_types = true;
        let options = datafusion::config::TableParquetOptions { global: parquet, ..Default::default() };
        let mut source = ParquetSource::new(TableSchema::from(Arc::clone(&self.schema)))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        if let Some(condition) = self.scope.condition() {
            let names = DFSchema::try_from(Arc::clone(&self.schema))?;
            source = source.with_predicate(state.create_physical_expr(condition, &names)?);
        }
        let entries: Vec<&FileEntry> = files.iter().map(|found| found.entry).collect();
        let files = files.iter().map(|found| {
            let file = found.file().with_statistics(Arc::new(self.statistics_of(&[found.entry])));
            match &found.access {
                Some(access) => file.with_extension(access.clone()),
                None => file,
            }
        });
        let files: Vec<PartitionedFile> = files.collect();
        let group = files.len().div_ceil(state.config().target_partitions()).max(1);
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_statistics(self.statistics_of(&entries))
            .with_file_groups(files.chunks(group).map(|files| FileGroup::new(files.to_vec())).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// The roll-ups among some files whose columns are kept in memory as a source, and the other files.
    fn kept<'a>(
        &self,
        state: &dyn Session,
        url: ObjectStoreUrl,
        files: Vec<Found<'a>>,
        projection: Option<&Vec<usize>>,
    ) -> Result<Parted<'a>> {
        let cache = state.config().get_extension::<GroupCache>();
        let Some(cache) = cache.filter(|_| matches!(self.part, Part::Rollups(..))) else {
            return Ok((None, files));
        };
        let (kept, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|found| cache.takes(found.entry));
        if kept.is_empty() {
            return Ok((None, others));
        }
        let file = |found: &Found<'_>| GroupFile {
            name: groups::name(found.source, found.entry),
            file: found.file(),
            groups: found.entry.rows as usize,
        };
        let (files, partitions) = (kept.iter().map(file).collect(), state.config().target_partitions());
        let of = (cache, Arc::clone(&self.snapshot.sealed));
        let source = GroupSource::new(of, url, files, partitions, projection)?;
        Ok((Some(leaf::plan(source)), others))
    }

    fn hot(
        &self,
        state: &dyn Session,
        filters: &[Expr],
        projection: Option<&Vec<usize>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (batches, ranges): (Vec<HotBatch>, Vec<(i64, i64)>) = self.batches().unzip();
        let keep = times::matching(&self.schema, state, filters, ranges)?;
        let batches: Vec<HotBatch> =
            batches.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(batch, _)| batch).collect();
        if batches.is_empty() {
            return Ok(None);
        }
        let source = HotSource::new(batches, state.config().target_partitions(), projection.cloned())?;
        Ok(Some(leaf::plan(source)))
    }

    /// All rows, sealed and hot.
    fn sources(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let asked = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let read = if matches!(self.part, Part::Rollups(..)) { None } else { tries::columns_read(&asked)? };
        match read {
            Some(read) => tries::put_back(self.stored(state, Some(&read), filters, limit)?, asked.len()),
            None => self.stored(state, projection, filters, limit),
        }
    }

    /// The sources of all rows, as they are in files.
    fn stored(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut files = self.looked_up(self.matching_files(state, filters)?, filters);
        // Who asks for the latest rows has seen enough when the newest files are read.
        files.sort_by_key(|found| std::cmp::Reverse(found.entry.time_max_us));
        let (on_disk, in_bucket): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|found| matches!(found.source, Source::Disk(_)));
        let mut sources = Vec::new();
        for (url, files) in [(ObjectStoreUrl::local_filesystem(), on_disk), (bucket_url()?, in_bucket)] {
            let (kept, files) = self.kept(state, url.clone(), files, projection)?;
            sources.extend(kept);
            if !files.is_empty() {
                sources.push(self.parquet(state, url, &files, projection, limit)?);
            }
        }
        sources.extend(self.hot(state, filters, projection)?);
        match sources.len() {
            0 => {
                let none: [Vec<RecordBatch>; 1] = [Vec::new()];
                Ok(MemorySourceConfig::try_new_exec(&none, Arc::clone(&self.schema), projection.cloned())?)
            }
            1 => Ok(sources.remove(0)),
            _ => UnionExec::try_new(sources),
        }
    }
}

#[async_trait]
impl TableProvider for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(condition) = self.scope.condition() else {
            return self.sources(state, projection, filters, limit);
        };
        let mut columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let shown = columns.len();
        for name in self.scope.columns() {
            let column = self.schema.index_of(name)?;
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        // What the caller asks for chooses files by their times, and sees no row.
        let all = self.sources(state, Some(&columns), filters, None)?;
        let condition = state.create_physical_expr(condition, &DFSchema::try_from(all.schema())?)?;
        Ok(leaf::plan(ScopedSource::new(all, self.scope.clone(), condition, shown)?))
    }
}
