//! Ids as people write them: text that is compared with an id becomes the bytes of one.
//!
//! `WHERE trace_id = '4bf92f3577b34da6a3ce929d0e0e4736'` would compare bytes with letters and find nothing. This rule
//! runs before types are coerced, so that what reaches the table is a literal of the column's own type, which bloom
//! filters and row filters know. Dashes (a UUID) and PostgreSQL's `\x` are accepted; text that cannot be such an id
//! is an error rather than an empty answer.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Diagnostic, Result, ScalarValue, Spans, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

/// The rule.
#[derive(Debug)]
pub(crate) struct IdsInText;

impl AnalyzerRule for IdsInText {
    fn name(&self) -> &str {
        "ids_in_text"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let compared = |expr: Expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| comparison(expr, &schema))?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            };
            plan.map_expressions(|expr| match expr {
                // It has no name: its members have.
                Expr::GroupingSet(_) => expr.map_children(compared),
                expr => compared(expr),
            })
        });
        plan.data()
    }
}

/// While SQL is planned, for comparisons whose type must be known at once (`SELECT trace_id = '...'`).
impl ExprPlanner for IdsInText {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        use datafusion::sql::sqlparser::ast::BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if matches!(expr.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            rewrite(vec![&mut expr.left, &mut expr.right], schema)?;
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// A comparison whose one side is an id, with its text literals as ids.
fn comparison(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let sides: Vec<&mut Expr> = match &mut expr {
        Expr::BinaryExpr(binary) if compares(binary.op) => {
            vec![binary.left.as_mut(), binary.right.as_mut()]
        }
        Expr::InList(list) => std::iter::once(list.expr.as_mut()).chain(&mut list.list).collect(),
        Expr::Between(between) => {
            vec![between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()]
        }
        _ => return Ok(Transformed::no(expr)),
    };
    let changed = rewrite(sides, schema)?;
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Makes ids of the text literals among things that are compared, if one of them is an id. Whether it did.
fn rewrite(sides: Vec<&mut Expr>, schema: &DFSchema) -> Result<bool> {
    if !sides.iter().any(|side| text_of(side).is_some()) {
        return Ok(false);
    }
    let bytes = sides.iter().find_map(|side| match side.get_type(schema) {
        Ok(DataType::FixedSizeBinary(bytes)) => Some(bytes),
        _ => None,
    });
    let Some(bytes) = bytes else { return Ok(false) };
    // Literals do not know their place; the column beside them does.
    let span = sides.iter().find_map(|side| side.spans().and_then(Spans::first));
    for side in sides {
        if let Some(text) = text_of(side) {
            let id = parse(text, bytes).map_err(|error| {
                let diagnostic = Diagnostic::new_error(error.message().into_owned(), span);
                error.with_diagnostic(diagnostic)
            })?;
            *side = Expr::Literal(ScalarValue::FixedSizeBinary(bytes, Some(id)), None);
        }
    }
    Ok(true)
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

/// The bytes of an id in hexadecimal digits.
fn parse(text: &str, bytes: i32) -> Result<Vec<u8>> {
    let digits = text.strip_prefix("\\x").unwrap_or(text).chars().filter(|digit| *digit != '-');
    let digits: Option<Vec<u8>> = digits.map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    match digits {
        Some(digits) if usize::try_from(2 * bytes) == Ok(digits.len()) => {
            Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => plan_err!("'{text}' is no id of {bytes} bytes: write {} hexadecimal digits", 2 * bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_people_write_them() {
        let id = vec![0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6];
        for text in ["4bf92f3577b34da6", "4BF92F3577B34DA6", "4bf92f35-77b3-4da6", "\\x4bf92f3577b34da6"] {
            assert_eq!(parse(text, 8).unwrap(), id, "{text}");
        }
        for text in ["", "4bf92f3577b34da", "4bf92f3577b34da60", "4bf92f3577b34dag", "x4bf92f3577b34da6", "é"]
        {
            assert!(parse(text, 8).is_err(), "{text}");
        }
    }
}
