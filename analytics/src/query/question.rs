//! What is asked, and whether it may be.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;

use crate::access::Caller;
use crate::error::QueryError;
use crate::guard;
use crate::postgres::dialect;

/// What is asked, and by whom.
#[derive(Debug, Clone)]
pub struct Question {
    /// One statement that only reads.
    pub sql: String,
    /// The values of `$1`, `$2` ...
    pub params: Vec<ScalarValue>,
    /// Who asks.
    pub caller: Arc<Caller>,
    /// Through which door.
    pub protocol: Protocol,
    /// The address of the client.
    pub client: String,
}

/// The doors to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `/sql`.
    Http,
    /// The PostgreSQL wire.
    Postgresql,
    /// Arrow Flight SQL.
    FlightSql,
}

impl Protocol {
    /// As `system.queries` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Postgresql => "postgresql",
            Self::FlightSql => "flight_sql",
        }
    }
}

/// Lets a question through, or not.
pub(super) fn allowed(question: &Question) -> Result<Statement, QueryError> {
    if question.protocol == Protocol::Postgresql {
        dialect::speaks(&question.sql)?;
    }
    let mut statement = guard::parse(&question.sql)?;
    if question.protocol == Protocol::Postgresql {
        dialect::translate(&mut statement);
    }
    guard::reads_only(&statement)?;
    if guard::explains(&statement) && !question.caller.scope.is_all() {
        return Err(QueryError::Forbidden("EXPLAIN would tell of the rows of others".into()));
    }
    Ok(statement)
}
