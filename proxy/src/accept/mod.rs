//! Where clients come in: the accept loop of one listener on one thread, TLS, and the choice of protocol.

mod doors;

mod socket;

pub(crate) mod proxy_protocol;

mod ends;

mod busy;

mod strict;

mod names;

mod tls;

mod stream;

mod body;

mod http1;

mod frames;

mod http2;

mod streams;

#[cfg(any(test, fuzzing))]
pub(crate) use strict::readers;

pub(crate) use body::{BodyCut, ClientBody, Witness};
pub use doors::ConnectionCounts;
pub(crate) use doors::Doors;
pub(crate) use ends::Ends;
pub(crate) use http2::{Busy, Local};
pub(crate) use names::{ServerNames, Shown};
pub(crate) use proxy_protocol::Version as ProxyVersion;
pub(crate) use strict::{Exchange, StrictHandle, TRAILERS_FORBIDDEN, is_target};
pub(crate) use tls::{ServerTls, TlsFacts, fingerprint};

use crate::core::{Core, Phase, Thread, latest};
use crate::forward::Tunnel;
use crate::turn::Turn;
use doors::Away;
use event::{Draft, Text};
use socket::Socket;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use stream::{Stream, Wire};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the log says that it still fails.
const REMIND_INTERVAL: Duration = Duration::from_secs(10);

/// So many connections are taken in before the thread looks at its other sockets again: those that are there already do
/// not wait behind a crowd at the door, whose first requests are the dearest.
const ACCEPTS_PER_TURN: usize = 1;

/// What all requests of a client connection share.
pub(crate) struct Conn {
    pub listener: usize,
    /// Whether the peer is in `trusted_ips`.
    pub trusted: bool,
    pub peer_bytes: [u8; 16],
    /// The other end of the socket, if that is not the client: a balancer that speaks the PROXY protocol.
    pub socket_bytes: [u8; 16],
    pub peer_text: Box<str>,
    pub ends: Ends,
    /// Requests so far.
    pub requests: Cell<u64>,
    pub tls: Option<TlsFacts>,
    pub strict: Option<StrictHandle>,
    /// Laid here by the exchange that was answered 101.
    pub tunnel: RefCell<Option<Box<Tunnel>>>,
    /// Requests under way.
    pub open: Cell<usize>,
    /// How many of them wait for something else than the client to take what it was sent. Of HTTP/2 only.
    pub waits: Cell<usize>,
    /// Rises with every piece that the client takes. Of HTTP/2 only.
    pub taken: Cell<u64>,
    /// Wakes the task that drives the connection. Of HTTP/2 only.
    pub driver: RefCell<Option<Waker>>,
}

/// Held by a request and its response: the connection is busy until it is dropped.
pub(crate) enum Hold {
    /// Of HTTP/1: the byte guard does not read on into a refusal before the response is out.
    Guard(#[expect(dead_code, reason = "held for its drop")] Exchange),
    /// Of HTTP/2: counts open streams.
    Stream(Busy),
}

impl Hold {
    /// Whether the client was given all there is, so that it is not what is waited for.
    pub fn waits(&self, waits: bool) {
        if let Self::Stream(busy) = self {
            busy.waits(waits);
        }
    }
}

impl Conn {
    /// The port that a Host without one means.
    pub fn default_port(&self) -> u16 {
        if self.tls.is_some() { 443 } else { 80 }
    }

    /// The name that a TLS client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// Writes into an event what is known of the connection.
    pub fn describe(&self, core: &Core, draft: &mut Draft) {
        draft.text(Text::Listener, core.plan.listeners[self.listener].name.as_bytes());
        if let Some(tls) = &self.tls {
            tls.describe(draft);
        }
    }
}

/// Takes connections in until the thread drains or the listener is no more; what the kernel has accepted by then is
/// still served.
pub(crate) async fn accept(mut core: Rc<Core>, listener: usize, socket: TcpListener) {
    let deadline = core.clock.deadline();
    let ends = |core: &Core| core.phase.get() != Phase::Serving || !core.plan.listeners[listener].open;
    let mut turn = Turn::of(ACCEPTS_PER_TURN);
    let mut told: Option<Instant> = None;
    loop {
        turn.step().await;
        latest(&mut core);
        let taken = std::future::poll_fn(|cx| {
            // Who waits here for hours does not hold on to the plan of then.
            latest(&mut core);
            let limits = &core.plan.limits;
            // Those beyond `connections_max` are refused; when too many are, they wait in the kernel's queue.
            let most = limits.connections_max.saturating_add(limits.connections_refused_max);
            let full = core.doors.open() >= most;
            if !full && let std::task::Poll::Ready(taken) = socket.poll_accept(cx) {
                return std::task::Poll::Ready(Some(taken));
            }
            if ends(&core) {
                return std::task::Poll::Ready(None);
            }
            if full {
                deadline.arm(0);
            }
            deadline.poll(cx).map(|()| None)
        })
        .await;
        match taken {
            Some(Ok((stream, peer))) => {
                let open = core.doors.enter();
                tokio::task::spawn_local(connection(Rc::clone(&core), listener, (stream, peer), open));
            }
            Some(Err(error)) => {
                if told.is_none_or(|told| told.elapsed() > REMIND_INTERVAL) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, "cannot take in connections: they wait in the kernel's queue");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None if ends(&core) => return,
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Counts a connection while it is open.
struct Open(Rc<Thread>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

async fn connection(
    core: Rc<Core>,
    listener: usize,
    (stream, peer): (TcpStream, SocketAddr),
    open: doors::Open,
) {
    core.connections.set(core.connections.get() + 1);
    let _open = (Open(Rc::clone(&core.thread)), open);
    if let Err(error) = prepare(&stream, core.plan.limits.response_unsent_bytes_max) {
        tracing::debug!(%error, "a client left at once");
        return;
    }
    let own = stream.local_addr().unwrap_or(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0));
    let mut socket = Socket::new(stream);
    let deadline = core.clock.deadline();
    let limits = &core.plan.limits;
    let listen = &core.plan.listeners[listener];
    let answers = listen.tls.is_none() && listen.streams.is_none();
    if core.doors.open() > limits.connections_max {
        return Box::pin(busy::refuse(&core, socket, Away::Full, answers)).await;
    }
    let ends = match Ends::find(&core, listener, &mut socket, (peer, own), &deadline).await {
        Ok(ends) => ends,
        Err(away) => {
            core.doors.count(away);
            return;
        }
    };
    let _place = match limits.connections_per_client_max {
        most if most > 0 && ends.is_client => match core.doors.place(ends.from.ip(), most) {
            None => return Box::pin(busy::refuse(&core, socket, Away::Client, answers)).await,
            place => place,
        },
        _ => None,
    };
    if let Some(kinds) = listen.streams {
        drop(deadline);
        return Box::pin(streams::serve(Rc::clone(&core), listener, kinds, socket, ends)).await;
    }
    let header_ms = core.plan.timeouts.header_timeout_ms;
    let acceptor = listen.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
    let (mut stream, tls, mut h2) = match acceptor {
        None => (Stream::new(Wire::Plain(socket)), None, false),
        Some(acceptor) => match Box::pin(deadline.within(header_ms, acceptor.accept(socket))).await {
            Some(Ok(tls)) => {
                let (_, session) = tls.get_ref();
                let facts = TlsFacts::of(session);
                let h2 = session.alpn_protocol() == Some(b"h2");
                (Stream::new(Wire::Tls(Box::new(tls))), Some(facts), h2)
            }
            failed => {
                if let Some(Err(error)) = failed {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                }
                return core.doors.count(Away::Handshake);
            }
        },
    };
    if tls.is_none() {
        let sniffed = deadline
            .within(header_ms, async {
                tokio::select! {
                    biased;
                    spoken = stream.speaks_h2(&core.scratch) => spoken,
                    () = cut_or_drained(&core) => Err(std::io::ErrorKind::TimedOut.into()),
                }
            })
            .await;
        match sniffed {
            Some(Ok(spoken)) => h2 = spoken,
            Some(Err(_)) => return,
            // A piece of the preface is not a request: nothing to answer.
            None => return,
        }
        if stream.is_fresh() {
            return;
        }
    }
    let client = ends.from.ip();
    let conn = Conn {
        listener,
        // A balancer passes on whatever its client sends: it is the client who must be trusted.
        trusted: core.plan.trusted.contains(client),
        peer_bytes: event::ip_bytes(client),
        peer_text: client.to_string().into(),
        socket_bytes: event::ip_bytes(ends.socket),
        ends,
        requests: Cell::new(0),
        tls,
        strict: None,
        tunnel: RefCell::new(None),
        open: Cell::new(0),
        waits: Cell::new(0),
        taken: Cell::new(0),
        driver: RefCell::new(None),
    };
    drop(deadline);
    if h2 {
        // Boxed: a connection of the other kind need not have room for it.
        Box::pin(http2::serve(core, conn, stream)).await;
    } else {
        http1::serve(core, conn, stream).await;
    }
}

/// Has what is written sent at once, and no more of it taken than soon can be.
fn prepare(stream: &TcpStream, unsent_bytes_max: u32) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match unsent_bytes_max {
        0 => Ok(()),
        most => socket2::SockRef::from(stream).set_tcp_notsent_lowat(most),
    }
}

/// Ready when the thread no longer waits for what clients may still ask.
async fn cut_or_drained(core: &Core) {
    let deadline = core.clock.deadline();
    std::future::poll_fn(|cx| match core.phase.get() {
        Phase::Opening | Phase::Serving | Phase::HandedOver => deadline.poll(cx),
        Phase::Draining | Phase::Cut => std::task::Poll::Ready(()),
    })
    .await;
}
