//! Bytes both ways until both sides have ended, one breaks, or both are silent for too long: of an upgraded connection,
//! after the upstream's 101 has gone to the client, or of a stream.

use super::connect::Wire;
use super::pool::{Counted as Counts, Lease};
use crate::clock::Deadline;
use crate::core::{Core, Phase};
use crate::record::Record;
use bytes::Bytes;
use event::Outcome;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes copied at a time.
const COPY_BYTES: usize = 16 << 10;

/// The upstream's side of a tunnel, and its event.
pub(crate) struct Tunnel {
    stretch: Stretch,
    record: Record,
}

impl Tunnel {
    /// Takes the connection whose response was a 101.
    pub fn new(lease: Lease, record: Record, deadline: Deadline) -> Self {
        let idle_ms = record.core.plan.timeouts.tunnel_idle_timeout_ms;
        Self { stretch: Stretch::new(lease, deadline, idle_ms), record }
    }

    /// Carries bytes. `ahead` is what the client sent before its tunnel was there.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, client: S, ahead: &[u8]) {
        let core = Rc::clone(&self.record.core);
        let carried = self.stretch.run(&core, client, ahead).await;
        let head = &mut self.record.draft().head;
        // A request that asks for an upgrade may have a body, of which some has gone up before.
        head.request_bytes += carried.up;
        head.response_bytes = carried.down;
        match carried.ended {
            Ended::Clean => self.record.finish(Outcome::Ok),
            Ended::Upstream => self.record.finish(Outcome::UpstreamReset),
            Ended::Client | Ended::Idle | Ended::Cut => {}
        }
    }
}

/// How carrying ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides have said all they had.
    Clean,
    /// A side broke.
    Client,
    Upstream,
    /// Both were silent for too long.
    Idle,
    /// The gateway ends.
    Cut,
}

/// The upstream's side of what carries bytes both ways.
pub(crate) struct Stretch {
    upstream: Wire,
    /// What the upstream has sent already.
    ahead: Bytes,
    /// Counts it as a request of its target.
    _counts: Counts,
    deadline: Deadline,
    idle_ms: u64,
}

/// What was carried, and both sides back.
pub(crate) struct Carried<S> {
    pub client: S,
    pub upstream: Wire,
    pub up: u64,
    pub down: u64,
    pub ended: Ended,
}

impl Stretch {
    pub fn new(lease: Lease, deadline: Deadline, idle_ms: u64) -> Self {
        let (upstream, ahead, counts) = lease.into_parts();
        Self { upstream, ahead, _counts: counts, deadline, idle_ms }
    }

    /// Carries bytes until both sides have ended. `ahead` is what the client has sent already.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        core: &Core,
        client: S,
        ahead: &[u8],
    ) -> Carried<S> {
        let (up, down, moved) = (Cell::new(0), Cell::new(0), Cell::new(0u64));
        let (mut client_read, mut client_write) = tokio::io::split(Counted { io: client, moved: &moved });
        let (mut upstream_read, mut upstream_write) = tokio::io::split(self.upstream);
        let ended = {
            let mut both = std::pin::pin!(async {
                let upward = copy(ahead, &mut client_read, &mut upstream_write, &up);
                let downward = copy(&self.ahead, &mut upstream_read, &mut client_write, &down);
                let upward =
                    async { upward.await.map_err(|from| if from { Ended::Client } else { Ended::Upstream }) };
                let downward = async {
                    downward.await.map_err(|from| if from { Ended::Upstream } else { Ended::Client })
                };
                tokio::try_join!(upward, downward).map_or_else(|broken| broken, |_| Ended::Clean)
            });
            let mut seen = u64::MAX;
            std::future::poll_fn(|cx| {
                if let Poll::Ready(ended) = both.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                if core.phase.get() == Phase::Cut {
                    return Poll::Ready(Ended::Cut);
                }
                let total = up.get() + down.get() + moved.get();
                if total != seen {
                    seen = total;
                    self.deadline.arm(self.idle_ms);
                }
                self.deadline.poll(cx).map(|()| Ended::Idle)
            })
            .await
        };
        let client = client_read.unsplit(client_write).io;
        let upstream = upstream_read.unsplit(upstream_write);
        Carried { client, upstream, up: up.get(), down: down.get(), ended }
    }
}

/// Carries one way until the end, which it hands on. When it breaks: whether that was where the bytes come from.
async fn copy(
    first: &[u8],
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &Cell<u64>,
) -> Result<(), bool> {
    to.write_all(first).await.map_err(|_| false)?;
    count.set(first.len() as u64);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| true)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| false);
        }
        to.write_all(&buffer[..read]).await.map_err(|_| false)?;
        to.flush().await.map_err(|_| false)?;
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
