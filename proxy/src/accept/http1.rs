//! An HTTP/1 connection: hyper behind the byte guard, with coarse time-outs around both. When hyper is done the
//! stream is taken back, for a refusal, for a tunnel, or for an end that lets the client read its last response.

use super::stream::Stream;
use super::strict::{StrictIo, StrictLimits};
use super::{Conn, Hold};
use crate::core::{Core, Phase};
use crate::error::Fault;
use crate::exchange;
use crate::respond::{self, Format};
use hyper::service::service_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As many headers hyper takes without an allocation for them.
const HYPER_HEADERS: usize = 100;

/// Why a connection is looked after no longer.
enum End {
    /// Hyper is done with it.
    Done,
    /// A request head did not come whole in time.
    SlowHead(Instant),
    /// Idle for too long, stuck in a write, or cut.
    Close,
}

/// What a connection waits for, each with its own bound.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Wait {
    Request,
    Head,
    Response,
    Client,
}

pub(super) async fn serve(core: Rc<Core>, mut conn: Conn, mut stream: Stream) {
    let limits = &core.plan.limits;
    let guard = StrictLimits {
        head_bytes_max: limits.header_bytes_max,
        header_count_max: limits.header_count_max,
        request_line_bytes_max: limits.request_line_bytes_max,
        chunk_bytes_max: limits.chunk_bytes_max,
        trailer_bytes_max: limits.trailer_bytes_max,
        held_bytes_max: limits.held_bytes_max,
    };
    let blocked = Rc::clone(&stream.blocked);
    stream.outlives_hyper = true;
    let (io, strict) = StrictIo::new(stream, guard);
    conn.strict = Some(strict.clone());
    let conn = Rc::new(conn);
    let service = {
        let (core, conn, strict) = (Rc::clone(&core), Rc::clone(&conn), strict.clone());
        service_fn(move |request| {
            let exchange = strict.exchange();
            exchange::serve(Rc::clone(&core), Rc::clone(&conn), request, Hold::Guard(exchange))
        })
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    if limits.header_count_max > HYPER_HEADERS {
        builder.max_headers(limits.header_count_max);
    }
    let mut connection = builder
        .max_buf_size((limits.header_bytes_max + 1024).max(64 << 10))
        .half_close(false)
        .serve_connection(io, service);
    let deadline = core.clock.deadline();
    let timeouts = &core.plan.timeouts;
    let mut armed = None;
    let mut draining = false;
    let end = std::future::poll_fn(|cx| {
        if core.phase.get() != Phase::Serving && !draining {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(End::Done);
        }
        if core.phase.get() == Phase::Cut {
            return Poll::Ready(End::Close);
        }
        let head = strict.head_started_at();
        let wait = if blocked.get() {
            Wait::Client
        } else if strict.is_answering() {
            Wait::Response
        } else if head.is_some() {
            Wait::Head
        } else {
            Wait::Request
        };
        if armed != Some((wait, strict.heads_seen())) {
            armed = Some((wait, strict.heads_seen()));
            match wait {
                Wait::Request => deadline.arm(timeouts.idle_timeout_ms),
                Wait::Head => deadline.arm(timeouts.header_timeout_ms),
                // The exchange has its own bounds.
                Wait::Response => deadline.disarm(),
                Wait::Client => deadline.arm(timeouts.body_idle_timeout_ms),
            }
        }
        deadline.poll(cx).map(|()| match head {
            Some(started) if wait == Wait::Head => End::SlowHead(started),
            _ => End::Close,
        })
    })
    .await;
    if matches!(end, End::Close) {
        return;
    }
    let parts = connection.into_parts();
    let tunnel = conn.tunnel.take();
    if tunnel.is_some() {
        strict.tunnel();
    }
    let (mut io, ahead) = parts.io.into_inner();
    if let Some(tunnel) = tunnel {
        let ahead = [&parts.read_buf[..], &ahead].concat();
        return tunnel.run(io, &ahead).await;
    }
    let refused = match end {
        End::SlowHead(started) => Some((Fault::RequestTimeout, started, None, None)),
        _ => strict.violation().filter(|seen| !seen.in_body).map(|seen| {
            let fault = Fault::Violation { status: seen.status(), reason: seen.reason() };
            (fault, Instant::now(), seen.method, seen.target)
        }),
    };
    let refusal = refused.map(|(fault, started, method, target)| {
        let id = exchange::record_refused(&core, &conn, started, fault, method.as_deref(), target.as_deref());
        refusal(fault, &id)
    });
    deadline.within(timeouts.linger_timeout_ms, linger(&mut io, refusal, limits.drain_bytes_max)).await;
}

/// The response to what never was a request.
fn refusal(fault: Fault, request_id: &[u8; 16]) -> Vec<u8> {
    let status = http::StatusCode::from_u16(fault.status()).unwrap_or(http::StatusCode::BAD_REQUEST);
    let id = crate::trace::id_value(request_id);
    let id = id.to_str().unwrap_or_default();
    let (content_type, body) = respond::body_of(Format::Json, fault.message(), id);
    format!(
        "HTTP/1.1 {} {}\r\nserver: tollhouse\r\nx-request-id: {id}\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes()
}

/// Sends a last answer, ends our side, and reads on a little: a close with unread bytes would reset the connection
/// and take the answer from the client.
async fn linger(io: &mut Stream, answer: Option<Vec<u8>>, bytes_max: usize) {
    if let Some(answer) = answer
        && io.write_all(&answer).await.is_err()
    {
        return;
    }
    if AsyncWriteExt::shutdown(io).await.is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    let mut read = 0;
    while read <= bytes_max {
        match AsyncReadExt::read(io, &mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(more) => read += more,
        }
    }
}
