//! A table whose file cannot be read. It has its columns, so that whoever asks what there is gets an answer; only who
//! asks it for rows is told what is wrong.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use event::layout::LayoutError;

/// The table of what was read, or this one.
pub(crate) fn table_or<T: Default>(
    read: &Result<T, Arc<LayoutError>>,
    table: impl Fn(&T) -> Result<MemTable>,
) -> Result<Arc<dyn TableProvider>> {
    Ok(match read {
        Ok(state) => Arc::new(table(state)?),
        Err(error) => {
            Arc::new(Unreadable { schema: table(&T::default())?.schema(), error: Arc::clone(error) })
        }
    })
}

#[derive(Debug)]
struct Unreadable {
    schema: SchemaRef,
    error: Arc<LayoutError>,
}

#[async_trait]
impl TableProvider for Unreadable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::External(Box::new(Arc::clone(&self.error))))
    }
}
