//! Names, types, operators, functions and constants of PostgreSQL in the words of the engine.

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Query, SelectItem, SetExpr,
    TableFactor, Value,
};

use super::empty::is_empty;
use super::{is_in, lower, named};
use crate::postgres::params;

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

pub(super) fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
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

pub(super) fn list(args: Vec<FunctionArg>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

/// Functions stand in no schema, and have parentheses.
pub(super) fn function(function: &mut Function) {
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
pub(super) fn operator(op: &mut BinaryOperator) {
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
pub(super) fn literal(expr: &Expr) -> Option<&str> {
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
pub(super) fn type_name(kind: &DataType) -> Option<String> {
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

pub(super) fn is_placeholder(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        Expr::Nested(inner) => is_placeholder(inner),
        _ => false,
    }
}

/// The text of a list as one: of numbers, if it holds nothing else.
pub(super) fn list_of(text: &str) -> Option<Expr> {
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
pub(super) fn constant(query: &Query) -> Option<Expr> {
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
pub(super) fn cast(inner: &mut Expr, kind: &mut DataType, how: &CastKind) -> Option<Expr> {
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
pub(super) fn path(query: &Query) -> Option<Query> {
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

/// A subquery of one value over the catalogue, which may name columns of the query around it: the engine must be told that
/// there is no second row.
pub(super) fn one_value(query: &mut Query) {
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

pub(super) fn aggregates(expr: &Expr) -> bool {
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
