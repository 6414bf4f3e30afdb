//! A collector at work: its threads, how they are told to end, and what they leave to say.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use event::layout::LedgerRow;
use tokio::sync::oneshot;

use crate::columns::ColumnsError;
use crate::lock::Lock;
use crate::{StartError, hosts, intake, ledger, seal};

/// Niceness of the collector's threads: the gateway comes first.
const NICENESS: libc::c_int = 10;

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
    pub(crate) ledger: ledger::Shared,
    pub(crate) threads: Option<Threads>,
    /// Another descriptor of the metrics listener, for a process that takes over.
    pub(crate) listener: Option<TcpListener>,
    /// Held until the threads have ended.
    pub(crate) lock: Option<Lock>,
}

/// What one collector hands over to the next, in another process: neither is ever free in between.
#[derive(Debug, Default)]
pub struct Handover {
    /// The lock that keeps other collectors from the data folder.
    pub lock: Option<File>,
    /// The metrics listener.
    pub listener: Option<TcpListener>,
}

/// Its threads.
#[derive(Debug)]
pub(crate) struct Threads {
    pub(crate) intake: JoinHandle<Result<intake::Done, ColumnsError>>,
    /// None where nothing is to be sealed.
    pub(crate) sealing: Option<JoinHandle<u64>>,
    /// What goes to other hosts, and what comes from them.
    pub(crate) hosts: Vec<JoinHandle<()>>,
    pub(crate) receiver: Option<hosts::Receiver>,
    pub(crate) compaction: Option<JoinHandle<u64>>,
    pub(crate) upload: Option<JoinHandle<()>>,
    pub(crate) delta: Option<JoinHandle<()>>,
    pub(crate) queue: seal::Queue,
    pub(crate) flags: Arc<Flags>,
    pub(crate) drain: Duration,
    /// The threads that must not end by themselves; each receiver is ready when its thread is over.
    pub(crate) lives: Vec<(&'static str, oneshot::Receiver<()>)>,
}

/// What the threads look at between two steps.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// Finish what is there, then end.
    pub(crate) stop: AtomicBool,
    /// Store what was read and end: another collector goes on.
    pub(crate) leave: AtomicBool,
    /// End now.
    pub(crate) abandon: AtomicBool,
    /// Nothing changes the table any more.
    pub(crate) settled: AtomicBool,
    /// How often intake had everything that was in the spool in the table.
    pub(crate) caught_up: AtomicU64,
}

impl Flags {
    /// Whether the end has begun, one way or another.
    pub(crate) fn any(&self) -> bool {
        [&self.stop, &self.leave, &self.abandon].iter().any(|flag| flag.load(Ordering::Acquire))
    }
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
    pub(crate) fn wake(&self) {
        self.receiver.iter().for_each(hosts::Receiver::shut);
        self.intake.thread().unpark();
        self.compaction.iter().for_each(|compaction| compaction.thread().unpark());
        self.upload.iter().for_each(|upload| upload.thread().unpark());
    }

    /// Waits for intake, then for the sealing of what it left, then for what is said of that.
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
        self.flags.settled.store(true, Ordering::Release);
        if let Some(delta) = self.delta {
            delta.thread().unpark();
            if delta.join().is_err() {
                tracing::error!("the thread of the Delta log panicked");
            }
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

/// Starts a thread of low priority.
pub(crate) fn spawn<T: Send + 'static>(
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
            delta: None,
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
