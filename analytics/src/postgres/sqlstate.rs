//! Errors as clients of PostgreSQL know them: a severity, a code of five characters (SQLSTATE), a message, the place.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use super::message::Malformed;
use crate::cluster::ClusterError;
use crate::error::QueryError;
use crate::guard::Refused;

/// An error or a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) severity: &'static str,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// In characters of the statement, from 1.
    pub(super) position: Option<u64>,
}

impl Report {
    /// An error of a statement: the connection goes on.
    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "ERROR", code, message: message.into(), hint: None, position: None }
    }

    /// An error that ends the connection.
    pub(super) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "FATAL", ..Self::error(code, message) }
    }

    /// Something to know.
    pub(super) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "WARNING", ..Self::error(code, message) }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.severity == "FATAL"
    }

    /// Why a query of a text has no answer.
    pub(super) fn of(error: &QueryError, sql: &str) -> Self {
        let position = error.place().and_then(|place| offset(sql, place));
        let report = Self { position, ..Self::error(code(error), error.to_string()) };
        match error {
            QueryError::Busy => report.hint("analytics.concurrency_max and analytics.queue_max say how many"),
            _ => report,
        }
    }
}

impl From<Malformed> for Report {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Text => Self::error("22021", malformed.to_string()),
            _ => Self::fatal("08P01", malformed.to_string()),
        }
    }
}

/// Line and column, both from 1, as characters from 1.
fn offset(sql: &str, (line, column): (u64, u64)) -> Option<u64> {
    let before = sql.split('\n').take(usize::try_from(line).ok()?.checked_sub(1)?);
    let before: u64 = before.map(|line| line.chars().count() as u64 + 1).sum();
    Some(before + column)
}

fn code(error: &QueryError) -> &'static str {
    match error {
        QueryError::Refused(Refused::Syntax { .. } | Refused::Ambiguous(_)) => "42601",
        QueryError::Refused(Refused::TooMuch(..)) => "54001",
        QueryError::Refused(Refused::Count(_)) => "42601",
        QueryError::Refused(Refused::Call(_)) => "42883",
        QueryError::Refused(Refused::Forbidden(_)) | QueryError::Forbidden(_) => "42501",
        QueryError::Engine(_) if error.is_of_bucket() => "58030",
        QueryError::Engine(_) if error.is_of_cluster() => "58000",
        QueryError::Engine(error) => engine(error),
        QueryError::Catalog(_) => "58030",
        QueryError::Encode(_) | QueryError::Panicked => "XX000",
        QueryError::BadRequest(_) => "08P01",
        QueryError::TooLong(_) => "54000",
        QueryError::Timeout(_) | QueryError::Cancelled => "57014",
        QueryError::TooManyRows(_) => "54000",
        QueryError::Unauthenticated(_) => "28000",
        QueryError::Cluster(_) => "58000",
        QueryError::Busy => "53300",
    }
}

/// The engine has few kinds of errors of planning; their texts tell them apart.
fn engine(error: &DataFusionError) -> &'static str {
    let root = error.find_root();
    match root {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::AmbiguousReference { .. } => "42702",
            SchemaError::DuplicateQualifiedField { .. } | SchemaError::DuplicateUnqualifiedField { .. } => {
                "42701"
            }
            SchemaError::FieldNotFound { .. } => "42703",
        },
        DataFusionError::SQL(..) => "42601",
        DataFusionError::NotImplemented(_) => "0A000",
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::Configuration(_) => "22023",
        DataFusionError::Plan(text) => planning(text),
        DataFusionError::Execution(_) => "22000",
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
            if root.to_string().contains("max_temp_directory_size") {
                "53100"
            } else {
                "58030"
            }
        }
        DataFusionError::External(error) if error.is::<ClusterError>() => match error.downcast_ref() {
            Some(ClusterError::Memory(_)) => "53200",
            _ => "22000",
        },
        DataFusionError::External(_) => "58030",
        _ => "XX000",
    }
}

fn planning(text: &str) -> &'static str {
    let has = |part: &str| text.contains(part);
    if has("table") && (has("not found") || has("does not exist")) {
        "42P01"
    } else if has("Invalid function") || has("No function matches") || has("does not support") {
        "42883"
    } else if has("GROUP BY") || has("aggregate") {
        "42803"
    } else if has("coerce") || has("cast") || has("type") {
        "42804"
    } else {
        "42000"
    }
}

fn arrow(error: &arrow::error::ArrowError) -> &'static str {
    use arrow::error::ArrowError as E;
    match error {
        E::DivideByZero => "22012",
        E::ArithmeticOverflow(_) => "22003",
        E::CastError(_) | E::ParseError(_) => "22P02",
        E::IoError(..) if error.to_string().contains("max_temp_directory_size") => "53100",
        E::ParquetError(_) | E::IoError(..) | E::IpcError(_) | E::ExternalError(_) => "58030",
        _ => "22000",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_characters_of_the_whole_text() {
        assert_eq!(offset("SELECT x", (1, 8)), Some(8));
        assert_eq!(offset("SELECT é,\n  x\nFROM t", (2, 3)), Some(13));
        assert_eq!(offset("SELECT x", (0, 1)), None);
    }

    #[test]
    fn kinds_of_errors_have_the_codes_that_clients_know() {
        let plan = |text: &str| code(&QueryError::Engine(Box::new(DataFusionError::Plan(text.to_owned()))));
        assert_eq!(plan("table 'tollhouse.public.nope' not found"), "42P01");
        assert_eq!(plan("Invalid function 'pg_read_file'.\nDid you mean 'x'?"), "42883");
        assert_eq!(code(&QueryError::Refused(Refused::Forbidden("DROP".into()))), "42501");
        assert_eq!(code(&QueryError::Timeout(std::time::Duration::from_secs(1))), "57014");
        assert_eq!(code(&QueryError::TooManyRows(3)), "54000");
    }
}
