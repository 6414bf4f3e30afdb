//! The PostgreSQL door: the same engine for psql, psycopg, JDBC, Grafana and whatever else speaks that protocol.
//!
//! A connection is accepted within bounds, says who it is (`start`, with TLS and SCRAM), and asks (`connection`), by the
//! simple or the extended protocol. Some statements are the door's own (`command`); everything else is a question to the
//! engine, whose tables include those of `pg_catalog` here. What comes in is read by `message`, `params`; what goes out is
//! written by `reply`, `encode`.

mod config;

mod tls;

mod scram;

mod cancel;

mod message;

mod sqlstate;

mod reply;

mod wire;

mod settings;

mod start;

mod command;

mod types;

mod numeric;

mod calendar;

mod params;

mod encode;

pub(crate) mod dialect;

pub(crate) mod catalog;

mod connection;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Plan;
use crate::door::{Door, Visitor};
use crate::query::Engine;
use cancel::Keys;
pub use config::PostgresConfig;
use scram::Users;
use sqlstate::Report;
use start::Start;
pub(crate) use tls::TlsError;
use wire::Wire;

/// Connections beyond `connections_max` that may be saying who they are, or ask to cancel.
const STARTING_MAX: u16 = 32;
/// How much longer than the longest query a connection may be without any movement.
const IDLE: Duration = Duration::from_secs(5);
/// How long a client that is refused may take to hear why.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all connections have in common.
struct Shared {
    engine: Arc<Engine>,
    tls: Option<TlsAcceptor>,
    users: Users,
    keys: Arc<Keys>,
    places: Arc<Semaphore>,
    config: PostgresConfig,
    /// Longest message.
    bytes_max: usize,
    allow_plaintext: bool,
    stopping: CancellationToken,
}

/// The door, ready to be opened.
pub(crate) struct Postgres {
    listener: TcpListener,
    shared: Shared,
    idle: Duration,
}

impl Postgres {
    /// Reads the certificate, and derives the keys of all users.
    pub(crate) fn new(
        listener: TcpListener,
        plan: &Plan,
        engine: Arc<Engine>,
        stopping: CancellationToken,
    ) -> Result<Self, TlsError> {
        let config = plan.config.postgres.clone();
        let silent = Duration::from_millis(config.idle_timeout_ms.into());
        let idle = silent.max(Duration::from_millis(plan.config.timeout_ms)) + IDLE;
        let shared = Shared {
            tls: tls::acceptor(&config.tls)?,
            users: Users::new(engine.access().named()),
            keys: Arc::default(),
            places: Arc::new(Semaphore::new(config.connections_max.into())),
            bytes_max: usize::try_from(plan.config.query_bytes_max).unwrap_or(usize::MAX),
            allow_plaintext: config.allow_plaintext,
            engine,
            config,
            stopping,
        };
        Ok(Self { listener, shared, idle })
    }

    /// Lets clients in until it is told to stop, then waits until the last of them has been answered. To be called on a
    /// runtime.
    pub(crate) async fn serve(self) -> io::Result<()> {
        let Self { listener, shared, idle } = self;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let all = shared.config.connections_max.saturating_add(STARTING_MAX);
        let mut door = Door::new(listener, all, idle);
        let (shared, connections) = (Arc::new(shared), TaskTracker::new());
        loop {
            let (visitor, peer) = tokio::select! {
                accepted = door.accept() => accepted,
                () = shared.stopping.cancelled() => break,
            };
            visitor.send_at_once();
            connections.spawn(serve_one(visitor, peer, Arc::clone(&shared)));
        }
        drop(door);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

async fn serve_one(visitor: Visitor, peer: SocketAddr, shared: Arc<Shared>) {
    let patience = Duration::from_millis(shared.config.startup_timeout_ms.into());
    let start = tokio::select! {
        start = tokio::time::timeout(patience, start::start(Box::new(visitor), &shared)) => start,
        () = shared.stopping.cancelled() => return,
    };
    match start {
        Ok(Ok(Start::Open(started))) => match Arc::clone(&shared.places).try_acquire_owned() {
            Ok(place) => {
                connection::run(*started, peer, &shared).await;
                drop(place);
            }
            Err(_) => {
                let report = Report::fatal("53300", "sorry, too many clients already");
                let hint = "analytics.postgres.connections_max says how many";
                refuse(started.wire, &report.hint(hint)).await;
            }
        },
        Ok(Ok(Start::Refused(wire, report))) => refuse(wire, &report).await,
        // It has cancelled something, has gone, or has taken too long.
        Ok(Ok(Start::Cancelled) | Err(_)) | Err(_) => {}
    }
}

/// Says why a connection ends, and ends it.
async fn refuse(mut wire: Wire, report: &Report) {
    reply::error(&mut wire.out, report);
    let _late = tokio::time::timeout(FAREWELL, wire.close()).await;
}
