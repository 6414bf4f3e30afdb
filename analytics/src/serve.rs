//! The service: a runtime of its own at low scheduling priority, the engine, and its doors.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use event::layout::DataFolder;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Plan;
use crate::door::Door;
use crate::error::QueryError;
use crate::flight::{Flight, FlightError};
use crate::http;
use crate::postgres::{Postgres, TlsError};
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
    /// The PostgreSQL listener cannot speak TLS.
    #[error("cannot speak TLS on the PostgreSQL listener: {0}")]
    Tls(#[from] TlsError),
    /// The Flight SQL listener cannot speak TLS.
    #[error("cannot speak TLS on the Flight SQL listener: {0}")]
    Flight(#[from] FlightError),
}

/// The running service. Dropping it stops it at once.
#[derive(Debug)]
pub struct Running {
    /// The bound address.
    pub addr: SocketAddr,
    /// That of the PostgreSQL listener, if there is one.
    pub postgres_addr: Option<SocketAddr>,
    /// That of the Flight SQL listener, if there is one.
    pub flight_addr: Option<SocketAddr>,
    /// Another descriptor of each listener, for a process that takes over.
    listener: TcpListener,
    postgres: Option<TcpListener>,
    flight: Option<TcpListener>,
    stop: CancellationToken,
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

    /// The PostgreSQL listener, likewise.
    ///
    /// # Errors
    /// When the system gives no further descriptor.
    pub fn postgres_listener(&self) -> std::io::Result<Option<TcpListener>> {
        self.postgres.as_ref().map(TcpListener::try_clone).transpose()
    }

    /// The Flight SQL listener, likewise.
    ///
    /// # Errors
    /// When the system gives no further descriptor.
    pub fn flight_listener(&self) -> std::io::Result<Option<TcpListener>> {
        self.flight.as_ref().map(TcpListener::try_clone).transpose()
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
        self.stop.cancel();
        if let Some(stopped) = self.stopped.take() {
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

/// Listeners that another process had, in the place of those that would be bound.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Of HTTP.
    pub http: Option<TcpListener>,
    /// Of PostgreSQL.
    pub postgres: Option<TcpListener>,
    /// Of Flight SQL.
    pub flight: Option<TcpListener>,
}

/// Starts the service: binds, and answers on threads of its own.
///
/// # Errors
/// [`StartError`].
pub fn start(plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    start_on(Listeners::default(), plan, folder)
}

/// The same on listeners that another process had.
///
/// # Errors
/// [`StartError`].
pub fn start_on(listeners: Listeners, plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    let listener = bind(listeners.http, plan.listen)?;
    let kept = listener.try_clone().map_err(|source| StartError::Listen { addr: plan.listen, source })?;
    let postgres = plan.listen_postgres().map(|addr| bind(listeners.postgres, addr)).transpose()?;
    let flight = plan.listen_flight().map(|addr| bind(listeners.flight, addr)).transpose()?;
    let engine = Arc::new(Engine::new(plan.clone(), folder)?);
    let stop = CancellationToken::new();
    let door = postgres.as_ref().map(|listener| {
        let again =
            listener.try_clone().map_err(|source| StartError::Listen { addr: plan.listen, source })?;
        Ok::<_, StartError>(Postgres::new(again, &plan, Arc::clone(&engine), stop.clone())?)
    });
    let door = door.transpose()?;
    let flights = flight.as_ref().map(|listener| {
        let again =
            listener.try_clone().map_err(|source| StartError::Listen { addr: plan.listen, source })?;
        Ok::<_, StartError>(Flight::new(again, &plan, Arc::clone(&engine), stop.clone())?)
    });
    let flights = flights.transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(DOOR_THREADS)
        .max_blocking_threads(usize::from(plan.config.concurrency_max) + BLOCKING_SPARE)
        .thread_name("analytics")
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let verifier = Arc::clone(&engine);
    runtime.spawn(async move { verifier.verify_files().await });
    let follower = Arc::clone(&engine);
    runtime.spawn(async move { follower.follow_bucket().await });
    let rows_door = engine.rows_door();
    let refused = |source| StartError::Listen { addr: plan.listen, source };
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(refused)?
    };
    let addr = listener.local_addr().map_err(refused)?;
    let postgres_addr = postgres.as_ref().map(TcpListener::local_addr).transpose().map_err(refused)?;
    let flight_addr = flight.as_ref().map(TcpListener::local_addr).transpose().map_err(refused)?;
    let (ended, stopped) = oneshot::channel();
    let stopping = stop.clone();
    runtime.spawn(async move {
        let http = serve_http(listener, &plan, engine, stopping.clone());
        let postgres = async {
            match door {
                Some(door) => door.serve().await,
                None => {
                    stopping.cancelled().await;
                    Ok(())
                }
            }
        };
        let flight = async {
            match flights {
                Some(flights) => flights.serve().await,
                None => {
                    stopping.cancelled().await;
                    Ok(())
                }
            }
        };
        let rows = async {
            match rows_door {
                Some(door) => door.serve(stopping.clone()).await,
                None => {
                    stopping.cancelled().await;
                    Ok(())
                }
            }
        };
        // Where one ends though nobody told it to, the service has.
        let http = async { stop_with(http.await, "HTTP", &stopping) };
        let postgres = async { stop_with(postgres.await, "PostgreSQL", &stopping) };
        let flight = async { stop_with(flight.await, "Flight SQL", &stopping) };
        let rows = async { stop_with(rows.await, "rows for executors", &stopping) };
        tokio::join!(http, postgres, flight, rows);
        // Nobody waits after a drop.
        let _nobody = ended.send(());
    });
    let (stopped, runtime) = (Some(stopped), Some(runtime));
    Ok(Running { addr, postgres_addr, flight_addr, listener: kept, postgres, flight, stop, stopped, runtime })
}

fn bind(inherited: Option<TcpListener>, addr: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = inherited.map_or_else(|| TcpListener::bind(addr), Ok);
    let ready = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    ready.map_err(|source| StartError::Listen { addr, source })
}

async fn serve_http(
    listener: tokio::net::TcpListener,
    plan: &Plan,
    engine: Arc<Engine>,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let idle = Duration::from_millis(plan.config.timeout_ms) + IDLE;
    let door = Door::new(listener, plan.config.connections_max, idle);
    let app = http::router(engine).into_make_service_with_connect_info::<SocketAddr>();
    let door = door.tap_io(|visitor| visitor.send_at_once());
    axum::serve(door, app).with_graceful_shutdown(stopping.cancelled_owned()).await
}

/// One of the doors has closed: so do the others.
fn stop_with(served: std::io::Result<()>, door: &str, stopping: &CancellationToken) {
    if let Err(error) = served {
        tracing::error!(%error, door, "an endpoint of the analytics stopped");
    }
    stopping.cancel();
}
