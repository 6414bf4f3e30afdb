//! What clients of PostgreSQL write and the engine does not: names, types and operators of its catalogue in the words of the
//! engine. Runs before the guard, which judges what comes out.
//!
//! Clients look things up that there never are here (indexes, triggers, publications), by queries of a kind that the engine
//! has no words for. A SELECT that joins such a table has no rows, whatever else it says: it is put in the place of it.

mod columns;

mod empty;

mod words;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement as Sql,
    TableAlias, TableFactor, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

use super::catalog;
use super::command;
use crate::guard::Refused;
use columns::distinguish;
pub(in crate::postgres) use columns::{column_names, unmarked};
use empty::{has_no_rows, is_empty, make_empty, wants_rights};
use words::{
    call, cast, constant, function, is_placeholder, list_of, literal, one_value, operator, path, take,
};

/// Puts a statement into the words of the engine.
pub(crate) fn translate(statement: &mut Statement) {
    match statement {
        Statement::Statement(sql) => {
            let before = placeholders(sql);
            let _never: ControlFlow<()> = VisitMut::visit(sql.as_mut(), &mut Translator);
            let lost: Vec<String> = before.difference(&placeholders(sql)).cloned().collect();
            if let Sql::Query(query) = sql.as_mut() {
                distinguish(&mut query.body);
                keep(&mut query.body, lost);
            }
        }
        Statement::Explain(explain) => translate(&mut explain.statement),
        _ => {}
    }
}

/// Statements that are refused for what they would do, though the parser does not know all their forms.
const NOT_SPOKEN: [&str; 11] =
    ["alter", "call", "comment", "copy", "create", "declare", "do", "grant", "import", "load", "security"];

/// Refuses a statement by its first word.
pub(crate) fn speaks(sql: &str) -> Result<(), Refused> {
    let verb = command::first_word(sql).unwrap_or_default();
    match NOT_SPOKEN.contains(&verb.to_lowercase().as_str()) {
        true => Err(Refused::Forbidden(verb.to_uppercase())),
        false => Ok(()),
    }
}

/// The parameters of a statement.
fn placeholders(sql: &Sql) -> BTreeSet<String> {
    struct Places(BTreeSet<String>);
    impl Visitor for Places {
        type Break = ();

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
            if let Value::Placeholder(name) = &value.value {
                self.0.insert(name.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut places = Places(BTreeSet::new());
    let _never: ControlFlow<()> = Visit::visit(sql, &mut places);
    places.0
}

/// Keeps parameters whose places are gone: a client gives as many values as it has written.
fn keep(body: &mut SetExpr, lost: Vec<String>) {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation { left, .. } => return keep(left, lost),
        SetExpr::Query(query) => return keep(&mut query.body, lost),
        _ => return,
    };
    for name in lost {
        let place = Expr::Value(Value::Placeholder(name).into());
        let anything = Expr::BinaryOp {
            left: Box::new(Expr::IsNull(Box::new(place.clone()))),
            op: BinaryOperator::Or,
            right: Box::new(Expr::IsNotNull(Box::new(place))),
        };
        let anything = Expr::Nested(Box::new(anything));
        select.selection = Some(match select.selection.take() {
            None => anything,
            Some(condition) => Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(condition))),
                op: BinaryOperator::And,
                right: Box::new(anything),
            },
        });
    }
}

struct Translator;

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident)
}

fn lower(name: &ObjectName) -> String {
    last(name).map(|ident| ident.value.to_lowercase()).unwrap_or_default()
}

fn named(parts: &[&str]) -> ObjectName {
    ObjectName(parts.iter().map(|part| ObjectNamePart::Identifier(Ident::new(*part))).collect())
}

/// Whether a name stands in a schema: with its name before it.
fn is_in(name: &ObjectName, schema: &str) -> bool {
    let parts = name.0.len();
    parts >= 2 && name.0[parts - 2].as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case(schema))
}

impl VisitorMut for Translator {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(known) = path(query) {
            *query = known;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if is_empty(&query.body) {
            query.order_by = None;
            query.limit_clause = None;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if select.from.iter().any(has_no_rows) || select.selection.as_ref().is_some_and(wants_rights) {
            make_empty(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, args, alias, .. } = factor else { return ControlFlow::Continue(()) };
        if args.is_some() {
            if lower(name) == "pg_get_keywords" {
                *args = None;
                *name = named(&["pg_catalog", "pg_keywords"]);
            } else if is_in(name, "pg_catalog") {
                name.0.drain(..name.0.len() - 1);
            }
            return ControlFlow::Continue(());
        }
        let table = lower(name);
        if is_in(name, "information_schema") && catalog::has_information(&table) {
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: Ident::new(table.clone()),
                columns: Vec::new(),
                at: None,
            });
            *name = named(&["pg_catalog", &catalog::information(&table)]);
        } else if name.0.len() == 1 && table.starts_with("pg_") && catalog::has(&table) {
            *name = named(&["pg_catalog", &table]);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate { expr: inner, .. } => *expr = take(inner),
            Expr::Function(function) => self::function(function),
            Expr::Subquery(query) => one_value(query),
            Expr::Identifier(ident)
                if ident.quote_style.is_none()
                    && ["current_schema", "current_role"].contains(&ident.value.to_lowercase().as_str()) =>
            {
                *expr = call(&ident.value.to_lowercase(), Vec::new());
            }
            Expr::BinaryOp { op, .. } => operator(op),
            Expr::Cast { expr: inner, data_type, kind, .. } => {
                if let Some(translated) = cast(inner, data_type, kind) {
                    *expr = translated;
                }
            }
            Expr::AnyOp { right, .. } => {
                if let Some(list) = literal(right).and_then(list_of) {
                    **right = list;
                } else if is_placeholder(right) {
                    // Clients send a list as its text.
                    **right = call("list_of_text", vec![take(right)]);
                }
            }
            // The schemas of the path are known.
            Expr::InSubquery { expr: inner, subquery, negated } => {
                if let Some(known) = constant(subquery) {
                    *expr =
                        Expr::InList { expr: Box::new(take(inner)), list: vec![known], negated: *negated };
                }
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right }
                if !matches!(right.as_ref(), Expr::Subquery(_)) =>
            {
                let has = call("array_has", vec![take(right), take(left)]);
                *expr = Expr::UnaryOp {
                    op: datafusion::sql::sqlparser::ast::UnaryOperator::Not,
                    expr: Box::new(has),
                };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::columns::MARK;
    use super::*;
    use crate::guard;

    /// With `~` for marks.
    fn shown(sql: &str) -> String {
        translated(sql).replace(MARK, "~")
    }

    fn translated(sql: &str) -> String {
        let mut statement = guard::parse(sql).unwrap();
        translate(&mut statement);
        guard::reads_only(&statement).unwrap();
        statement.to_string()
    }

    #[test]
    fn the_words_of_clients_become_those_of_the_engine() {
        for (said, means) in [
            ("SELECT 1", "SELECT 1"),
            ("SELECT time::text FROM requests", "SELECT time::TEXT FROM requests"),
            ("SELECT 'x' COLLATE pg_catalog.default", "SELECT 'x'"),
            (
                "SELECT relname FROM pg_class WHERE relname OPERATOR(pg_catalog.~) '^(a)$'",
                "SELECT relname FROM pg_catalog.pg_class WHERE relname ~ '^(a)$'",
            ),
            ("SELECT 'pg_class'::regclass::oid", "SELECT to_regclass_oid('pg_class')::BIGINT"),
            ("SELECT oid::regclass FROM t", "SELECT regclass_name(oid) FROM t"),
            ("SELECT pg_catalog.version()", "SELECT version()"),
            ("SELECT a = ANY('{1,2}')", "SELECT a = ANY(ARRAY[1, 2])"),
            ("SELECT a = ANY($1)", "SELECT a = ANY(list_of_text($1))"),
            ("SELECT '{a,NULL}'::text[]", "SELECT ARRAY['a', NULL]::TEXT[]"),
            ("SELECT a <> ALL ('{x}'::text[])", "SELECT NOT array_has(ARRAY['x']::TEXT[], a)"),
            (
                "SELECT c.column_name FROM information_schema.columns c",
                "SELECT c.column_name FROM pg_catalog.information_schema_columns c",
            ),
            (
                "SELECT columns.column_name FROM information_schema.columns",
                "SELECT columns.column_name FROM pg_catalog.information_schema_columns AS columns",
            ),
        ] {
            assert_eq!(translated(said), means);
        }
    }

    #[test]
    fn what_there_never_is_has_columns_and_no_rows() {
        assert_eq!(
            shown("SELECT a.x, f(y), NULL, NULL FROM pg_catalog.pg_policy a ORDER BY a.z"),
            "SELECT CAST(NULL AS TEXT) AS \"x\", CAST(NULL AS TEXT) AS \"f\", CAST(NULL AS TEXT) AS \"?column?\", \
             CAST(NULL AS TEXT) AS \"?column?~2\" WHERE false"
        );
        assert!(shown("SELECT i.*, c.relname FROM pg_class c JOIN pg_policies i ON true").starts_with(
            "SELECT CAST(NULL AS TEXT) AS \"schemaname\", CAST(NULL AS TEXT) AS \"tablename\", "
        ));
        assert!(translated("SELECT x FROM pg_class c JOIN pg_index i ON true").ends_with("WHERE false"));
        assert!(translated("SELECT * FROM (SELECT i.x FROM pg_index i) j").ends_with("WHERE false"));
        for kept in [
            "SELECT x FROM pg_catalog.pg_class LEFT JOIN pg_catalog.pg_index i ON true",
            "SELECT count(*) FROM pg_catalog.pg_index",
        ] {
            assert_eq!(translated(kept), kept);
        }
    }

    #[test]
    fn two_columns_of_one_name_are_told_apart_by_a_mark() {
        assert_eq!(
            shown("SELECT a, t.a, NULL, NULL FROM t"),
            "SELECT a, t.a AS \"a~1\", NULL, NULL AS \"NULL~3\" FROM t"
        );
        assert_eq!(shown("SELECT c.oid, c.* FROM c"), "SELECT c.oid AS \"oid~0\", c.* FROM c");
        assert_eq!(unmarked("oid\u{1}0"), "oid");
    }

    #[test]
    fn columns_are_called_as_postgresql_does() {
        let names = |sql: &str| -> Vec<String> {
            column_names(sql).into_iter().map(|name| name.unwrap_or_else(|| "-".to_owned())).collect()
        };
        assert_eq!(
            names(
                "SELECT count(*), a, b AS c, 1, 'x'::text, a::text, pg_catalog.Version(), CASE 1 WHEN 1 THEN 2 END FROM t"
            ),
            ["count", "-", "-", "?column?", "text", "a", "version", "case"]
        );
        assert!(names("SELECT *, 1 FROM t").is_empty());
        assert!(names("SHOW TABLES").is_empty());
    }

    #[test]
    fn parameters_stay_where_their_places_go() {
        assert!(
            translated("SELECT x FROM pg_index WHERE x = $1")
                .ends_with("WHERE (false) AND ($1 IS NULL OR $1 IS NOT NULL)")
        );
    }

    #[test]
    fn the_search_path_is_known() {
        let grafana = "SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END FROM \
             generate_series(array_lower(string_to_array(current_setting('search_path'),','),1), \
             array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
             string_to_array(current_setting('search_path'),',') s";
        assert_eq!(translated(grafana), "SELECT 'public'");
    }
}
