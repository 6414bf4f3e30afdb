//! A question as a plan, and what its answer will be made of.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;

use super::Question;
use crate::catalog::Snapshot;
use crate::cluster::{Cluster, EngineKind};
use crate::error::QueryError;
use crate::guard;
use crate::session::Sessions;
use crate::table::Rows;

/// What a question is made of.
#[derive(Debug)]
pub(crate) struct Described {
    /// Columns of the answer.
    pub(crate) schema: SchemaRef,
    /// Types that the places of the parameters want; none where any would do.
    pub(crate) params: Vec<Option<DataType>>,
}

/// What a question's answer is made of. `named` are nulls of the types that the client has said.
pub(super) async fn describe(
    sessions: &Sessions,
    statement: Statement,
    question: &Question,
    snapshot: Arc<Snapshot>,
    named: &[Option<ScalarValue>],
) -> Result<Described, QueryError> {
    let way = (question.protocol, EngineKind::Local);
    let state = sessions.open(snapshot, &statement, &question.caller, way).await?;
    let plan = state.statement_to_plan(statement).await?;
    guard::plan_options().verify_plan(&plan)?;
    let wanted = plan.get_parameter_types()?;
    let count = wanted.len().max(named.len());
    let kinds: Vec<Option<DataType>> =
        (1..=count).map(|number| wanted.get(&format!("${number}")).cloned().flatten()).collect();
    // Columns may be made of parameters: they are what they are with nulls of the right types.
    let nulls = kinds.iter().enumerate().map(|(index, kind)| {
        let kind = match named.get(index).cloned().flatten() {
            Some(ScalarValue::Null) | None => kind.clone().unwrap_or(DataType::Utf8View),
            Some(null) => null.data_type(),
        };
        ScalarValue::try_from(&kind)
    });
    let nulls = nulls.collect::<datafusion::common::Result<Vec<_>>>()?;
    let plan = if wanted.is_empty() { plan } else { plan.with_param_values(ParamValues::from(nulls))? };
    let options = state.config_options();
    let plan = state.analyzer().execute_and_check(plan, options, |_, _| {})?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    Ok(Described { schema, params: kinds })
}

/// A question as the engine runs it.
pub(super) struct Planned {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) context: Arc<TaskContext>,
    /// What runs it.
    pub(super) engine: EngineKind,
}

/// A question as the engine runs it: by the cluster, if there is one and it can, or here.
pub(super) async fn plan(
    sessions: &Sessions,
    cluster: Option<&Arc<Cluster>>,
    statement: Statement,
    question: &Question,
    snapshot: Arc<Snapshot>,
) -> Result<Planned, QueryError> {
    if let Some(cluster) = cluster
        && sessions.may_be_remote(&statement)?
    {
        let engine = EngineKind::Ballista;
        let (plan, context) =
            planned(sessions, statement.clone(), question, Arc::clone(&snapshot), engine).await?;
        if let Some(plan) = cluster.remote(&plan, question.caller.role.rows_max, &question.caller.name)? {
            return Ok(Planned { plan, context, engine });
        }
    }
    let engine = EngineKind::Local;
    let (plan, context) = planned(sessions, statement, question, snapshot, engine).await?;
    Ok(Planned { plan, context, engine })
}

async fn planned(
    sessions: &Sessions,
    statement: Statement,
    question: &Question,
    snapshot: Arc<Snapshot>,
    engine: EngineKind,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), QueryError> {
    let way = (question.protocol, engine);
    let mut state = sessions.open(snapshot, &statement, &question.caller, way).await?;
    let plan = bind(state.statement_to_plan(statement).await?, &question.params)?;
    guard::plan_options().verify_plan(&plan)?;
    let is_plain = is_plain(&plan)?;
    if is_plain {
        // Rules stand in the order in which one prepares the next; to look for more is most of the work of a short question.
        state.config_mut().options_mut().optimizer.max_passes = 1;
    }
    let plan = state.optimize(&plan)?;
    let parallel_from = sessions.settings.parallel_rows_min as usize;
    if is_plain && engine == EngineKind::Local && rows_to_read(&plan)? < parallel_from {
        state.config_mut().options_mut().execution.target_partitions = 1;
    }
    Ok((state.query_planner().create_physical_plan(&plan, &state).await?, state.task_ctx()))
}

/// How many rows and groups a plan has to read; without a bound where it reads other tables.
fn rows_to_read(plan: &LogicalPlan) -> datafusion::common::Result<usize> {
    let mut rows = 0_usize;
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let table = source_as_provider(&scan.source)?;
            let of_table = table.downcast_ref::<Rows>().map_or(usize::MAX, Rows::to_read);
            rows = rows.saturating_add(of_table);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(rows)
}

/// Whether a plan reads one table, without any question within the question, and without aggregates of different values, which
/// are made of two.
fn is_plain(plan: &LogicalPlan) -> datafusion::common::Result<bool> {
    use LogicalPlan as Node;
    plan.apply(|node| {
        let mut plain = matches!(
            node,
            Node::Projection(_)
                | Node::Filter(_)
                | Node::Aggregate(_)
                | Node::Sort(_)
                | Node::Limit(_)
                | Node::TableScan(_)
                | Node::SubqueryAlias(_)
                | Node::Explain(_)
                | Node::Analyze(_)
        );
        node.apply_expressions(|expr| {
            plain &= !expr.exists(|expr| Ok(is_question(expr)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })
    .map(|walked| walked == TreeNodeRecursion::Continue)
}

fn is_question(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))
}

/// Puts parameters in the place of `$1`, `$2` ...; a parameter takes the type that its place needs.
fn bind(plan: LogicalPlan, params: &[ScalarValue]) -> Result<LogicalPlan, QueryError> {
    let wanted = plan.get_parameter_names()?.len();
    if wanted == 0 && params.is_empty() {
        return Ok(plan);
    }
    if wanted != params.len() {
        return Err(QueryError::BadRequest(format!("parameters wanted: {wanted}, given: {}", params.len())));
    }
    let types = plan.get_parameter_types()?;
    let fitting = params.iter().enumerate().map(|(index, value)| {
        let kind = types.get(&format!("${}", index + 1)).cloned().flatten();
        kind.map_or_else(|| Ok(value.clone()), |kind| fit(value, &kind))
    });
    let fitting = fitting.collect::<datafusion::common::Result<Vec<_>>>()?;
    Ok(plan.with_param_values(ParamValues::from(fitting))?)
}

/// A text whose type nobody has named is a number, a truth or a time where one is wanted.
fn fit(value: &ScalarValue, wanted: &DataType) -> datafusion::common::Result<ScalarValue> {
    let takes = wanted.is_numeric() || wanted.is_temporal() || *wanted == DataType::Boolean;
    match value {
        ScalarValue::Utf8View(Some(_)) if takes => value.cast_to(wanted),
        _ => Ok(value.clone()),
    }
}
