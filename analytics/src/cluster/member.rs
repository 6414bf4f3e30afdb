//! A process that is a part of a cluster, as the program starts and ends it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::links::LinkError;

/// Why a part of a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The configured address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// The folder for what tasks leave for each other cannot be used.
    #[error("{}: {source}", .path.display())]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The engine or Ballista refused its settings.
    #[error("cannot start the engine: {0}")]
    Engine(String),
}

/// A part of a cluster that runs. Dropping it stops it at once.
#[derive(Debug)]
pub struct Member {
    /// What it is: `scheduler` or `executor`.
    pub role: &'static str,
    /// The bound address.
    pub addr: SocketAddr,
    stop: CancellationToken,
    stopped: Option<oneshot::Receiver<()>>,
    drain: Duration,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Member {
    /// Runs on threads of its own; `serve` ends soon after it is told to.
    pub(super) fn new<F>(
        role: &'static str,
        addr: SocketAddr,
        drain: Duration,
        threads: usize,
        serve: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Result<Self, MemberError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(role)
            .enable_all()
            .build()
            .map_err(MemberError::Threads)?;
        let (stop, (ended, stopped)) = (CancellationToken::new(), oneshot::channel());
        let stopping = stop.clone();
        runtime.spawn(async move {
            serve(stopping).await;
            // Nobody waits after a drop.
            let _nobody = ended.send(());
        });
        Ok(Self { role, addr, stop, stopped: Some(stopped), drain, runtime: Some(runtime) })
    }

    /// Ready when it has ended though nobody told it to.
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

    /// Takes nothing new, and lets what runs end for a while.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(stopped) = self.stopped.take() {
            // What still runs after that is done again by others.
            let _cut = tokio::time::timeout(self.drain, stopped).await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
