//! Several percentiles of one column share one sketch.
//!
//! `latency_percentile(x, 0.5), latency_percentile(x, 0.99)` would count each value twice. This rule lets the
//! aggregate gather `latency_sketch(x)` once and reads the percentiles from it in a projection above.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::aggregate::LatencyAggregate;

/// The rule, with the functions that it puts in.
#[derive(Debug)]
pub(crate) struct ShareSketches {
    sketch: Arc<AggregateUDF>,
    percentile: Arc<ScalarUDF>,
}

impl ShareSketches {
    pub(crate) fn new() -> Self {
        Self {
            sketch: Arc::new(AggregateUDF::from(LatencyAggregate::sketch())),
            percentile: Arc::new(ScalarUDF::from(super::scalar::SketchPercentile::new())),
        }
    }

    /// The sketch behind a percentile, and which percentile it is.
    fn parts(&self, expr: &Expr) -> Option<(Expr, Expr)> {
        let expr = match expr {
            Expr::Alias(alias) => alias.expr.as_ref(),
            expr => expr,
        };
        let Expr::AggregateFunction(call) = expr else { return None };
        if !call.func.inner().is::<LatencyAggregate>() || call.params.args.len() != 2 || call.params.distinct
        {
            return None;
        }
        let mut params = call.params.clone();
        let p = params.args.pop()?;
        Some((Expr::AggregateFunction(AggregateFunction { func: Arc::clone(&self.sketch), params }), p))
    }
}

impl OptimizerRule for ShareSketches {
    fn name(&self) -> &str {
        "share_sketches"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let parts: Vec<Option<(Expr, Expr)>> =
            aggregate.aggr_expr.iter().map(|expr| self.parts(expr)).collect();
        // One alone is read from its accumulator directly.
        if parts.iter().flatten().count() < 2 {
            return Ok(Transformed::no(plan));
        }
        let mut wanted: Vec<Expr> = Vec::new();
        for (expr, parts) in aggregate.aggr_expr.iter().zip(&parts) {
            let expr = parts.as_ref().map_or(expr, |(sketch, _)| sketch);
            if !wanted.contains(expr) {
                wanted.push(expr.clone());
            }
        }
        let names: Vec<_> =
            aggregate.schema.iter().map(|(table, field)| (table.cloned(), field.name())).collect();
        let (keys, results) = names.split_at(names.len() - parts.len());
        let below = LogicalPlanBuilder::from(aggregate.input.as_ref().clone())
            .aggregate(aggregate.group_expr.clone(), wanted)?;
        let mut above: Vec<Expr> =
            keys.iter().map(|(table, name)| Expr::Column(Column::new(table.clone(), *name))).collect();
        for ((_, name), parts) in results.iter().zip(parts) {
            above.push(match parts {
                Some((sketch, p)) => {
                    let sketch = Expr::Column(Column::new_unqualified(sketch.schema_name().to_string()));
                    self.percentile.call(vec![sketch, p]).alias(*name)
                }
                None => Expr::Column(Column::new_unqualified(*name)),
            });
        }
        Ok(Transformed::yes(below.project(above)?.build()?))
    }
}
