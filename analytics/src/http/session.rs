//! `GET /session`: who asks, and what there is to be seen. The console shows its pages by it; what may be read is decided
//! where it is read.

use std::sync::Arc;

use ::http::HeaderMap;
use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::failure;
use super::question::caller;
use crate::query::Engine;

pub(super) async fn tell(State(engine): State<Arc<Engine>>, headers: HeaderMap) -> Response {
    let caller = match caller(&engine, &headers) {
        Ok(caller) => caller,
        Err(error) => return failure(&error),
    };
    let said = json!({
        "name": caller.name,
        "tokens": engine.access().anonymous().is_none(),
        "consumer": caller.scope.consumer,
        "workspace": caller.scope.workspace,
        "system": caller.sees_system(),
        "timeout_ms": caller.role.timeout.as_millis() as u64,
        "rows_max": caller.role.rows_max,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let mut response = Response::new(Body::from(said.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
