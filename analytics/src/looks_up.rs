//! Joins that look up now and then.
//!
//! A task gives its thread back when what it waits for is not there. A join that makes many rows of few waits for nothing: the
//! aggregate above it would read for minutes without a pause, and a query that nobody waits for any more would go on. The
//! engine puts pauses above its sources only; this rule puts them above joins and lists that are spread out, too.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::unnest::UnnestExec;

/// The rule.
#[derive(Debug)]
pub(crate) struct LooksUp;

impl PhysicalOptimizerRule for LooksUp {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(if multiplies(node.as_ref()) {
                Transformed::yes(pausing(node))
            } else {
                Transformed::no(node)
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "looks_up"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn pausing(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(CooperativeExec::new(node))
}

/// Whether many rows may come of few.
fn multiplies(node: &dyn ExecutionPlan) -> bool {
    node.is::<NestedLoopJoinExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<HashJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<UnnestExec>()
}
