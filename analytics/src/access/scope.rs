//! The rows that there are for a caller, and the wall around them.
//!
//! A condition of the caller's must never see a row of others: it could tell of it by an error (`CAST(path AS INT)`), by
//! its time, or in a plan. So the rows are chosen inside of a source of their own: no rule of the optimizer looks into it, no
//! condition is pushed through it, and it has no statistics.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, ident, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::leaf::Leaf;

/// Whose rows there are; of all without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) consumer: Option<String>,
    pub(crate) workspace: Option<String>,
}

impl Scope {
    /// Whether it leaves nothing out.
    pub(crate) fn is_all(&self) -> bool {
        self.columns().is_empty()
    }

    /// The columns that say whose a row is.
    pub(crate) fn columns(&self) -> Vec<&'static str> {
        self.parts().map(|(column, _)| column).collect()
    }

    /// The condition that rows meet; none leaves nothing out.
    pub(crate) fn condition(&self) -> Option<Expr> {
        let text = |value: &str| lit(ScalarValue::Utf8View(Some(value.to_owned())));
        self.parts().map(|(column, value)| ident(column).eq(text(value))).reduce(Expr::and)
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parts = [("consumer", &self.consumer), ("workspace", &self.workspace)];
        parts.into_iter().filter_map(|(column, value)| Some((column, value.as_deref()?)))
    }
}

/// The rows of another source that meet a condition.
#[derive(Debug)]
pub(crate) struct ScopedSource {
    all: Arc<dyn ExecutionPlan>,
    scope: Scope,
    condition: Arc<dyn PhysicalExpr>,
    /// Those of its columns that are shown: all but those that only the condition needs.
    shown: Vec<usize>,
    schema: SchemaRef,
}

impl ScopedSource {
    /// Of `all`, of which the condition of the scope names columns, the first `shown` columns.
    pub(crate) fn new(
        all: Arc<dyn ExecutionPlan>,
        scope: Scope,
        condition: Arc<dyn PhysicalExpr>,
        shown: usize,
    ) -> Result<Self> {
        let shown: Vec<usize> = (0..shown).collect();
        let schema = Arc::new(all.schema().project(&shown)?);
        Ok(Self { all, scope, condition, shown, schema })
    }

    /// The other source, whose rows are there, and how many columns are shown.
    pub(crate) fn parts(&self) -> (&Arc<dyn ExecutionPlan>, &Scope, usize) {
        (&self.all, &self.scope, self.shown.len())
    }
}

/// The rows of a batch that meet a condition, in some of its columns.
pub(crate) fn choose(
    batch: &RecordBatch,
    condition: &dyn PhysicalExpr,
    shown: &[usize],
) -> Result<RecordBatch> {
    let met = condition.evaluate(batch)?.into_array(batch.num_rows())?;
    Ok(filter_record_batch(&batch.project(shown)?, as_boolean_array(&met)?)?)
}

impl Leaf for ScopedSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn partitions(&self) -> usize {
        self.all.output_partitioning().partition_count()
    }

    // How many rows there are of others is not for the caller.
    fn rows(&self, _partition: usize) -> Option<usize> {
        None
    }

    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (condition, shown) = (Arc::clone(&self.condition), self.shown.clone());
        let all = self.all.execute(partition, context)?;
        Ok(all.map(move |batch| choose(&batch?, condition.as_ref(), &shown)).boxed())
    }

    fn show(&self, _kind: DisplayFormatType, out: &mut Formatter) -> fmt::Result {
        write!(out, "rows of the caller")
    }
}
