//! What clients of PostgreSQL write and the engine does not: names, types and operators of its catalogue in the words of the
//! engine. Runs before the guard, which judges what comes out.
//!
//! Clients look things up that there never are here (indexes, triggers, publications), by queries of a kind that the engine
//! has no words for. A SELECT that joins such a table has no rows, whatever else it says: it is put in the place of it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement as Sql,
    TableAlias, TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

use super::catalog;
use super::command;
use super::params;
use crate::guard::{self, Refused};

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

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: named(&[name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: list(args.collect()),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn list(args: Vec<FunctionArg>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

/// Functions stand in no schema, and have parentheses.
fn function(function: &mut Function) {
    if is_in(&function.name, "pg_catalog") {
        function.name.0.drain(..function.name.0.len() - 1);
    }
    let name = lower(&function.name);
    if matches!(function.args, FunctionArguments::None)
        && ["current_user", "session_user", "user", "current_catalog", "current_role", "current_schema"]
            .contains(&name.as_str())
    {
        function.args = list(Vec::new());
    }
    if name == "array_upper" {
        function.name = named(&["array_length"]);
    }
    if name == "array"
        && let FunctionArguments::Subquery(query) = &function.args
        && is_empty(&query.body)
    {
        function.name = named(&["make_array"]);
        function.args = list(Vec::new());
    }
}

/// `OPERATOR(pg_catalog.~)` is `~`.
fn operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return };
    let known = match parts.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>" | "!=") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some(">") => BinaryOperator::Gt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">=") => BinaryOperator::GtEq,
        Some("||") => BinaryOperator::StringConcat,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        _ => return,
    };
    *op = known;
}

/// The text of a literal.
fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => literal(inner),
        _ => None,
    }
}

/// The name of a type that is not one of the engine's.
fn type_name(kind: &DataType) -> Option<String> {
    match kind {
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::Custom(name, _) => Some(lower(name)),
        DataType::JSON => Some("json".to_owned()),
        DataType::JSONB => Some("jsonb".to_owned()),
        DataType::Uuid => Some("uuid".to_owned()),
        _ => None,
    }
}

/// A type of PostgreSQL as one that the engine knows.
fn engine_type(name: &str) -> Option<DataType> {
    Some(match name {
        "oid" | "xid" | "cid" | "xid8" | "int8" => DataType::BigInt(None),
        "int4" => DataType::Int(None),
        "int2" => DataType::SmallInt(None),
        "bool" => DataType::Boolean,
        "float8" => DataType::DoublePrecision,
        "float4" => DataType::Real,
        "timestamptz" => {
            DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::WithTimeZone)
        }
        "text" | "name" | "char" | "bpchar" | "varchar" | "cstring" | "json" | "jsonb" | "uuid" | "inet"
        | "citext" | "aclitem" | "pg_node_tree" | "regrole" | "xml" | "sql_identifier" | "character_data" => {
            DataType::Text
        }
        _ => return None,
    })
}

fn is_placeholder(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        Expr::Nested(inner) => is_placeholder(inner),
        _ => false,
    }
}

/// The text of a list as one: of numbers, if it holds nothing else.
fn list_of(text: &str) -> Option<Expr> {
    let elements = params::elements(text)?;
    let numbers =
        !elements.is_empty() && elements.iter().flatten().all(|element| element.parse::<i64>().is_ok());
    let elem = elements.into_iter().map(|element| match element {
        Some(element) if numbers => Expr::Value(Value::Number(element, false).into()),
        Some(element) => self::text(&element),
        None => Expr::Value(Value::Null.into()),
    });
    Some(Expr::Array(Array { elem: elem.collect(), named: true }))
}

/// The value of a subquery that is one.
fn constant(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr @ Expr::Value(_))]
            if select.from.is_empty() && select.selection.is_none() =>
        {
            Some(expr.clone())
        }
        _ => None,
    }
}

/// A cast in the words of the engine; none where its type was put in its place.
fn cast(inner: &mut Expr, kind: &mut DataType, how: &CastKind) -> Option<Expr> {
    if let DataType::Array(element) = kind {
        if let ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item) = element
            && let Some(name) = type_name(item)
            && let Some(known) = engine_type(&name)
        {
            **item = known;
        }
        // The text of a list is none to the engine.
        *inner = list_of(literal(inner)?)?;
        return None;
    }
    let name = type_name(kind)?;
    let of_literal = literal(inner).map(str::to_owned);
    match (name.as_str(), of_literal) {
        ("regclass", Some(name)) => return Some(call("to_regclass_oid", vec![text(&name)])),
        ("regtype", Some(name)) => return Some(call("to_regtype_oid", vec![text(&name)])),
        ("regnamespace", Some(name)) => return Some(call("to_regnamespace_oid", vec![text(&name)])),
        ("regproc" | "regprocedure", Some(name)) => {
            let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
            return Some(text(name));
        }
        ("regclass", None) => return Some(call("regclass_name", vec![take(inner)])),
        ("regtype", None) => {
            return Some(call("format_type", vec![take(inner), Expr::Value(Value::Null.into())]));
        }
        ("regnamespace", None) => return Some(call("regnamespace_name", vec![take(inner)])),
        ("regproc" | "regprocedure", None) => *kind = DataType::Text,
        _ => *kind = engine_type(&name)?,
    }
    let _ = how;
    None
}

/// A subquery for the schemas of the search path, which drivers write in words that the engine does not have: here there is
/// one such schema.
fn path(query: &Query) -> Option<Query> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let calls = |factor: &TableFactor, wanted: &str| match factor {
        TableFactor::Table { name, args: Some(_), .. } => lower(name) == wanted,
        _ => false,
    };
    let factors = || {
        select.from.iter().flat_map(|table| {
            std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
        })
    };
    if !factors().any(|factor| calls(factor, "generate_series")) {
        return None;
    }
    let said = query.to_string().to_lowercase();
    let schemas = if factors().any(|factor| calls(factor, "string_to_array"))
        && said.contains("current_setting('search_path')")
    {
        vec![SelectItem::UnnamedExpr(text("public"))]
    } else if said.contains("current_schemas(false)") {
        // With its place in the path, as the JDBC driver wants it.
        let item = |expr: Expr, alias: &str| SelectItem::ExprWithAlias { expr, alias: Ident::new(alias) };
        let one = Expr::Value(Value::Number("1".into(), false).into());
        vec![item(one, "r"), item(text("public"), "nspname")]
    } else {
        return None;
    };
    let mut known = query.clone();
    if let SetExpr::Select(select) = known.body.as_mut() {
        select.projection = schemas;
        select.from.clear();
        select.selection = None;
    }
    Some(known)
}

/// Whether a condition wants rights that were granted on a column, of which there are none.
fn wants_rights(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => wants_rights(left) || wants_rights(right),
        Expr::Nested(inner) => wants_rights(inner),
        Expr::IsNotNull(inner) => column_name(inner).is_some_and(|name| name == "attacl"),
        _ => false,
    }
}

/// A subquery of one value over the catalogue, which may name columns of the query around it: the engine must be told that
/// there is no second row.
fn one_value(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let catalogue = select.from.iter().any(|table| {
        matches!(&table.relation, TableFactor::Table { name, args: None, .. } if is_in(name, "pg_catalog"))
    });
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    if !catalogue || grouped || query.limit_clause.is_some() {
        return;
    }
    if let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
        select.projection.as_mut_slice()
        && !aggregates(expr)
    {
        *expr = call("first_value", vec![take(expr)]);
    }
}

/// Whether nothing comes out of joined tables because nothing is in one of them.
fn has_no_rows(tables: &TableWithJoins) -> bool {
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
fn is_empty(body: &SetExpr) -> bool {
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
fn column_name(expr: &Expr) -> Option<String> {
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
fn make_empty(select: &mut Select) {
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

fn aggregates(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    let name = lower(&function.name);
    function.over.is_none()
        && [
            "first_value",
            "count",
            "sum",
            "min",
            "max",
            "avg",
            "string_agg",
            "array_agg",
            "bool_or",
            "bool_and",
        ]
        .contains(&name.as_str())
}

/// Stands between the name of a column and what tells it from another of that name.
const MARK: char = '\u{1}';

/// Two columns of an answer may have one name, which they may not to the engine: the second has a mark.
fn distinguish(body: &mut SetExpr) {
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
pub(super) fn unmarked(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// What PostgreSQL calls the columns of an answer where the statement does not; nothing where it does, or where columns are
/// not told one by one.
pub(super) fn column_names(sql: &str) -> Vec<Option<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
