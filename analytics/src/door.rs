//! Connections of clients: at most so many at one time, and none for ever.
//!
//! The process may be the gateway's too, and its file descriptors are: whoever opens connections here and says nothing
//! must not take them all.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Pause after a refusal of the system (no file descriptor is free), in which others may end.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts within bounds.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    idle: Duration,
}

impl Door {
    /// `idle` is how long neither side may say anything; longer than the longest query.
    pub(crate) fn new(listener: TcpListener, connections_max: u16, idle: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections_max.into())), idle }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        // Further ones wait in the system's own bounded queue.
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    let timer = Box::pin(tokio::time::sleep(self.idle));
                    return (Visitor { stream, idle: self.idle, timer, heard: false, _place: place }, addr);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing moves on it for too long. What a client goes on to say without an answer makes that no
/// later: one that sends a request byte by byte has its place no longer than one that says nothing.
#[derive(Debug)]
pub(crate) struct Visitor {
    stream: TcpStream,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether something was heard since the last answer.
    heard: bool,
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    /// Small answers need not wait for more.
    pub(crate) fn send_at_once(&self) {
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
    }

    /// What the socket says, `hears` if it is to be read from; an error when it has been waiting too long.
    fn moved<T>(
        &mut self,
        context: &mut Context<'_>,
        hears: bool,
        said: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match said {
            Poll::Ready(said) => {
                if !(self.heard && hears) {
                    self.timer.as_mut().reset(Instant::now() + self.idle);
                }
                self.heard = hears;
                Poll::Ready(said)
            }
            Poll::Pending => self.timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved(context, true, said)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.moved(context, false, said)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.moved(context, false, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
