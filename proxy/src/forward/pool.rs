//! Upstream connections of one thread. A connection and the future that drives it are one object, polled by the task
//! whose request it carries; between requests it lies in a stack per target, the last used on top.

use super::body::RequestBody;
use crate::core::Core;
use crate::plan::Plan;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use tokio::net::TcpStream;

/// A connection to an upstream.
pub(crate) struct Lease {
    pub sender: SendRequest<RequestBody>,
    pub conn: Connection<TokioIo<TcpStream>, RequestBody>,
    pub addr: SocketAddr,
    pub target: usize,
    pub reused: bool,
    /// The driving future has ended; nothing may poll it again.
    pub closed: bool,
    idle_since_ms: u64,
}

impl Lease {
    /// Drives the connection; ready when it has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let ended = self.conn.poll_without_shutdown(cx);
        self.closed = ended.is_ready();
        ended
    }
}

pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "a lease moves with its request, and is large")]
    idle: Vec<RefCell<Vec<Box<Lease>>>>,
}

impl Pool {
    pub fn new(plan: &Plan) -> Self {
        Self { idle: plan.targets.iter().map(|_| RefCell::default()).collect() }
    }

    /// The last used connection that is still open.
    pub fn take(&self, target: usize, cx: &mut Context<'_>) -> Option<Box<Lease>> {
        loop {
            let mut lease = self.idle[target].borrow_mut().pop()?;
            if lease.poll(cx).is_pending() && lease.sender.is_ready() {
                lease.reused = true;
                return Some(lease);
            }
        }
    }

    /// Puts a connection back whose exchange has ended cleanly; others are closed.
    pub fn put(&self, core: &Core, mut lease: Box<Lease>, cx: &mut Context<'_>) {
        if core.phase.get() != crate::core::Phase::Serving || lease.closed {
            return;
        }
        if !lease.sender.is_ready() && (lease.poll(cx).is_ready() || !lease.sender.is_ready()) {
            return;
        }
        lease.idle_since_ms = core.clock.now_ms();
        let mut idle = self.idle[lease.target].borrow_mut();
        if idle.len() < core.plan.limits.upstream_idle_max {
            idle.push(lease);
        }
    }

    /// Closes what the upstream has closed and what was idle for too long.
    pub fn sweep(&self, core: &Core) {
        let mut cx = Context::from_waker(Waker::noop());
        let since = core.clock.now_ms().saturating_sub(core.plan.timeouts.upstream_idle_timeout_ms);
        for idle in &self.idle {
            idle.borrow_mut()
                .retain_mut(|lease| lease.idle_since_ms >= since && lease.poll(&mut cx).is_pending());
        }
    }
}

/// Opens a connection.
pub(crate) async fn connect(core: &Core, target: usize, addr: SocketAddr) -> std::io::Result<Box<Lease>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, conn) = hyper::client::conn::http1::Builder::new()
        .max_header_size(core.plan.limits.response_header_bytes_max)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    Ok(Box::new(Lease { sender, conn, addr, target, reused: false, closed: false, idle_since_ms: 0 }))
}

/// Polls something once for its connection, as an `async` expression.
pub(crate) async fn take(core: &Core, target: usize) -> Option<Box<Lease>> {
    let mut result = None;
    std::future::poll_fn(|cx| {
        result = core.pool.take(target, cx);
        Poll::Ready(())
    })
    .await;
    result
}
