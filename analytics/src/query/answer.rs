//! The batches of a query that runs, and its line in `system.queries`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use event::rollup::{Grouping, Resolution};
use tokio_util::sync::CancellationToken;

use super::Question;
use crate::catalog::{Catalog, Quarantined, Snapshot};
use crate::cluster::EngineKind;
use crate::error::QueryError;
use crate::live::{Live, Lives};
use crate::runner::Batches;
use crate::system::{History, QueryRecord, redact};
use crate::traffic;

/// The batches of a running query.
pub struct Answer {
    /// Columns of the answer.
    pub schema: SchemaRef,
    /// Files whose rows are missing in it; empty for a whole answer.
    pub quarantined: Vec<Quarantined>,
    pub(super) first: Option<RecordBatch>,
    pub(super) batches: Batches,
    pub(super) catalog: Arc<Catalog>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) rows: u64,
    pub(super) rows_max: u64,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    pub(super) entry: Entry,
}

impl Answer {
    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// Execution failed, time is up, or there are more than `rows_max` rows.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let batch = match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => tokio::select! {
                next = tokio::time::timeout_at(self.deadline.into(), self.batches.next()) => match next {
                    Ok(batch) => batch.transpose(),
                    Err(_) => Err(QueryError::Timeout(self.timeout)),
                },
                () = self.entry.live.cancel.cancelled() => Err(QueryError::Cancelled),
            },
        };
        if let Err(error) = &batch
            && error.is_of_storage()
        {
            // Too late for this answer; the next one leaves a damaged file out.
            self.catalog.blame(&self.snapshot).await?;
        }
        self.rows += batch.as_ref().ok().and_then(Option::as_ref).map_or(0, |batch| batch.num_rows() as u64);
        let batch =
            if self.rows > self.rows_max { Err(QueryError::TooManyRows(self.rows_max)) } else { batch };
        self.entry.record.rows = self.rows;
        self.entry.live.note(self.rows, self.entry.record.bytes);
        if let Err(error) = &batch {
            self.entry.fail(error);
        }
        batch
    }

    /// When the answer must have been delivered.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The error to give when the deadline passed outside of [`Self::next`].
    pub(crate) fn timed_out(&mut self) -> QueryError {
        let error = QueryError::Timeout(self.timeout);
        self.entry.fail(&error);
        error
    }

    /// Notes bytes that were sent.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.entry.record.bytes += bytes;
        self.entry.live.note(self.rows, self.entry.record.bytes);
    }

    /// Its id in `system.queries`.
    pub(crate) fn id(&self) -> u64 {
        self.entry.record.id
    }

    /// What is told when somebody ends it.
    pub(crate) fn cancellation(&self) -> CancellationToken {
        self.entry.live.cancel.clone()
    }

    /// Notes that the answer was delivered whole.
    pub(crate) fn finish(&mut self) {
        self.entry.end("ok", 200, None);
    }

    /// Notes a failure outside of the engine.
    pub(crate) fn fail(&mut self, error: &QueryError) {
        self.entry.fail(error);
    }
}

/// The line of a query in `system.queries`. Dropped without an end, the query was cancelled.
pub(super) struct Entry {
    history: Arc<History>,
    lives: Arc<Lives>,
    pub(super) live: Arc<Live>,
    record: QueryRecord,
    clock: Instant,
}

impl Entry {
    pub(super) fn new(history: &Arc<History>, lives: &Arc<Lives>, id: u64, question: &Question) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = QueryRecord {
            id,
            started_us: since.as_micros() as i64,
            sql: redact(&question.sql),
            user: question.caller.name.clone(),
            protocol: question.protocol,
            client: question.client.clone(),
            status: "running",
            http_status: 0,
            duration_us: None,
            rows: 0,
            bytes: 0,
            error: None,
            engine: None,
        };
        history.put(record.clone());
        let live = lives.begin(id);
        Self { history: Arc::clone(history), lives: Arc::clone(lives), live, record, clock: Instant::now() }
    }

    /// Notes what runs it.
    pub(super) fn is_run_by(&mut self, engine: EngineKind) {
        self.record.engine = Some(engine.as_str());
        self.history.put(self.record.clone());
    }

    pub(super) fn fail(&mut self, error: &QueryError) {
        if matches!(error, QueryError::Cancelled) {
            return self.end("cancelled", 499, None);
        }
        // The message may quote the statement, so it is shown as redacted as that.
        self.end("failed", error.status().0.as_u16(), Some(redact(&error.to_string())));
    }

    fn end(&mut self, status: &'static str, http_status: u16, error: Option<String>) {
        if self.record.status == "running" {
            self.record.status = status;
            self.record.http_status = http_status;
            self.record.error = error;
            self.record.duration_us = Some(self.clock.elapsed().as_micros() as u64);
            self.history.put(self.record.clone());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end("cancelled", 499, None);
        self.lives.end(self.record.id);
    }
}

/// The files whose rows an answer may miss. A roll-up matters only to who asks for one.
pub(super) fn missing(snapshot: &Snapshot, sql: &str) -> Vec<Quarantined> {
    let asked = Resolution::ALL.map(traffic::name).iter().any(|name| sql.to_lowercase().contains(name));
    let matters = |bad: &&Quarantined| match traffic::of_path(&bad.path) {
        Some((_, Grouping::All)) => asked,
        Some(_) => false,
        None => true,
    };
    snapshot.quarantined.iter().filter(matters).cloned().collect()
}
