//! Whether a plan can be run by others, and what it becomes then.
//!
//! Files of the bucket stay as they are: executors read them. Every other leaf is rows of this process, which are fetched from
//! it; small tables are sent along. Only operators are let through of which Ballista cuts a plan at the right places: a list
//! of what is known to be right, since one that it does not know would give a wrong answer rather than an error. What is
//! left, and whatever reads no file of the bucket, is run here.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::{JoinType, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

use super::host;
use super::rows::{FetchRows, RowsOfCaller};
use crate::access::ScopedSource;
use crate::leaf;
use crate::once::OnceExec;
use crate::table::bucket_url;

/// Tables of this process that are sent along rather than fetched, in bytes.
const SENT_BYTES_MAX: usize = 64 << 10;

/// A plan for executors.
#[derive(Debug)]
pub(super) struct Shipped {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// Rows that they fetch from this process, by their names.
    pub(super) rows: Vec<(String, Arc<dyn ExecutionPlan>)>,
}

/// Makes a plan for executors, who fetch rows from `host`, of which at most `rows_max` + 1 of each partition are wanted. None if
/// the plan is to be run here.
pub(super) fn ship(plan: &Arc<dyn ExecutionPlan>, host: &str, rows_max: u64) -> Result<Option<Shipped>> {
    let mut shipper = Shipper { host, bucket: bucket_url()?.to_string(), rows: Vec::new(), files: false };
    let Some(shipped) = shipper.node(plan)? else { return Ok(None) };
    if !shipper.files {
        return Ok(None);
    }
    // What nobody would be given is not left on the disks of executors.
    let fetch = usize::try_from(rows_max).unwrap_or(usize::MAX).saturating_add(1);
    let plan = Arc::new(LocalLimitExec::new(shipped, fetch.min(u32::MAX as usize)));
    Ok(Some(Shipped { plan, rows: shipper.rows }))
}

struct Shipper<'a> {
    host: &'a str,
    bucket: String,
    rows: Vec<(String, Arc<dyn ExecutionPlan>)>,
    /// Whether a file of the bucket is read.
    files: bool,
}

impl Shipper<'_> {
    fn node(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
            return self.source(plan, source);
        }
        if plan.is::<EmptyExec>() || plan.is::<PlaceholderRowExec>() {
            // Ballista 55 loses them in a union: their rows are missing, or the query never ends.
            return Ok(None);
        }
        if plan.children().is_empty() {
            return self.fetched(plan);
        }
        if !is_known(plan.as_ref()) {
            return Ok(None);
        }
        let mut children = Vec::new();
        for child in plan.children() {
            let Some(child) = self.node(child)? else { return Ok(None) };
            children.push(child);
        }
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
            && tells_of_left(*join.join_type())
        {
            // Which rows of the left have met none is known to who has seen all of the right.
            let Some(right) = children.pop() else { return internal_err!("a join of two") };
            let one = right.output_partitioning().partition_count() == 1;
            children.push(if one { right } else { Arc::new(CoalescePartitionsExec::new(right)) });
        }
        replace_children_if_necessary(Arc::clone(plan), children).map(Some)
    }

    fn source(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        source: &DataSourceExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let source = source.data_source();
        if let Some(scoped) = leaf::of::<ScopedSource>(source.as_ref()) {
            let (all, scope, shown) = scoped.parts();
            let Some(all) = self.node(all)? else { return Ok(None) };
            return Ok(Some(Arc::new(RowsOfCaller::new(all, scope.clone(), shown)?)));
        }
        if let Some(files) = source.downcast_ref::<FileScanConfig>()
            && files.object_store_url.to_string() == self.bucket
            && files.file_source().is::<ParquetSource>()
        {
            self.files = true;
            return Ok(Some(DataSourceExec::from_data_source(without_details(files))));
        }
        if let Some(table) = source.downcast_ref::<MemorySourceConfig>() {
            let batches = table.partitions().iter().flatten();
            if batches.map(|batch| batch.get_array_memory_size()).sum::<usize>() <= SENT_BYTES_MAX {
                return Ok(Some(Arc::clone(plan)));
            }
        }
        self.fetched(plan)
    }

    /// Rows of this process.
    fn fetched(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        // An order that the plan above relies on would be lost.
        if plan.output_ordering().is_some() {
            return Ok(None);
        }
        let name = host::name()?;
        let partitions = plan.output_partitioning().partition_count();
        let fetch = FetchRows::all(self.host, &name, plan.schema(), partitions)?;
        self.rows.push((name, Arc::clone(plan)));
        Ok(Some(fetch))
    }
}

/// Files without what only a planner asks for, which would be most of the message where there are many.
fn without_details(files: &FileScanConfig) -> FileScanConfig {
    let groups = files.file_groups.iter().map(|group| {
        let files = group.iter().cloned().map(|mut file| {
            file.statistics = None;
            file
        });
        FileGroup::new(files.collect())
    });
    FileScanConfigBuilder::from(files.clone()).with_file_groups(groups.collect()).build()
}

/// Whether a plan is cut rightly around this operator.
fn is_known(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<AggregateExec>()
        || plan.is::<BoundedWindowAggExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<CrossJoinExec>()
        || plan.is::<FilterExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<OnceExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<UnionExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<WindowAggExec>()
}

/// Whether a join says something of rows of the left that have met none of the right, or of each only once.
fn tells_of_left(join: JoinType) -> bool {
    matches!(
        join,
        JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
    )
}
