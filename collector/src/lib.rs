//! The collector: from the spool to rows, metrics and spans.
//!
//! Low-priority threads do the work. Intake tails the spool of every core, shows each event to the adapters
//! (Prometheus, OpenTelemetry) and stores it in the newest hot file; sealing turns closed hot files into Parquet and
//! roll-ups, and applies retention; compaction merges Parquet files of hours that are over; upload brings them into a
//! bucket, where there is one. Or its batches go to a collector on another host, which stores them like its own (`hosts`). An event is released from the
//! spool once its row is on disk, and its place in the lane is written with it, so that a crash at any point neither loses
//! a row nor makes it twice.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;

mod lock;

mod recover;

mod intake;

mod columns;

mod compare;

pub mod adapters;

mod store;

mod hosts;

mod place;

mod seal;

mod parquet;

mod rollup;

mod retention;

mod table;

mod compact;

mod erase;

mod upload;

pub mod ledger;

pub mod storage;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::hot::Watermarks;
use event::layout::{DataFolder, LedgerRow};
use tokio::sync::oneshot;

use lock::Lock;

pub use columns::ColumnsError;
pub use config::{
    CollectorConfig, CompactionConfig, ParquetConfig, Plan, RetentionConfig, RollupConfig, SealConfig,
    validate,
};
pub use hosts::{ForwardConfig, ReceiveConfig, ReceiveError, ReceiveTlsConfig, Secret};
pub use parquet::ParquetFileError;
pub use recover::RecoverError;
pub use rollup::{RebuildError, Rebuilt, RollupError, rebuild};
pub use seal::SealError;
pub use store::StoreError;

/// Niceness of the collector's threads: the gateway comes first.
const NICENESS: libc::c_int = 10;

/// Why the collector cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another collector is at work on the data folder.
    #[error("the data folder {folder} has a collector already: stop it, or choose another folder")]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// The lock that keeps two collectors apart cannot be taken.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What an earlier run left cannot be put in order.
    #[error("cannot recover the data folder: {0}")]
    Recover(#[from] RecoverError),
    /// Metrics listener or span export.
    #[error(transparent)]
    Adapters(#[from] adapters::StartError),
    /// The listener for other hosts.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// What a collector did, when it has ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rows that were put on disk.
    pub rows: u64,
    /// Hot files that were sealed.
    pub sealed: u64,
    /// Merges of Parquet files.
    pub merges: u64,
    /// Hot files that wait for the next start.
    pub hot_left: usize,
    /// Whether everything in the spool was stored; if not, it waits for the next start.
    pub drained: bool,
    /// The books at the end.
    pub ledger: Vec<LedgerRow>,
}

/// A collector at work. Dropping it stops its threads without draining the spool: what was not stored is read again
/// by the next start.
#[derive(Debug)]
pub struct Running {
    /// Where `/metrics`, `/healthz` and `/readyz` answer.
    pub metrics_addr: SocketAddr,
    /// Where rows of other hosts are taken, if they are.
    pub receive_addr: Option<SocketAddr>,
    ledger: ledger::Shared,
    threads: Option<Threads>,
    /// Another descriptor of the metrics listener, for a process that takes over.
    listener: Option<TcpListener>,
    /// Held until the threads have ended.
    lock: Option<Lock>,
}

/// What one collector hands over to the next, in another process: neither is ever free in between.
#[derive(Debug, Default)]
pub struct Handover {
    /// The lock that keeps other collectors from the data folder.
    pub lock: Option<File>,
    /// The metrics listener.
    pub listener: Option<TcpListener>,
}

#[derive(Debug)]
struct Threads {
    intake: JoinHandle<Result<intake::Done, ColumnsError>>,
    /// None where nothing is to be sealed.
    sealing: Option<JoinHandle<u64>>,
    /// What goes to other hosts, and what comes from them.
    hosts: Vec<JoinHandle<()>>,
    receiver: Option<hosts::Receiver>,
    compaction: Option<JoinHandle<u64>>,
    upload: Option<JoinHandle<()>>,
    queue: seal::Queue,
    flags: Arc<Flags>,
    drain: Duration,
    /// The threads that must not end by themselves; each receiver is ready when its thread is over.
    lives: Vec<(&'static str, oneshot::Receiver<()>)>,
}

/// What the threads look at between two steps.
#[derive(Debug, Default)]
struct Flags {
    /// Finish what is there, then end.
    stop: AtomicBool,
    /// Store what was read and end: another collector goes on.
    leave: AtomicBool,
    /// End now.
    abandon: AtomicBool,
    /// How often intake had everything that was in the spool in the table.
    caught_up: AtomicU64,
}

impl Flags {
    /// Whether the end has begun, one way or another.
    fn any(&self) -> bool {
        [&self.stop, &self.leave, &self.abandon].iter().any(|flag| flag.load(Ordering::Acquire))
    }
}

/// Puts the data folder in order and starts the threads.
///
/// # Errors
/// If the folder cannot be recovered, the metrics address cannot be bound, or the system gives no thread.
pub fn start(plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    take_over(plan, folder, Handover::default())
}

/// The same with what a collector in another process handed over. That collector must have left.
///
/// # Errors
/// As of [`start`].
pub fn take_over(plan: Plan, folder: &DataFolder, from: Handover) -> Result<Running, StartError> {
    let lock = match from.lock {
        Some(file) => Lock::of(file, folder)?,
        None => Lock::take(folder)?,
    };
    let listener = match from.listener {
        Some(listener) => listener,
        None => adapters::bind(&plan.config.metrics)?,
    };
    let kept = listener.try_clone().map_err(StartError::Thread)?;
    let account = Arc::new(hosts::Account::default());
    let config = &plan.config;
    let door = hosts::Door::open(&config.receive, &account)?;
    let mut found = recover::recover(folder)?;
    // What other hosts acknowledged is stored, too, also when rows stay here from now on.
    merge(&mut found.marks, &hosts::marks(folder).map_err(RecoverError::from)?);
    let forwarder = config
        .forward
        .is_on()
        .then(|| hosts::Forwarder::new(folder, &config.forward, &found.marks, Arc::clone(&account)))
        .transpose()
        .map_err(RecoverError::from)?;
    let (door, remote) = match door {
        None => (None, None),
        Some((door, deliveries)) => {
            let remote = hosts::Remote::new(folder, &config.receive, deliveries, Arc::clone(&account));
            (Some(door), Some(remote.map_err(RecoverError::from)?))
        }
    };
    let receive_addr = door.as_ref().map(|door| door.address);
    // Rows that go to other hosts leave nothing here to seal or to merge, but what was stored before.
    let idle = forwarder.is_some() && found.hot.is_empty() && found.manifest.files.is_empty();
    let queue = seal::Queue::default();
    found.hot.into_iter().for_each(|number| queue.push(number));
    let shared = ledger::Shared::default();
    let uploads = plan.bucket.as_ref().map(|bucket| bucket.config().backlog_bytes_max);
    let uploads = uploads.map(|backlog_bytes_max| Arc::new(upload::Account::new(backlog_bytes_max)));
    let (mut adapters, metrics_addr) = adapters::Adapters::start_on(
        listener,
        &config.metrics,
        &config.otlp,
        adapters::Shown {
            ledger: Arc::clone(&shared),
            folder: folder.clone(),
            hosts: account,
            uploads: uploads.clone(),
        },
        now_us(),
    )?;
    let drain = Duration::from_millis(config.drain_timeout_ms.into());
    let flags = Arc::new(Flags::default());

    let table = table::Table::new(folder.clone(), found.manifest);
    let sealer = seal::Sealer::new(folder.clone(), plan.clone(), queue.clone(), table.clone());
    let uploader = uploads.clone().zip(plan.bucket.clone()).map(|(account, bucket)| {
        upload::Uploader::new(upload::Settings {
            folder: folder.clone(),
            plan: bucket,
            compaction: config.compaction.clone(),
            grace_s: config.retention.grace_s,
            table: table.clone(),
            account,
        })
    });
    let compactor = (!idle).then(|| compact::Compactor::new(folder.clone(), &plan, table, uploads.clone()));
    let mut lives: Vec<_> = adapters.life().map(|life| ("adapters", life)).into_iter().collect();
    let sealing = (!idle)
        .then(|| {
            let flags = Arc::clone(&flags);
            spawn("sealing", &mut lives, move || sealer.run(&flags))
        })
        .transpose()?;
    let mut away = Vec::new();
    let place = match forwarder {
        Some((forwarder, courier)) => {
            let thread = spawn("forward", &mut lives, move || courier.run());
            away.push(thread.inspect_err(|_| queue.close())?);
            place::Place::Away(Box::new(forwarder))
        }
        None => place::Place::Here(Box::new(store::Store::new(
            folder.clone(),
            config.seal.clone(),
            Duration::from_millis(config.sync_interval_ms.into()),
            queue.clone(),
            found.next,
            found.marks.clone(),
        ))),
    };
    let intake = {
        let (flags, folder, shared) = (Arc::clone(&flags), folder.clone(), Arc::clone(&shared));
        spawn("intake", &mut lives, move || {
            let places = (place, remote, uploads);
            let intake = intake::Intake::new(plan, folder, adapters, places, found.marks, shared);
            intake.run(&flags)
        })
    };
    let intake = intake.inspect_err(|_| queue.close())?;
    let compaction = compactor.map(|compactor| {
        let flags = Arc::clone(&flags);
        spawn("compaction", &mut lives, move || compactor.run(&flags))
    });
    // Without it the rest works: files stay small, and the next start tries again.
    let compaction = compaction
        .and_then(|thread| thread.inspect_err(|error| tracing::error!(%error, "no compaction")).ok());
    let upload = uploader.map(|uploader| {
        let flags = Arc::clone(&flags);
        spawn("upload", &mut lives, move || uploader.run(&flags))
    });
    let upload =
        upload.and_then(|thread| thread.inspect_err(|error| tracing::error!(%error, "no uploads")).ok());
    let mut threads = Threads {
        intake,
        sealing,
        hosts: away,
        receiver: None,
        compaction,
        upload,
        queue,
        flags,
        drain,
        lives,
    };
    if let Some(door) = door {
        let (receiver, serve) = door.ready(threads.intake.thread().clone());
        match spawn("receive", &mut threads.lives, serve) {
            Ok(thread) => threads.hosts.push(thread),
            Err(error) => {
                threads.flags.abandon.store(true, Ordering::Release);
                threads.wake();
                return Err(error);
            }
        }
        threads.receiver = Some(receiver);
    }
    let threads = Some(threads);
    Ok(Running {
        metrics_addr,
        receive_addr,
        ledger: shared,
        threads,
        listener: Some(kept),
        lock: Some(lock),
    })
}

impl Running {
    /// The books as of the last flush.
    pub fn ledger(&self) -> Vec<LedgerRow> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Ready with a thread's name when that thread has ended though nobody told it to. Each thread is named once.
    pub async fn ended(&mut self) -> &'static str {
        std::future::poll_fn(|cx| {
            let Some(threads) = &mut self.threads else { return Poll::Pending };
            let over = threads.lives.iter_mut().position(|(_, life)| Pin::new(life).poll(cx).is_ready());
            over.map_or(Poll::Pending, |at| Poll::Ready(threads.lives.swap_remove(at).0))
        })
        .await
    }

    /// What another process needs to go on where this collector leaves.
    ///
    /// # Errors
    /// When the system gives no further descriptor.
    pub fn handover(&self) -> io::Result<Handover> {
        let lock = self.lock.as_ref().map(Lock::share).transpose()?.flatten();
        let listener = self.listener.as_ref().map(TcpListener::try_clone).transpose()?;
        Ok(Handover { lock, listener })
    }

    /// Reads the spool to its end, makes all of it durable, seals it, and ends; within `drain_timeout_ms`. The gateway
    /// should have stopped before.
    pub async fn shutdown(self) -> Report {
        self.end(|flags| &flags.stop).await
    }

    /// Stores what was read and makes it durable, sends the spans that wait, and ends, as soon as it can: a collector in
    /// another process has the lock and goes on from there.
    pub async fn leave(mut self) -> Report {
        let lock = self.lock.take();
        let report = self.end(|flags| &flags.leave).await;
        lock.into_iter().for_each(Lock::leave);
        report
    }

    async fn end(mut self, flag: impl Fn(&Flags) -> &AtomicBool) -> Report {
        let Some(threads) = self.threads.take() else { return Report::default() };
        flag(&threads.flags).store(true, Ordering::Release);
        threads.wake();
        let deadline = tokio::time::Instant::now() + threads.drain;
        let flags = Arc::clone(&threads.flags);
        let queue = threads.queue.clone();
        let mut joined = tokio::task::spawn_blocking(move || threads.join());
        let report = tokio::select! {
            report = &mut joined => report,
            () = tokio::time::sleep_until(deadline) => {
                flags.abandon.store(true, Ordering::Release);
                queue.close();
                joined.await
            }
        };
        report.unwrap_or_else(|error| {
            tracing::error!(%error, "the collector's end was not orderly");
            Report::default()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.flags.abandon.store(true, Ordering::Release);
            threads.wake();
            threads.queue.close();
            let report = threads.join();
            tracing::debug!(?report, "collector dropped");
        }
    }
}

impl Threads {
    /// Has the flags looked at.
    fn wake(&self) {
        self.receiver.iter().for_each(hosts::Receiver::shut);
        self.intake.thread().unpark();
        self.compaction.iter().for_each(|compaction| compaction.thread().unpark());
        self.upload.iter().for_each(|upload| upload.thread().unpark());
    }

    /// Waits for intake, then for the sealing of what it left.
    fn join(self) -> Report {
        let done = match self.intake.join() {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                tracing::error!(%error, "intake ended: rows do not fit the schema");
                intake::Done::default()
            }
            Err(_) => {
                tracing::error!("the intake thread panicked");
                intake::Done::default()
            }
        };
        self.queue.close();
        for thread in self.hosts {
            if thread.join().is_err() {
                tracing::error!("a thread for other hosts panicked");
            }
        }
        let sealed = self.sealing.map_or(0, |sealing| {
            sealing.join().unwrap_or_else(|_| {
                tracing::error!("the sealing thread panicked");
                0
            })
        });
        let merges = self.compaction.map_or(0, |compaction| {
            compaction.join().unwrap_or_else(|_| {
                tracing::error!("the compaction thread panicked");
                0
            })
        });
        if self.upload.is_some_and(|upload| upload.join().is_err()) {
            tracing::error!("the upload thread panicked");
        }
        Report {
            rows: done.rows,
            sealed,
            merges,
            hot_left: self.queue.len(),
            drained: done.drained,
            ledger: done.ledger,
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    lives: &mut Vec<(&'static str, oneshot::Receiver<()>)>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let (alive, life) = oneshot::channel();
    lives.push((name, life));
    let nice = move || {
        // Dropped last, also by a panic: the thread is over then.
        let _alive: oneshot::Sender<()> = alive;
        // SAFETY: setpriority takes plain numbers; on Linux, PRIO_PROCESS with 0 means the calling thread.
        if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "a thread of the collector keeps its priority");
        }
        body()
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(nice).map_err(StartError::Thread)
}

/// Takes over those positions that are further on.
fn merge(marks: &mut Watermarks, others: &Watermarks) {
    for (key, other) in others {
        let mark = marks.entry(key.clone()).or_insert(*other);
        if other.sequence > mark.sequence {
            *mark = *other;
        }
    }
}

/// Now, in microseconds since 1970 (UTC).
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod lives {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_dies_is_named_once() {
        let mut lives = Vec::new();
        let flags = Arc::new(Flags::default());
        let intake = spawn("intake", &mut lives, || -> Result<intake::Done, ColumnsError> {
            panic!("as a bug would")
        });
        let sealing = {
            let flags = Arc::clone(&flags);
            spawn("sealing", &mut lives, move || {
                while !flags.abandon.load(Ordering::Acquire) {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                0
            })
        };
        let threads = Threads {
            intake: intake.unwrap(),
            sealing: Some(sealing.unwrap()),
            hosts: Vec::new(),
            receiver: None,
            compaction: None,
            upload: None,
            queue: seal::Queue::default(),
            flags,
            drain: Duration::from_secs(1),
            lives,
        };
        let metrics_addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let ledger = ledger::Shared::default();
        let threads = Some(threads);
        let mut running =
            Running { metrics_addr, receive_addr: None, ledger, threads, listener: None, lock: None };
        assert_eq!(running.ended().await, "intake");
        let again = tokio::time::timeout(Duration::from_millis(20), running.ended()).await;
        assert!(again.is_err(), "a living thread is not named");
    }
}
