//! A TCP or TLS stream: found its route by its ends and, of TLS, by the name in its ClientHello, connected to its
//! upstream, and carried until both sides have ended. One event for each.

use super::doors::Away;
use super::socket::Socket;
use super::{Ends, TlsFacts, cut_or_drained};
use crate::core::Core;
use crate::error::Fault;
use crate::forward::{self, Ended, Stretch};
use crate::plan::StreamKinds;
use crate::record::Record;
use crate::route::{StreamAsked, StreamRoute};
use event::{ABSENT_U16, Outcome, Protocol, Scheme, Source, Text};
use rustls::server::Acceptor;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const NO_HELLO: Fault = Fault::BadRequest("no ClientHello of TLS");

/// What the client is told when its ClientHello cannot be used: a fatal alert (RFC 8446, 6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

pub(super) async fn serve(
    core: Rc<Core>,
    listener: usize,
    kinds: StreamKinds,
    mut socket: Socket,
    ends: Ends,
) {
    let mut record = open(&core, listener, kinds, &ends);
    let route = match find(&core, listener, kinds, &mut socket, &ends, &mut record).await {
        Ok(route) => route,
        Err(fault) => {
            record.fault(fault);
            // Whoever has sent something shall not take this for an end in order.
            return socket.reset();
        }
    };
    let tls = core.plan.listeners[listener].tls.as_ref();
    let carried = match tls.filter(|_| kinds == StreamKinds::Tls && !route.passthrough) {
        None => carry(&core, route, &ends, &mut record, socket).await,
        Some(tls) => match handshake(&core, &TlsAcceptor::from(Arc::clone(&tls.config)), socket).await {
            Ok(stream) => {
                TlsFacts::of(stream.get_ref().1).describe(record.draft());
                carry(&core, route, &ends, &mut record, stream).await
            }
            Err(fault) => {
                core.doors.count(Away::Handshake);
                Err(fault)
            }
        },
    };
    if let Err(fault) = carried {
        record.fault(fault);
    }
}

/// Begins the event.
fn open(core: &Rc<Core>, listener: usize, kinds: StreamKinds, ends: &Ends) -> Record {
    let mut record = Record::open(core, Instant::now());
    let (request_id, trace_id, span_id) = core.random_ids();
    let sampled = core.samples();
    let draft = record.draft();
    draft.head.status = ABSENT_U16;
    (draft.head.request_id, draft.head.trace_id, draft.head.span_id) = (request_id, trace_id, span_id);
    draft.head.sampled = u8::from(sampled);
    draft.head.peer_ip = event::ip_bytes(ends.socket);
    draft.head.client_ip = event::ip_bytes(ends.from.ip());
    let (protocol, scheme) = match kinds {
        StreamKinds::Tcp => (Protocol::Tcp, Scheme::Tcp),
        StreamKinds::Tls => (Protocol::Tls, Scheme::Tls),
    };
    (draft.head.protocol, draft.head.scheme) = (protocol as u8, scheme as u8);
    draft.text(Text::Listener, core.plan.listeners[listener].name.as_bytes());
    record
}

/// The route of a stream. What was read for it stays in the socket.
async fn find<'c>(
    core: &'c Core,
    listener: usize,
    kinds: StreamKinds,
    socket: &mut Socket,
    ends: &Ends,
    record: &mut Record,
) -> Result<&'c StreamRoute, Fault> {
    if core.is_overloaded() {
        core.doors.overloaded.fetch_add(1, Relaxed);
        return Err(Fault::Overloaded);
    }
    let sni = match kinds {
        StreamKinds::Tcp => None,
        StreamKinds::Tls => {
            let deadline = core.clock.deadline();
            let reading = async {
                tokio::select! {
                    biased;
                    asked = hello(core, socket) => asked,
                    () = cut_or_drained(core) => Err(Fault::ClientClosed),
                }
            };
            let asked = deadline.within(core.plan.timeouts.header_timeout_ms, reading).await;
            asked.ok_or(Fault::RequestTimeout)??
        }
    };
    if let Some(name) = &sni {
        record.draft().text(Text::TlsSni, name.as_bytes());
    }
    let asked = StreamAsked {
        tls: kinds == StreamKinds::Tls,
        ends_tls: core.plan.listeners[listener].tls.is_some(),
        sni: sni.as_deref(),
        from: ends.from,
        to: ends.to,
    };
    let Some(route) = core.plan.streams.find(&asked) else {
        if kinds == StreamKinds::Tls {
            say(socket, &UNRECOGNIZED_NAME).await;
        }
        return Err(Fault::NoRoute);
    };
    describe(core, route, record);
    Ok(route)
}

async fn handshake(core: &Core, acceptor: &TlsAcceptor, socket: Socket) -> Result<TlsStream<Socket>, Fault> {
    let deadline = core.clock.deadline();
    let accepting = deadline.within(core.plan.timeouts.header_timeout_ms, acceptor.accept(socket));
    Box::pin(accepting).await.ok_or(Fault::RequestTimeout)?.map_err(|error| {
        tracing::debug!(%error, "TLS handshake failed");
        Fault::BadRequest("TLS handshake failed")
    })
}

fn describe(core: &Core, route: &StreamRoute, record: &mut Record) {
    let service = &core.plan.services[route.service];
    record.kept = service.kept;
    let draft = record.draft();
    draft.text(Text::Route, route.name.as_bytes());
    draft.text(Text::Service, service.name.as_bytes());
    if let Some(upstream) = &core.plan.upstreams[service.upstream].name {
        draft.text(Text::Upstream, upstream.as_bytes());
    }
}

/// Connects, and carries bytes until both sides have ended.
async fn carry<S: Carried>(
    core: &Rc<Core>,
    route: &StreamRoute,
    ends: &Ends,
    record: &mut Record,
    mut client: S,
) -> Result<(), Fault> {
    let lease = match forward::attach(core, route.service, (ends.from, ends.to), record).await {
        Ok(lease) => lease,
        Err(fault) => {
            client.reset();
            return Err(fault);
        }
    };
    record.answer(ABSENT_U16, Source::Upstream, Instant::now());
    let idle_ms = core.plan.timeouts.stream_idle_timeout_ms;
    let stretch = Stretch::new(*lease, core.clock.deadline(), idle_ms);
    let carried = stretch.run(core, client, &[]).await;
    let head = &mut record.draft().head;
    (head.request_bytes, head.response_bytes) = (carried.up, carried.down);
    let mut client = carried.client;
    match carried.ended {
        Ended::Clean => record.finish(Outcome::Ok),
        // The other side must not take it for an end in order.
        Ended::Client => {
            record.finish(Outcome::ClientClosed);
            carried.upstream.reset();
        }
        Ended::Upstream => {
            record.finish(Outcome::UpstreamReset);
            client.reset();
        }
        Ended::Idle | Ended::Cut => {
            if carried.ended == Ended::Idle {
                record.finish(Outcome::RequestTimeout);
                record.draft().text(Text::Error, b"silent for stream_idle_timeout_ms");
            }
            carried.upstream.reset();
            client.reset();
        }
    }
    Ok(())
}

/// A client's side that can be broken off.
trait Carried: AsyncRead + AsyncWrite + Unpin {
    fn reset(&mut self);
}

impl Carried for Socket {
    fn reset(&mut self) {
        Socket::reset(self);
    }
}

impl Carried for TlsStream<Socket> {
    fn reset(&mut self) {
        self.get_mut().0.reset();
    }
}

/// The server name in a ClientHello, which stays in the socket, to be read by whoever ends TLS.
async fn hello(core: &Core, socket: &mut Socket) -> Result<Option<String>, Fault> {
    let mut acceptor = Acceptor::default();
    let mut shown = 0;
    loop {
        let mut ahead = &socket.ahead()[shown..];
        shown = socket.ahead().len();
        while !ahead.is_empty() {
            acceptor.read_tls(&mut ahead).map_err(|_| NO_HELLO)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) if shown < core.plan.limits.client_hello_bytes_max => {}
            Ok(None) => return Err(Fault::BadRequest("ClientHello too long")),
            Err((error, mut alert)) => {
                tracing::debug!(%error, "no ClientHello");
                let mut bytes = Vec::new();
                if alert.write(&mut bytes).is_ok() {
                    say(socket, &bytes).await;
                }
                return Err(NO_HELLO);
            }
        }
        match socket.read_ahead(&core.scratch).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Fault::ClientClosed),
        }
    }
}

/// A few last bytes, as far as the socket takes them at once.
async fn say(socket: &mut Socket, bytes: &[u8]) {
    // A client that has gone cannot be told.
    let _told = socket.write(bytes).await;
}
