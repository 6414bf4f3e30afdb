//! Threads for one query at a time.
//!
//! An operator of the engine may compute for minutes before it looks up (a join whose condition no pair of rows meets), and
//! nothing can stop it from outside. On threads that queries share, with the doors among them, one such query would stop
//! the answers of all others, and its own time-out. So a query runs on threads that nobody else has meanwhile: the system
//! shares the processors out, the doors stay awake, and a query whose time is up is answered so. Its threads and its turn
//! come back when its last operator has looked up.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{FutureExt, StreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::error::QueryError;

/// Batches that wait for whoever reads them.
const BATCHES_MAX: usize = 1;
/// How soon threads that still compute for a query that is over are looked at again, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Threads that wait for a query, in groups of one query each.
pub(crate) struct Runners {
    threads: usize,
    begin: fn(),
    stack_bytes: usize,
    idle: Mutex<Vec<Threads>>,
}

/// A group of threads. A runtime must not be waited for where it is dropped, which may be on threads that others need.
struct Threads(Option<Runtime>);

impl Threads {
    fn runtime(&self) -> Option<&Runtime> {
        self.0.as_ref()
    }

    /// Whether anything runs there.
    fn is_busy(&self) -> bool {
        self.runtime().is_some_and(|runtime| runtime.metrics().num_alive_tasks() > 0)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Runners {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Runners({} threads a query)", self.threads)
    }
}

impl Runners {
    /// Groups of so many threads, each of which begins with a call of `begin`.
    pub(crate) fn new(threads: usize, stack_bytes: usize, begin: fn()) -> Arc<Self> {
        Arc::new(Self { threads, begin, stack_bytes, idle: Mutex::default() })
    }

    /// Runs a plan. `turn` is what the query holds until nothing of it runs any more.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        turn: T,
    ) -> Result<Batches, QueryError> {
        let threads = self.take()?;
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        let Some(runtime) = threads.runtime() else { return Err(QueryError::Panicked) };
        let work = runtime.spawn(drive(plan, context, sender));
        let over = Over { runners: Arc::clone(self), doors: Handle::current(), threads, turn };
        Ok(Batches { receiver, work: work.abort_handle(), over: Some(Box::new(move || over.end())) })
    }

    fn take(&self) -> Result<Threads, QueryError> {
        if let Some(idle) = self.idle().pop() {
            return Ok(idle);
        }
        let built = Builder::new_multi_thread()
            .worker_threads(self.threads)
            .thread_name("query")
            .thread_stack_size(self.stack_bytes)
            .on_thread_start(self.begin)
            .enable_all()
            .build();
        let built = built.map_err(|error| QueryError::Engine(Box::new(error.into())))?;
        Ok(Threads(Some(built)))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Threads>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a plan to its end, or until nobody reads it. A panic of the engine is this query's failure and nobody else's.
async fn drive(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    batches: mpsc::Sender<Result<RecordBatch, QueryError>>,
) {
    let all = async {
        let mut stream = execute_stream(plan, context)?;
        while let Some(batch) = stream.next().await {
            if batches.send(Ok(batch?)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let error = match AssertUnwindSafe(all).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => QueryError::Panicked,
    };
    // Nobody waits for it any more then.
    let _gone = batches.send(Err(error)).await;
}

/// What a query answers. Dropped, it ends the query.
pub(crate) struct Batches {
    receiver: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    work: AbortHandle,
    over: Option<Box<dyn FnOnce() + Send>>,
}

impl Batches {
    /// The next batch; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        self.receiver.recv().await
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.work.abort();
        if let Some(over) = self.over.take() {
            over();
        }
    }
}

/// The threads of a query that is over, and what it holds.
struct Over<T> {
    runners: Arc<Runners>,
    doors: Handle,
    threads: Threads,
    turn: T,
}

impl<T: Send + 'static> Over<T> {
    /// Gives the threads back when nothing runs there any more, and the turn with them.
    fn end(self) {
        if !self.threads.is_busy() {
            return self.give_back();
        }
        let doors = self.doors.clone();
        doors.spawn(async move {
            let mut pause = LOOKS.0;
            while self.threads.is_busy() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOKS.1);
            }
            self.give_back();
        });
    }

    fn give_back(self) {
        let Self { runners, threads, turn, .. } = self;
        runners.idle().push(threads);
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Schema, SchemaRef};
    use datafusion::execution::SendableRecordBatchStream;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
    use std::sync::mpsc as blocking;

    /// Keeps its thread until it is told to end.
    #[derive(Debug)]
    struct Stubborn {
        schema: SchemaRef,
        end: Mutex<Option<blocking::Receiver<()>>>,
    }

    impl PartitionStream for Stubborn {
        fn schema(&self) -> &SchemaRef {
            &self.schema
        }

        fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
            let end = self.end.lock().unwrap().take().unwrap();
            let none = futures::stream::poll_fn(move |_| {
                end.recv().unwrap();
                std::task::Poll::Ready(None)
            });
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), none))
        }
    }

    #[tokio::test]
    async fn threads_and_turn_come_back_when_nothing_runs_any_more() {
        let runners = Runners::new(1, 1 << 20, || ());
        let (told, end) = blocking::sync_channel(1);
        let schema = Arc::new(Schema::empty());
        let stubborn = Stubborn { schema: Arc::clone(&schema), end: Mutex::new(Some(end)) };
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(stubborn)], None, None, false, None).unwrap();
        let turn = Arc::new(());
        let mut batches = runners.run(Arc::new(plan), Arc::default(), Arc::clone(&turn)).unwrap();
        let patience = Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, batches.next()).await.is_err(), "it does not answer");
        drop(batches);
        tokio::time::sleep(patience).await;
        assert_eq!((Arc::strong_count(&turn), runners.idle().len()), (2, 0), "it still runs");
        told.send(()).unwrap();
        let back = async {
            while Arc::strong_count(&turn) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), back).await.unwrap();
        assert_eq!(runners.idle().len(), 1);
        drop(runners.take().unwrap());
    }
}
