//! From events to what other tools read: Prometheus metrics and OpenTelemetry spans.
//!
//! [`Adapters`] belongs to the intake thread, which shows it every event once ([`Adapters::observe`]) and says
//! when a round is over ([`Adapters::flush`]). Everything that may wait (HTTP, gRPC, retries) happens on a
//! thread of its own at low priority, with its own runtime; between the two are bounded memory and short locks.

mod prometheus;

mod otlp;

mod serve;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::RequestEvent;
use event::layout::DataFolder;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

pub use otlp::{ExporterError, OtlpConfig, OtlpProtocol};
pub use prometheus::MetricsConfig;

/// Why the adapters cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metrics listener.
    #[error("cannot listen on {address} for metrics: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The export of spans.
    #[error("cannot export spans: {0}")]
    Otlp(#[from] ExporterError),
    /// The thread or its runtime.
    #[error("cannot start the adapters' thread: {0}")]
    Thread(#[source] io::Error),
}

/// The account of one sink: accepted = delivered + dropped + queued. Prometheus counts events, OTLP spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterCount {
    /// `prometheus` or `otlp`.
    pub sink: &'static str,
    /// Taken from intake.
    pub accepted: u64,
    /// Arrived: counted in a metric, or taken by the receiver.
    pub delivered: u64,
    /// Given up, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Waiting to be delivered.
    pub queued: u64,
}

/// Metrics and spans of the events of one intake thread.
#[derive(Debug)]
pub struct Adapters {
    metrics: prometheus::Recorder,
    spans: otlp::Outbox,
    exports_spans: bool,
    thread: Option<JoinHandle<()>>,
    /// Its sender lives as long as the thread.
    life: Option<oneshot::Receiver<()>>,
    stop: Stop,
}

/// What a page shows besides events.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) ledger: crate::ledger::Shared,
    /// Where the gateway leaves the state of its upstreams.
    pub(crate) folder: DataFolder,
    /// What went between hosts.
    pub(crate) hosts: Arc<crate::hosts::Account>,
    /// What is said of uploads, where there is a bucket.
    pub(crate) uploads: Option<Arc<crate::upload::Account>>,
    /// What is said of the table's files, where there is a table.
    pub(crate) upkeep: Option<crate::upkeep::Upkeep>,
    /// What is said of the Delta log, where one is written.
    pub(crate) delta: Option<Arc<crate::delta::Account>>,
    /// Most bytes of the spool, where that is known.
    pub(crate) spool_bytes_max: Option<u64>,
}

/// Binds the metrics listener.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(metrics: &MetricsConfig) -> Result<std::net::TcpListener, StartError> {
    let listen_error = |source| StartError::Listen { address: metrics.listen, source };
    std::net::TcpListener::bind(metrics.listen).map_err(listen_error)
}

/// Tells the adapters' thread to end.
#[derive(Debug)]
struct Stop {
    serving: watch::Sender<bool>,
    exporting: watch::Sender<Option<Instant>>,
}

impl Adapters {
    /// Binds the metrics listener, starts the thread that serves it and exports spans, and gives the bound
    /// address. Metrics count events from `process_start_us` (UTC microseconds) on; `ledger`, and what the
    /// gateway says of its upstreams in `folder`, are read by each scrape.
    ///
    /// # Errors
    /// If the address cannot be bound, the export is misconfigured, or the system gives no thread.
    pub fn start(
        metrics: &MetricsConfig,
        otlp: &OtlpConfig,
        ledger: crate::ledger::Shared,
        folder: &DataFolder,
        process_start_us: i64,
    ) -> Result<(Adapters, SocketAddr), StartError> {
        let listener = bind(metrics)?;
        let shown = Shown {
            ledger,
            folder: folder.clone(),
            hosts: Arc::default(),
            uploads: None,
            upkeep: None,
            delta: None,
            spool_bytes_max: None,
        };
        Self::start_on(listener, metrics, otlp, shown, process_start_us)
    }

    /// The same on a listener that is there already, with what is said of uploads to a bucket.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub(crate) fn start_on(
        listener: std::net::TcpListener,
        metrics: &MetricsConfig,
        otlp: &OtlpConfig,
        shown: Shown,
        process_start_us: i64,
    ) -> Result<(Adapters, SocketAddr), StartError> {
        let listen_error = |source| StartError::Listen { address: metrics.listen, source };
        listener.set_nonblocking(true).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;

        let recorder = prometheus::Recorder::new(metrics, process_start_us);
        let outbox = otlp::Outbox::new(otlp);
        let exports_spans = otlp.endpoint.is_some();
        let board = Arc::new(serve::Board {
            process_start_us,
            stale: Duration::from_millis(u64::from(metrics.stale_ms)),
            published: recorder.published(),
            shown,
            series_max: metrics.series_max as usize,
            spans: outbox.account(),
            scrapes: AtomicU64::new(0),
            last_scrape_us: AtomicU64::new(0),
            turn: Semaphore::new(1),
        });
        let (serving, serving_stop) = watch::channel(false);
        let (exporting, exporting_stop) = watch::channel(None);
        let (metrics, otlp) = (metrics.clone(), otlp.clone());
        let (queue, account) = (outbox.queue(), outbox.account());
        let (ready, started) = mpsc::sync_channel(1);
        let (alive, life) = oneshot::channel();
        let body = move || {
            let _alive: oneshot::Sender<()> = alive;
            lower_priority();
            // Everything is made here, since sockets and channels belong to this runtime.
            let make = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(BLOCKING_THREADS_MAX)
                    .build()
                    .map_err(StartError::Thread)?;
                let entered = runtime.enter();
                let listener = TcpListener::from_std(listener)
                    .map_err(|source| StartError::Listen { address: metrics.listen, source })?;
                let exporter = otlp::Exporter::new(&otlp, queue, account)?;
                drop(entered);
                Ok((runtime, listener, exporter))
            };
            let (runtime, listener, exporter) = match make() {
                Ok(made) => made,
                Err(error) => return report(&ready, Err(error)),
            };
            report(&ready, Ok(()));
            runtime.block_on(async move {
                let serve = serve::serve(listener, metrics, board, serving_stop);
                let export = async move {
                    if let Some(exporter) = exporter {
                        exporter.run(exporting_stop).await;
                    }
                };
                tokio::join!(serve, export);
            });
            // Connections that are still open and a page still being written have had their time.
            runtime.shutdown_timeout(LINGER);
        };
        let thread = std::thread::Builder::new()
            .name("adapters".to_owned())
            .spawn(body)
            .map_err(StartError::Thread)?;
        started
            .recv()
            .unwrap_or_else(|_| Err(StartError::Thread(io::Error::other("the thread ended at once"))))?;
        let stop = Stop { serving, exporting };
        let adapters = Adapters {
            metrics: recorder,
            spans: outbox,
            exports_spans,
            thread: Some(thread),
            life: Some(life),
            stop,
        };
        Ok((adapters, address))
    }

    /// What is ready when the thread has ended, however it did. Given once.
    pub(crate) fn life(&mut self) -> Option<oneshot::Receiver<()>> {
        self.life.take()
    }

    /// Adds one event to the metrics and, if it is sampled, its spans to the queue.
    #[inline]
    pub fn observe(&mut self, event: &RequestEvent<'_>) {
        self.metrics.observe(event);
        self.spans.observe(event);
    }

    /// Publishes what was observed since the last call. To be called once per intake round, idle rounds
    /// included: readiness is judged by it.
    pub fn flush(&mut self) {
        self.metrics.flush();
        self.spans.flush();
    }

    /// The accounts as of now; that of `otlp` only if spans are exported.
    pub fn counts(&self) -> Vec<AdapterCount> {
        let observed = self.metrics.observed();
        let metrics = AdapterCount {
            sink: "prometheus",
            accepted: observed,
            delivered: observed,
            ..Default::default()
        };
        let spans = self.exports_spans.then(|| self.spans.account().count());
        std::iter::once(metrics).chain(spans).collect()
    }

    /// Publishes the rest, exports what is queued until `deadline`, stops the listener, and gives the final
    /// accounts, in which nothing is queued any more.
    pub fn shutdown(mut self, deadline: Instant) -> Vec<AdapterCount> {
        self.metrics.flush_last();
        self.spans.flush();
        self.end(deadline);
        // Without an endpoint there is nothing to close, and closing twice changes nothing.
        self.counts()
    }

    fn end(&mut self, deadline: Instant) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.exporting.send_replace(Some(deadline));
        self.stop.serving.send_replace(true);
        if thread.join().is_err() {
            tracing::error!("the adapters' thread panicked");
        }
    }
}

impl Drop for Adapters {
    /// Ends the thread without waiting for spans; [`Adapters::shutdown`] is the orderly way.
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}

/// Threads that write pages: one page at a time, and one to spare for name look-ups of the exporter.
const BLOCKING_THREADS_MAX: usize = 2;

/// How long open metrics connections may linger when the process ends.
const LINGER: Duration = Duration::from_millis(200);

/// Niceness of the adapters' thread and of those it starts: the gateway comes first.
const NICENESS: libc::c_int = 10;

fn lower_priority() {
    // SAFETY: setpriority takes plain numbers; on Linux, PRIO_PROCESS with 0 means the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    if result != 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "the adapters' thread keeps its priority");
    }
}

fn report(ready: &mpsc::SyncSender<Result<(), StartError>>, result: Result<(), StartError>) {
    // Nobody waiting means the starter is gone, and with it the need to know.
    let _ = ready.send(result);
}
