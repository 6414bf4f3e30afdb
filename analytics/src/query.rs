//! One question from text to a bounded stream of batches: a turn, the guard, a snapshot, a plan, its execution. Whatever
//! happens to it is written to `system.queries`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;
use event::layout::DataFolder;
use event::rollup::{Grouping, Resolution};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use crate::error::QueryError;

use crate::access::{Access, Caller};
use crate::catalog::{Catalog, Quarantined, Snapshot};
use crate::config::{PagesConfig, Plan};
use crate::guard;
use crate::live::{Live, Lives};
use crate::postgres::dialect;
use crate::runner::{Batches, Runners};
use crate::session::Sessions;
use crate::system::{History, QueryRecord, redact};
use crate::threads::{STACK_BYTES, lower_priority};
use crate::traffic;

/// How soon a new file is compared with its checksum.
const VERIFY_INTERVAL: Duration = Duration::from_secs(2);

/// Answers questions within the configured bounds.
#[derive(Debug)]
pub struct Engine {
    sessions: Arc<Sessions>,
    access: Access,
    runners: Arc<Runners>,
    plan: Plan,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    ids: AtomicU64,
    lives: Arc<Lives>,
}

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
        let access = Access::new(&plan.config);
        Ok(Self {
            sessions: Arc::new(Sessions::new(&plan, folder, &access.roles)?),
            access,
            runners: Runners::new(plan.threads, STACK_BYTES, lower_priority),
            turns: Arc::new(Semaphore::new(plan.config.concurrency_max.into())),
            waiting: AtomicUsize::new(0),
            ids: AtomicU64::new(1),
            lives: Arc::default(),
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
    pub async fn ask(&self, question: Question) -> Result<Answer, QueryError> {
        self.ask_as(self.next_id(), question).await
    }

    /// The id of a question that is going to be asked.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The same as [`Self::ask`], by an id of [`Self::next_id`].
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) async fn ask_as(&self, id: u64, question: Question) -> Result<Answer, QueryError> {
        let started = Instant::now();
        let mut entry = Entry::new(&self.sessions.history, &self.lives, id, &question);
        let live = Arc::clone(&entry.live);
        let (timeout, rows_max) = (question.caller.role.timeout, question.caller.role.rows_max);
        let begun = tokio::time::timeout(timeout, self.begin(&question));
        let result = tokio::select! {
            begun = begun => begun.unwrap_or(Err(QueryError::Timeout(timeout))),
            () = live.cancel.cancelled() => Err(QueryError::Cancelled),
        };
        match result {
            Ok(begun) => Ok(Answer {
                schema: begun.ran.schema,
                quarantined: missing(&begun.snapshot, &question.sql),
                first: begun.ran.first,
                batches: begun.ran.batches,
                catalog: Arc::clone(&self.sessions.catalog),
                snapshot: begun.snapshot,
                rows: 0,
                rows_max,
                deadline: started + timeout,
                timeout,
                entry,
            }),
            Err(error) => {
                entry.fail(&error);
                Err(error)
            }
        }
    }

    /// Whether a question would be let through, without any look at tables. One that is not stands in the history.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, question: &Question) -> Result<(), QueryError> {
        let checked = allowed(question).map(|_| ());
        checked.inspect_err(|error| self.note(question, error))
    }

    /// What a question's answer would be made of, and its parameters; `named` are the types of those that the client has
    /// said, as nulls of them.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) async fn describe(
        &self,
        question: Question,
        named: Vec<Option<ScalarValue>>,
    ) -> Result<Described, QueryError> {
        let timeout = question.caller.role.timeout;
        let described = async {
            let statement = allowed(&question)?;
            let turn = self.turn(&question.caller).await?;
            let snapshot = self.snapshot().await?;
            let (sessions, question) = (Arc::clone(&self.sessions), question.clone());
            let runtime = tokio::runtime::Handle::current();
            let described = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                runtime.block_on(describe(&sessions, statement, &question, snapshot, &named))
            });
            described.await.map_err(|_| QueryError::Panicked)?
        };
        let described = match tokio::time::timeout(timeout, described).await {
            Ok(described) => described,
            Err(_) => Err(QueryError::Timeout(timeout)),
        };
        described.inspect_err(|error| self.note(&question, error))
    }

    /// Keeps a question in the history that was refused before it was asked.
    fn note(&self, question: &Question, error: &QueryError) {
        Entry::new(&self.sessions.history, &self.lives, self.next_id(), question).fail(error);
    }

    /// A query that a caller may know of: its own, or of anybody for who sees the schema `system`.
    pub(crate) fn query(&self, id: u64, caller: &Caller) -> Option<(QueryRecord, Option<Arc<Live>>)> {
        let record = self.sessions.history.get(id)?;
        let shown = record.user == caller.name || caller.sees_system();
        shown.then(|| (record, self.lives.get(id)))
    }

    async fn begin(&self, question: &Question) -> Result<Begun, QueryError> {
        let statement = allowed(question)?;
        let turn = self.turn(&question.caller).await?;
        let snapshot = self.snapshot().await?;
        match self.run(&statement, question, &snapshot, &turn).await {
            // What was read may be damaged: then the rest of the files still has an answer. Or it has left the table
            // since the bucket was looked at.
            Err(error) if self.is_mended(&error, &snapshot).await? => {
                let snapshot = self.snapshot().await?;
                let ran = self.run(&statement, question, &snapshot, &turn).await?;
                Ok(Begun { ran, snapshot })
            }
            ran => Ok(Begun { ran: ran?, snapshot }),
        }
    }

    /// Whether a snapshot of now may have an answer where the one at hand had none.
    async fn is_mended(&self, error: &QueryError, snapshot: &Arc<Snapshot>) -> Result<bool, QueryError> {
        match &self.sessions.bucket {
            Some(bucket) if error.is_of_bucket() => {
                bucket.look().await;
                Ok(bucket.version() != snapshot.bucket_version)
            }
            _ if error.is_of_storage() => self.sessions.catalog.blame(snapshot).await,
            _ => Ok(false),
        }
    }

    /// Plans a statement over a snapshot and runs it until its first batch.
    async fn run(
        &self,
        statement: &Statement,
        question: &Question,
        snapshot: &Arc<Snapshot>,
        turn: &Arc<Turn>,
    ) -> Result<Ran, QueryError> {
        let planned = {
            let (sessions, snapshot, turn) =
                (Arc::clone(&self.sessions), Arc::clone(snapshot), Arc::clone(turn));
            let (statement, question) = (statement.clone(), question.clone());
            let runtime = tokio::runtime::Handle::current();
            // Planning does not yield, and cannot be stopped: it keeps its turn, and no other query waits behind it.
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                runtime.block_on(plan(&sessions, statement, &question, snapshot))
            })
        };
        let (plan, context) = planned.await.map_err(|_| QueryError::Panicked)??;
        let schema = plan.schema();
        let mut batches = self.runners.run(plan, context, Arc::clone(turn))?;
        let first = batches.next().await.transpose()?;
        Ok(Ran { schema, batches, first })
    }

    /// A turn of the caller's role, and one of all.
    async fn turn(&self, caller: &Caller) -> Result<Arc<Turn>, QueryError> {
        let (role, all) = (Arc::clone(&caller.role.turns), Arc::clone(&self.turns));
        if let Ok(role) = Arc::clone(&role).try_acquire_owned()
            && let Ok(all) = Arc::clone(&all).try_acquire_owned()
        {
            return Ok(Arc::new(Turn { _role: role, _all: all }));
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= usize::from(self.plan.config.queue_max) {
            return Err(QueryError::Busy);
        }
        let wait = Duration::from_millis(self.plan.config.queue_timeout_ms);
        // Who waits for its role takes nothing from others meanwhile.
        let both = async {
            Ok::<_, AcquireError>(Turn {
                _role: role.acquire_owned().await?,
                _all: all.acquire_owned().await?,
            })
        };
        match tokio::time::timeout(wait, both).await {
            Ok(Ok(turn)) => Ok(Arc::new(turn)),
            _ => Err(QueryError::Busy),
        }
    }

    async fn snapshot(&self) -> Result<Arc<crate::catalog::Snapshot>, QueryError> {
        let catalog = Arc::clone(&self.sessions.catalog);
        let snapshot = tokio::task::spawn_blocking(move || catalog.snapshot()).await;
        Ok(Arc::new(snapshot.map_err(|_| QueryError::Panicked)??))
    }

    /// Compares sealed files with their checksums, for ever, at the configured pace.
    pub async fn verify_files(&self) {
        let pace = self.plan.config.verify_bytes_per_s;
        if pace == 0 {
            return;
        }
        loop {
            let catalog = Arc::clone(&self.sessions.catalog);
            let pause = match tokio::task::spawn_blocking(move || catalog.verify_next()).await {
                Ok(Ok(Some(bytes))) => Duration::from_secs_f64(bytes as f64 / pace as f64),
                // Nothing to do; a manifest that cannot be read is each query's error.
                Ok(_) => VERIFY_INTERVAL,
                Err(error) => {
                    tracing::error!(%error, "files are not compared with their checksums any more");
                    return;
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks after what other collectors upload, for ever.
    pub async fn follow_bucket(&self) {
        if let Some(bucket) = &self.sessions.bucket {
            bucket.follow().await;
        }
    }

    /// Who asks without a token; nobody may where there are tokens.
    #[must_use]
    pub fn anonymous(&self) -> Option<Arc<Caller>> {
        self.access.anonymous()
    }

    /// Who may ask.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// How answers are kept open between two pages.
    pub(crate) fn pages(&self) -> PagesConfig {
        self.plan.config.pages.clone()
    }

    pub(crate) fn query_bytes_max(&self) -> u64 {
        self.plan.config.query_bytes_max
    }
}

impl Catalog {
    /// Whether a file of the snapshot is damaged. Reads all that were not looked at before.
    async fn blame(self: &Arc<Self>, snapshot: &Arc<Snapshot>) -> Result<bool, QueryError> {
        let (catalog, snapshot) = (Arc::clone(self), Arc::clone(snapshot));
        let bad = tokio::task::spawn_blocking(move || catalog.verify(&snapshot)).await;
        bad.map_err(|_| QueryError::Panicked)
    }
}

/// Lets a question through, or not.
fn allowed(question: &Question) -> Result<Statement, QueryError> {
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

/// What a question is made of.
#[derive(Debug)]
pub(crate) struct Described {
    /// Columns of the answer.
    pub(crate) schema: SchemaRef,
    /// Types that the places of the parameters want; none where any would do.
    pub(crate) params: Vec<Option<DataType>>,
}

async fn describe(
    sessions: &Sessions,
    statement: Statement,
    question: &Question,
    snapshot: Arc<Snapshot>,
    named: &[Option<ScalarValue>],
) -> Result<Described, QueryError> {
    let context = sessions.open(snapshot, &statement, &question.caller, question.protocol).await?;
    let state = context.state();
    let plan = state.statement_to_plan(statement).await?;
    guard::plan_options().verify_plan(&plan)?;
    let wanted = plan.get_parameter_types()?;
    let count = wanted.len().max(named.len());
    let kinds: Vec<Option<DataType>> =
        (1..=count).map(|number| wanted.get(&format!("${number}")).cloned().flatten()).collect();
    // Columns may be made of parameters: they are what they are with nulls of the right types.
    let nulls = kinds.iter().enumerate().map(|(index, kind)| {
        let kind = match named.get(index).cloned().flatten() {
            Some(ScalarValue::Null) | None => kind.clone().unwrap_or(DataType::Utf8View),
            Some(null) => null.data_type(),
        };
        ScalarValue::try_from(&kind)
    });
    let nulls = nulls.collect::<datafusion::common::Result<Vec<_>>>()?;
    let plan = if wanted.is_empty() { plan } else { plan.with_param_values(ParamValues::from(nulls))? };
    let options = state.config_options();
    let plan = state.analyzer().execute_and_check(plan, options, |_, _| {})?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    Ok(Described { schema, params: kinds })
}

async fn plan(
    sessions: &Sessions,
    statement: Statement,
    question: &Question,
    snapshot: Arc<Snapshot>,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), QueryError> {
    let context = sessions.open(snapshot, &statement, &question.caller, question.protocol).await?;
    let state = context.state();
    let plan = bind(state.statement_to_plan(statement).await?, &question.params)?;
    guard::plan_options().verify_plan(&plan)?;
    Ok((state.create_physical_plan(&plan).await?, context.task_ctx()))
}

/// The files whose rows an answer may miss. A roll-up matters only to who asks for one.
fn missing(snapshot: &Snapshot, sql: &str) -> Vec<Quarantined> {
    let asked = Resolution::ALL.map(traffic::name).iter().any(|name| sql.to_lowercase().contains(name));
    let matters = |bad: &&Quarantined| match traffic::of_path(&bad.path) {
        Some((_, Grouping::All)) => asked,
        Some(_) => false,
        None => true,
    };
    snapshot.quarantined.iter().filter(matters).cloned().collect()
}

struct Begun {
    ran: Ran,
    snapshot: Arc<Snapshot>,
}

struct Ran {
    schema: SchemaRef,
    batches: Batches,
    first: Option<RecordBatch>,
}

/// The right to run, until dropped.
#[derive(Debug)]
struct Turn {
    _role: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Puts parameters in the place of `$1`, `$2` ...; a parameter takes the type that its place needs.
fn bind(plan: LogicalPlan, params: &[ScalarValue]) -> Result<LogicalPlan, QueryError> {
    let wanted = plan.get_parameter_names()?.len();
    if wanted == 0 && params.is_empty() {
        return Ok(plan);
    }
    if wanted != params.len() {
        return Err(QueryError::BadRequest(format!("parameters wanted: {wanted}, given: {}", params.len())));
    }
    let types = plan.get_parameter_types()?;
    let fitting = params.iter().enumerate().map(|(index, value)| {
        let kind = types.get(&format!("${}", index + 1)).cloned().flatten();
        kind.map_or_else(|| Ok(value.clone()), |kind| fit(value, &kind))
    });
    let fitting = fitting.collect::<datafusion::common::Result<Vec<_>>>()?;
    Ok(plan.with_param_values(ParamValues::from(fitting))?)
}

/// A text whose type nobody has named is a number, a truth or a time where one is wanted.
fn fit(value: &ScalarValue, wanted: &DataType) -> datafusion::common::Result<ScalarValue> {
    let takes = wanted.is_numeric() || wanted.is_temporal() || *wanted == DataType::Boolean;
    match value {
        ScalarValue::Utf8View(Some(_)) if takes => value.cast_to(wanted),
        _ => Ok(value.clone()),
    }
}

/// The batches of a running query.
pub struct Answer {
    /// Columns of the answer.
    pub schema: SchemaRef,
    /// Files whose rows are missing in it; empty for a whole answer.
    pub quarantined: Vec<Quarantined>,
    first: Option<RecordBatch>,
    batches: Batches,
    catalog: Arc<Catalog>,
    snapshot: Arc<Snapshot>,
    rows: u64,
    rows_max: u64,
    deadline: Instant,
    timeout: Duration,
    entry: Entry,
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
struct Entry {
    history: Arc<History>,
    lives: Arc<Lives>,
    live: Arc<Live>,
    record: QueryRecord,
    clock: Instant,
}

impl Entry {
    fn new(history: &Arc<History>, lives: &Arc<Lives>, id: u64, question: &Question) -> Self {
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
        };
        history.put(record.clone());
        let live = lives.begin(id);
        Self { history: Arc::clone(history), lives: Arc::clone(lives), live, record, clock: Instant::now() }
    }

    fn fail(&mut self, error: &QueryError) {
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
