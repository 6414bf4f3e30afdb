//! Connections within a cluster. Ballista's own calls have no credentials: what says that somebody belongs to the cluster
//! is a certificate of the cluster's authority, shown by both ends of every connection.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ballista_core::extension::EndpointOverrideFn;
use futures::Stream;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use super::config::ClusterConfig;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is asked whether the other end is there, and how long it may take to answer.
const PROBE: Duration = Duration::from_secs(10);
/// Bytes on their way in one connection, and in one call.
const WINDOW_BYTES: (u32, u32) = (16 << 20, 8 << 20);
/// Pause after a refusal of the system (no file descriptor is free), in which others may end.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Why hosts of a cluster cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate, key and authority are none that can be used.
    #[error("the files of cluster.tls cannot be used: {0}")]
    Files(String),
}

/// How connections are made and taken.
#[derive(Clone)]
pub(crate) struct Links {
    client: Option<ClientTlsConfig>,
    server: Option<ServerTlsConfig>,
    connect_timeout: Duration,
    pub(super) message_bytes_max: usize,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Links(tls: {})", self.is_tls())
    }
}

impl Links {
    /// Reads the certificates.
    pub(crate) fn new(config: &ClusterConfig) -> Result<Self, LinkError> {
        let connect_timeout = Duration::from_millis(config.connect_timeout_ms.into());
        let message_bytes_max = config.message_bytes_max as usize;
        let files = (&config.tls.cert_file, &config.tls.key_file, &config.tls.ca_file);
        let (Some(cert), Some(key), Some(ca)) = files else {
            return Ok(Self { client: None, server: None, connect_timeout, message_bytes_max });
        };
        let identity = Identity::from_pem(read(cert)?, read(key)?);
        let authority = Certificate::from_pem(read(ca)?);
        let server = ServerTlsConfig::new()
            .identity(identity.clone())
            .client_ca_root(authority.clone())
            .timeout(HANDSHAKE_TIMEOUT);
        let client = ClientTlsConfig::new().identity(identity).ca_certificate(authority);
        // Tried before anything runs, so that a start says what is wrong.
        let unusable = |error| LinkError::Files(chain(&error));
        Server::builder().tls_config(server.clone()).map_err(unusable)?;
        Endpoint::from_static("https://cluster").tls_config(client.clone()).map_err(unusable)?;
        Ok(Self { client: Some(client), server: Some(server), connect_timeout, message_bytes_max })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.client.is_some()
    }

    /// How a host of the cluster is connected to.
    fn endpoint(&self, host: &str) -> Result<Endpoint, tonic::transport::Error> {
        let scheme = if self.is_tls() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{host}"))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PROBE)
            .keep_alive_timeout(PROBE)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(WINDOW_BYTES.0)
            .initial_stream_window_size(WINDOW_BYTES.1);
        match &self.client {
            Some(tls) => endpoint.tls_config(tls.clone()),
            None => Ok(endpoint),
        }
    }

    /// Connects to a host and port.
    pub(crate) async fn connect(&self, host: &str) -> Result<Channel, String> {
        let endpoint = self.endpoint(host).map_err(|error| chain(&error))?;
        endpoint.connect().await.map_err(|error| chain(&error))
    }

    /// A connection that is made when it is needed, and again when it broke.
    pub(crate) fn connect_lazy(&self, host: &str) -> Result<Channel, String> {
        self.endpoint(host).map(|endpoint| endpoint.connect_lazy()).map_err(|error| chain(&error))
    }

    /// What Ballista's own connections become, wherever it makes one.
    pub(crate) fn endpoint_override(&self) -> EndpointOverrideFn {
        let links = self.clone();
        Arc::new(move |endpoint: Endpoint| {
            let authority = endpoint.uri().authority().map(ToString::to_string).unwrap_or_default();
            links.endpoint(&authority).map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>)
        })
    }

    /// What takes connections.
    pub(crate) fn server(&self, calls_max: u16) -> Result<Server, LinkError> {
        let server = Server::builder()
            .max_concurrent_streams(u32::from(calls_max))
            .http2_keepalive_interval(Some(PROBE))
            .http2_keepalive_timeout(Some(PROBE))
            .initial_connection_window_size(WINDOW_BYTES.0)
            .initial_stream_window_size(WINDOW_BYTES.1);
        match &self.server {
            Some(tls) => server.tls_config(tls.clone()).map_err(|error| LinkError::Files(chain(&error))),
            None => Ok(server),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LinkError> {
    std::fs::read(path).map_err(|source| LinkError::File { path: path.to_owned(), source })
}

/// An error with what it comes of.
pub(super) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A listener, and where it is.
pub(super) fn bind(listen: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// The connections of a listener. To be called on a runtime.
pub(super) fn incoming(listener: TcpListener) -> io::Result<impl Stream<Item = io::Result<TcpStream>>> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(futures::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A connection that is gone already says so when it is read.
                    let _gone = stream.set_nodelay(true);
                    return Some((Ok(stream), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }))
}
