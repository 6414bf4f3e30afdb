//! The two nodes of a plan that are ours: rows that are fetched from where the query was asked, and rows that a caller may
//! see.
//!
//! Neither is a leaf. A scheduler gives each task some partitions of each leaf, and knows only the engine's own leaves; so
//! the partitions of rows to fetch are numbers in a small leaf of that kind below, and the node has as many as are left there.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::{AsArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::links::Links;
use crate::access::{Scope, choose};

/// What is fetched by: which rows, and which partition of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowsTicket {
    pub(super) rows: String,
    pub(super) partition: u64,
}

/// Rows that the process serves in which the query was asked.
#[derive(Debug)]
pub(super) struct FetchRows {
    /// A row for each partition: its number there.
    numbers: Arc<dyn ExecutionPlan>,
    /// Host and port of that process, and what it calls them.
    pub(super) host: String,
    pub(super) rows: String,
    pub(super) schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl FetchRows {
    /// All partitions of some rows.
    pub(super) fn all(
        host: &str,
        rows: &str,
        schema: SchemaRef,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let field = Field::new("partition", DataType::UInt64, false);
        let numbers = Arc::new(Schema::new(vec![field]));
        let one = |number: usize| {
            let column = Arc::new(UInt64Array::from(vec![number as u64]));
            Ok(vec![RecordBatch::try_new(Arc::clone(&numbers), vec![column])?])
        };
        let batches = (0..partitions).map(one).collect::<Result<Vec<_>>>()?;
        let numbers = MemorySourceConfig::try_new_exec(&batches, numbers, None)?;
        Ok(Arc::new(Self::of(numbers, host.to_owned(), rows.to_owned(), schema)))
    }

    /// Those partitions whose numbers there are.
    pub(super) fn of(numbers: Arc<dyn ExecutionPlan>, host: String, rows: String, schema: SchemaRef) -> Self {
        let properties = of_input(&numbers, &schema);
        Self { numbers, host, rows, schema, properties }
    }
}

fn of_input(input: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Arc<PlanProperties> {
    let partitions = Partitioning::UnknownPartitioning(input.output_partitioning().partition_count());
    let equivalences = EquivalenceProperties::new(Arc::clone(schema));
    Arc::new(PlanProperties::new(equivalences, partitions, EmissionType::Incremental, Boundedness::Bounded))
}

impl DisplayAs for FetchRows {
    fn fmt_as(&self, _kind: DisplayFormatType, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "FetchRows: host={}", self.host)
    }
}

impl ExecutionPlan for FetchRows {
    fn name(&self) -> &'static str {
        "FetchRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.numbers]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(numbers) = children.pop() else { return internal_err!("FetchRows has one input") };
        let (host, rows) = (self.host.clone(), self.rows.clone());
        Ok(Arc::new(Self::of(numbers, host, rows, Arc::clone(&self.schema))))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(links) = context.session_config().get_extension::<Links>() else {
            return internal_err!("rows are fetched by executors");
        };
        let numbers = self.numbers.execute(partition, context)?;
        let (host, rows) = (self.host.clone(), self.rows.clone());
        let fetched = numbers
            .and_then(move |batch| {
                let (links, host, rows) = (Arc::clone(&links), host.clone(), rows.clone());
                async move {
                    let numbers = batch.column(0).as_primitive::<UInt64Type>();
                    let mut streams = Vec::with_capacity(numbers.len());
                    for partition in numbers.values() {
                        let ticket = RowsTicket { rows: rows.clone(), partition: *partition };
                        streams.push(fetch(&links, &host, &ticket).await?);
                    }
                    Ok(futures::stream::iter(streams).flatten())
                }
            })
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), fetched)))
    }
}

/// A partition of rows, from the process that has them.
async fn fetch(
    links: &Links,
    host: &str,
    ticket: &RowsTicket,
) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send + use<>> {
    let failed = |reason: String| {
        DataFusionError::Execution(format!(
            "rows that are not in the bucket cannot be fetched from {host}: {reason}"
        ))
    };
    let channel = links.connect(host).await.map_err(failed)?;
    let mut client = FlightServiceClient::new(channel).max_decoding_message_size(links.message_bytes_max);
    let bytes = serde_json::to_vec(ticket).map_err(|error| failed(error.to_string()))?;
    let answer = client.do_get(arrow_flight::Ticket { ticket: bytes.into() }).await;
    let answer = answer.map_err(|status| failed(status.message().to_owned()))?;
    let data = answer.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
    let batches = FlightRecordBatchStream::new_from_flight_data(data);
    Ok(batches
        .map_err(|error| DataFusionError::Execution(format!("rows that are not in the bucket: {error}"))))
}

/// The rows of a source that a caller may see, as [`crate::access::ScopedSource`] is in one process: no condition is pushed
/// through it.
#[derive(Debug)]
pub(super) struct RowsOfCaller {
    all: Arc<dyn ExecutionPlan>,
    pub(super) scope: Scope,
    /// The first so many of its columns are shown.
    pub(super) shown: usize,
    condition: Arc<dyn PhysicalExpr>,
    properties: Arc<PlanProperties>,
}

impl RowsOfCaller {
    pub(super) fn new(all: Arc<dyn ExecutionPlan>, scope: Scope, shown: usize) -> Result<Self> {
        let Some(condition) = scope.condition() else { return internal_err!("a scope without a condition") };
        let names = DFSchema::try_from(all.schema())?;
        let condition = create_physical_expr(
            &condition,
            &names,
            &ExecutionProps::new(),
            &PhysicalPlanningContext::default(),
        )?;
        let columns: Vec<usize> = (0..shown).collect();
        let properties = of_input(&all, &Arc::new(all.schema().project(&columns)?));
        Ok(Self { all, scope, shown, condition, properties })
    }
}

impl DisplayAs for RowsOfCaller {
    fn fmt_as(&self, _kind: DisplayFormatType, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "RowsOfCaller")
    }
}

impl ExecutionPlan for RowsOfCaller {
    fn name(&self) -> &'static str {
        "RowsOfCaller"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.all]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(all) = children.pop() else { return internal_err!("RowsOfCaller has one input") };
        Ok(Arc::new(Self::new(all, self.scope.clone(), self.shown)?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (condition, shown) = (Arc::clone(&self.condition), (0..self.shown).collect::<Vec<_>>());
        let chosen = self.all.execute(partition, context)?;
        let chosen = chosen.map(move |batch| choose(&batch?, condition.as_ref(), &shown));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), chosen)))
    }
}
