//! The Arrow Flight SQL door: the same engine for ADBC, JDBC and whatever else speaks that protocol, in columns end to end.
//!
//! A call is let in or not (`entrance`), and answered by `service`, by means of `asking`. Nothing is kept between calls but what runs: a ticket
//! and a prepared statement hold their statement and parameters themselves (`ticket`), and who comes with one is asked who
//! it is again. An answer runs when it is fetched (`answer`), until it is whole, its client is gone, or it is cancelled
//! (`running`). What there is to ask of is told by `catalogue`; columns are of types that drivers take (`types`).

mod config;

mod entrance;

mod marks;

mod ticket;

mod types;

mod running;

mod status;

mod answer;

mod catalogue;

mod asking;

mod service;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::serve::Listener;
use event::TlsFiles;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::config::Plan;
use crate::door::{Door, Visitor};
use crate::query::Engine;
use asking::Service;
pub use config::FlightConfig;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than the longest query a connection may be without any movement.
const IDLE: Duration = Duration::from_secs(5);
/// Longest list of a call's headers.
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate and key are none that can be used.
    #[error("the certificate and key of analytics.flight.tls cannot be used: {0}")]
    Pair(String),
}

/// The door, ready to be opened.
pub(crate) struct Flight {
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
    config: FlightConfig,
    service: Service,
    idle: Duration,
    stopping: CancellationToken,
}

impl Flight {
    /// Reads the certificate.
    pub(crate) fn new(
        listener: TcpListener,
        plan: &Plan,
        engine: Arc<Engine>,
        stopping: CancellationToken,
    ) -> Result<Self, FlightError> {
        let config = plan.config.flight.clone();
        let tls = tls(&config.tls)?;
        if let Some(tls) = &tls {
            // Tried before anything runs, so that a start says what is wrong.
            Server::builder().tls_config(tls.clone()).map_err(|error| FlightError::Pair(chain(&error)))?;
        }
        let idle = Duration::from_millis(plan.config.timeout_ms) + IDLE;
        let service = Service::new(engine, config.message_bytes_max as usize);
        Ok(Self { listener, tls, config, service, idle, stopping })
    }

    /// Answers calls until it is told to stop, then waits until the last of them has been answered. To be called on a
    /// runtime.
    pub(crate) async fn serve(self) -> io::Result<()> {
        let Self { listener, tls, config, service, idle, stopping } = self;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let door = Door::new(listener, config.connections_max, idle);
        let service =
            FlightServiceServer::new(service).max_decoding_message_size(config.message_bytes_max as usize);
        let mut server = Server::builder()
            .max_concurrent_streams(u32::from(config.calls_max))
            .http2_max_header_list_size(HEADERS_BYTES_MAX);
        if let Some(tls) = tls {
            server = server.tls_config(tls).map_err(io::Error::other)?;
        }
        let guests = futures::stream::unfold(door, |mut door| async move {
            let (visitor, peer) = door.accept().await;
            visitor.send_at_once();
            Some((Ok::<_, io::Error>(Guest { visitor, peer }), door))
        });
        let served =
            server.add_service(service).serve_with_incoming_shutdown(guests, stopping.cancelled_owned());
        served.await.map_err(io::Error::other)
    }
}

fn tls(config: &TlsFiles) -> Result<Option<ServerTlsConfig>, FlightError> {
    let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) else { return Ok(None) };
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| FlightError::File { path: path.clone(), source })
    };
    let identity = Identity::from_pem(read(cert)?, read(key)?);
    Ok(Some(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT)))
}

/// An error with what it comes of.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A connection, and whose it is.
struct Guest {
    visitor: Visitor,
    peer: SocketAddr,
}

impl Connected for Guest {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(self.peer) }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().visitor).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().visitor).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().visitor).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.visitor.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().visitor).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().visitor).poll_shutdown(context)
    }
}
