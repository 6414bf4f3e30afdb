//! The service: a runtime of its own at low scheduling priority, the engine, and its doors.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use event::layout::DataFolder;
use tokio::sync::oneshot;

use crate::config::Plan;
use crate::door::Door;
use crate::error::QueryError;
use crate::http;
use crate::query::Engine;
use crate::threads::{STACK_BYTES, lower_priority};

/// Threads that listen, read and write; queries have others.
const DOOR_THREADS: usize = 2;
/// How much longer than the longest query a connection may be silent.
const IDLE: Duration = Duration::from_secs(5);
/// Threads for snapshots, beside one for the planning of each query.
const BLOCKING_SPARE: usize = 8;
const DRAIN: Duration = Duration::from_secs(5);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The configured address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// The engine refused its settings or folder.
    #[error("cannot start the engine: {0}")]
    Engine(#[from] QueryError),
}

/// The running service. Dropping it stops it at once.
#[derive(Debug)]
pub struct Running {
    /// The bound address.
    pub addr: SocketAddr,
    /// Another descriptor of the listener, for a process that takes over.
    listener: TcpListener,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Receiver<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    /// The listener, for another process to go on with: who waits in its queue is answered by either.
    ///
    /// # Errors
    /// When the system gives no further descriptor.
    pub fn listener(&self) -> std::io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Ready when the service has ended though nobody told it to.
    pub async fn ended(&mut self) {
        match &mut self.stopped {
            // An answer and a sender lost in a panic say the same: it is over.
            Some(stopped) => {
                let _over = stopped.await;
                self.stopped = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Takes no new connection, lets running queries end for a few seconds, then stops.
    pub async fn shutdown(mut self) {
        if let (Some(stop), Some(stopped)) = (self.stop.take(), self.stopped.take())
            && stop.send(()).is_ok()
        {
            // An answer still under way after the drain is cut, which its client sees.
            let _cut = tokio::time::timeout(DRAIN, stopped).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts the service: binds, and answers on threads of its own.
///
/// # Errors
/// [`StartError`].
pub fn start(plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    let addr = plan.listen;
    let refused = |source| StartError::Listen { addr, source };
    let listener = TcpListener::bind(addr).map_err(refused)?;
    start_on(listener, plan, folder)
}

/// The same on a listener that another process had.
///
/// # Errors
/// [`StartError`].
pub fn start_on(listener: TcpListener, plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    let addr = plan.listen;
    let refused = |source| StartError::Listen { addr, source };
    listener.set_nonblocking(true).map_err(refused)?;
    let kept = listener.try_clone().map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(DOOR_THREADS)
        .max_blocking_threads(usize::from(plan.config.concurrency_max) + BLOCKING_SPARE)
        .thread_name("analytics")
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let connections_max = plan.config.connections_max;
    let idle = Duration::from_millis(plan.config.timeout_ms) + IDLE;
    let engine = Arc::new(Engine::new(plan, folder)?);
    let verifier = Arc::clone(&engine);
    runtime.spawn(async move { verifier.verify_files().await });
    let follower = Arc::clone(&engine);
    runtime.spawn(async move { follower.follow_bucket().await });
    let app = http::router(engine).into_make_service_with_connect_info::<SocketAddr>();
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(refused)?
    };
    let addr = listener.local_addr().map_err(refused)?;
    let door = Door::new(listener, connections_max, idle).tap_io(|visitor| visitor.send_at_once());
    let (stop, stopping) = oneshot::channel::<()>();
    let (ended, stopped) = oneshot::channel();
    runtime.spawn(async move {
        let served = axum::serve(door, app).with_graceful_shutdown(async {
            // A dropped sender never comes with a running runtime; waiting is right in both cases.
            if stopping.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "the analytics endpoint stopped");
        }
        // Nobody waits after a drop.
        let _nobody = ended.send(());
    });
    let (stop, stopped, runtime) = (Some(stop), Some(stopped), Some(runtime));
    Ok(Running { addr, listener: kept, stop, stopped, runtime })
}
