//! The upstream side: pick a target, get a connection, send the request, wait for the response head; try again where
//! that is safe. Each try is an attempt in the event.

mod hash;

mod choose;

mod tally;

mod balance;

pub(crate) mod verifier;

mod connect;

mod http2;

mod pool;

mod retry;

mod circuit;

mod verdict;

mod headers;

mod target;

mod head;

mod upload;

mod answer;

mod relay;

mod tunnel;

mod stream;

mod mirror;

pub(crate) use answer::Head;
#[cfg(any(test, fuzzing))]
pub(crate) use answer::check as check_response;
pub(crate) use balance::Balance;
pub(crate) use hash::{HashCookie, HashKey, HashPlan};
pub(crate) use head::Outgoing;
pub(crate) use headers::{client_of, is_hop, tokens, upgrade_of};
pub(crate) use mirror::{Mirrored, mirror};
pub(crate) use relay::Relay;
pub(crate) use retry::RetryPlan;
pub(crate) use stream::attach;
pub(crate) use target::Target;
pub(crate) use tunnel::{Ended, Stretch, Tunnel};
pub(crate) use upload::Upload;

use crate::clock::Deadline;
use crate::config::Algorithm;
use crate::core::Core;
use crate::error::Fault;
use crate::pace::Pace;
use crate::plan::{Plan, ServicePlan};
use crate::record::{Record, micros};
use crate::route::Destination;
use crate::upstream::{Held, Peer};
use balance::{Ask, Endpoint, Load};
use connect::NotConnected;
use event::{ABSENT_U16, Attempt, AttemptError, Protocol, Text};
use hash::Hashed;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pool::{Broken, Lease};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;
use tally::Open;
use upload::{Stopped, Waiting};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is sent, and under which rules.
pub(crate) struct Job<'a> {
    pub core: &'a Rc<Core>,
    pub destination: Destination,
    pub head: Outgoing<'a>,
    pub upload: Upload,
}

/// A response head, and what its body needs.
pub(crate) struct Answer {
    pub head: Head,
    pub lease: Box<Lease>,
    /// The request, if it is still being sent.
    pub upload: Option<Box<Upload>>,
    pub deadline: Deadline,
    pub read_timeout_ms: u64,
    /// When the head was whole.
    pub at: Instant,
    /// The cookie that makes the client come back to this target.
    pub set_cookie: Option<HeaderValue>,
}

/// One try, for the event.
struct Try {
    started: Instant,
    endpoint: Option<Rc<Endpoint>>,
    reused: bool,
    span_id: [u8; 8],
}

/// Sends a request and waits for the response head.
pub(crate) async fn send(job: Job<'_>, record: &mut Record) -> Result<Answer, Fault> {
    let Job { core, destination, head, mut upload } = job;
    let plan = &core.plan;
    let service = &plan.services[destination.service];
    let upstream = &plan.upstreams[service.upstream];
    let begun = Instant::now();
    let deadline = core.clock.deadline();
    let retry = &service.retry;
    // While one of these lives, the upstream's bounds see the request.
    let mut used = circuit::enter(core, service, upstream)?;
    let mut retrying: Option<Held> = None;
    let harmless = retry.non_idempotent || is_idempotent(head.method);
    let repeatable = upload.is_bodiless() && is_idempotent(head.method);
    let hashed = match upstream.algorithm {
        Algorithm::ConsistentHashing => upstream.hash.of(core, &head),
        Algorithm::StickySessions => Hashed { hash: upstream.hash.named(&head), set_cookie: None },
        _ => Hashed::default(),
    };
    let mut ask = Ask { hash: hashed.hash, subset: destination.subset, ..Ask::default() };
    let mut tries_left = service.retries;
    // A kept connection that broke is replaced by a new one to the same address.
    let mut again = None;
    let mut started = begun;
    loop {
        let mut attempt = Try { started, endpoint: None, reused: false, span_id: core.random_id() };
        let fresh_only = again.is_some();
        let endpoint = match again.take() {
            Some(endpoint) => endpoint,
            None => match next(core, service, &mut ask, &deadline, record).await {
                Ok(endpoint) => endpoint,
                Err(fault) => {
                    if fault == Fault::Dns {
                        note(record, &attempt, ABSENT_U16, AttemptError::DnsFailed, begun);
                    }
                    return Err(fault);
                }
            },
        };
        attempt.endpoint = Some(Rc::clone(&endpoint));
        let load = Load::new(&endpoint, upstream.counts_load());
        let pooled = if fresh_only { None } else { pooled(core, &endpoint, service.link) };
        let lease = match pooled {
            Some(lease) => Ok(lease),
            // On the heap: the many requests that find a connection need not carry the room for a handshake.
            None => {
                let ends = head.ends();
                Box::pin(connect(core, &endpoint, service, ends, &deadline, fresh_only, record)).await?
            }
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err((error, fault)) => {
                started = note(record, &attempt, ABSENT_U16, error, begun);
                verdict::failed(core, service.upstream, &endpoint, error);
                // Nothing was sent: it harms nobody to try again.
                if !retry.takes_error(error) || !more(core, service, &mut tries_left, &mut retrying) {
                    return Err(fault);
                }
                continue;
            }
        };
        lease.load = Some(load);
        attempt.reused = lease.reused;
        let host = host(plan, service.upstream, &endpoint.peer);
        let framing = upload.framing;
        let sent = Instant::now();
        upload.begin(|out| head.write(out, host.as_bytes(), attempt.span_id, framing));
        let grpc = record.draft().head.protocol == Protocol::Grpc as u8;
        let timeouts = Bounds {
            client_ms: plan.timeouts.body_idle_timeout_ms,
            client_rate: if grpc { 0 } else { plan.limits.body_bytes_per_second_min },
            write_ms: service.write_timeout_ms,
            read_ms: service.read_timeout_ms,
            head_bytes: plan.limits.response_header_bytes_max,
        };
        let tried = exchange(&mut lease, &mut upload, head.method, &deadline, &timeouts, record);
        match within(core, retry.per_try_timeout_ms, tried).await {
            Ok(response) => {
                let status = response.status.as_u16();
                let at = note(record, &attempt, status, AttemptError::None, begun);
                verdict::answered(core, service.upstream, &endpoint, status);
                if upstream.algorithm == Algorithm::Latency {
                    endpoint.peer.took(micros(sent, at), core.upstreams.ms(core.clock.swept()));
                }
                let again = upload.is_bodiless() && harmless && retry.takes_status(status);
                if again && more(core, service, &mut tries_left, &mut retrying) {
                    started = at;
                    continue;
                }
                lease.used = used.take();
                let first_byte_us = record.elapsed_us(at);
                let event = &mut record.draft().head;
                event.upstream_status = status;
                event.first_byte_us = first_byte_us;
                let upload = (upload.waiting() != Waiting::Done).then(|| Box::new(upload));
                let read_timeout_ms = service.read_timeout_ms;
                let set_cookie =
                    hashed.set_cookie.or_else(|| upstream.hash.name(hashed.hash, endpoint.peer.token));
                return Ok(Answer {
                    head: response,
                    lease,
                    upload,
                    deadline,
                    read_timeout_ms,
                    at,
                    set_cookie,
                });
            }
            Err((error, fault)) => {
                started = note(record, &attempt, ABSENT_U16, error, begun);
                // The upstream may have closed the kept connection just before: that is no failure of the request.
                let safe = repeatable || upload.is_unsent();
                let kept = lease.reused && error == AttemptError::Reset && !upload.is_refused();
                if !kept {
                    verdict::failed(core, service.upstream, &endpoint, error);
                }
                if kept && safe {
                    again = Some(endpoint);
                    continue;
                }
                let safe = upload.is_unsent() || (upload.is_bodiless() && harmless);
                let takes = retry.takes_error(error) || (retry.refused_stream && upload.is_unprocessed());
                if !safe || !takes || !more(core, service, &mut tries_left, &mut retrying) {
                    return Err(fault);
                }
            }
        }
    }
}

/// The Host of requests to an address, unless the client's is kept.
pub(crate) fn host<'a>(plan: &'a Plan, upstream: usize, peer: &'a Peer) -> &'a HeaderValue {
    let own = || peer.srv.as_ref().map_or(&plan.targets[peer.target].host_header, |srv| &srv.authority);
    plan.upstreams[upstream].host_header.as_ref().unwrap_or_else(own)
}

/// The status of a gRPC call, from its headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// The next address of an upstream. Waits for the name servers where none has answered yet.
async fn next(
    core: &Core,
    service: &ServicePlan,
    ask: &mut Ask,
    deadline: &Deadline,
    record: &mut Record,
) -> Result<Rc<Endpoint>, Fault> {
    if !service.enabled {
        return Err(Fault::NoTarget);
    }
    if core.balance.is_waiting(service.upstream) {
        let begun = Instant::now();
        let answered = deadline.within(service.connect_timeout_ms, core.balance.answered(service.upstream));
        let answered = answered.await;
        record.draft().head.dns_us = micros(begun, Instant::now());
        answered.ok_or(Fault::Dns)?;
    }
    core.balance.pick(core, service.upstream, ask)
}

/// Whether there is one more try, which is taken then.
fn more(core: &Core, service: &ServicePlan, left: &mut u32, retrying: &mut Option<Held>) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    // The place of the try before is free for this one.
    *retrying = None;
    let circuit = core.plan.upstreams[service.upstream].circuit.as_deref();
    *retrying = retry::place(&service.retry, circuit, core.upstreams.usage(service.upstream));
    retrying.is_some()
}

/// A connection that is there already.
fn pooled(core: &Rc<Core>, endpoint: &Rc<Endpoint>, link: usize) -> Option<Box<Lease>> {
    let link = &core.plan.links[link];
    if link.http2 { pool::join(core, endpoint, link.id) } else { pool::take(endpoint, link.id) }
}

/// Connects, within the bounds of the upstream where it has some.
async fn connect(
    core: &Rc<Core>,
    endpoint: &Rc<Endpoint>,
    service: &ServicePlan,
    ends: (SocketAddr, SocketAddr),
    deadline: &Deadline,
    fresh_only: bool,
    record: &mut Record,
) -> Result<Result<Box<Lease>, (AttemptError, Fault)>, Fault> {
    let Some(circuit) = &core.plan.upstreams[service.upstream].circuit else {
        return Ok(open(core, endpoint, service, ends, None, deadline, record).await);
    };
    let _pending = circuit::queue(core, service.upstream, circuit)?;
    let place = circuit::connection(core, endpoint, service, circuit, deadline, fresh_only);
    Ok(match place.await? {
        circuit::Place::Free(lease) => Ok(lease),
        circuit::Place::New(held) => open(core, endpoint, service, ends, Some(held), deadline, record).await,
    })
}

async fn open(
    core: &Rc<Core>,
    endpoint: &Rc<Endpoint>,
    service: &ServicePlan,
    ends: (SocketAddr, SocketAddr),
    held: Option<Held>,
    deadline: &Deadline,
    record: &mut Record,
) -> Result<Box<Lease>, (AttemptError, Fault)> {
    let link = &core.plan.links[service.link];
    let counted = Open::new(&endpoint.tally, held);
    let (timeout_ms, addr) = (service.connect_timeout_ms, endpoint.peer.addr);
    let named = core.plan.upstreams[service.upstream].server_name.is_none().then_some(&endpoint.peer.srv);
    let name = match named {
        Some(Some(srv)) => srv.host.as_str(),
        _ => core.plan.server_name(service.upstream, endpoint.peer.target),
    };
    let begun = Instant::now();
    let connected = deadline.within(timeout_ms, connect::open(link, addr, name, ends)).await;
    let now = Instant::now();
    record.draft().head.connect_us = micros(begun, now);
    match connected {
        Some(Ok(connected)) => {
            if let Some(from) = connected.handshake_from {
                let head = &mut record.draft().head;
                (head.connect_us, head.tls_us) = (micros(begun, from), micros(from, now));
            }
            if !link.http2 {
                return Ok(Lease::new(connected.wire, Some(counted), endpoint, link.id));
            }
            let shared = deadline.within(timeout_ms, connected.http2(core, link.id, (addr, counted))).await;
            shared
                .ok_or((AttemptError::ConnectTimeout, Fault::ConnectTimeout))?
                .map(|shared| pool::share(core, endpoint, shared))
                .map_err(refused)
        }
        Some(Err(error)) => {
            tracing::debug!(%addr, %error, "no connection");
            Err(refused(error))
        }
        None => Err((AttemptError::ConnectTimeout, Fault::ConnectTimeout)),
    }
}

fn refused(error: NotConnected) -> (AttemptError, Fault) {
    match error {
        NotConnected::Tcp(_) => (AttemptError::ConnectFailed, Fault::ConnectFailed),
        NotConnected::Tls(_) => (AttemptError::TlsFailed, Fault::TlsFailed),
    }
}

/// What one try is given.
struct Bounds {
    client_ms: u64,
    /// Bytes each second; 0 for no rate.
    client_rate: u64,
    write_ms: u64,
    read_ms: u64,
    head_bytes: usize,
}

/// A try within its time; 0 for no bound of its own.
async fn within(
    core: &Core,
    try_ms: u64,
    tried: impl Future<Output = Result<Head, (AttemptError, Fault)>>,
) -> Result<Head, (AttemptError, Fault)> {
    if try_ms == 0 {
        return tried.await;
    }
    let whole = core.clock.deadline();
    whole.within(try_ms, tried).await.unwrap_or(Err((AttemptError::ReadTimeout, Fault::ReadTimeout)))
}

/// One request on one connection, to its response head.
async fn exchange(
    lease: &mut Lease,
    upload: &mut Upload,
    method: &Method,
    deadline: &Deadline,
    bounds: &Bounds,
    record: &mut Record,
) -> Result<Head, (AttemptError, Fault)> {
    let mut sending = true;
    let mut armed_for = None;
    let mut pace = Pace::new(bounds.client_ms, bounds.client_rate);
    std::future::poll_fn(|cx| {
        if sending {
            match upload.poll(&mut lease.io, cx, record) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => sending = false,
                Poll::Ready(Err(Stopped::Client(fault))) => {
                    return Poll::Ready(Err((AttemptError::Cancelled, fault)));
                }
                // It may have answered before it closed.
                Poll::Ready(Err(Stopped::Upstream)) => sending = false,
            }
        }
        match lease.poll_head(cx, method, bounds.head_bytes) {
            Poll::Ready(Ok(head)) => {
                // Not usable again when it stopped reading.
                lease.keeps &= sending || upload.waiting() == Waiting::Done;
                return Poll::Ready(Ok(head));
            }
            Poll::Ready(Err(Broken::Closed)) => {
                return Poll::Ready(Err((AttemptError::Reset, Fault::Reset)));
            }
            Poll::Ready(Err(Broken::Malformed)) => {
                return Poll::Ready(Err((AttemptError::Malformed, Fault::Malformed)));
            }
            Poll::Pending => {}
        }
        let waiting = if sending { upload.waiting() } else { Waiting::Done };
        let now = (waiting, upload.pieces);
        if armed_for != Some(now) {
            armed_for = Some(now);
            if waiting != Waiting::Client {
                pace.rests();
            }
            match waiting {
                Waiting::Client => {
                    let bytes = record.draft().head.request_bytes;
                    deadline.arm(pace.waits_ms(deadline.now_ms(), bytes));
                }
                Waiting::Upstream => deadline.arm(bounds.write_ms),
                Waiting::Done => deadline.arm(bounds.read_ms),
            }
        }
        deadline.poll(cx).map(|()| {
            Err(match waiting {
                Waiting::Done => (AttemptError::ReadTimeout, Fault::ReadTimeout),
                Waiting::Upstream => (AttemptError::WriteTimeout, Fault::WriteTimeout),
                Waiting::Client => (AttemptError::Cancelled, Fault::RequestTimeout),
            })
        })
    })
    .await
}

/// Writes a try into the event; says when it ended.
fn note(record: &mut Record, attempt: &Try, status: u16, error: AttemptError, begun: Instant) -> Instant {
    let now = Instant::now();
    let addr = attempt.endpoint.as_ref().map_or(&b""[..], |endpoint| endpoint.peer.addr_text.as_bytes());
    if let Some(endpoint) = &attempt.endpoint {
        endpoint.tally.tried();
    }
    let start_us = record.elapsed_us(attempt.started);
    let draft = record.draft();
    draft.attempt(&Attempt {
        addr,
        status,
        error,
        start_us,
        duration_us: micros(attempt.started, now),
        reused: attempt.reused,
        span_id: attempt.span_id,
    });
    draft.text(Text::UpstreamAddr, addr);
    draft.head.upstream_span_id = attempt.span_id;
    draft.head.upstream_us = micros(begun, now);
    now
}
