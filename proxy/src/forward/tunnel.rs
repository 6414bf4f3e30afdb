//! An upgraded connection: bytes both ways until one side ends or both are silent for too long. It begins only after
//! the upstream's 101 has gone to the client.

use super::connect::Wire;
use super::pool::{Counted as Counts, Lease};
use crate::clock::Deadline;
use crate::record::Record;
use bytes::Bytes;
use event::Outcome;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes copied at a time.
const COPY_BYTES: usize = 16 << 10;

/// The upstream's side of a tunnel, and its event.
pub(crate) struct Tunnel {
    upstream: Wire,
    /// What the upstream sent right behind its 101.
    ahead: Bytes,
    /// Counts it as a request of its target.
    _counts: Counts,
    record: Record,
    deadline: Deadline,
    idle_ms: u64,
}

impl Tunnel {
    /// Takes the connection whose response was a 101.
    pub fn new(lease: Lease, record: Record, deadline: Deadline) -> Self {
        let idle_ms = record.core.plan.timeouts.tunnel_idle_timeout_ms;
        let (upstream, ahead, counts) = lease.into_parts();
        Self { upstream, ahead, _counts: counts, record, deadline, idle_ms }
    }

    /// Carries bytes. `ahead` is what the client sent before its tunnel was there.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, client: S, ahead: &[u8]) {
        let (up, down, moved) = (Cell::new(0), Cell::new(0), Cell::new(0u64));
        let (mut client_read, mut client_write) = tokio::io::split(Counted { io: client, moved: &moved });
        let (mut upstream_read, mut upstream_write) = tokio::io::split(self.upstream);
        let first = self.ahead.clone();
        let mut both = std::pin::pin!(async {
            let upward = copy(ahead, &mut client_read, &mut upstream_write, &up);
            let downward = copy(&first, &mut upstream_read, &mut client_write, &down);
            tokio::try_join!(upward, downward).is_ok()
        });
        let mut seen = u64::MAX;
        let deadline = &self.deadline;
        let core = std::rc::Rc::clone(&self.record.core);
        let clean = std::future::poll_fn(|cx| {
            if let Poll::Ready(clean) = both.as_mut().poll(cx) {
                return Poll::Ready(clean);
            }
            if core.phase.get() == crate::core::Phase::Cut {
                return Poll::Ready(false);
            }
            let total = up.get() + down.get() + moved.get();
            if total != seen {
                seen = total;
                deadline.arm(self.idle_ms);
            }
            deadline.poll(cx).map(|()| false)
        })
        .await;
        let head = &mut self.record.draft().head;
        (head.request_bytes, head.response_bytes) = (up.get(), down.get());
        if clean {
            self.record.finish(Outcome::Ok);
        }
    }
}

async fn copy(
    first: &[u8],
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &Cell<u64>,
) -> io::Result<()> {
    to.write_all(first).await?;
    count.set(first.len() as u64);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        count.set(count.get() + read as u64);
    }
}

/// Counts bytes as they move, also within one large write.
struct Counted<'a, S> {
    io: S,
    moved: &'a Cell<u64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.moved.set(self.moved.get() + (buf.filled().len() - before) as u64);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = result {
            self.moved.set(self.moved.get() + written as u64);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
