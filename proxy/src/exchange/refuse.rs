//! What the gateway does with a request that it answers by itself: read the rest of its body, within a bound, and record
//! those that never became a request.

use crate::accept::{ClientBody, Conn};
use crate::core::Core;
use crate::error::Fault;
use crate::record::Record;
use event::{Outcome, Protocol, Scheme, Source, Text};
use std::rc::Rc;
use std::time::Instant;

/// Reads what is left of a refused request's body, within a bound, so that the connection can go on.
pub(super) async fn drain(core: &Core, body: Option<ClientBody>, fault: Fault) -> bool {
    let Some(mut body) = body else {
        return !matches!(
            fault,
            Fault::ClientClosed | Fault::Violation { .. } | Fault::BodyTooLarge | Fault::RequestTimeout
        );
    };
    if body.is_end() {
        return true;
    }
    // This answer must be fast.
    if fault == Fault::Overloaded {
        return false;
    }
    let limit = core.plan.limits.drain_bytes_max as u64;
    if body.length().is_some_and(|bytes| bytes > limit) {
        return false;
    }
    let mut read = 0;
    let deadline = core.clock.deadline();
    let all = deadline.within(core.plan.timeouts.linger_timeout_ms, async {
        loop {
            let frame = std::future::poll_fn(|cx| body.poll_frame(cx)).await;
            match frame {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, bytes::Bytes::len) as u64,
            }
            if read > limit {
                return false;
            }
        }
    });
    all.await.unwrap_or(false)
}

/// The event of a request that never became one: refused by the byte guard, or too slow.
pub(crate) fn record_refused(
    core: &Rc<Core>,
    conn: &Conn,
    started: Instant,
    fault: Fault,
    method: Option<&[u8]>,
    target: Option<&[u8]>,
) -> [u8; 16] {
    let mut record = Record::open(core, started);
    let (request_id, trace_id, span_id) = core.random_ids();
    let sampled = core.samples();
    record.answer(fault.status(), Source::Gateway, Instant::now());
    record.fault(fault);
    let draft = record.draft();
    draft.head.request_id = request_id;
    (draft.head.trace_id, draft.head.span_id) = (trace_id, span_id);
    draft.head.sampled = u8::from(sampled);
    draft.head.peer_ip = conn.socket_bytes;
    draft.head.client_ip = conn.peer_bytes;
    draft.head.protocol = Protocol::H1 as u8;
    draft.head.scheme = if conn.tls.is_some() { Scheme::Https } else { Scheme::Http } as u8;
    conn.describe(core, draft);
    if let Some(method) = method {
        draft.text(Text::Method, method);
    }
    if let Some(target) = target {
        draft.text(Text::Path, path_of(target));
    }
    debug_assert_ne!(draft.head.outcome, Outcome::Ok as u8);
    request_id
}

/// What is recorded of a target that was refused: no query, and no authority, which may have a password in it.
fn path_of(target: &[u8]) -> &[u8] {
    let target = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if target.starts_with(b"/") || target == b"*" {
        return target;
    }
    let scheme = target.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let rest = &target[scheme..];
    rest.iter().position(|byte| *byte == b'/').map_or(b"", |at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn a_refused_target_is_recorded_without_query_and_authority() {
        for (target, recorded) in [
            ("/a/b?key=secret", "/a/b"),
            ("*", "*"),
            ("http://user:secret@host/x?y", "/x"),
            ("http://user:secret@host", ""),
            ("user:secret@host:443", ""),
            ("http://user:sec?ret@host/x", ""),
            ("/redirect?to=http://user:secret@host/", "/redirect"),
            ("", ""),
        ] {
            assert_eq!(path_of(target.as_bytes()), recorded.as_bytes(), "{target}");
        }
    }
}
