//! Hot batches as a source of the engine: unpacked when they are read, by the partition that reads them, and only the
//! columns that the query names.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::source::DataSource;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, Partitioning};
use event::hot::unpack;

use crate::catalog::HotFile;

/// One batch of a hot file.
#[derive(Debug, Clone)]
pub(crate) struct HotBatch {
    pub(crate) file: Arc<HotFile>,
    pub(crate) index: usize,
}

impl HotBatch {
    fn packed(&self) -> &RecordBatch {
        &self.file.reader.batches[self.index]
    }
}

/// Packed batches in partitions.
#[derive(Debug)]
pub(crate) struct HotSource {
    partitions: Vec<Arc<[HotBatch]>>,
    /// Indices into the schema of the table; all of it without.
    columns: Option<Vec<usize>>,
    schema: SchemaRef,
}

impl HotSource {
    /// Deals batches out to partitions.
    pub(crate) fn new(
        batches: Vec<HotBatch>,
        partitions: usize,
        columns: Option<Vec<usize>>,
    ) -> Result<Self> {
        let table = event::columns::schema();
        let schema = match &columns {
            Some(columns) => Arc::new(table.project(columns)?),
            None => table,
        };
        let mut dealt = vec![Vec::new(); partitions.clamp(1, batches.len().max(1))];
        let count = dealt.len();
        for (turn, batch) in batches.into_iter().enumerate() {
            dealt[turn % count].push(batch);
        }
        Ok(Self { partitions: dealt.into_iter().map(Arc::from).collect(), columns, schema })
    }
}

impl DataSource for HotSource {
    fn open(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = self.partitions.get(partition).cloned().unwrap_or_default();
        let columns = self.columns.clone();
        let unpacked =
            (0..batches.len()).map(move |index| Ok(unpack(batches[index].packed(), columns.as_deref())?));
        let stream = futures::stream::iter(unpacked);
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))))
    }

    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut Formatter) -> fmt::Result {
        let sizes: Vec<usize> = self.partitions.iter().map(|batches| batches.len()).collect();
        write!(f, "hot_batches={sizes:?}")
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let counted = match partition {
            Some(partition) => self.partitions.get(partition..=partition).unwrap_or_default(),
            None => &self.partitions,
        };
        let rows =
            counted.iter().flat_map(|batches| batches.iter()).map(|batch| batch.packed().num_rows()).sum();
        let statistics = Statistics::new_unknown(&self.schema).with_num_rows(Precision::Exact(rows));
        Ok(Arc::new(statistics))
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
