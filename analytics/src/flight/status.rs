//! Errors of the engine as gRPC says them.

use http::StatusCode;
use tonic::{Code, Status};

use crate::error::QueryError;

/// Longest text of an error: it goes into a header, and statements may be quoted in it.
const TEXT_CHARS_MAX: usize = 1_000;

/// An error with its place in the statement and the code that programs match over HTTP.
pub(super) fn status(error: &QueryError) -> Status {
    let (status, short) = error.status();
    let code = match status {
        _ if matches!(error, QueryError::Cancelled) => Code::Cancelled,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::UNPROCESSABLE_ENTITY => Code::ResourceExhausted,
        status if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Internal,
    };
    if code == Code::Internal {
        tracing::warn!(%error, code = short, "a query failed");
    }
    let text: String = error.to_string().chars().take(TEXT_CHARS_MAX).collect();
    let place = error.place().map(|(line, column)| format!(", line {line}, column {column}"));
    Status::new(code, format!("{text} ({short}{})", place.unwrap_or_default()))
}

pub(super) fn cancelled() -> Status {
    Status::cancelled("the query was cancelled")
}
