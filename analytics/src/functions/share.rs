//! Several percentiles of one column share one sketch.
//!
//! `latency_percentile(x, 0.5), latency_percentile(x, 0.99)` would count each value twice. This rule lets the
//! aggregate gather `latency_sketch(x)` once and reads the percentiles from it in a projection above.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::aggregate::LatencyAggregate;

/// The rule, with the functions that it puts in.
#[derive(Debug)]
pub(crate) struct ShareSketches {
    sketch: Arc<AggregateUDF>,
    merge: Arc<AggregateUDF>,
    percentile: Arc<ScalarUDF>,
}

impl ShareSketches {
    pub(crate) fn new() -> Self {
        Self {
            sketch: Arc::new(AggregateUDF::from(LatencyAggregate::sketch())),
            merge: Arc::new(AggregateUDF::from(LatencyAggregate::merge())),
            percentile: Arc::new(ScalarUDF::from(super::scalar::SketchPercentile::new())),
        }
    }

    /// The sketch behind a percentile of what `input` has, and which percentile it is.
    fn parts(&self, expr: &Expr, input: &DFSchema) -> Option<(Expr, Expr)> {
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
        let p = params.args.pop().filter(is_share)?;
        let of_sketches = params.args.first()?.get_type(input).ok()? == DataType::Binary;
        let func = Arc::clone(if of_sketches { &self.merge } else { &self.sketch });
        Some((Expr::AggregateFunction(AggregateFunction { func, params }), p))
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
            aggregate.aggr_expr.iter().map(|expr| self.parts(expr, aggregate.input.schema())).collect();
        // One alone is read from its accumulator directly.
        if parts.iter().flatten().count() < 2 {
            return Ok(Transformed::no(plan));
        }
        // A sketch gets a name of its own: what columns are called says nothing of casts.
        let mut wanted: Vec<Expr> = Vec::new();
        let mut sketches: Vec<Expr> = Vec::new();
        for (expr, parts) in aggregate.aggr_expr.iter().zip(&parts) {
            match parts {
                Some((sketch, _)) if sketches.contains(sketch) => {}
                Some((sketch, _)) => {
                    wanted.push(sketch.clone().alias(shared(sketches.len())));
                    sketches.push(sketch.clone());
                }
                None if wanted.contains(expr) => {}
                None => wanted.push(expr.clone()),
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
                    let place = sketches.iter().position(|known| *known == sketch).unwrap_or_default();
                    let sketch = Expr::Column(Column::new_unqualified(shared(place)));
                    self.percentile.call(vec![sketch, p]).alias(*name)
                }
                None => Expr::Column(Column::new_unqualified(*name)),
            });
        }
        Ok(Transformed::yes(below.project(above)?.build()?))
    }
}

/// The name of a shared sketch.
fn shared(place: usize) -> String {
    format!("shared_sketch_{place}")
}

/// Whether it is a number that a percentile may be asked for; of any other the aggregate itself says what is wrong.
pub(crate) fn is_share(p: &Expr) -> bool {
    let Expr::Literal(p, _) = p else { return false };
    matches!(p.cast_to(&DataType::Float64), Ok(ScalarValue::Float64(Some(p))) if (0.0..=1.0).contains(&p))
}
