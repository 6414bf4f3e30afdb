//! What the columns of an answer are called.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement as Sql};

use super::empty::column_name;
use super::words::take;
use crate::guard;

/// Stands between the name of a column and what tells it from another of that name.
pub(super) const MARK: char = '\u{1}';

/// Two columns of an answer may have one name, which they may not to the engine: the second has a mark.
pub(super) fn distinguish(body: &mut SetExpr) {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation { left, right, .. } => {
            distinguish(left);
            distinguish(right);
            return;
        }
        SetExpr::Query(query) => return distinguish(&mut query.body),
        _ => return,
    };
    let all = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut seen = std::collections::HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let unnamed = matches!(item, SelectItem::UnnamedExpr(_));
        let (expr, name) = match item {
            SelectItem::UnnamedExpr(expr) => {
                let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let name = if plain { column_name(expr) } else { None };
                (expr, name.map_or_else(|| Err(()), Ok))
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr, Ok(alias.value.clone())),
            _ => continue,
        };
        // It may be one of all the others.
        let again = all && unnamed && name.is_ok();
        let name = name.unwrap_or_else(|()| expr.to_string());
        if !seen.insert(name.clone()) || again {
            let alias = Ident::with_quote('"', format!("{name}{MARK}{index}"));
            *item = SelectItem::ExprWithAlias { expr: take(expr), alias };
        }
    }
}

/// The name of a column without a mark.
pub(in crate::postgres) fn unmarked(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// What PostgreSQL calls the columns of an answer where the statement does not; nothing where it does, or where columns are
/// not told one by one.
pub(in crate::postgres) fn column_names(sql: &str) -> Vec<Option<String>> {
    let Ok(Statement::Statement(sql)) = guard::parse(sql) else { return Vec::new() };
    let Sql::Query(query) = sql.as_ref() else { return Vec::new() };
    let mut body = query.body.as_ref();
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(query) => body = &query.body,
            _ => return Vec::new(),
        }
    };
    let names = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        | SelectItem::ExprWithAlias { .. } => Some(None),
        SelectItem::UnnamedExpr(expr) => {
            Some(Some(column_name(expr).unwrap_or_else(|| "?column?".to_owned()).to_lowercase()))
        }
        _ => None,
    });
    names.collect::<Option<Vec<_>>>().unwrap_or_default()
}
