//! Answers that are had page by page: `page_rows` gives the first, `GET /queries/{id}/next` each further one.
//!
//! Between two pages the answer stays open and keeps its turn, so open ones are bounded in number, and close when nobody has
//! asked for the next page for a while or the query's time is up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::HeaderMap;
use ::http::header::{CONTENT_TYPE, HeaderValue};
use arrow::record_batch::RecordBatch;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::queries::absent;
use super::question::caller;
use super::{failure, name_query};
use crate::config::PagesConfig;
use crate::error::QueryError;
use crate::format::{Encoder, Format};
use crate::query::{Answer, Engine};

/// Answers that are open.
#[derive(Debug)]
pub(super) struct Pages {
    config: PagesConfig,
    places: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Open>>,
}

/// The right to keep an answer open.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// An answer between two pages.
struct Open {
    answer: Answer,
    /// Rows that were made and not yet sent.
    rest: Option<RecordBatch>,
    format: Format,
    page_rows: usize,
    user: String,
    /// How many pages were sent.
    sent: u64,
    _place: Place,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} pages for {}", self.sent, self.user)
    }
}

impl Pages {
    pub(super) fn new(config: PagesConfig) -> Self {
        let places = Arc::new(Semaphore::new(config.open_max.into()));
        Self { config, places, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an answer, before it is asked for.
    pub(super) fn place(&self, page_rows: u32) -> Result<Place, QueryError> {
        let max = self.config.rows_max;
        if page_rows == 0 || page_rows > max {
            return Err(QueryError::BadRequest(format!(
                "page_rows must be between 1 and {max} (analytics.pages.rows_max)"
            )));
        }
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map(|permit| Place { _permit: permit })
            .map_err(|_| QueryError::Busy)
    }

    /// The first page of an answer.
    pub(super) async fn first(
        self: &Arc<Self>,
        answer: Answer,
        format: Format,
        page_rows: u32,
        user: String,
        place: Place,
    ) -> Response {
        let open =
            Open { answer, rest: None, format, page_rows: page_rows as usize, user, sent: 0, _place: place };
        self.turn(open).await
    }

    /// A page, and what keeps the rest.
    async fn turn(self: &Arc<Self>, mut open: Open) -> Response {
        let id = open.answer.id();
        let (bytes, more) = match open.page(self.config.bytes_max as usize).await {
            Ok(page) => page,
            Err(error) => {
                open.answer.fail(&error);
                return name_query(failure(&error), id);
            }
        };
        open.answer.sent(bytes.len() as u64);
        open.sent += 1;
        let mut response = name_query(Response::new(Body::from(bytes)), id);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(open.format.media_type()));
        let partial: Vec<&str> = open.answer.quarantined.iter().map(|bad| bad.path.as_str()).collect();
        if let Some(partial) =
            HeaderValue::from_str(&partial.join(",")).ok().filter(|value| !value.is_empty())
        {
            headers.insert("x-tollhouse-partial", partial);
        }
        if more {
            if let Ok(next) = HeaderValue::from_str(&format!("/queries/{id}/next")) {
                headers.insert("x-tollhouse-next", next);
            }
            self.keep(id, open);
        } else {
            open.answer.finish();
        }
        response
    }

    /// Keeps an answer until its next page is asked for, or for as long as it may wait.
    fn keep(self: &Arc<Self>, id: u64, open: Open) {
        let idle = Instant::now() + Duration::from_millis(self.config.idle_ms.into());
        let (until, cancelled) = (idle.min(open.answer.deadline().into()), open.answer.cancellation());
        let (pages, sent) = (Arc::clone(self), open.sent);
        self.lock().insert(id, open);
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = cancelled.cancelled() => {}
            }
            let mut all = pages.lock();
            // Unless a page was asked for meanwhile.
            let late =
                if all.get(&id).is_some_and(|open| open.sent == sent) { all.remove(&id) } else { None };
            drop(all);
            drop(late);
        });
    }

    /// Takes an answer out, if it is a user's own.
    fn take(&self, id: u64, user: &str) -> Option<Open> {
        let mut all = self.lock();
        all.get(&id).filter(|open| open.user == user)?;
        all.remove(&id)
    }
}

impl Open {
    /// The bytes of a page, and whether there is another one.
    async fn page(&mut self, bytes_max: usize) -> Result<(Vec<u8>, bool), QueryError> {
        let mut encoder = Encoder::new(self.format, &self.answer.schema)?;
        let (mut bytes, mut wanted) = (Vec::new(), self.page_rows);
        let more = loop {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match self.answer.next().await? {
                    Some(batch) => batch,
                    None => break false,
                },
            };
            let rows = batch.num_rows();
            if rows == 0 {
                continue;
            }
            if wanted == 0 {
                self.rest = Some(batch);
                break true;
            }
            let taken = rows.min(wanted);
            wanted -= taken;
            bytes.extend(encoder.batch(&batch.slice(0, taken))?);
            if bytes.len() > bytes_max {
                return Err(QueryError::BadRequest(format!(
                    "a page is longer than {bytes_max} bytes (analytics.pages.bytes_max): ask for less rows"
                )));
            }
            if taken < rows {
                self.rest = Some(batch.slice(taken, rows - taken));
            }
        };
        bytes.extend(encoder.end()?);
        Ok((bytes, more))
    }
}

pub(super) async fn next(
    State(engine): State<Arc<Engine>>,
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let caller = match caller(&engine, &headers) {
        Ok(caller) => caller,
        Err(error) => return failure(&error),
    };
    match id.parse().ok().and_then(|id| pages.take(id, &caller.name)) {
        Some(open) => pages.turn(open).await,
        None => absent(
            "no such answer of yours is open: it has ended, its time is up (timeout_ms), or its next page was not asked for \
             in time (analytics.pages.idle_ms)",
        ),
    }
}
