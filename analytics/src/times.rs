//! Which files and hot batches may hold rows that a question asks for, by their times.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

/// Which of some containers of rows may hold matching ones, by the least and the greatest `time` of each.
pub(crate) fn matching(
    schema: &SchemaRef,
    state: &dyn Session,
    filters: &[Expr],
    times: Vec<(i64, i64)>,
) -> Result<Vec<bool>> {
    let all = vec![true; times.len()];
    let of_time = |filter: &&Expr| filter.column_refs().iter().any(|column| column.name == "time");
    let Some(filter) = conjunction(filters.iter().filter(of_time).cloned()) else { return Ok(all) };
    let filter = state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(schema))?)?;
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(filter);
    // A filter that does not bound times keeps them all.
    predicate.map_or(Ok(all), |predicate| predicate.prune(&TimeRanges(times)))
}

/// Least and greatest `time` of containers of rows (files, batches), for pruning.
struct TimeRanges(Vec<(i64, i64)>);

impl TimeRanges {
    fn times(&self, column: &Column, of: impl Fn(&(i64, i64)) -> i64) -> Option<ArrayRef> {
        if column.name != "time" {
            return None;
        }
        let times = TimestampMicrosecondArray::from_iter_values(self.0.iter().map(of));
        Some(Arc::new(times.with_timezone("UTC")))
    }
}

impl PruningStatistics for TimeRanges {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |range| range.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |range| range.1)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
