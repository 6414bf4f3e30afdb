//! A connection to an upstream, cleartext or TLS, and how it is opened.

use super::http2::{Shared, Stream};
use super::tally::Open;
use crate::accept::proxy_protocol;
use crate::core::Core;
use crate::plan::LinkPlan;
use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection to an upstream.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A stream of a connection that is shared.
    Http2(Box<Stream>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotConnected {
    #[error("cannot connect: {0}")]
    Tcp(#[source] io::Error),
    #[error("TLS failed: {0}")]
    Tls(#[source] io::Error),
}

/// A new connection, and when its parts were there.
pub(crate) struct Connected {
    pub wire: Wire,
    /// When TCP was there, if TLS came after it.
    pub handshake_from: Option<Instant>,
}

impl Connected {
    /// Speaks HTTP/2 on it from here on.
    pub async fn http2(
        self,
        core: &Core,
        link: u128,
        counted: (SocketAddr, Open),
    ) -> Result<Rc<Shared>, NotConnected> {
        match self.wire {
            Wire::Plain(io) => {
                Shared::begin(core, io, (link, false), counted).await.map_err(NotConnected::Tcp)
            }
            Wire::Tls(io) if io.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Shared::begin(core, *io, (link, true), counted).await.map_err(NotConnected::Tls)
            }
            Wire::Tls(_) | Wire::Http2(_) => Err(NotConnected::Tls(io::Error::other("no HTTP/2 by ALPN"))),
        }
    }
}

/// Opens a connection; `name` is whom a certificate must be for, `ends` are the client's, for upstreams that are told.
pub(crate) async fn open(
    link: &LinkPlan,
    addr: SocketAddr,
    name: &str,
    ends: (SocketAddr, SocketAddr),
) -> Result<Connected, NotConnected> {
    let mut io = TcpStream::connect(addr).await.map_err(NotConnected::Tcp)?;
    io.set_nodelay(true).map_err(NotConnected::Tcp)?;
    if let Some(version) = link.proxy {
        let mut header = Vec::new();
        proxy_protocol::write(version, Some(ends), &mut header);
        io.write_all(&header).await.map_err(NotConnected::Tcp)?;
    }
    let Some(config) = &link.tls else {
        return Ok(Connected { wire: Wire::Plain(io), handshake_from: None });
    };
    let handshake_from = Some(Instant::now());
    let invalid = |error| NotConnected::Tls(io::Error::new(io::ErrorKind::InvalidInput, error));
    let name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, io).await.map_err(NotConnected::Tls)?;
    Ok(Connected { wire: Wire::Tls(Box::new(stream)), handshake_from })
}

impl Wire {
    /// Closes with a reset, so that what was sent does not look whole.
    pub fn reset(&self) {
        let socket = match self {
            Self::Plain(io) => io,
            Self::Tls(io) => io.get_ref().0,
            Self::Http2(_) => return,
        };
        if let Err(error) = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)) {
            tracing::debug!(%error, "cannot reset a connection");
        }
    }

    /// Whether an idle connection is open and silent: anything that comes by itself makes it useless.
    pub fn is_silent(&mut self) -> bool {
        match self {
            Self::Plain(io) => {
                io.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            // What comes may be of TLS only, such as tickets. Whoever uses the connection next asks to be woken anew.
            Self::Tls(io) => {
                let mut byte = [0];
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(io).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
            }
            Self::Http2(_) => false,
        }
    }
}

/// A stream has frames; its bytes are nobody's.
fn no_bytes() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
            Self::Http2(_) => Poll::Ready(Err(no_bytes())),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Http2(_) => Poll::Ready(Err(no_bytes())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Http2(_) => Poll::Ready(Err(no_bytes())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
