//! Who sends a request and what it says of itself: one look through the headers fills the event's first columns and
//! finds or begins the trace.

use crate::accept::Conn;
use crate::core::Core;
use crate::forward;
use crate::record::Record;
use crate::trace::{self, Parent};
use event::{Protocol, Scheme, Text};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};
use std::net::IpAddr;

/// What the headers claim, as far as it is believed.
pub(super) struct Claims {
    /// The gateway's span in the request's trace.
    pub trace: Parent,
    /// Whether the client brought the trace.
    pub has_parent: bool,
    /// Whether the peer's word about the client counts.
    pub trusted: bool,
    /// The client, as a trusted peer names it.
    pub client: Option<IpAddr>,
}

/// The lines that matter here; of several the first.
#[derive(Default)]
struct Lines<'a> {
    traceparent: Option<&'a HeaderValue>,
    request_id: Option<&'a HeaderValue>,
    user_agent: Option<&'a HeaderValue>,
    forwarded_for: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
}

impl<'a> Lines<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut lines = Self::default();
        for (name, value) in headers {
            let line = match name.as_str() {
                "user-agent" => &mut lines.user_agent,
                "traceparent" => &mut lines.traceparent,
                "x-request-id" => &mut lines.request_id,
                "x-forwarded-for" => &mut lines.forwarded_for,
                "content-type" => &mut lines.content_type,
                _ => continue,
            };
            line.get_or_insert(value);
        }
        lines
    }
}

/// Fills in who sent what.
pub(super) fn request(core: &Core, conn: &Conn, parts: &Parts, record: &mut Record) -> Claims {
    let lines = Lines::of(&parts.headers);
    let trusted = conn.trusted;
    let request_id = lines.request_id.filter(|_| trusted).and_then(|value| trace::parse_id(value.as_bytes()));
    let parent = lines.traceparent.and_then(|value| trace::parse(value.as_bytes()));
    let (new_id, new_trace, span_id) = core.random_ids();
    let trace = Parent {
        trace_id: parent.map_or(new_trace, |parent| parent.trace_id),
        span_id,
        sampled: parent.map_or_else(|| core.samples(), |parent| parent.sampled),
    };
    let client = if trusted && lines.forwarded_for.is_some() {
        forward::client_of(&parts.headers, core)
    } else {
        None
    };
    let grpc = parts.version == Version::HTTP_2
        && lines.content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let draft = record.draft();
    let head = &mut draft.head;
    head.request_id = request_id.unwrap_or(new_id);
    head.trace_id = trace.trace_id;
    head.span_id = span_id;
    head.parent_span_id = parent.map_or([0; 8], |parent| parent.span_id);
    head.sampled = u8::from(trace.sampled);
    head.peer_ip = conn.socket_bytes;
    head.client_ip = client.map_or(conn.peer_bytes, event::ip_bytes);
    head.scheme = if conn.tls.is_some() { Scheme::Https } else { Scheme::Http } as u8;
    head.protocol = match parts.version {
        Version::HTTP_2 if grpc => Protocol::Grpc,
        Version::HTTP_2 => Protocol::H2,
        _ => Protocol::H1,
    } as u8;
    conn.describe(core, draft);
    draft.text(Text::Method, parts.method.as_str().as_bytes());
    for (text, value) in [(Text::UserAgent, lines.user_agent), (Text::ForwardedFor, lines.forwarded_for)] {
        if let Some(value) = value {
            draft.text(text, value.as_bytes());
        }
    }
    if trusted && let Some(value) = parts.headers.get(&core.plan.source_service_header) {
        draft.text(Text::SourceService, value.as_bytes());
    }
    Claims { trace, has_parent: parent.is_some(), trusted, client }
}
