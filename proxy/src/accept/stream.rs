//! A client's connection, cleartext or TLS, with the bytes that were read to find out its protocol put back in front.

use super::socket::Socket;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// How every HTTP/2 connection begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Pieces that are together no longer than this are sent as one.
const JOINED_BYTES_MAX: usize = 1 << 10;

pub(crate) enum Wire {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

pub(crate) struct Stream {
    wire: Wire,
    /// Read already, and how far it was given out.
    ahead: Vec<u8>,
    given: usize,
    /// Whether the last write could not go on: the client does not read.
    pub blocked: Rc<Cell<bool>>,
}

impl Stream {
    pub fn new(wire: Wire) -> Self {
        Self { wire, ahead: Vec::new(), given: 0, blocked: Rc::default() }
    }

    /// Whether the client begins with the preface of HTTP/2. Reads no more than it takes to tell, by way of `scratch`.
    pub async fn speaks_h2(&mut self, scratch: &RefCell<Box<[u8]>>) -> io::Result<bool> {
        std::future::poll_fn(|cx| {
            loop {
                let mut scratch = scratch.borrow_mut();
                let mut buffer = ReadBuf::new(&mut scratch);
                ready!(Pin::new(&mut self.wire).poll_read(cx, &mut buffer))?;
                let read = buffer.filled();
                self.ahead.extend_from_slice(read);
                let length = self.ahead.len().min(PREFACE.len());
                if self.ahead[..length] != PREFACE[..length] || read.is_empty() {
                    return Poll::Ready(Ok(false));
                }
                if length == PREFACE.len() {
                    return Poll::Ready(Ok(true));
                }
            }
        })
        .await
    }

    /// Reads on and forgets what comes, until the client ends, or up to so many bytes.
    pub async fn discard(&mut self, scratch: &RefCell<Box<[u8]>>, bytes_max: usize) {
        let mut discarded = 0;
        std::future::poll_fn(|cx| {
            while discarded <= bytes_max {
                let mut scratch = scratch.borrow_mut();
                let mut buffer = ReadBuf::new(&mut scratch);
                match ready!(AsyncRead::poll_read(Pin::new(self), cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => discarded += buffer.filled().len(),
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Closes with a reset, so that what was sent does not look whole.
    pub fn reset(&mut self) {
        match &mut self.wire {
            Wire::Plain(io) => io.reset(),
            Wire::Tls(io) => io.get_mut().0.reset(),
        }
    }

    /// Whether anything has come.
    pub fn is_fresh(&self) -> bool {
        self.ahead.is_empty()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < this.ahead.len() {
            let length = buf.remaining().min(this.ahead.len() - this.given);
            buf.put_slice(&this.ahead[this.given..this.given + length]);
            this.given += length;
            if this.given == this.ahead.len() {
                (this.ahead, this.given) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.wire {
            Wire::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, bytes),
        };
        this.blocked.set(result.is_pending());
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(io) => Pin::new(io).poll_flush(cx),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(io) => io.is_write_vectored(),
            Wire::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length <= JOINED_BYTES_MAX {
            // One piece is cheaper to send than several, and copied in no time.
            let mut joined = [0; JOINED_BYTES_MAX];
            let mut at = 0;
            for buf in bufs {
                joined[at..at + buf.len()].copy_from_slice(buf);
                at += buf.len();
            }
            return AsyncWrite::poll_write(self, cx, &joined[..length]);
        }
        let this = self.get_mut();
        let result = match &mut this.wire {
            Wire::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        };
        this.blocked.set(result.is_pending());
        result
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: `ReadBuf::uninit` only ever initialises bytes, and what it filled is what the cursor moves over.
        let filled = unsafe {
            let mut inner = ReadBuf::uninit(buf.as_mut());
            match AsyncRead::poll_read(self, cx, &mut inner) {
                Poll::Ready(Ok(())) => inner.filled().len(),
                other => return other,
            }
        };
        // SAFETY: these bytes were filled just above.
        unsafe { buf.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(self, cx)
    }

    fn is_write_vectored(&self) -> bool {
        AsyncWrite::is_write_vectored(self)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(self, cx, bufs)
    }
}
