//! `GET /queries/{id}` tells how far a query is, `DELETE` ends it: one's own, or anybody's for who sees the schema `system`.
//! Of others it is not even told that there are any.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::header::{CONTENT_TYPE, HeaderValue};
use ::http::{HeaderMap, StatusCode};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::failure;
use super::question::caller;
use crate::live::Live;
use crate::query::Engine;
use crate::system::QueryRecord;

pub(super) async fn show(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    match find(&engine, &id, &headers) {
        Ok((record, live)) => told(StatusCode::OK, &record, live.as_deref()),
        Err(response) => *response,
    }
}

pub(super) async fn cancel(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    match find(&engine, &id, &headers) {
        Ok((record, Some(live))) => {
            live.cancel.cancel();
            told(StatusCode::ACCEPTED, &record, Some(&live))
        }
        Ok((record, None)) => told(StatusCode::OK, &record, None),
        Err(response) => *response,
    }
}

type Found = (QueryRecord, Option<Arc<Live>>);

fn find(engine: &Engine, id: &str, headers: &HeaderMap) -> Result<Found, Box<Response>> {
    let caller = caller(engine, headers).map_err(|error| Box::new(failure(&error)))?;
    let found = id.parse().ok().and_then(|id| engine.query(id, &caller));
    found.ok_or_else(|| {
        Box::new(absent("there is no such query of yours; system.queries tells which there are"))
    })
}

/// 404, without a word about what there is.
pub(super) fn absent(message: &str) -> Response {
    let error = json!({"error": {"message": message, "code": "not_found", "line": null, "column": null}});
    answer(StatusCode::NOT_FOUND, error.to_string())
}

fn told(status: StatusCode, record: &QueryRecord, live: Option<&Live>) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
    let elapsed_us =
        record.duration_us.unwrap_or_else(|| now.saturating_sub(record.started_us).max(0) as u64);
    let running = live.filter(|_| record.status == "running");
    let (rows, bytes) = running.map_or((record.rows, record.bytes), |live| (live.rows(), live.bytes()));
    let started = jiff::Timestamp::from_microsecond(record.started_us).ok().map(|time| time.to_string());
    let said = json!({
        "id": record.id,
        "status": record.status,
        "user": record.user,
        "protocol": record.protocol.as_str(),
        "started": started,
        "elapsed_ms": elapsed_us / 1_000,
        "rows": rows,
        "bytes": bytes,
        "error": record.error,
    });
    answer(status, said.to_string())
}

fn answer(status: StatusCode, json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
