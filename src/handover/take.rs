//! The side that takes over: knocks, gets the open files, and says how far it is.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use event::layout::DataFolder;
use proxy::OpenSocket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::door::{knock, visitor};
use super::wire::{Wire, WireError};
use super::{Good, Kind, Message, PROTOCOL, VERSION, Wants};
use crate::failure::Failure;

/// How long a process may take to end once it has closed the connection: the system closes its files first.
const END_GRACE: Duration = Duration::from_secs(10);

/// Why the other process is not taken over from.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// It cannot be spoken to.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It says something else.
    #[error("it said something else than was its turn")]
    Turn,
    /// It has given this process up, and serves on.
    #[error("it has not waited, and serves on")]
    ServesOn,
}

/// What the other process gave.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Of the gateway.
    pub sockets: Vec<OpenSocket>,
    /// What keeps other gateways from the folder.
    pub spool_lock: Option<File>,
    /// What keeps other collectors from it; none when that process did not collect.
    pub collector_lock: Option<File>,
    metrics: Option<(SocketAddr, TcpListener)>,
    sql: Option<(SocketAddr, TcpListener)>,
    postgres: Option<(SocketAddr, TcpListener)>,
    flight: Option<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// The metrics listener, if it is at the address that is wanted now.
    pub fn metrics(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        at(self.metrics.take(), wanted)
    }

    /// The listener of the analytics, likewise.
    pub fn sql(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        at(self.sql.take(), wanted)
    }

    /// The one for clients of PostgreSQL, likewise.
    pub fn postgres(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        at(self.postgres.take(), wanted)
    }

    /// The one for clients of Flight SQL, likewise.
    pub fn flight(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        at(self.flight.take(), wanted)
    }

    fn sort(goods: Vec<Good>, files: Vec<OwnedFd>) -> Self {
        let mut all = Self::default();
        for (good, file) in goods.into_iter().zip(files) {
            match (good.kind, good.address) {
                (Kind::Gateway, Some(configured)) => {
                    all.sockets.push(OpenSocket { name: good.name, configured, socket: file.into() });
                }
                (Kind::Metrics, Some(address)) => all.metrics = Some((address, file.into())),
                (Kind::Sql, Some(address)) => all.sql = Some((address, file.into())),
                (Kind::Postgres, Some(address)) => all.postgres = Some((address, file.into())),
                (Kind::Flight, Some(address)) => all.flight = Some((address, file.into())),
                (Kind::SpoolLock, _) => all.spool_lock = Some(file.into()),
                (Kind::CollectorLock, _) => all.collector_lock = Some(file.into()),
                // Without its address a listener is of no use.
                (Kind::Gateway | Kind::Metrics | Kind::Sql | Kind::Postgres | Kind::Flight, None) => {}
            }
        }
        all
    }
}

/// A listener, if it is the one that would be bound. Port 0 takes whatever the process before took for it.
fn at(listener: Option<(SocketAddr, TcpListener)>, wanted: SocketAddr) -> Option<TcpListener> {
    let (configured, listener) = listener?;
    let bound = listener.local_addr().ok()?;
    (wanted == configured || wanted == bound).then_some(listener)
}

/// A take-over that has begun.
#[derive(Debug)]
pub struct Taking {
    wire: Wire,
    /// Readable once the other process has ended.
    life: Option<AsyncFd<OwnedFd>>,
    /// The process that serves.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// What it gave.
    pub inherited: Inherited,
}

/// Asks the process that serves on a data folder for what it has; none when nobody serves. To be called on a runtime.
///
/// # Errors
/// When it refuses or does not answer.
pub async fn take(folder: &DataFolder, patience: Duration) -> Result<Option<Taking>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::part("cannot take over", error);
    let Some(stream) = knock(folder).await.map_err(|error| failed(&error))? else { return Ok(None) };
    let pid = visitor(&stream).map_err(|error| failed(&error))?;
    let life = life(pid);
    let wire = Wire::new(stream, patience);
    let took = greet(wire).await;
    let (wire, version, inherited) =
        took.map_err(|error| failed(&format!("the process that serves ({pid}): {error}")))?;
    Ok(Some(Taking { wire, life, pid, version, inherited }))
}

async fn greet(mut wire: Wire) -> Result<(Wire, String, Inherited), TakeError> {
    let hello = Message::Hello { protocol: PROTOCOL, version: VERSION.to_owned(), wants: Wants::TakeOver };
    wire.send(&hello).await?;
    match wire.receive().await? {
        Message::Offer { version, goods } => {
            let files = wire.receive_files(goods.len()).await?;
            Ok((wire, version, Inherited::sort(goods, files)))
        }
        Message::Refused { reason } => Err(TakeError::Refused(reason)),
        _ => Err(TakeError::Turn),
    }
}

impl Taking {
    /// Says that all that can fail is done, and waits for leave to take connections in.
    ///
    /// # Errors
    /// When it is not given. The other process serves on, or has ended.
    pub async fn ready(&mut self) -> Result<(), TakeError> {
        self.wire.send(&Message::Ready).await?;
        match self.wire.receive().await? {
            Message::Open => Ok(()),
            _ => Err(TakeError::Turn),
        }
    }

    /// Says that connections are taken in, and waits for at most `most` until the other process has let go of the rest,
    /// or has ended.
    ///
    /// # Errors
    /// [`TakeError::ServesOn`] when it had given up waiting; the others when it does not say so in time.
    pub async fn serving(&mut self, most: Duration) -> Result<(), TakeError> {
        let said = async {
            self.wire.send(&Message::Serving).await?;
            self.wire.receive_sometime().await
        };
        match tokio::time::timeout(most, said).await {
            Ok(Ok(Message::Released)) => Ok(()),
            Ok(Ok(_)) => Err(TakeError::Turn),
            Ok(Err(WireError::Closed)) if self.has_ended().await => {
                tracing::warn!(
                    pid = self.pid,
                    "the process before has ended before it had let go of everything"
                );
                Ok(())
            }
            Ok(Err(WireError::Closed)) => Err(TakeError::ServesOn),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(WireError::Silent(most).into()),
        }
    }

    /// Says that this process gives up.
    pub async fn failed(mut self, failure: &Failure) {
        // It hears the connection close in any case.
        let _told = self.wire.send(&Message::Failed { reason: failure.to_string() }).await;
    }

    /// Whether the other process has ended, for which the system may need a moment.
    async fn has_ended(&self) -> bool {
        match &self.life {
            Some(life) => tokio::time::timeout(END_GRACE, life.readable()).await.is_ok(),
            // A process of another name space is not to be seen; it has closed the connection.
            None => true,
        }
    }
}

/// What tells of a process's end, where the system offers it (Linux 5.3).
fn life(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0)?;
    // SAFETY: takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: just opened, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the descriptor is owned, and stays the same until the watch is dropped with it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.inspect_err(|error| tracing::debug!(?error, "the process before cannot be watched")).ok()
}
