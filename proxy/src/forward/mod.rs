//! The upstream side: pick a target, get a connection, send the request, wait for the response head; try again where
//! that is safe. Each try is an attempt in the event.

mod balance;

mod pool;

mod body;

mod headers;

mod relay;

mod tunnel;

pub(crate) use balance::Balance;
pub(crate) use body::{Probe, RequestBody, Waiting};
pub(crate) use headers::{add_forwarded, client_of, strip_request, strip_response, upgrade_of};
pub(crate) use pool::Pool;
pub(crate) use relay::Relay;
pub(crate) use tunnel::Tunnel;

use crate::clock::Deadline;
use crate::core::Core;
use crate::error::Fault;
use crate::record::{Record, micros};
use crate::trace::{self, Parent};
use event::{ABSENT_U16, Attempt, AttemptError, Text};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use pool::Lease;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What is sent, and under which rules.
pub(crate) struct Job<'a> {
    pub core: &'a Rc<Core>,
    pub service: usize,
    pub parts: Parts,
    pub body: RequestBody,
    pub probe: Option<Rc<Probe>>,
    /// The client's Host, when the route preserves it.
    pub host: Option<HeaderValue>,
    /// Trace of the request; its span is the gateway's.
    pub trace: Parent,
}

/// A response head, and what its body needs.
pub(crate) struct Answer {
    pub response: Response<Incoming>,
    pub lease: Box<Lease>,
    pub deadline: Deadline,
    pub probe: Option<Rc<Probe>>,
    pub read_timeout_ms: u64,
}

/// One try, for the event.
struct Try {
    started: Instant,
    addr: Option<SocketAddr>,
    reused: bool,
    span_id: [u8; 8],
}

/// Sends a request and waits for the response head.
pub(crate) async fn send(mut job: Job<'_>, record: &mut Record) -> Result<Answer, Fault> {
    let core = Rc::clone(job.core);
    let plan = &core.plan;
    let service = &plan.services[job.service];
    let begun = Instant::now();
    let deadline = core.clock.deadline();
    let repeatable = matches!(job.body, RequestBody::Empty) && is_idempotent(&job.parts.method);
    let mut tries_left = service.retries;
    let mut fresh_only = false;
    let mut body = Some(std::mem::replace(&mut job.body, RequestBody::Empty));
    loop {
        let Some(target) = service.enabled.then(|| core.balance.pick(plan, service.upstream)).flatten()
        else {
            return Err(Fault::NoTarget);
        };
        let mut attempt =
            Try { started: Instant::now(), addr: None, reused: false, span_id: core.random_id() };
        let pooled = if fresh_only { None } else { pool::take(&core, target).await };
        let lease = match pooled {
            Some(lease) => Ok(lease),
            None => open(&core, target, service.connect_timeout_ms, &deadline, &mut attempt, record).await,
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err((error, fault)) => {
                note(record, &attempt, ABSENT_U16, error, begun);
                if tries_left == 0 {
                    return Err(fault);
                }
                tries_left -= 1;
                continue;
            }
        };
        (attempt.addr, attempt.reused) = (Some(lease.addr), lease.reused);
        let parent = Parent { span_id: attempt.span_id, ..job.trace };
        job.parts.headers.insert("traceparent", trace::format(&parent));
        set_host(&mut job, target);
        // Only a request that may have to be sent again is copied.
        let spare = (lease.reused && repeatable).then(|| job.parts.clone());
        let request = Request::from_parts(
            std::mem::replace(&mut job.parts, empty_parts()),
            body.take().unwrap_or(RequestBody::Empty),
        );
        let timeouts =
            (plan.timeouts.body_idle_timeout_ms, service.write_timeout_ms, service.read_timeout_ms);
        match exchange(&mut lease, request, &deadline, job.probe.as_deref(), timeouts).await {
            Ok(response) => {
                let status = response.status().as_u16();
                note(record, &attempt, status, AttemptError::None, begun);
                let head = &mut record.draft().head;
                head.upstream_status = status;
                let first_byte_us = record.elapsed_us(Instant::now());
                record.draft().head.first_byte_us = first_byte_us;
                let read_timeout_ms = service.read_timeout_ms;
                return Ok(Answer { response, lease, deadline, probe: job.probe, read_timeout_ms });
            }
            Err(failure) => {
                let (error, fault) = failure.cause;
                note(record, &attempt, ABSENT_U16, error, begun);
                if lease.reused && !fresh_only && error == AttemptError::Reset {
                    if let Some(request) = failure.unsent {
                        let (parts, unsent) = request.into_parts();
                        (job.parts, body) = (parts, Some(unsent));
                        fresh_only = true;
                        continue;
                    }
                    if let Some(parts) = spare {
                        job.parts = parts;
                        fresh_only = true;
                        continue;
                    }
                }
                return Err(fault);
            }
        }
    }
}

fn set_host(job: &mut Job<'_>, target: usize) {
    let plan = &job.core.plan;
    let own = plan.upstreams[plan.services[job.service].upstream].host_header.as_ref();
    let value = job.host.as_ref().or(own).unwrap_or(&plan.targets[target].host_header);
    job.parts.headers.insert(header::HOST, value.clone());
}

fn empty_parts() -> Parts {
    Request::new(()).into_parts().0
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// Finds the address of a target and connects.
async fn open(
    core: &Rc<Core>,
    target: usize,
    timeout_ms: u64,
    deadline: &Deadline,
    attempt: &mut Try,
    record: &mut Record,
) -> Result<Box<Lease>, (AttemptError, Fault)> {
    let mut looked_up = false;
    let addr = deadline.within(timeout_ms, balance::address(core, target, &mut looked_up)).await;
    let resolved = Instant::now();
    if looked_up {
        record.draft().head.dns_us = micros(attempt.started, resolved);
    }
    let addr = addr.flatten().ok_or((AttemptError::DnsFailed, Fault::Dns))?;
    attempt.addr = Some(addr);
    let lease = deadline.within(timeout_ms, pool::connect(core, target, addr)).await;
    record.draft().head.connect_us = micros(resolved, Instant::now());
    match lease {
        Some(Ok(lease)) => Ok(lease),
        Some(Err(error)) => {
            tracing::debug!(%addr, %error, "cannot connect");
            Err((AttemptError::ConnectFailed, Fault::ConnectFailed))
        }
        None => Err((AttemptError::ConnectTimeout, Fault::ConnectTimeout)),
    }
}

struct Failure {
    cause: (AttemptError, Fault),
    /// The request, when not a byte of it was sent.
    unsent: Option<Request<RequestBody>>,
}

impl From<(AttemptError, Fault)> for Failure {
    fn from(cause: (AttemptError, Fault)) -> Self {
        Self { cause, unsent: None }
    }
}

/// One request on one connection, to its response head.
async fn exchange(
    lease: &mut Lease,
    request: Request<RequestBody>,
    deadline: &Deadline,
    probe: Option<&Probe>,
    (client_ms, write_ms, read_ms): (u64, u64, u64),
) -> Result<Response<Incoming>, Failure> {
    let mut response = std::pin::pin!(lease.sender.try_send_request(request));
    let mut frames = 0;
    let mut armed_for = None;
    std::future::poll_fn(|cx| {
        let ended = if lease.closed {
            Poll::Ready(Ok(()))
        } else {
            let ended = lease.conn.poll_without_shutdown(cx);
            lease.closed = ended.is_ready();
            ended
        };
        // The connection runs in this very task, so the channel between the two needs no waker.
        match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut failed)) => {
                let unsent = failed.take_message();
                let error = ended.map(Result::err);
                let parse = failed.error().is_parse()
                    || matches!(&error, Poll::Ready(Some(error)) if error.is_parse());
                let cause = match probe.and_then(|probe| probe.fault.get()) {
                    Some(fault) => (AttemptError::Cancelled, fault),
                    None if parse => (AttemptError::Malformed, Fault::Malformed),
                    None => (AttemptError::Reset, Fault::Reset),
                };
                return Poll::Ready(Err(Failure { cause, unsent }));
            }
            Poll::Pending if lease.closed => {
                return Poll::Ready(Err((AttemptError::Reset, Fault::Reset).into()));
            }
            Poll::Pending => {}
        }
        let waiting = probe.map_or(Waiting::Done, |probe| probe.waiting.get());
        let seen = probe.map_or(0, |probe| probe.frames.get());
        if armed_for != Some(waiting) || seen != frames {
            (armed_for, frames) = (Some(waiting), seen);
            match waiting {
                Waiting::Client => deadline.arm(client_ms),
                Waiting::Upstream => deadline.arm(write_ms),
                Waiting::Done => deadline.arm(read_ms),
            }
        }
        if deadline.poll(cx).is_ready() {
            let cause = match waiting {
                Waiting::Done => (AttemptError::ReadTimeout, Fault::ReadTimeout),
                Waiting::Upstream => (AttemptError::WriteTimeout, Fault::WriteTimeout),
                Waiting::Client => (AttemptError::Cancelled, Fault::RequestTimeout),
            };
            return Poll::Ready(Err(cause.into()));
        }
        Poll::Pending
    })
    .await
}

/// Writes a try into the event.
fn note(record: &mut Record, attempt: &Try, status: u16, error: AttemptError, begun: Instant) {
    let now = Instant::now();
    let mut text = [0; 64];
    let mut left = &mut text[..];
    if let Some(addr) = attempt.addr {
        // An address with its port is at most 58 bytes.
        let _fits = write!(left, "{addr}");
    }
    let length = 64 - left.len();
    let start_us = record.elapsed_us(attempt.started);
    let draft = record.draft();
    draft.attempt(&Attempt {
        addr: &text[..length],
        status,
        error,
        start_us,
        duration_us: micros(attempt.started, now),
        reused: attempt.reused,
        span_id: attempt.span_id,
    });
    draft.text(Text::UpstreamAddr, &text[..length]);
    draft.head.upstream_span_id = attempt.span_id;
    draft.head.upstream_us = micros(begun, now);
}
