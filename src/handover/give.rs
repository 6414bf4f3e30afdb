//! The side that serves: waits at the door, gives away what the next process needs, and hears when that one serves.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use event::layout::DataFolder;
use proxy::Reloader;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::door::{Door, visitor};
use super::launch::Program;
use super::wire::{Wire, WireError, again};
use super::{Good, Kind, Message, PROTOCOL, VERSION, Wants};

/// Visitors at a time: each is a process of this machine that asks once.
const VISITORS_MAX: usize = 16;
/// Pause after a visitor who could not be let in for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a hand-over did not come about. This process serves on.
#[derive(Debug, thiserror::Error)]
enum GiveError {
    #[error("no further descriptors for the sockets: {0}")]
    Descriptors(#[source] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it has given up: {0}")]
    Failed(String),
    #[error("it said something else than was its turn")]
    Turn,
}

/// What is handed over. The sockets of the gateway are those that are open at that moment.
#[derive(Debug)]
pub struct Goods {
    reloader: Reloader,
    others: Vec<(Good, OwnedFd)>,
}

impl Goods {
    /// A gateway's sockets.
    pub fn new(reloader: Reloader) -> Self {
        Self { reloader, others: Vec::new() }
    }

    /// The lock that says who serves.
    pub fn add_spool_lock(&mut self, lock: File) {
        self.others.push((Good { kind: Kind::SpoolLock, name: String::new(), address: None }, lock.into()));
    }

    /// What the collector leaves to the next; its listener by the address that was configured.
    pub fn add_collector(&mut self, from: collector::Handover, address: SocketAddr) {
        if let Some(lock) = from.lock {
            let good = Good { kind: Kind::CollectorLock, name: String::new(), address: None };
            self.others.push((good, lock.into()));
        }
        if let Some(listener) = from.listener {
            self.add_listener(Kind::Metrics, listener, address);
        }
    }

    /// The listener of the analytics, by the address that was configured.
    pub fn add_sql(&mut self, listener: TcpListener, address: SocketAddr) {
        self.add_listener(Kind::Sql, listener, address);
    }

    /// The one for clients of PostgreSQL, likewise.
    pub fn add_postgres(&mut self, listener: TcpListener, address: SocketAddr) {
        self.add_listener(Kind::Postgres, listener, address);
    }

    /// The one for clients of Flight SQL, likewise.
    pub fn add_flight(&mut self, listener: TcpListener, address: SocketAddr) {
        self.add_listener(Kind::Flight, listener, address);
    }

    fn add_listener(&mut self, kind: Kind, listener: TcpListener, address: SocketAddr) {
        self.others.push((Good { kind, name: String::new(), address: Some(address) }, listener.into()));
    }

    fn gather(&self) -> io::Result<(Vec<Good>, Vec<OwnedFd>)> {
        let (mut goods, mut files) = (Vec::new(), Vec::new());
        for open in self.reloader.sockets()? {
            goods.push(Good { kind: Kind::Gateway, name: open.name, address: Some(open.configured) });
            files.push(open.socket.into());
        }
        for (good, file) in &self.others {
            goods.push(good.clone());
            files.push(again(file.as_fd())?);
        }
        Ok((goods, files))
    }
}

/// A process that serves on the same sockets by now, and waits for this one to let go of the rest.
#[derive(Debug)]
pub struct Handed {
    wire: Wire,
    /// That process.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

impl Handed {
    /// Says that nobody else collects, or writes to the state of the folder, any more.
    pub async fn released(mut self) {
        if let Err(error) = self.wire.send(&Message::Released).await {
            tracing::warn!(pid = self.pid, %error, "the next process was not told that this one has let go");
        }
    }
}

/// Waits at the door for as long as it lives.
#[derive(Debug)]
pub struct Giver {
    handed: mpsc::Receiver<Handed>,
    desk: Arc<Desk>,
    doorkeeper: JoinHandle<()>,
}

impl Giver {
    /// Puts up the door. To be called on a runtime.
    ///
    /// # Errors
    /// When there can be no socket in the folder.
    pub fn start(
        folder: &DataFolder,
        goods: Goods,
        patience: Duration,
        program: Program,
    ) -> io::Result<Self> {
        let door = Door::open(folder)?;
        let (sender, handed) = mpsc::channel(1);
        let desk = Arc::new(Desk {
            goods,
            patience,
            program,
            handed: sender,
            served: watch::Sender::new(None),
            giving: Mutex::new(()),
            launching: Mutex::new(()),
        });
        let doorkeeper = tokio::spawn(keep(door, Arc::clone(&desk)));
        Ok(Self { handed, desk, doorkeeper })
    }

    /// Ready with the process that serves in this one's place.
    pub async fn handed(&mut self) -> Handed {
        match self.handed.recv().await {
            Some(handed) => handed,
            // Its sender is at the desk, which lives as long as this.
            None => std::future::pending().await,
        }
    }

    /// What starts the program anew.
    pub fn launcher(&self) -> Launcher {
        Launcher(Arc::clone(&self.desk))
    }

    /// Takes the door away.
    pub async fn close(self) {
        self.doorkeeper.abort();
        // Cancelled, as was just asked for; what it held is dropped by then.
        let _cancelled = self.doorkeeper.await;
    }
}

/// Starts the program anew when it is told to.
#[derive(Debug)]
pub struct Launcher(Arc<Desk>);

impl Launcher {
    /// Starts the program anew, to take over from this process; the log says how that went. To be called on a runtime.
    pub fn upgrade(&self) {
        let desk = Arc::clone(&self.0);
        tokio::spawn(async move {
            match desk.launch().await {
                Ok(next) => tracing::info!(pid = next.pid, version = next.version, "upgraded"),
                Err(reason) => tracing::error!(reason, "not upgraded: this process serves on"),
            }
        });
    }
}

/// Lets visitors in.
async fn keep(door: Door, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(VISITORS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match door.listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    desk.receive(stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the hand-over socket: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who serves now.
#[derive(Debug, Clone)]
pub(super) struct Next {
    pub pid: u32,
    pub version: String,
}

/// Where visitors are answered.
#[derive(Debug)]
pub(super) struct Desk {
    goods: Goods,
    pub patience: Duration,
    pub program: Program,
    handed: mpsc::Sender<Handed>,
    /// Who serves in this process's place, once somebody does.
    pub served: watch::Sender<Option<Next>>,
    /// One process takes over at a time.
    giving: Mutex<()>,
    /// One is started at a time.
    pub launching: Mutex<()>,
}

impl Desk {
    async fn receive(&self, stream: UnixStream) {
        let pid = match visitor(&stream) {
            Ok(pid) => pid,
            Err(error) => return tracing::warn!(%error, "somebody at the hand-over socket was sent away"),
        };
        let mut wire = Wire::new(stream, self.patience);
        let heard = match wire.receive().await {
            Ok(Message::Hello { protocol: PROTOCOL, version, wants }) => match wants {
                Wants::TakeOver => self.give(wire, Next { pid, version }).await,
                Wants::Upgrade => self.upgrade(wire).await,
            },
            Ok(Message::Hello { protocol, version, .. }) => {
                let reason = format!(
                    "version {VERSION} speaks protocol {PROTOCOL} of the hand-over, version {version} speaks {protocol}: \
                     this upgrade needs a restart"
                );
                refuse(wire, reason).await
            }
            Ok(_) => Err(WireError::Strange("no greeting".to_owned())),
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            tracing::debug!(pid, %error, "a visitor at the hand-over socket");
        }
    }

    /// Hands over, or serves on as if nothing had been.
    async fn give(&self, mut wire: Wire, next: Next) -> Result<(), WireError> {
        let Ok(_turn) = self.giving.try_lock() else {
            return refuse(wire, "another process is taking over at this moment".to_owned()).await;
        };
        let before = self.served.borrow().clone();
        if let Some(before) = before {
            return refuse(wire, format!("it has handed over to process {} already", before.pid)).await;
        }
        tracing::info!(pid = next.pid, version = next.version, "a process asks to take over");
        match self.agree(&mut wire).await {
            Ok(()) => {
                self.served.send_replace(Some(next.clone()));
                let handed = Handed { wire, pid: next.pid, version: next.version };
                // Nobody listens when this process has just been told to end: the other one serves.
                let _ending = self.handed.send(handed).await;
            }
            Err(error) => tracing::warn!(pid = next.pid, %error, "not handed over: this process serves on"),
        }
        Ok(())
    }

    async fn agree(&self, wire: &mut Wire) -> Result<(), GiveError> {
        let (goods, files) = self.goods.gather().map_err(GiveError::Descriptors)?;
        wire.send(&Message::Offer { version: VERSION.to_owned(), goods }).await?;
        wire.send_files(&files).await?;
        drop(files);
        heard(wire.receive().await?, &Message::Ready)?;
        wire.send(&Message::Open).await?;
        heard(wire.receive().await?, &Message::Serving)
    }

    /// Starts the program anew for somebody who wants to know how that went.
    async fn upgrade(&self, mut wire: Wire) -> Result<(), WireError> {
        match self.launch().await {
            Ok(Next { pid, version }) => wire.send(&Message::Upgraded { pid, version }).await,
            Err(reason) => {
                tracing::error!(reason, "not upgraded: this process serves on");
                refuse(wire, reason).await
            }
        }
    }
}

async fn refuse(mut wire: Wire, reason: String) -> Result<(), WireError> {
    wire.send(&Message::Refused { reason }).await
}

fn heard(message: Message, expected: &Message) -> Result<(), GiveError> {
    match message {
        Message::Failed { reason } => Err(GiveError::Failed(reason)),
        message if std::mem::discriminant(&message) == std::mem::discriminant(expected) => Ok(()),
        _ => Err(GiveError::Turn),
    }
}
