//! What a request to `/sql` asks, and who asks it.

use std::sync::Arc;

use ::http::HeaderMap;
use ::http::header::{AUTHORIZATION, CONTENT_TYPE};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::Value;

use crate::access::Caller;
use crate::error::QueryError;
use crate::query::Engine;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    pub(super) q: Option<String>,
    pub(super) format: Option<String>,
    /// Rows of a page; without it the answer is one.
    pub(super) page_rows: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) query: String,
    #[serde(default)]
    params: Vec<Value>,
}

impl Asked {
    /// A statement without parameters.
    pub(super) fn new(query: String) -> Self {
        Self { query, params: Vec::new() }
    }

    /// The parameters, as the engine takes them.
    pub(super) fn params(&self) -> Result<Vec<ScalarValue>, QueryError> {
        self.params.iter().map(scalar).collect()
    }
}

/// Who asks: by `Authorization: Bearer TOKEN`, or as the password of `Basic`.
pub(super) fn caller(engine: &Engine, headers: &HeaderMap) -> Result<Arc<Caller>, QueryError> {
    let access = engine.access();
    let Some(given) = headers.get(AUTHORIZATION) else {
        let missing = "a token is needed: Authorization: Bearer TOKEN (analytics.tokens)";
        return access.anonymous().ok_or(QueryError::Unauthenticated(missing));
    };
    let (scheme, rest) = given.to_str().ok().and_then(|given| given.split_once(' ')).unwrap_or_default();
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.trim().as_bytes().to_vec()),
        "basic" => password(rest.trim()),
        _ => None,
    };
    let known = token.and_then(|token| access.by_token(&token)).or_else(|| access.anonymous());
    known.ok_or(QueryError::Unauthenticated("the token is not known"))
}

/// The password of a basic authorization (RFC 7617, section 2).
fn password(encoded: &str) -> Option<Vec<u8>> {
    let pair = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// A parameter as JSON says it.
fn scalar(value: &Value) -> Result<ScalarValue, QueryError> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::Boolean(Some(*value)),
        Value::String(text) => ScalarValue::Utf8View(Some(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => ScalarValue::Int64(Some(whole)),
            (None, Some(whole)) => ScalarValue::UInt64(Some(whole)),
            (None, None) => ScalarValue::Float64(number.as_f64()),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err(QueryError::BadRequest("a parameter is a text, a number, a boolean or null".into()));
        }
    })
}

/// What a body asks.
pub(super) fn question(headers: &HeaderMap, body: &[u8]) -> Result<Asked, QueryError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let parsed = serde_json::from_slice(body);
        return parsed.map_err(|error| QueryError::BadRequest(format!("the body is no question: {error}")));
    }
    match std::str::from_utf8(body) {
        Ok(query) => Ok(Asked::new(query.to_owned())),
        Err(_) => Err(QueryError::BadRequest("the statement is not UTF-8".into())),
    }
}
