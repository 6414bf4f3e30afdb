//! An HTTP/1 connection: one request after the other, read behind the byte guard, with coarse time-outs. At its end
//! there may be a refusal to send, a tunnel to run, or a last response that the client must be given time to read.

mod inbound;

mod outbound;

pub(crate) use inbound::Body;

use super::body::ClientBody;
use super::doors::Away;
use super::stream::Stream;
use super::strict::{StrictHandle, StrictIo, StrictLimits};
use super::{Conn, Hold};
use crate::clock::Deadline;
use crate::core::{Core, Phase, latest};
use crate::error::Fault;
use crate::exchange;
use crate::pace::Pace;
use crate::respond::{self, Format};
use inbound::{Head, Inbound, NoHead};
use outbound::{Asked, Broken, Outbound};
use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;
use tokio::io::AsyncWriteExt;

/// Why no further request is read from a connection.
enum End {
    /// The client is answered and may have the rest.
    Done,
    /// The guard refused what came.
    Violation,
    /// A request head did not come whole in time.
    SlowHead(Instant),
    /// The target is no URI.
    Target(Vec<u8>, Vec<u8>),
    /// Gone, idle for too long, or cut.
    Close,
    /// A response broke off, and only a reset shows it or makes the kernel forget it.
    Reset,
}

pub(super) async fn serve(mut core: Rc<Core>, mut conn: Conn, stream: Stream) {
    let limits = &core.plan.limits;
    let guard = StrictLimits {
        head_bytes_max: limits.header_bytes_max,
        header_count_max: limits.header_count_max,
        request_line_bytes_max: limits.request_line_bytes_max,
        chunk_bytes_max: limits.chunk_bytes_max,
        trailer_bytes_max: limits.trailer_bytes_max,
        held_bytes_max: limits.held_bytes_max,
    };
    let (io, strict) = StrictIo::new(stream, guard);
    conn.strict = Some(strict.clone());
    let conn = Rc::new(conn);
    let inbound = Rc::new(RefCell::new(Inbound::new(io, &core)));
    let deadline = core.clock.deadline();
    let end = loop {
        let head = match next(&mut core, &inbound, &strict, &deadline).await {
            Ok(head) => head,
            Err(end) => break end,
        };
        conn.requests.set(conn.requests.get() + 1);
        // On the heap, as all that an idle connection need not have room for.
        if let Err(end) = Box::pin(answer(&core, &conn, &inbound, head, &deadline)).await {
            break end;
        }
    };
    // Nobody else holds it: the exchange is over.
    let Some(inbound) = Rc::into_inner(inbound) else { return };
    let mut inbound = inbound.into_inner();
    match end {
        End::Close => return,
        End::Reset => return inbound.io.get_mut().reset(),
        _ => {}
    }
    Box::pin(finish(&core, &conn, inbound, end, &deadline)).await;
}

/// The last that a connection sees: its tunnel, or a refusal, or only time to read its last response.
async fn finish(core: &Rc<Core>, conn: &Conn, inbound: Inbound, end: End, deadline: &Deadline) {
    let Some(strict) = &conn.strict else { return };
    if let Some(tunnel) = conn.tunnel.take() {
        strict.tunnel();
        let (io, ahead) = inbound.into_inner();
        return tunnel.run(io, &ahead).await;
    }
    let refused = match end {
        End::SlowHead(started) => Some((Fault::RequestTimeout, started, None, None)),
        End::Target(method, target) => {
            let fault = Fault::BadRequest("malformed request target");
            Some((fault, Instant::now(), Some(method), Some(target)))
        }
        End::Violation => strict.violation().filter(|seen| !seen.in_body).map(|seen| {
            let fault = Fault::Violation { status: seen.status(), reason: seen.reason() };
            (fault, Instant::now(), seen.method, seen.target)
        }),
        // After a last response nothing is a request, whatever it looks like.
        _ => None,
    };
    let refusal = refused.map(|(fault, started, method, target)| {
        let id = exchange::record_refused(core, conn, started, fault, method.as_deref(), target.as_deref());
        refusal(fault, &id, method.as_deref() == Some(b"HEAD"))
    });
    let (mut io, _) = inbound.into_inner();
    deadline.within(core.plan.timeouts.linger_timeout_ms, linger(core, &mut io, refusal)).await;
}

/// Waits for the next request head, each of its waits with its own bound. The plan in force when it has come is the
/// request's.
async fn next(
    core: &mut Rc<Core>,
    inbound: &RefCell<Inbound>,
    strict: &StrictHandle,
    deadline: &Deadline,
) -> Result<Head, End> {
    let mut armed = None;
    std::future::poll_fn(|cx| {
        latest(core);
        match inbound.borrow_mut().poll_head(cx, core) {
            Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
            Poll::Ready(Err(why)) => {
                return Poll::Ready(Err(match why {
                    NoHead::Closed => End::Close,
                    NoHead::Violation => End::Violation,
                    NoHead::Target { method, target } => {
                        End::Target(method.as_str().as_bytes().to_vec(), target.to_vec())
                    }
                }));
            }
            Poll::Pending => {}
        }
        let started = strict.head_started_at();
        match core.phase.get() {
            Phase::Cut => return Poll::Ready(Err(End::Close)),
            Phase::Draining if started.is_none() => return Poll::Ready(Err(End::Done)),
            _ => {}
        }
        if armed != Some(started.is_some()) {
            armed = Some(started.is_some());
            let timeouts = &core.plan.timeouts;
            let ms = if started.is_some() { timeouts.header_timeout_ms } else { timeouts.idle_timeout_ms };
            deadline.arm(ms);
        }
        deadline.poll(cx).map(|()| Err(started.map_or(End::Close, End::SlowHead)))
    })
    .await
}

/// Answers one request: waits for its response, watching whether the client is still there, and writes it.
async fn answer(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    inbound: &Rc<RefCell<Inbound>>,
    head: Head,
    deadline: &Deadline,
) -> Result<(), End> {
    let asked = Asked::by(&head);
    let Some(strict) = &conn.strict else { return Err(End::Close) };
    let hold = Hold::Guard(strict.exchange());
    let request = head.request.map(|()| ClientBody::H1(Body::of(inbound)));
    let mut service = std::pin::pin!(Some(exchange::serve(Rc::clone(core), Rc::clone(conn), request, hold)));
    // The exchange has its own bounds; the deadline is only there to be woken by.
    deadline.disarm();
    let response = std::future::poll_fn(|cx| {
        if let Some(service) = service.as_mut().as_pin_mut()
            && let Poll::Ready(response) = service.poll(cx)
        {
            return Poll::Ready(response.map_err(|_| End::Close));
        }
        let gone = inbound.borrow_mut().poll_gone(cx).is_ready();
        if gone || core.phase.get() == Phase::Cut {
            return Poll::Ready(Err(End::Close));
        }
        deadline.poll(cx).map(|()| Err(End::Close))
    })
    .await?;
    // What it still holds of the request goes before the response.
    service.set(None);
    let interim = inbound.borrow_mut().answers();
    let switched = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
    let limits = &core.plan.limits;
    let last =
        limits.requests_per_connection_max > 0 && conn.requests.get() == limits.requests_per_connection_max;
    if last {
        core.doors.count(Away::Requests);
    }
    let serving = core.phase.get() == Phase::Serving && !last;
    let mut out = Outbound::new(interim, response, &asked, serving, &core.clock.date());
    let mut armed = None;
    let mut pace = Pace::new(core.plan.timeouts.body_idle_timeout_ms, limits.body_bytes_per_second_min);
    let written = std::future::poll_fn(|cx| {
        if let Poll::Ready(written) = out.poll(inbound, cx) {
            return Poll::Ready(written.map_err(|broken| match broken {
                Broken::Body if out.ends_with_connection() => End::Reset,
                Broken::Body | Broken::Client => End::Close,
            }));
        }
        let gone = !out.blocked && inbound.borrow_mut().poll_gone(cx).is_ready();
        if gone || core.phase.get() == Phase::Cut {
            return Poll::Ready(Err(End::Close));
        }
        let state = (out.blocked, out.written);
        if armed != Some(state) {
            armed = Some(state);
            // What the upstream is slow with has a bound of its own.
            if out.blocked {
                deadline.arm(pace.waits_ms(core.clock.now_ms(), out.written));
            } else {
                pace.rests();
                deadline.disarm()
            }
        }
        // Who has not taken the response in time would keep the kernel holding what it was sent.
        deadline.poll(cx).map(|()| Err(End::Reset))
    })
    .await;
    let keeps = out.keeps;
    // The event goes out here, and the guard learns that the exchange is over.
    drop(out);
    written?;
    let mut inbound = inbound.borrow_mut();
    inbound.flushed();
    if keeps && inbound.is_whole() && !switched { Ok(()) } else { Err(End::Done) }
}

/// The response to what never was a request; without its body where nobody expects one.
fn refusal(fault: Fault, request_id: &[u8; 16], head_only: bool) -> Vec<u8> {
    let status = http::StatusCode::from_u16(fault.status()).unwrap_or(http::StatusCode::BAD_REQUEST);
    let id = crate::trace::id_value(request_id);
    let id = id.to_str().unwrap_or_default();
    let (content_type, body) = respond::body_of(Format::Json, fault.message(), id);
    format!(
        "HTTP/1.1 {} {}\r\nserver: tollhouse\r\nx-request-id: {id}\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        if head_only { "" } else { &body }
    )
    .into_bytes()
}

/// Sends a last answer, ends our side, and reads on a little: a close with unread bytes would reset the connection
/// and take the answer from the client.
async fn linger(core: &Core, io: &mut Stream, answer: Option<Vec<u8>>) {
    if let Some(answer) = answer
        && io.write_all(&answer).await.is_err()
    {
        return;
    }
    if AsyncWriteExt::shutdown(io).await.is_ok() {
        io.discard(&core.scratch, core.plan.limits.drain_bytes_max).await;
    }
}
