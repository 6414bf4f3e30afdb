//! What can go wrong with a question, and the HTTP status, code and position that the client sees for it.

use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use event::bucket::BucketError;
use event::layout::LayoutError;
use http::StatusCode;
use serde_json::{Value, json};

use crate::bucket::STORE;
use crate::cluster::{ClusterError, ClusterStartError};
use crate::guard::Refused;

/// Why a query has no (whole) answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is not one that only reads, or is no SQL.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Planning or execution failed.
    #[error("{}", message(.0))]
    Engine(Box<DataFusionError>),
    /// The data folder cannot be read as one consistent snapshot.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
    /// The result could not be written in the asked format.
    #[error("the answer cannot be written: {0}")]
    Encode(String),
    /// The request itself cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// The body is longer than `query_bytes_max`.
    #[error("the query is longer than {0} bytes")]
    TooLong(u64),
    /// Longer than `timeout_ms`.
    #[error("the query took longer than {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Somebody who may has ended it.
    #[error("the query was cancelled")]
    Cancelled,
    /// The engine panicked.
    #[error("the query failed inside of the engine")]
    Panicked,
    /// More rows than `rows_max`.
    #[error("the answer has more than {0} rows: add a LIMIT or an aggregate")]
    TooManyRows(u64),
    /// Nobody is known by what came with the request, or nothing came.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// The cluster cannot be used.
    #[error(transparent)]
    Cluster(#[from] ClusterStartError),
    /// As many queries as `concurrency_max` and `queue_max` allow.
    #[error("too many queries at one time, try again")]
    Busy,
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl QueryError {
    /// Status and a short code that programs can match.
    #[must_use]
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(Refused::Syntax { .. } | Refused::Ambiguous(_)) => {
                (StatusCode::BAD_REQUEST, "syntax")
            }
            Self::Refused(Refused::Call(_)) => (StatusCode::BAD_REQUEST, "plan"),
            Self::Refused(Refused::TooMuch(..)) => (StatusCode::BAD_REQUEST, "too_complex"),
            Self::Refused(Refused::Count(_) | Refused::Forbidden(_)) => (StatusCode::FORBIDDEN, "refused"),
            Self::Engine(error) if of_cluster(error).is_some_and(ClusterError::is_of_cluster) => {
                (StatusCode::SERVICE_UNAVAILABLE, "cluster")
            }
            Self::Engine(error) if of_bucket(error).is_some() => (StatusCode::SERVICE_UNAVAILABLE, "bucket"),
            Self::Engine(error) if matches!(of_cluster(error), Some(ClusterError::Memory(_))) => {
                (StatusCode::INSUFFICIENT_STORAGE, "out_of_memory")
            }
            Self::Engine(error) if of_condition(error).is_some() => (StatusCode::BAD_REQUEST, "execution"),
            Self::Engine(error) => engine_status(error.find_root()),
            Self::Catalog(_) => (StatusCode::SERVICE_UNAVAILABLE, "catalog"),
            Self::Encode(_) => (StatusCode::INTERNAL_SERVER_ERROR, "encode"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_long"),
            Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Self::Cancelled => (cancelled(), "cancelled"),
            Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::TooManyRows(_) => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_rows"),
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Cluster(_) => (StatusCode::SERVICE_UNAVAILABLE, "cluster"),
            Self::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        }
    }

    /// Whether it is one of the bucket.
    pub(crate) fn is_of_bucket(&self) -> bool {
        matches!(self, Self::Engine(error) if of_bucket(error).is_some())
    }

    /// Whether it is one of the cluster, rather than of the query.
    pub(crate) fn is_of_cluster(&self) -> bool {
        matches!(self, Self::Engine(error) if of_cluster(error).is_some_and(ClusterError::is_of_cluster))
    }

    /// Whether it may come from a file that is not what was written.
    pub(crate) fn is_of_storage(&self) -> bool {
        let Self::Engine(error) = self else { return matches!(self, Self::Panicked) };
        match error.find_root() {
            full if spill_is_full(full) => false,
            // No file of the disk is looked at for what the bucket does.
            _ if of_bucket(error).is_some() || of_condition(error).is_some() => false,
            // Nor for what a cluster does: it reads none.
            _ if of_cluster(error).is_some() => false,
            // One that is no part of the table.
            state if is_of_state(state) => false,
            DataFusionError::ArrowError(error, _) => matches!(
                error.as_ref(),
                ArrowError::ParquetError(_)
                    | ArrowError::IoError(..)
                    | ArrowError::IpcError(_)
                    | ArrowError::ExternalError(_)
            ),
            DataFusionError::ParquetError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::External(_)
            | DataFusionError::Internal(_)
            | DataFusionError::ExecutionJoin(_) => true,
            _ => false,
        }
    }

    /// Line and column in the statement, both from 1, when known.
    pub(crate) fn place(&self) -> Option<(u64, u64)> {
        match self {
            Self::Engine(error) => position(error),
            Self::Refused(Refused::Syntax { error, end }) => {
                position(error).or_else(|| error.to_string().contains("found: EOF").then_some(*end))
            }
            _ => None,
        }
    }

    /// `{"error": {"message", "code", "line", "column"}}`; line and column count from 1, null when unknown.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (line, column) = self.place().unzip();
        json!({"error": {"message": self.to_string(), "code": self.status().1, "line": line, "column": column}})
    }
}

/// As `system.queries` says it: 499, which nginx gave this meaning.
fn cancelled() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// Whether intermediate results did not fit on disk; the engine has no error of its own for it, but names its option.
fn spill_is_full(root: &DataFusionError) -> bool {
    let io = match root {
        DataFusionError::IoError(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(error.as_ref(), ArrowError::IoError(..)),
        _ => false,
    };
    io && root.to_string().contains("max_temp_directory_size")
}

/// What the bucket said, if it comes of that. Of an error in a footer the engine keeps the text only.
fn of_bucket(error: &DataFusionError) -> Option<String> {
    let of_executor = of_cluster(error).filter(|error| matches!(error, ClusterError::Bucket(_)));
    let typed = BucketError::within(error).map(ToString::to_string);
    let typed = typed.or_else(|| of_executor.map(ToString::to_string));
    typed.or_else(|| {
        let text = error.to_string();
        let (_, said) = text.split_once(&format!("Generic {STORE} error: "))?;
        said.lines().next().map(str::to_owned)
    })
}

/// What a condition said that fails for a row (`1 / 0`). One that is read with a file reaches us as the text of an error of
/// that file.
fn of_condition(error: &DataFusionError) -> Option<String> {
    let text = error.to_string();
    let (_, said) = text.split_once("Error evaluating filter predicate: ")?;
    let quoted = said.split_once("(\"").and_then(|(_, said)| said.split_once("\")")).map(|(said, _)| said);
    let named = said.split_once('(').and_then(|(_, said)| said.split([',', '(', ')']).next());
    Some(format!("a condition fails for a row: {}", quoted.or(named).unwrap_or(said)))
}

/// What a cluster said, if it comes of that.
fn of_cluster(error: &DataFusionError) -> Option<&ClusterError> {
    match error.find_root() {
        DataFusionError::External(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Whether a file of the schema `system` cannot be read.
fn is_of_state(root: &DataFusionError) -> bool {
    matches!(root, DataFusionError::External(error) if error.is::<Arc<LayoutError>>())
}

fn engine_status(root: &DataFusionError) -> (StatusCode, &'static str) {
    match root {
        full if spill_is_full(full) => (StatusCode::INSUFFICIENT_STORAGE, "out_of_memory"),
        DataFusionError::SQL(..) => (StatusCode::BAD_REQUEST, "syntax"),
        DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_) => (StatusCode::BAD_REQUEST, "plan"),
        DataFusionError::ResourcesExhausted(_) => (StatusCode::INSUFFICIENT_STORAGE, "out_of_memory"),
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "storage")
        }
        state if is_of_state(state) => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
        DataFusionError::ArrowError(error, _) if matches!(error.as_ref(), ArrowError::ParquetError(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "storage")
        }
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
        _ => (StatusCode::BAD_REQUEST, "execution"),
    }
}

/// What people read: the cause, without the engine's own words around it. The place is told apart.
pub(crate) fn message(error: &DataFusionError) -> String {
    if let Some(text) = of_bucket(error).or_else(|| of_condition(error)) {
        return text;
    }
    if let Some(error) = of_cluster(error) {
        return error.to_string();
    }
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } => {
                format!("column `{}` does not exist", field.flat_name())
            }
            other => other.to_string(),
        },
        DataFusionError::SQL(parser, _) => {
            let (ParserError::ParserError(text) | ParserError::TokenizerError(text)) = parser.as_ref() else {
                return "the statement is nested too deeply".to_owned();
            };
            text.split(" at Line: ").next().unwrap_or(text).to_owned()
        }
        DataFusionError::ResourcesExhausted(text) if text.contains("text_bytes_max") => {
            text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
        }
        DataFusionError::ResourcesExhausted(_) => {
            "the query needs more memory than `memory_bytes_max` leaves for it, and cannot spill".to_owned()
        }
        full if spill_is_full(full) => {
            "the query's intermediate results need more disk than `spill_bytes_max`".to_owned()
        }
        root @ (DataFusionError::Plan(_) | DataFusionError::Execution(_)) => {
            root.message().split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
        }
        root => root.strip_backtrace(),
    }
}

/// The position that a diagnostic carries, or the one that the parser prints in its message.
fn position(error: &DataFusionError) -> Option<(u64, u64)> {
    if let Some(span) = error.diagnostic().and_then(|diagnostic| diagnostic.span) {
        return Some((span.start.line, span.start.column));
    }
    let text = error.to_string();
    let (_, after) = text.rsplit_once("Line: ")?;
    let (line, after) = after.split_once(", Column: ")?;
    let column: String = after.chars().take_while(char::is_ascii_digit).collect();
    Some((line.trim().parse().ok()?, column.parse().ok()?))
}
