//! Questions about `requests` that roll-ups can answer are answered from roll-ups.
//!
//! An aggregate whose keys are names and whole minutes, and which counts, adds up bytes or reads sketches, has the same answer
//! from groups of a minute or an hour as from rows. This rule puts them in the place of the rows where they are of the very
//! same rows: what lies at the ends of the asked time, what is not sealed yet, and hours of which rows or roll-ups are
//! missing come from rows all the same. EXPLAIN shows tables `rollups_1h_services`, `rollups_1m`, `sealed`, `hot` and so on then.

mod coverage;

mod shape;

mod spans;

mod terms;

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use event::rollup::{Grouping, Resolution};

use crate::table::Rows;
pub(crate) use coverage::Coverage;
use coverage::has_files_in;
use shape::Shape;
pub(crate) use spans::Spans;
use terms::Terms;

/// Most pieces of time that one answer is put together of.
const PIECES_MAX: usize = 32;

/// The rule.
#[derive(Debug)]
pub(crate) struct AnswerFromRollups {
    terms: Terms,
    group_requests_min: u64,
}

impl AnswerFromRollups {
    /// `group_requests_min` is how many requests a group is of, at least, where groups are read.
    pub(crate) fn new(group_requests_min: u64) -> Self {
        Self { terms: Terms::new(), group_requests_min }
    }

    /// The same answer from roll-ups, if there are any of the asked time.
    fn rolled(&self, shape: &Shape, fields: Vec<Column>) -> Result<Option<LogicalPlan>> {
        let sealed = &shape.rows.snapshot.sealed;
        let coverage = sealed.coverage.get_or_init(|| Coverage::of(sealed, self.group_requests_min));
        let (mut rest, mut parts) = (shape.span.clone(), Vec::new());
        for kind in shape.kinds() {
            let whole = rest.within(kind.0.bucket_us());
            let spans = coverage.of_kind(kind).and(&whole);
            if !spans.is_empty() {
                let rows = Rows::rollups(Arc::clone(&shape.rows.snapshot), kind, shape.rows.scope.clone());
                parts.push(self.groups(shape, rows, &spans, kind)?);
                rest = rest.without(&spans);
            }
        }
        if parts.is_empty() || rest.len() > PIECES_MAX {
            return Ok(None);
        }
        if has_files_in(sealed, &rest) {
            let rows = Rows::sealed(Arc::clone(&shape.rows.snapshot), shape.rows.scope.clone());
            parts.push(self.rows(shape, "sealed", rows, &rest)?);
        }
        let rows = Rows::live(Arc::clone(&shape.rows.snapshot), shape.rows.scope.clone());
        if rows.clone().within(&shape.span).to_read() > 0 {
            parts.push(self.rows(shape, "hot", rows, &shape.span)?);
        }
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { return Ok(None) };
        let together = parts.try_fold(LogicalPlanBuilder::from(first), LogicalPlanBuilder::union)?;
        let (keys, sums) = shape.names();
        let added: Vec<Expr> =
            shape.wanted.iter().zip(&sums).map(|(wanted, name)| self.terms.added(wanted, name)).collect();
        let names: Vec<String> = added.iter().map(|sum| sum.schema_name().to_string()).collect();
        let below = together.aggregate(keys.iter().map(ident), added)?;
        let mut above: Vec<Expr> = keys.iter().map(ident).collect();
        for (wanted, name) in shape.wanted.iter().zip(names) {
            above.push(self.terms.read(wanted, Expr::Column(Column::new_unqualified(name)))?);
        }
        let renamed = above
            .into_iter()
            .zip(fields)
            .map(|(expr, field)| expr.alias_qualified(field.relation, field.name));
        Ok(Some(below.project(renamed)?.build()?))
    }

    /// The groups of some spans of time, each with its part of what is asked.
    fn groups(
        &self,
        shape: &Shape,
        rows: Rows,
        spans: &Spans,
        (resolution, grouping): (Resolution, Grouping),
    ) -> Result<LogicalPlan> {
        let name = format!("rollups_{}{}", resolution.as_str(), grouping.suffix().replace('-', "_"));
        let (keys, sums) = shape.names();
        let keys = shape.keys.iter().zip(&keys).map(|(key, name)| key.clone().alias(name));
        let sums = shape.wanted.iter().zip(&sums);
        let sums = sums.map(|(wanted, name)| self.terms.of_group(wanted.sum()).alias(name));
        scan(&name, rows, shape, spans)?.project(keys.chain(sums))?.build()
    }

    /// What the rows of some spans of time are together.
    fn rows(&self, shape: &Shape, name: &str, rows: Rows, spans: &Spans) -> Result<LogicalPlan> {
        let (keys, sums) = shape.names();
        let keys = shape.keys.iter().zip(&keys).map(|(key, name)| key.clone().alias(name));
        let sums = shape.wanted.iter().zip(&sums);
        let sums = sums.map(|(wanted, name)| Ok(self.terms.of_rows(wanted.sum())?.alias(name)));
        scan(name, rows, shape, spans)?.aggregate(keys, sums.collect::<Result<Vec<_>>>()?)?.build()
    }
}

fn scan(name: &str, rows: Rows, shape: &Shape, spans: &Spans) -> Result<LogicalPlanBuilder> {
    let rows = rows.within(spans);
    let time = if rows.is_within() { None } else { spans.condition() };
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(rows)), None)?;
    let conditions = shape.conditions.iter().cloned().chain(time);
    conditions.into_iter().try_fold(scan, LogicalPlanBuilder::filter)
}

impl OptimizerRule for AnswerFromRollups {
    fn name(&self) -> &str {
        "answer_from_rollups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(shape) = Shape::of(aggregate)? else { return Ok(Transformed::no(plan)) };
        let fields = aggregate.schema.iter().map(|(table, field)| Column::new(table.cloned(), field.name()));
        let rolled = self.rolled(&shape, fields.collect())?;
        Ok(rolled.map_or(Transformed::no(plan), Transformed::yes))
    }
}
