//! One question from text to a bounded stream of batches: a turn, the guard, a snapshot, a plan, its execution. Whatever
//! happens to it is written to `system.queries`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use event::layout::DataFolder;
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use crate::error::QueryError;

use crate::catalog::Quarantined;
use crate::config::Plan;
use crate::guard;
use crate::session::Sessions;
use crate::system::{History, QueryRecord, redact};

/// Answers questions within the configured bounds.
#[derive(Debug)]
pub struct Engine {
    sessions: Sessions,
    plan: Plan,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    ids: AtomicU64,
}

/// One more in the queue, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// An engine over a data folder. Starts nothing.
    ///
    /// # Errors
    /// When the spill folder cannot be made.
    pub fn new(plan: Plan, folder: &DataFolder) -> Result<Self, QueryError> {
        Ok(Self {
            sessions: Sessions::new(&plan, folder)?,
            turns: Arc::new(Semaphore::new(plan.config.concurrency_max.into())),
            waiting: AtomicUsize::new(0),
            ids: AtomicU64::new(1),
            plan,
        })
    }

    /// Whether the data folder can be read at this moment.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), QueryError> {
        self.snapshot().await.map(|_| ())
    }

    /// Runs a statement until its first batch; the rest follows from [`Answer::next`]. Dropping the answer (or this
    /// future) cancels the query.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, sql: &str, params: &[Value], client: String) -> Result<Answer, QueryError> {
        let started = Instant::now();
        let mut entry =
            Entry::new(&self.sessions.history, self.ids.fetch_add(1, Ordering::Relaxed), sql, client);
        let timeout = Duration::from_millis(self.plan.config.timeout_ms);
        let result = match tokio::time::timeout(timeout, self.begin(sql, params)).await {
            Ok(result) => result,
            Err(_) => Err(QueryError::Timeout(timeout)),
        };
        match result {
            Ok(begun) => Ok(Answer {
                schema: begun.stream.schema(),
                quarantined: begun.quarantined,
                first: begun.first,
                stream: begun.stream,
                rows: 0,
                rows_max: self.plan.config.rows_max,
                deadline: started + timeout,
                timeout,
                entry,
                _turn: begun.turn,
            }),
            Err(error) => {
                entry.fail(&error);
                Err(error)
            }
        }
    }

    async fn begin(&self, sql: &str, params: &[Value]) -> Result<Begun, QueryError> {
        let statement = guard::check(sql)?;
        let turn = self.turn().await?;
        let snapshot = self.snapshot().await?;
        let quarantined = snapshot.quarantined.clone();
        let context = self.sessions.open(snapshot, &statement).await?;
        let plan = context.state().statement_to_plan(statement).await?;
        let plan = bind(plan, params)?;
        guard::plan_options().verify_plan(&plan)?;
        let frame = context.execute_logical_plan(plan).await?;
        let mut stream = frame.execute_stream().await?;
        let first = stream.next().await.transpose()?;
        Ok(Begun { stream, first, quarantined, turn })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= usize::from(self.plan.config.queue_max) {
            return Err(QueryError::Busy);
        }
        let wait = Duration::from_millis(self.plan.config.queue_timeout_ms);
        match tokio::time::timeout(wait, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(QueryError::Busy),
        }
    }

    async fn snapshot(&self) -> Result<Arc<crate::catalog::Snapshot>, QueryError> {
        let catalog = Arc::clone(&self.sessions.catalog);
        let snapshot = tokio::task::spawn_blocking(move || catalog.snapshot()).await;
        let snapshot = snapshot.map_err(|error| {
            QueryError::from(datafusion::error::DataFusionError::ExecutionJoin(Box::new(error)))
        })?;
        Ok(Arc::new(snapshot?))
    }

    pub(crate) fn query_bytes_max(&self) -> u64 {
        self.plan.config.query_bytes_max
    }
}

struct Begun {
    stream: SendableRecordBatchStream,
    first: Option<RecordBatch>,
    quarantined: Vec<Quarantined>,
    turn: OwnedSemaphorePermit,
}

/// Puts parameters in the place of `$1`, `$2` ...; a parameter takes the type that its place needs.
fn bind(plan: LogicalPlan, params: &[Value]) -> Result<LogicalPlan, QueryError> {
    let wanted = plan.get_parameter_names()?.len();
    if wanted == 0 && params.is_empty() {
        return Ok(plan);
    }
    if wanted != params.len() {
        return Err(QueryError::BadRequest(format!("{wanted} parameter(s) wanted, {} given", params.len())));
    }
    let values = params.iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
    Ok(plan.with_param_values(ParamValues::from(values))?)
}

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

/// The batches of a running query.
pub struct Answer {
    /// Columns of the answer.
    pub schema: SchemaRef,
    /// Files whose rows are missing in it; empty for a whole answer.
    pub quarantined: Vec<Quarantined>,
    first: Option<RecordBatch>,
    stream: SendableRecordBatchStream,
    rows: u64,
    rows_max: u64,
    deadline: Instant,
    timeout: Duration,
    entry: Entry,
    _turn: OwnedSemaphorePermit,
}

impl Answer {
    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// Execution failed, time is up, or there are more than `rows_max` rows.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let batch = match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => match tokio::time::timeout_at(self.deadline.into(), self.stream.next()).await {
                Ok(batch) => batch.transpose().map_err(QueryError::from),
                Err(_) => Err(QueryError::Timeout(self.timeout)),
            },
        };
        self.rows += batch.as_ref().ok().and_then(Option::as_ref).map_or(0, |batch| batch.num_rows() as u64);
        let batch =
            if self.rows > self.rows_max { Err(QueryError::TooManyRows(self.rows_max)) } else { batch };
        self.entry.record.rows = self.rows;
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
struct Entry {
    history: Arc<History>,
    record: QueryRecord,
    clock: Instant,
}

impl Entry {
    fn new(history: &Arc<History>, id: u64, sql: &str, client: String) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = QueryRecord {
            id,
            started_us: since.as_micros() as i64,
            sql: redact(sql),
            client,
            status: "running",
            http_status: 0,
            duration_us: None,
            rows: 0,
            bytes: 0,
            error: None,
        };
        history.put(record.clone());
        Self { history: Arc::clone(history), record, clock: Instant::now() }
    }

    fn fail(&mut self, error: &QueryError) {
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
    }
}
