//! The upstream side: pick a target, get a connection, send the request, wait for the response head; try again where
//! that is safe. Each try is an attempt in the event.

mod hash;

mod choose;

mod tally;

mod balance;

pub(crate) mod verifier;

mod connect;

mod http2;

mod flow;

mod pool;

mod reach;

mod one;

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
use crate::plan::{Plan, ServicePlan};
use crate::record::{Record, micros};
use crate::route::Destination;
use crate::upstream::{Held, Peer};
use balance::{Ask, Endpoint, Load};
use event::{ABSENT_U16, Attempt, AttemptError, Protocol, Text};
use hash::Hashed;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use one::Bounds;
use pool::Lease;
use std::rc::Rc;
use std::time::Instant;
use upload::Waiting;

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
    let service = &plan.services[destination.service()];
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
    let mut ask = Ask { hash: hashed.hash, subset: destination.subset(), ..Ask::default() };
    let mut tries_left = service.retries;
    // A kept connection that broke is replaced by a new one to the same address.
    let mut again = None;
    let mut started = begun;
    loop {
        let mut attempt = Try { started, endpoint: None, reused: false, span_id: core.random_id() };
        let fresh_only = again.is_some();
        let endpoint = match again.take() {
            Some(endpoint) => endpoint,
            None => next(core, service, &mut ask, &deadline, &attempt, begun, record).await?,
        };
        attempt.endpoint = Some(Rc::clone(&endpoint));
        let load = Load::new(&endpoint, upstream.counts_load());
        let pooled = if fresh_only { None } else { reach::pooled(core, &endpoint, service.link) };
        let lease = match pooled {
            Some(lease) => Ok(lease),
            // On the heap: the many requests that find a connection need not carry the room for a handshake.
            None => {
                let ends = head.ends();
                Box::pin(reach::connect(core, &endpoint, service, ends, &deadline, fresh_only, record))
                    .await?
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
        let bounds = Bounds {
            client_ms: plan.timeouts.body_idle_timeout_ms,
            client_rate: if grpc { 0 } else { plan.limits.body_bytes_per_second_min },
            write_ms: service.write_timeout_ms,
            read_ms: service.read_timeout_ms,
            head_bytes: plan.limits.response_header_bytes_max,
        };
        let tried = one::exchange(&mut lease, &mut upload, head.method, &deadline, &bounds, record);
        match one::within(core, retry.per_try_timeout_ms, tried).await {
            Ok(response) => {
                let status = response.status.as_u16();
                let at = note(record, &attempt, status, AttemptError::None, begun);
                let judged = verdict::answered(core, service.upstream, &endpoint, &response, grpc);
                if upstream.algorithm == Algorithm::Latency {
                    endpoint.peer.took(micros(sent, at), core.upstreams.ms(core.clock.swept()));
                }
                let again = upload.is_bodiless() && harmless && retry.takes_status(status);
                if again && more(core, service, &mut tries_left, &mut retrying) {
                    started = at;
                    continue;
                }
                lease.used = used.take();
                lease.unjudged = (!judged).then_some(service.upstream);
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
    attempt: &Try,
    begun: Instant,
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
        if answered.is_none() {
            return Err(nameless(record, attempt, begun));
        }
    }
    let picked = core.balance.pick(core, service.upstream, ask);
    picked.map_err(|fault| if fault == Fault::Dns { nameless(record, attempt, begun) } else { fault })
}

/// A try that found no address is one all the same.
fn nameless(record: &mut Record, attempt: &Try, begun: Instant) -> Fault {
    note(record, attempt, ABSENT_U16, AttemptError::DnsFailed, begun);
    Fault::Dns
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

/// Writes a try into the event; says when it ended.
fn note(record: &mut Record, attempt: &Try, status: u16, error: AttemptError, begun: Instant) -> Instant {
    let now = Instant::now();
    let addr = attempt.endpoint.as_ref().map_or(&b""[..], |endpoint| endpoint.peer.addr_text.as_bytes());
    if let Some(endpoint) = &attempt.endpoint {
        endpoint.tally.tried();
    }
    // All of them since the request head, so that they add up to the microsecond, and a row need not say them twice.
    let [begun_us, start_us, end_us] = [begun, attempt.started, now].map(|at| record.elapsed_us(at));
    let draft = record.draft();
    draft.attempt(&Attempt {
        addr,
        status,
        error,
        start_us,
        duration_us: end_us.saturating_sub(start_us),
        reused: attempt.reused,
        span_id: attempt.span_id,
    });
    draft.text(Text::UpstreamAddr, addr);
    draft.head.upstream_span_id = attempt.span_id;
    draft.head.upstream_us = end_us.saturating_sub(begun_us);
    now
}
