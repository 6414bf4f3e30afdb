//! Sources of ours as the engine wants them. Each gives batches in partitions, in no order, and leaves limits, projections
//! and conditions to the operators above it.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, Partitioning};
use futures::stream::BoxStream;

/// A source of batches.
pub(crate) trait Leaf: Debug + Send + Sync + 'static {
    /// What all of them are made of.
    fn schema(&self) -> &SchemaRef;

    /// In how many parts they come.
    fn partitions(&self) -> usize;

    /// How many rows a partition has, where that is known.
    fn rows(&self, partition: usize) -> Option<usize>;

    /// The batches of a partition.
    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>>;

    /// What EXPLAIN says of it.
    fn show(&self, kind: DisplayFormatType, out: &mut Formatter) -> fmt::Result;
}

/// A source as a plan.
pub(crate) fn plan(leaf: impl Leaf) -> Arc<dyn ExecutionPlan> {
    DataSourceExec::from_data_source(LeafSource(leaf))
}

/// The source that a plan was made of, if it is one of a kind.
pub(crate) fn of<L: Leaf>(source: &dyn DataSource) -> Option<&L> {
    source.downcast_ref::<LeafSource<L>>().map(|source| &source.0)
}

#[derive(Debug)]
struct LeafSource<L>(L);

impl<L: Leaf> DataSource for LeafSource<L> {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = self.0.open(partition, context)?;
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(Arc::clone(self.0.schema()), batches))))
    }

    fn fmt_as(&self, kind: DisplayFormatType, out: &mut Formatter) -> fmt::Result {
        self.0.show(kind, out)
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.0.partitions())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(self.0.schema()))
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let counted = partition.map_or(0..self.0.partitions(), |one| one..one + 1);
        let rows: Option<usize> = counted.map(|partition| self.0.rows(partition)).sum();
        let rows = rows.map_or(Precision::Absent, Precision::Exact);
        Ok(Arc::new(Statistics::new_unknown(self.0.schema()).with_num_rows(rows)))
    }

    fn with_fetch(&self, _limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        None
    }

    fn fetch(&self) -> Option<usize> {
        None
    }

    fn try_swapping_with_projection(
        &self,
        _projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}
