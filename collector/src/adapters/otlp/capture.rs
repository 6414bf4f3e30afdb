//! What spans need of an event, copied out of the spool in one go.
//!
//! An event lives in a mapped spool segment for the time of one call. Turning it into protobuf takes dozens of
//! allocations and some microseconds; copying takes two allocations. So intake copies and the exporter's thread
//! does the rest.

use event::{Attempt, AttemptError, Head, RequestEvent, Text};
use std::sync::Arc;

/// The texts that spans carry.
const TEXTS: [Text; 13] = [
    Text::Consumer,
    Text::UserAgent,
    Text::Method,
    Text::Host,
    Text::Path,
    Text::Query,
    Text::Route,
    Text::Service,
    Text::ServiceVersion,
    Text::Upstream,
    Text::SourceService,
    Text::Workspace,
    Text::Error,
];

/// An owned copy of one sampled event.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    pub(super) node: Arc<str>,
    pub(super) head: Head,
    pub(super) outcome: event::Outcome,
    pub(super) scheme: event::Scheme,
    pub(super) protocol: event::Protocol,
    /// All texts, then all attempts' addresses.
    bytes: Vec<u8>,
    /// End of each of [`TEXTS`] in `bytes`.
    ends: [u32; TEXTS.len()],
    attempts: Vec<CapturedAttempt>,
}

/// One attempt; its address is `bytes[addr_start..addr_end]`.
#[derive(Clone, Copy, Debug)]
struct CapturedAttempt {
    addr_start: u32,
    addr_end: u32,
    status: u16,
    error: AttemptError,
    start_us: u32,
    duration_us: u32,
    reused: bool,
    span_id: [u8; 8],
}

impl Captured {
    /// Copies an event.
    pub(super) fn of(event: &RequestEvent<'_>, node: Arc<str>) -> Self {
        let mut bytes = Vec::with_capacity(256);
        let mut ends = [0; TEXTS.len()];
        for (end, text) in ends.iter_mut().zip(TEXTS) {
            bytes.extend_from_slice(event.text(text).unwrap_or_default());
            *end = bytes.len() as u32;
        }
        let mut attempts = Vec::new();
        for attempt in event.attempts() {
            let addr_start = bytes.len() as u32;
            bytes.extend_from_slice(attempt.addr);
            attempts.push(CapturedAttempt {
                addr_start,
                addr_end: bytes.len() as u32,
                status: attempt.status,
                error: attempt.error,
                start_us: attempt.start_us,
                duration_us: attempt.duration_us,
                reused: attempt.reused,
                span_id: attempt.span_id,
            });
        }
        Self {
            node,
            head: *event.head,
            outcome: event.outcome(),
            scheme: event.scheme(),
            protocol: event.protocol(),
            bytes,
            ends,
            attempts,
        }
    }

    /// A text that is there and not empty; bytes that are not UTF-8 become U+FFFD.
    pub(super) fn text(&self, text: Text) -> Option<String> {
        let index = TEXTS.iter().position(|known| *known == text)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] } as usize;
        let bytes = &self.bytes[start..self.ends[index] as usize];
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The attempts at upstreams, in order.
    pub(super) fn attempts(&self) -> impl Iterator<Item = Attempt<'_>> {
        self.attempts.iter().map(|attempt| Attempt {
            addr: &self.bytes[attempt.addr_start as usize..attempt.addr_end as usize],
            status: attempt.status,
            error: attempt.error,
            start_us: attempt.start_us,
            duration_us: attempt.duration_us,
            reused: attempt.reused,
            span_id: attempt.span_id,
        })
    }

    /// Spans this event becomes: one for the server side and one per attempt.
    pub(super) fn spans(&self) -> u64 {
        1 + self.attempts.len() as u64
    }
}
