//! The upstream side: pick a target, get a connection, send the request, wait for the response head; try again where
//! that is safe. Each try is an attempt in the event.

mod balance;

pub(crate) mod verifier;

mod connect;

mod http2;

mod pool;

mod headers;

mod head;

mod upload;

mod answer;

mod relay;

mod tunnel;

pub(crate) use answer::Head;
pub(crate) use balance::Balance;
pub(crate) use head::{Outgoing, Target};
pub(crate) use headers::{client_of, is_hop, tokens, upgrade_of};
pub(crate) use pool::Pool;
pub(crate) use relay::Relay;
pub(crate) use tunnel::Tunnel;
pub(crate) use upload::Upload;

use crate::clock::Deadline;
use crate::core::Core;
use crate::error::Fault;
use crate::plan::ServicePlan;
use crate::record::{Record, micros};
use connect::NotConnected;
use event::{ABSENT_U16, Attempt, AttemptError, Text};
use http::{HeaderMap, HeaderName, Method};
use pool::{Broken, Lease};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;
use upload::{Stopped, Waiting};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is sent, and under which rules.
pub(crate) struct Job<'a> {
    pub core: &'a Rc<Core>,
    pub service: usize,
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
}

/// One try, for the event.
struct Try {
    started: Instant,
    addr: Option<SocketAddr>,
    reused: bool,
    span_id: [u8; 8],
}

/// Sends a request and waits for the response head.
pub(crate) async fn send(job: Job<'_>, record: &mut Record) -> Result<Answer, Fault> {
    let Job { core, service, head, mut upload } = job;
    let plan = &core.plan;
    let service = &plan.services[service];
    let host = plan.upstreams[service.upstream].host_header.as_ref();
    let begun = Instant::now();
    let deadline = core.clock.deadline();
    let repeatable = upload.is_bodiless() && is_idempotent(head.method);
    let mut tries_left = service.retries;
    let mut fresh_only = false;
    let mut started = begun;
    loop {
        let Some(target) = service.enabled.then(|| core.balance.pick(plan, service.upstream)).flatten()
        else {
            return Err(Fault::NoTarget);
        };
        let mut attempt = Try { started, addr: None, reused: false, span_id: core.random_id() };
        let pooled = if fresh_only { None } else { pooled(core, target, service.link) };
        let lease = match pooled {
            Some(lease) => Ok(lease),
            None => open(core, target, service, &deadline, &mut attempt, record).await,
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err((error, fault)) => {
                started = note(record, &attempt, None, ABSENT_U16, error, begun);
                if tries_left == 0 {
                    return Err(fault);
                }
                tries_left -= 1;
                continue;
            }
        };
        (attempt.addr, attempt.reused) = (Some(lease.addr), lease.reused);
        let host = host.unwrap_or(&plan.targets[target].host_header).as_bytes();
        let framing = upload.framing;
        upload.begin(|out| head.write(out, host, attempt.span_id, framing));
        let timeouts = Bounds {
            client_ms: plan.timeouts.body_idle_timeout_ms,
            write_ms: service.write_timeout_ms,
            read_ms: service.read_timeout_ms,
            head_bytes: plan.limits.response_header_bytes_max,
        };
        match exchange(&mut lease, &mut upload, head.method, &deadline, &timeouts, record).await {
            Ok(response) => {
                let status = response.status.as_u16();
                let at = note(record, &attempt, Some(&lease), status, AttemptError::None, begun);
                let first_byte_us = record.elapsed_us(at);
                let event = &mut record.draft().head;
                event.upstream_status = status;
                event.first_byte_us = first_byte_us;
                let upload = (upload.waiting() != Waiting::Done).then(|| Box::new(upload));
                let read_timeout_ms = service.read_timeout_ms;
                return Ok(Answer { head: response, lease, upload, deadline, read_timeout_ms, at });
            }
            Err((error, fault)) => {
                started = note(record, &attempt, Some(&lease), ABSENT_U16, error, begun);
                // The upstream may have closed the kept connection just before: that is no failure of the request.
                let again = repeatable || upload.is_unsent();
                if !(lease.reused && !fresh_only && error == AttemptError::Reset && again) {
                    return Err(fault);
                }
                fresh_only = true;
            }
        }
    }
}

/// The status of a gRPC call, from its headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// A connection that is there already.
fn pooled(core: &Rc<Core>, target: usize, link: usize) -> Option<Box<Lease>> {
    if core.plan.links[link].http2 {
        return core.pool.join(core, target, link);
    }
    core.pool.take(target, link)
}

/// Finds the address of a target and connects.
async fn open(
    core: &Rc<Core>,
    target: usize,
    service: &ServicePlan,
    deadline: &Deadline,
    attempt: &mut Try,
    record: &mut Record,
) -> Result<Box<Lease>, (AttemptError, Fault)> {
    let timeout_ms = service.connect_timeout_ms;
    let mut looked_up = false;
    let addr = deadline.within(timeout_ms, balance::address(core, target, &mut looked_up)).await;
    let resolved = Instant::now();
    if looked_up {
        record.draft().head.dns_us = micros(attempt.started, resolved);
    }
    let addr = addr.flatten().ok_or((AttemptError::DnsFailed, Fault::Dns))?;
    attempt.addr = Some(addr);
    let plan = &core.plan;
    let name = plan.server_name(service.upstream, target);
    let connected = deadline.within(timeout_ms, connect::open(&plan.links[service.link], addr, name)).await;
    let now = Instant::now();
    record.draft().head.connect_us = micros(resolved, now);
    match connected {
        Some(Ok(connected)) => {
            if let Some(from) = connected.handshake_from {
                let head = &mut record.draft().head;
                (head.connect_us, head.tls_us) = (micros(resolved, from), micros(from, now));
            }
            if !plan.links[service.link].http2 {
                return Ok(Lease::new(connected.wire, target, service.link, addr));
            }
            let shared = deadline.within(timeout_ms, connected.http2(core, service.link, addr)).await;
            shared
                .ok_or((AttemptError::ConnectTimeout, Fault::ConnectTimeout))?
                .map(|shared| core.pool.share(core, target, shared))
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
    write_ms: u64,
    read_ms: u64,
    head_bytes: usize,
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
            match waiting {
                Waiting::Client => deadline.arm(bounds.client_ms),
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
fn note(
    record: &mut Record,
    attempt: &Try,
    lease: Option<&Lease>,
    status: u16,
    error: AttemptError,
    begun: Instant,
) -> Instant {
    let now = Instant::now();
    let mut text = [0; 64];
    let addr = match (lease, attempt.addr) {
        (Some(lease), _) => lease.addr_text.as_bytes(),
        (None, Some(addr)) => {
            let mut left = &mut text[..];
            // An address with its port is at most 58 bytes.
            let _fits = write!(left, "{addr}");
            let length = 64 - left.len();
            &text[..length]
        }
        (None, None) => &[],
    };
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
