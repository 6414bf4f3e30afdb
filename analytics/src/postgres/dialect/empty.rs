//! Tables in which there never is anything: a SELECT that joins one has its columns and no rows.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, JoinOperator,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins, Value,
};

use super::columns::MARK;
use super::words::{aggregates, type_name};
use super::{is_in, last, lower};
use crate::postgres::catalog;

/// Whether a condition wants rights that were granted on a column, of which there are none.
pub(super) fn wants_rights(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => wants_rights(left) || wants_rights(right),
        Expr::Nested(inner) => wants_rights(inner),
        Expr::IsNotNull(inner) => column_name(inner).is_some_and(|name| name == "attacl"),
        _ => false,
    }
}

/// Whether nothing comes out of joined tables because nothing is in one of them.
pub(super) fn has_no_rows(tables: &TableWithJoins) -> bool {
    let keeps_left = tables.joins.iter().all(|join| {
        !matches!(
            join.join_operator,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
        )
    });
    let joined = tables.joins.iter().any(|join| {
        let inner = matches!(
            join.join_operator,
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
        );
        inner && factor_has_no_rows(&join.relation)
    });
    keeps_left && (joined || factor_has_no_rows(&tables.relation))
}

fn factor_has_no_rows(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            is_in(name, "pg_catalog") && catalog::is_always_empty(&lower(name))
        }
        // Options and rights of tables, of which there are none.
        TableFactor::Table { name, args: Some(args), .. } if lower(name) == "unnest" => {
            args.args.iter().any(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => {
                    column_name(arg).is_some_and(|name| name.ends_with("options") || name.ends_with("acl"))
                }
                _ => false,
            })
        }
        TableFactor::Derived { subquery, .. } => is_empty(&subquery.body),
        TableFactor::NestedJoin { table_with_joins, .. } => has_no_rows(table_with_joins),
        _ => false,
    }
}

/// Whether it was made empty here.
pub(super) fn is_empty(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => {
            select.from.is_empty()
                && matches!(&select.selection, Some(Expr::Value(value)) if value.value == Value::Boolean(false))
        }
        SetExpr::Query(query) => is_empty(&query.body),
        SetExpr::SetOperation { left, right, .. } => is_empty(left) && is_empty(right),
        _ => false,
    }
}

/// What a column is called, as PostgreSQL does.
pub(super) fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|ident| ident.value.clone()),
        Expr::Function(function) => last(&function.name).map(|ident| ident.value.clone()),
        Expr::Nested(expr) | Expr::Collate { expr, .. } => column_name(expr),
        Expr::Cast { expr, data_type, .. } => {
            column_name(expr).or_else(|| Some(type_name(data_type).unwrap_or_else(|| data_type.to_string())))
        }
        Expr::CompoundFieldAccess { root, .. } => column_name(root),
        Expr::Case { .. } => Some("case".to_owned()),
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Interval(_) => Some("interval".to_owned()),
        Expr::Trim { .. } => Some("btrim".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => Some("bool".to_owned()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                SelectItem::UnnamedExpr(expr) => column_name(expr),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Keeps the columns of a SELECT, without rows. One whose columns are not told stays as it is; so does an aggregate of
/// everything, which has a row.
pub(super) fn make_empty(select: &mut Select) {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let mut names: Vec<String> = Vec::new();
    for item in &select.projection {
        let (expr, name) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, column_name(expr)),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            SelectItem::Wildcard(_) if select.from.len() == 1 && select.from[0].joins.is_empty() => {
                let Some(inner) = columns_of(&select.from[0].relation) else { return };
                names.extend(inner);
                continue;
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(of), _) => {
                let Some(inner) = columns_of_empty(&select.from, &lower(of)) else { return };
                names.extend(inner);
                continue;
            }
            _ => return,
        };
        if !grouped && aggregates(expr) {
            return;
        }
        names.push(name.unwrap_or_else(|| "?column?".to_owned()));
    }
    let mut seen = std::collections::HashSet::new();
    select.projection = names
        .into_iter()
        .map(|name| {
            // Two columns of one name are an error to the engine.
            let mut alias = name.clone();
            let mut number = 1;
            while !seen.insert(alias.clone()) {
                number += 1;
                alias = format!("{name}{MARK}{number}");
            }
            let null = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Value(Value::Null.into())),
                data_type: DataType::Text,
                array: false,
                format: None,
            };
            SelectItem::ExprWithAlias { expr: null, alias: Ident::with_quote('"', alias) }
        })
        .collect();
    select.distinct = None;
    select.from.clear();
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.named_window.clear();
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
}

fn columns_of(factor: &TableFactor) -> Option<Vec<String>> {
    let TableFactor::Derived { subquery, .. } = factor else { return None };
    let mut body = subquery.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => {
                let names = select.projection.iter().map(|item| match item {
                    SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                    _ => None,
                });
                return names.collect();
            }
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(query) => body = &query.body,
            _ => return None,
        }
    }
}

/// The columns of a table that is always empty, by its name or alias among joined ones.
fn columns_of_empty(from: &[TableWithJoins], wanted: &str) -> Option<Vec<String>> {
    let joined = from.iter().flat_map(|table| {
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
    });
    joined.into_iter().find_map(|factor| match factor {
        TableFactor::Table { name, alias, args: None, .. } => {
            let known = alias.as_ref().map_or_else(|| lower(name), |alias| alias.name.value.to_lowercase());
            (known == wanted).then(|| catalog::columns_of_empty(&lower(name)))?
        }
        _ => None,
    })
}
