//! The listener for other hosts, on a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::account::Account;
use super::config::ReceiveConfig;
use super::remote::Delivery;
use super::service::{Gate, Service};
use super::wire::HEAD_BYTES_MAX;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is asked whether the other end is there, and how long that may take.
const PROBE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// Calls that one connection may have open.
const STREAMS_MAX: u32 = 8;
/// Most bytes of a stream that wait to be read, and those of all streams of a connection.
const WINDOW_BYTES: (u32, u32) = (4 << 20, 8 << 20);
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The listener.
    #[error("cannot listen on {address} for other hosts: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate or key.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate and key do not work.
    #[error("collector.receive.tls: {0}")]
    Tls(String),
}

/// A bound listener, and the way from it to intake.
pub(crate) struct Door {
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
    config: ReceiveConfig,
    queue: mpsc::Sender<Delivery>,
    account: Arc<Account>,
    pub(crate) address: SocketAddr,
}

/// A door that can be shut.
#[derive(Debug)]
pub(crate) struct Receiver {
    stop: watch::Sender<bool>,
}

impl Door {
    /// Binds the listener; gives what intake takes deliveries from. None if nothing is to be received.
    ///
    /// # Errors
    /// When the address cannot be bound, or certificate and key do not work.
    #[allow(clippy::type_complexity)]
    pub(crate) fn open(
        config: &ReceiveConfig,
        account: &Arc<Account>,
    ) -> Result<Option<(Self, mpsc::Receiver<Delivery>)>, ReceiveError> {
        let Some(address) = config.listen else { return Ok(None) };
        let listen = |source| ReceiveError::Listen { address, source };
        let tls = tls(config)?;
        if let Some(tls) = &tls {
            // Tried before anything runs, so that a start says what is wrong.
            Server::builder()
                .tls_config(tls.clone())
                .map_err(|error| ReceiveError::Tls(super::wire::chain(&error)))?;
        }
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (queue, deliveries) = mpsc::channel(config.queue_batches_max as usize);
        let (config, account) = (config.clone(), Arc::clone(account));
        Ok(Some((Self { listener, tls, config, queue, account, address }, deliveries)))
    }

    /// What shuts the door, and what its thread is to run.
    pub(crate) fn ready(self, intake: Thread) -> (Receiver, impl FnOnce() + Send + 'static) {
        let (stop, stopped) = watch::channel(false);
        (Receiver { stop }, move || self.run(intake, stopped))
    }

    fn run(self, intake: Thread, mut stopped: watch::Receiver<bool>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "no runtime to receive batches with");
                return;
            }
        };
        runtime.block_on(async move {
            tokio::select! {
                () = self.serve(intake) => {}
                // A sender of the flag that is gone means that the collector is.
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        // Connections go with it: what was not acknowledged is sent again.
    }

    async fn serve(self, intake: Thread) {
        let Self { listener, tls, config, queue, account, .. } = self;
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the listener for other hosts cannot be used"),
        };
        let message_bytes_max = config.batch_bytes_max as usize + 2 * HEAD_BYTES_MAX;
        let gate = Gate::new(&config, Arc::clone(&account));
        let service = Service::new(queue, intake, config.queue_batches_max as usize, account);
        let service = FlightServiceServer::new(service).max_decoding_message_size(message_bytes_max);
        let service = InterceptedService::new(service, gate);
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(PROBE.0))
            .http2_keepalive_timeout(Some(PROBE.1))
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW_BYTES.0)
            .initial_connection_window_size(WINDOW_BYTES.1);
        if let Some(tls) = tls {
            server = match server.tls_config(tls) {
                Ok(server) => server,
                Err(error) => return tracing::error!(%error, "the listener for other hosts has no TLS"),
            };
        }
        let places = Arc::new(Semaphore::new(config.connections_max as usize));
        let guests = futures::stream::unfold((listener, places), |(listener, places)| async move {
            let guest = accept(&listener, &places).await;
            Some((Ok::<_, io::Error>(guest), (listener, places)))
        });
        if let Err(error) = server.add_service(service).serve_with_incoming(guests).await {
            tracing::error!(%error, "nothing is received any more");
        }
    }
}

impl Receiver {
    /// Lets nobody in any more, and lets go of who is there.
    pub(crate) fn shut(&self) {
        self.stop.send_replace(true);
    }
}

/// The next connection that there is a place for.
async fn accept(listener: &tokio::net::TcpListener, places: &Arc<Semaphore>) -> Guest {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "acknowledgements may wait a moment");
                }
                return Guest { stream, _place: place };
            }
            Err(error) => {
                tracing::warn!(%error, "listener for other hosts: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn tls(config: &ReceiveConfig) -> Result<Option<ServerTlsConfig>, ReceiveError> {
    let (Some(cert), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) else { return Ok(None) };
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| ReceiveError::File { path: path.clone(), source })
    };
    let identity = Identity::from_pem(read(cert)?, read(key)?);
    Ok(Some(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT)))
}

/// A connection, which has its place until it ends.
struct Guest {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Guest {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
