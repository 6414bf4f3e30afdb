//! One question from text to a bounded stream of batches: a turn, the guard, a snapshot, a plan, its execution. Whatever
//! happens to it is written to `system.queries`.

mod answer;

mod planned;

mod question;

mod turns;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;
use event::layout::DataFolder;

pub use crate::error::QueryError;
pub use answer::Answer;
pub(crate) use planned::Described;
pub use question::{Protocol, Question};

use crate::access::{Access, Caller};
use crate::catalog::{Catalog, Snapshot};
use crate::cluster::{Cluster, EngineKind, RowsDoor};
use crate::config::{PagesConfig, Plan};
use crate::live::{Live, Lives};
use crate::runner::{Batches, Runners};
use crate::session::Sessions;
use crate::system::QueryRecord;
use crate::threads::{STACK_BYTES, lower_priority};
use answer::Entry;
use planned::Planned;
use question::allowed;
use turns::{Turn, Turns};

/// How soon a new file is compared with its checksum.
const VERIFY_INTERVAL: Duration = Duration::from_secs(2);

/// Answers questions within the configured bounds.
#[derive(Debug)]
pub struct Engine {
    sessions: Arc<Sessions>,
    access: Access,
    runners: Arc<Runners>,
    cluster: Option<Arc<Cluster>>,
    /// Where executors fetch rows, until it is opened.
    rows_door: Mutex<Option<RowsDoor>>,
    plan: Plan,
    turns: Turns,
    ids: AtomicU64,
    lives: Arc<Lives>,
}

impl Engine {
    /// An engine over a data folder. Starts nothing.
    ///
    /// # Errors
    /// When the spill folder cannot be made, or a cluster not be used.
    pub fn new(plan: Plan, folder: &DataFolder) -> Result<Self, QueryError> {
        let access = Access::new(&plan.config);
        let cluster = plan.cluster.as_ref().map(|common| Cluster::new(&plan.config.ballista, common));
        let (cluster, door) = cluster.transpose()?.unzip();
        Ok(Self {
            sessions: Arc::new(Sessions::new(&plan, folder, &access.roles)?),
            access,
            runners: Runners::new(plan.threads, STACK_BYTES, lower_priority),
            cluster: cluster.map(Arc::new),
            rows_door: Mutex::new(door),
            turns: Turns::new(&plan.config),
            ids: AtomicU64::new(1),
            lives: Arc::default(),
            plan,
        })
    }

    /// Where executors fetch rows, for whoever opens it.
    pub(crate) fn rows_door(&self) -> Option<RowsDoor> {
        self.rows_door.lock().unwrap_or_else(PoisonError::into_inner).take()
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
            Ok(Begun { ran, snapshot }) => {
                entry.is_run_by(ran.engine);
                Ok(Answer {
                    schema: ran.schema,
                    quarantined: answer::missing(&snapshot, &question.sql),
                    first: ran.first,
                    batches: ran.batches,
                    catalog: Arc::clone(&self.sessions.catalog),
                    snapshot,
                    rows: 0,
                    rows_max,
                    deadline: started + timeout,
                    timeout,
                    entry,
                })
            }
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
            let turn = self.turns.take(&question.caller).await?;
            let snapshot = self.snapshot().await?;
            let (sessions, question) = (Arc::clone(&self.sessions), question.clone());
            let runtime = tokio::runtime::Handle::current();
            let described = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                runtime.block_on(planned::describe(&sessions, statement, &question, snapshot, &named))
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
        let turn = self.turns.take(&question.caller).await?;
        match self.run(&statement, question, &turn).await? {
            // What was read may be damaged: then the rest of the files still has an answer. Or it has left the table
            // since the bucket was looked at.
            (Err(error), snapshot) if self.is_mended(&error, &snapshot).await? => {
                let (ran, snapshot) = self.run(&statement, question, &turn).await?;
                Ok(Begun { ran: ran?, snapshot })
            }
            (ran, snapshot) => Ok(Begun { ran: ran?, snapshot }),
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

    /// Plans a statement over a snapshot of now and runs it until its first batch.
    async fn run(
        &self,
        statement: &Statement,
        question: &Question,
        turn: &Arc<Turn>,
    ) -> Result<(Result<Ran, QueryError>, Arc<Snapshot>), QueryError> {
        // It outlives a panic of planning, of which a damaged file may be the cause.
        let taken = Arc::new(OnceLock::new());
        let planned = {
            let taken = Arc::clone(&taken);
            let (sessions, turn, cluster) =
                (Arc::clone(&self.sessions), Arc::clone(turn), self.cluster.clone());
            let (statement, question) = (statement.clone(), question.clone());
            let runtime = tokio::runtime::Handle::current();
            // Planning does not yield, and cannot be stopped: it keeps its turn, and no other query waits behind it.
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let snapshot = Arc::new(sessions.catalog.snapshot()?);
                let over = Arc::clone(taken.get_or_init(|| snapshot));
                runtime.block_on(planned::plan(&sessions, cluster.as_ref(), statement, &question, over))
            })
        };
        let planned = planned.await.unwrap_or(Err(QueryError::Panicked));
        let Some(snapshot) = taken.get().cloned() else {
            return Err(planned.err().unwrap_or(QueryError::Panicked));
        };
        let ran = async {
            let Planned { plan, context, engine } = planned?;
            let schema = plan.schema();
            let mut batches = self.runners.run(plan, context, Arc::clone(turn))?;
            let first = batches.next().await.transpose()?;
            Ok(Ran { schema, batches, first, engine })
        };
        Ok((ran.await, snapshot))
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>, QueryError> {
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

struct Begun {
    ran: Ran,
    snapshot: Arc<Snapshot>,
}

struct Ran {
    schema: SchemaRef,
    batches: Batches,
    first: Option<RecordBatch>,
    engine: EngineKind,
}

impl Catalog {
    /// Whether a file of the snapshot is damaged. Reads all that were not looked at before.
    async fn blame(self: &Arc<Self>, snapshot: &Arc<Snapshot>) -> Result<bool, QueryError> {
        let (catalog, snapshot) = (Arc::clone(self), Arc::clone(snapshot));
        let bad = tokio::task::spawn_blocking(move || catalog.verify(&snapshot)).await;
        bad.map_err(|_| QueryError::Panicked)
    }
}
