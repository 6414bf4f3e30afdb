//! What may be asked: one statement that only reads. An allow-list over the syntax tree, before any planning.
//!
//! Allowed: a query (SELECT, WITH, VALUES), EXPLAIN and EXPLAIN ANALYZE of one, SHOW TABLES | COLUMNS | FUNCTIONS and
//! DESCRIBE.
//! Within a query: no INTO, no writing body, no table function outside a short list. Planning checks once more that
//! the logical plan holds no DDL, DML or session statement ([`plan_options`]), and the session's catalog knows no
//! files, so that a quoted path is an unknown table. `budget` bounds what may be planned.

mod budget;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, ObjectName, Query, Select, SetExpr, Statement as Sql, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use crate::reports::{BadCall, expand};

/// Table functions that read nothing but their arguments; those of the house are queries by now.
const TABLE_FUNCTIONS: [&str; 3] = ["generate_series", "range", "unnest"];

/// Deepest nesting of a statement.
const DEPTH_MAX: usize = 50;

/// Why a statement is not run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The text is no SQL.
    #[error("{}", crate::error::message(error))]
    Syntax {
        /// What the parser said.
        error: Box<DataFusionError>,
        /// Line and column behind the last character, where a statement stops that stops too early.
        end: (u64, u64),
    },
    /// It would cost too much to plan.
    #[error("the statement has more than {1} {0}")]
    TooMuch(&'static str, u64),
    /// The parser would have it mean something else than SQL does.
    #[error(
        "{0} ends where AND or OR begins in SQL, but not here: put it in parentheses, as in `(a {0} b) AND c`"
    )]
    Ambiguous(&'static str),
    /// A table function with the wrong arguments.
    #[error(transparent)]
    Call(#[from] BadCall),
    /// No statement, or more than one.
    #[error("exactly one statement is allowed, found {0}")]
    Count(usize),
    /// It is SQL, but would do more than read tables.
    #[error("{0} is refused: only SELECT, EXPLAIN, SHOW TABLES|COLUMNS|FUNCTIONS and DESCRIBE are allowed")]
    Forbidden(String),
}

/// Parses a text and lets it through only when it is one reading statement.
///
/// # Errors
/// [`Refused`] with the reason.
pub fn check(text: &str) -> Result<Statement, Refused> {
    let statement = parse(text)?;
    reads_only(&statement)?;
    Ok(statement)
}

/// Parses a text of one statement, which is not let through yet ([`reads_only`]).
pub(crate) fn parse(text: &str) -> Result<Statement, Refused> {
    budget::operators(text)?;
    let syntax = |error| Refused::Syntax { error: Box::new(error), end: end(text) };
    let mut parser = DFParserBuilder::new(text)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH_MAX)
        .build()
        .map_err(syntax)?;
    let mut statements: VecDeque<Statement> = parser.parse_statements().map_err(syntax)?;
    let count = statements.len();
    match statements.pop_front() {
        Some(mut statement) if count == 1 => {
            expand(&mut statement)?;
            Ok(statement)
        }
        _ => Err(Refused::Count(count)),
    }
}

/// Whether a statement asks how another one is run.
#[must_use]
pub fn explains(statement: &Statement) -> bool {
    match statement {
        Statement::Explain(_) => true,
        Statement::Statement(sql) => matches!(sql.as_ref(), Sql::Explain { .. }),
        _ => false,
    }
}

/// The second lock: what the planner verifies of the logical plan.
#[must_use]
pub fn plan_options() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

fn end(text: &str) -> (u64, u64) {
    let text = text.trim_end();
    let last = text.rsplit('\n').next().unwrap_or_default();
    (text.matches('\n').count() as u64 + 1, last.chars().count() as u64 + 1)
}

fn forbidden(what: &str) -> Refused {
    Refused::Forbidden(what.to_owned())
}

/// Lets a statement through when it only reads.
pub(crate) fn reads_only(statement: &Statement) -> Result<(), Refused> {
    match statement {
        Statement::Statement(sql) => sql_reads_only(sql),
        Statement::Explain(explain) => match explain.statement.as_ref() {
            Statement::Statement(sql) if matches!(sql.as_ref(), Sql::Query(_)) => sql_reads_only(sql),
            _ => Err(forbidden("EXPLAIN of anything but a query")),
        },
        Statement::CreateExternalTable(_) => Err(forbidden("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(forbidden("COPY")),
        Statement::Reset(_) => Err(forbidden("RESET")),
    }
}

fn sql_reads_only(sql: &Sql) -> Result<(), Refused> {
    match sql {
        Sql::Query(_)
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ExplainTable { .. } => {}
        Sql::Explain { statement, .. } if matches!(statement.as_ref(), Sql::Query(_)) => {}
        Sql::Explain { .. } => return Err(forbidden("EXPLAIN of anything but a query")),
        other => {
            let text = other.to_string();
            let verb: String = text.split_whitespace().take(1).collect();
            return Err(forbidden(&verb.to_uppercase()));
        }
    }
    match sql.visit(&mut Reader::default()) {
        ControlFlow::Break(refused) => Err(refused),
        ControlFlow::Continue(()) => Ok(()),
    }
}

#[derive(Default)]
struct Reader {
    relations: budget::Relations,
}

impl Visitor for Reader {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(forbidden("SELECT FOR UPDATE"));
        }
        if query.settings.is_some() || query.format_clause.is_some() || query.for_clause.is_some() {
            return ControlFlow::Break(forbidden("SETTINGS, FORMAT or FOR in a query"));
        }
        self.relations.enter(query);
        body_reads_only(&query.body)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        self.relations.leave(query)
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Refused> {
        self.relations.table(relation);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refused> {
        // The parser takes all that follows for the other side, where SQL has it end before AND and OR.
        let (words, right) = match expr {
            Expr::IsDistinctFrom(_, right) => ("IS DISTINCT FROM", right),
            Expr::IsNotDistinctFrom(_, right) => ("IS NOT DISTINCT FROM", right),
            _ => return ControlFlow::Continue(()),
        };
        match right.as_ref() {
            Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. } => {
                ControlFlow::Break(Refused::Ambiguous(words))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        if select.into.is_some() {
            return ControlFlow::Break(forbidden("SELECT INTO"));
        }
        budget::groupings(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refused> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                table_function(name)
            }
            TableFactor::Table { .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(forbidden("this kind of table expression")),
        }
    }
}

fn table_function(name: &ObjectName) -> ControlFlow<Refused> {
    let name = name.to_string().to_lowercase();
    if TABLE_FUNCTIONS.contains(&name.as_str()) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(forbidden(&format!("the table function `{name}`")))
}

fn body_reads_only(body: &SetExpr) -> ControlFlow<Refused> {
    match body {
        // A nested query is visited by itself.
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Query(_) | SetExpr::Table(_) => {
            ControlFlow::Continue(())
        }
        SetExpr::SetOperation { left, right, .. } => {
            body_reads_only(left)?;
            body_reads_only(right)
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            ControlFlow::Break(forbidden("a query that writes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_statements_pass() {
        for sql in [
            "SELECT 1",
            "select count(*) from requests;",
            "WITH a AS (SELECT 1 AS x) SELECT * FROM a UNION ALL SELECT 2",
            "VALUES (1), (2)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW COLUMNS FROM requests",
            "SHOW FUNCTIONS",
            "DESCRIBE requests",
            "SELECT * FROM generate_series(1, 10)",
            "SELECT trace_id FROM requests WHERE trace_id = $1",
        ] {
            assert!(check(sql).is_ok(), "{sql}: {:?}", check(sql).err());
        }
    }

    #[test]
    fn what_the_parser_reads_otherwise_than_sql_is_refused() {
        for sql in [
            "SELECT 1 WHERE a IS DISTINCT FROM true AND status = 200",
            "SELECT 1 WHERE x AND a IS NOT DISTINCT FROM 'b' OR c",
        ] {
            assert!(matches!(check(sql), Err(Refused::Ambiguous(_))), "{sql}");
        }
        for sql in [
            "SELECT 1 WHERE (a IS DISTINCT FROM true) AND status = 200",
            "SELECT 1 WHERE status = 200 AND a IS DISTINCT FROM true",
            "SELECT 1 WHERE a IS DISTINCT FROM (true AND false)",
        ] {
            assert!(check(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "",
            ";",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE requests",
            "COPY requests TO '/tmp/x.parquet'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE TABLE x AS SELECT 1",
            "CREATE VIEW x AS SELECT 1",
            "CREATE FUNCTION f() RETURNS int RETURN 1",
            "DROP TABLE requests",
            "ALTER TABLE requests ADD COLUMN x int",
            "INSERT INTO requests VALUES (1)",
            "UPDATE requests SET status = 1",
            "DELETE FROM requests",
            "TRUNCATE TABLE requests",
            "SET datafusion.execution.batch_size = 1",
            "SET datafusion.runtime.memory_limit = '100G'",
            "RESET datafusion.execution.batch_size",
            "SHOW ALL",
            "SHOW datafusion.execution.batch_size",
            "USE x",
            "BEGIN",
            "COMMIT",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "EXPLAIN DROP TABLE requests",
            "EXPLAIN COPY requests TO '/tmp/x'",
            "EXPLAIN ANALYZE INSERT INTO requests VALUES (1)",
            "EXPLAIN EXPLAIN SELECT 1",
            "SELECT 1 INTO x",
            "SELECT * FROM (SELECT 1 INTO y) q",
            "WITH a AS (INSERT INTO requests VALUES (1) RETURNING 1) SELECT * FROM a",
            "WITH a AS (DELETE FROM requests RETURNING 1) SELECT * FROM a",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM parquet_metadata('/tmp/x')",
            "SELECT * FROM metadata_cache()",
            "SELECT (SELECT count(*) FROM read_parquet('x'))",
            "SELECT * FROM requests FOR UPDATE",
            "LOAD DATA INPATH 'x' INTO TABLE requests",
            "GRANT ALL ON requests TO x",
            "ATTACH DATABASE 'x' AS y",
            "CALL f()",
            "KILL 1",
            "ANALYZE TABLE requests COMPUTE STATISTICS",
            "SELEC 1",
        ] {
            assert!(check(sql).is_err(), "passed: {sql}");
        }
    }

    #[test]
    fn a_short_text_with_a_long_plan_is_refused() {
        let sql = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
        assert!(matches!(check(&sql), Err(Refused::Syntax { .. })));
        let laughs = |levels: usize| {
            let steps = (1..levels)
                .map(|n| format!(", t{n} AS (SELECT * FROM t{0} UNION ALL SELECT * FROM T{0})", n - 1));
            format!(
                "WITH t0 AS (SELECT * FROM requests){} SELECT * FROM t{}",
                steps.collect::<String>(),
                levels - 1
            )
        };
        let cube = |columns: usize| {
            format!("SELECT 1 FROM requests GROUP BY CUBE ({})", vec!["status"; columns].join(", "))
        };
        let sum = |times: usize| format!("SELECT {} 1", "1 + ".repeat(times));
        let tables = |times: usize| format!("SELECT 1 FROM {}", vec!["requests"; times].join(", "));
        for fits in [laughs(7), cube(8), sum(2_000), tables(64)] {
            assert!(check(&fits).is_ok(), "{fits}: {:?}", check(&fits).err());
        }
        for exceeds in [laughs(8), laughs(60), cube(9), cube(70), sum(2_001), tables(65)] {
            assert!(matches!(check(&exceeds), Err(Refused::TooMuch(..))), "{exceeds}");
        }
    }

    #[test]
    fn a_statement_that_stops_too_early_ends_at_its_end() {
        assert_eq!(end("SELECT 1 +"), (1, 11));
        assert_eq!(end("SELECT\n  é,\n\n"), (2, 5));
    }
}
