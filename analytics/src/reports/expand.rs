//! Calls of table functions become the queries that they stand for.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, Query, Statement as Sql, TableAlias, TableFactor, Value,
    Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use super::{ALL, Report};

/// Reports within reports: one stands for a query of which at most this many levels are calls again.
const LEVELS_MAX: u8 = 3;

/// What is wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum BadCall {
    /// One more than it has parameters.
    #[error("{name} takes at most {most} arguments: {parameters}")]
    TooMany {
        /// The function.
        name: &'static str,
        /// How many it takes.
        most: usize,
        /// What they are.
        parameters: String,
    },
    /// One is missing.
    #[error("{name} wants an argument `{parameter}`: {parameters}")]
    Missing {
        /// The function.
        name: &'static str,
        /// Which one.
        parameter: &'static str,
        /// What its parameters are.
        parameters: String,
    },
    /// None of its parameters, or one for the second time.
    #[error("{name} has no argument `{given}` here: {parameters}")]
    Unknown {
        /// The function.
        name: &'static str,
        /// As it was called.
        given: String,
        /// What its parameters are.
        parameters: String,
    },
    /// An argument that is a query.
    #[error("an argument of {name} is an expression without queries")]
    Query {
        /// The function.
        name: &'static str,
    },
}

/// Replaces the calls in a statement.
pub(crate) fn expand(statement: &mut Statement) -> Result<(), BadCall> {
    match statement {
        Statement::Statement(sql) => in_sql(sql),
        Statement::Explain(explain) => expand(&mut explain.statement),
        _ => Ok(()),
    }
}

fn in_sql(sql: &mut Sql) -> Result<(), BadCall> {
    match sql.visit(&mut Calls { level: 0 }) {
        ControlFlow::Break(bad) => Err(bad),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Calls {
    level: u8,
}

impl VisitorMut for Calls {
    type Break = BadCall;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<BadCall> {
        let (name, args, alias) = match factor {
            TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias),
            TableFactor::Function { name, args, alias, .. } => (name, &*args, alias),
            _ => return ControlFlow::Continue(()),
        };
        let called = name.to_string().to_lowercase();
        let Some(report) = ALL.into_iter().find(|report| report.name == called) else {
            return ControlFlow::Continue(());
        };
        if self.level >= LEVELS_MAX {
            return ControlFlow::Continue(());
        }
        let mut query = match arguments(report, args) {
            Ok(arguments) => stands_for(report, &arguments),
            Err(bad) => return ControlFlow::Break(bad),
        };
        VisitMut::visit(query.as_mut(), &mut Self { level: self.level + 1 })?;
        let unnamed =
            || TableAlias { explicit: true, name: Ident::new(report.name), columns: Vec::new(), at: None };
        let alias = Some(alias.clone().unwrap_or_else(unnamed));
        *factor = TableFactor::Derived { lateral: false, subquery: query, alias, sample: None };
        ControlFlow::Continue(())
    }
}

/// The arguments of a call, in the order of the parameters.
fn arguments(report: &Report, given: &[FunctionArg]) -> Result<Vec<Expr>, BadCall> {
    let name = report.name;
    let parameters = || {
        let each = report.parameters.iter().map(|(name, default)| match default {
            Some(default) => format!("{name} => {default}"),
            None => (*name).to_owned(),
        });
        format!("{name}({})", each.collect::<Vec<_>>().join(", "))
    };
    let unknown = |given: String| BadCall::Unknown { name, given, parameters: parameters() };
    let mut found: Vec<Option<Expr>> = vec![None; report.parameters.len()];
    for (place, argument) in given.iter().enumerate() {
        let (called, value) = match argument {
            FunctionArg::Unnamed(value) => (None, value),
            FunctionArg::Named { name, arg, .. } => (Some(name.value.to_lowercase()), arg),
            FunctionArg::ExprNamed { name, arg, .. } => (Some(name.to_string().to_lowercase()), arg),
        };
        let FunctionArgExpr::Expr(value) = value else { return Err(unknown(argument.to_string())) };
        let place = match &called {
            None => place,
            Some(called) => {
                let known = report.parameters.iter().position(|(name, _)| name == called);
                known.ok_or_else(|| unknown(called.clone()))?
            }
        };
        if value.visit(&mut Queries).is_break() {
            return Err(BadCall::Query { name });
        }
        match found.get_mut(place) {
            None => return Err(BadCall::TooMany { name, most: found.len(), parameters: parameters() }),
            Some(Some(_)) => return Err(unknown(called.unwrap_or_else(|| value.to_string()))),
            Some(empty) => *empty = Some(value.clone()),
        }
    }
    let each = found.into_iter().zip(report.parameters).map(|(value, (parameter, default))| {
        let missing = || BadCall::Missing { name, parameter, parameters: parameters() };
        value.or_else(|| default.map(expression)).ok_or_else(missing)
    });
    each.collect()
}

/// Ends at the first query.
struct Queries;

impl Visitor for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

/// The query of a report with its arguments in their places.
fn stands_for(report: &Report, arguments: &[Expr]) -> Box<Query> {
    let mut query = query(&(report.sql)());
    // Replacing never ends early.
    let _whole: ControlFlow<()> = VisitMut::visit(query.as_mut(), &mut Places { report, arguments });
    query
}

struct Places<'a> {
    report: &'a Report,
    arguments: &'a [Expr],
}

impl VisitorMut for Places<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let known = self.report.parameters.iter().position(|(parameter, _)| name[1..] == **parameter);
        if let Some(argument) = known.and_then(|place| self.arguments.get(place)) {
            *expr = Expr::Nested(Box::new(argument.clone()));
        }
        ControlFlow::Continue(())
    }
}

/// SQL of the house, which a test parses.
fn query(sql: &str) -> Box<Query> {
    let parsed = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build();
    match parsed.and_then(|mut parser| parser.parse_statement()) {
        Ok(Statement::Statement(sql)) => match *sql {
            Sql::Query(query) => query,
            other => unreachable!("a report is a query: {other}"),
        },
        other => unreachable!("a report is SQL: {other:?}"),
    }
}

fn expression(sql: &str) -> Expr {
    let parser = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build();
    match parser.and_then(|mut parser| parser.parse_expr()) {
        Ok(expr) => expr.expr,
        Err(error) => unreachable!("a default is SQL: {error}"),
    }
}
