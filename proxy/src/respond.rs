//! Responses: the body type that clients are sent, and those that the gateway makes by itself.

use crate::accept::Hold;
use crate::error::Fault;
use crate::exchange::Redirect;
use crate::forward::Relay;
use crate::record::Record;
use bytes::Bytes;
use event::{Outcome, Source};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

pub(crate) const X_KONG_REQUEST_ID: HeaderName = HeaderName::from_static("x-kong-request-id");
const X_KONG_RESPONSE_LATENCY: HeaderName = HeaderName::from_static("x-kong-response-latency");

/// What clients are sent. It carries the event and drops it when the last byte was handed over.
pub(crate) struct ResponseBody {
    kind: Kind,
    /// None for a 101, whose event its tunnel has.
    record: Option<Record>,
    /// Keeps the byte guard from reading on into a refusal before this response is out.
    hold: Hold,
}

enum Kind {
    Made(Option<Bytes>),
    Upstream(Box<Relay>),
}

/// The body broke: the client must see a truncation, not an end.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut")]
pub(crate) struct Cut;

impl ResponseBody {
    pub fn upstream(relay: Box<Relay>, mut record: Record, hold: Hold) -> Self {
        if relay.is_end() {
            record.finish(Outcome::Ok);
        }
        hold.waits(false);
        Self { kind: Kind::Upstream(relay), record: Some(record), hold }
    }

    /// Of a 101.
    pub fn none(hold: Hold) -> Self {
        Self { kind: Kind::Made(None), record: None, hold }
    }

    fn made(bytes: Bytes, record: Record, hold: Hold) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { kind: Kind::Made(bytes), record: Some(record), hold }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Made(bytes) => Poll::Ready(bytes.take().map(|bytes| {
                if let Some(record) = &mut this.record {
                    record.draft().head.response_bytes = bytes.len() as u64;
                }
                Ok(Frame::data(bytes))
            })),
            Kind::Upstream(relay) => match &mut this.record {
                Some(record) => relay.poll_frame(cx, record),
                None => Poll::Ready(None),
            },
        };
        this.hold.waits(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Made(bytes) => bytes.is_none(),
            Kind::Upstream(relay) => relay.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Made(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Upstream(relay) => relay.size_hint(),
        }
    }
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Plain,
    Html,
    Xml,
    Grpc,
}

/// The format that a request's headers ask for.
pub(crate) fn format_of(headers: &HeaderMap) -> Format {
    let starts = |name, prefix: &[u8]| {
        headers.get(name).is_some_and(|value: &HeaderValue| value.as_bytes().starts_with(prefix))
    };
    if starts(header::CONTENT_TYPE, b"application/grpc") {
        return Format::Grpc;
    }
    let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
        return Format::Json;
    };
    for part in accept.split(',') {
        match part.split(';').next().unwrap_or_default().trim() {
            "application/json" | "*/*" | "application/*" => return Format::Json,
            "text/html" | "text/*" => return Format::Html,
            "text/plain" => return Format::Plain,
            "application/xml" | "text/xml" => return Format::Xml,
            _ => {}
        }
    }
    Format::Json
}

/// Content type and body of a message. The messages hold nothing of the request.
pub(crate) fn body_of(format: Format, message: &str, request_id: &str) -> (&'static str, String) {
    match format {
        Format::Json => (
            "application/json; charset=utf-8",
            format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{request_id}\"\n}}"),
        ),
        Format::Plain => ("text/plain; charset=utf-8", format!("{message}\nrequest_id: {request_id}\n")),
        Format::Html => (
            "text/html; charset=utf-8",
            format!(
                "<!doctype html>\n<html>\n  <head><meta charset=\"utf-8\"><title>{message}</title></head>\n  <body>\n    \
                 <h1>{message}</h1>\n    <p>request_id: {request_id}</p>\n  </body>\n</html>\n"
            ),
        ),
        Format::Xml => (
            "application/xml; charset=utf-8",
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n  \
                 <requestid>{request_id}</requestid>\n</error>\n"
            ),
        ),
        Format::Grpc => ("application/grpc", String::new()),
    }
}

/// The response to a fault. It ends the record's outcome.
pub(crate) fn refuse(
    fault: Fault,
    format: Format,
    close: bool,
    mut record: Record,
    hold: Hold,
) -> Response<ResponseBody> {
    record.fault(fault);
    let id = crate::trace::id_value(&record.draft().head.request_id);
    let status = if format == Format::Grpc { 200 } else { fault.status() };
    let now = Instant::now();
    record.answer(fault.status(), Source::Gateway, now);
    let (kong, elapsed_us) = (record.core.plan.sends_kong, record.elapsed_us(now));
    let (content_type, text) = body_of(format, fault.message(), id.to_str().unwrap_or_default());
    let sends_request_id = record.core.plan.sends_request_id;
    let retry_after_s = record.core.plan.limits.retry_after_s;
    let grpc = (format == Format::Grpc).then(|| grpc_code(fault));
    if let Some(code) = grpc {
        record.draft().head.grpc_status = code;
    }
    let body = ResponseBody::made(text.into(), record, hold);
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::SERVER, HeaderValue::from_static("tollhouse"));
    if kong.request_id {
        headers.insert(X_KONG_REQUEST_ID, id.clone());
    }
    if kong.response_latency {
        headers.insert(X_KONG_RESPONSE_LATENCY, HeaderValue::from(elapsed_us / 1000));
    }
    if sends_request_id {
        headers.insert("x-request-id", id);
    }
    // An answer without messages is its trailers alone, which then stand in the head (gRPC over HTTP/2, Responses).
    if let Some(code) = grpc {
        headers.insert("grpc-status", HeaderValue::from(code));
        headers.insert("grpc-message", HeaderValue::from_static(fault.message()));
    }
    match fault {
        Fault::Http2Only => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("HTTP/2"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        Fault::Auth(_) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Key"));
        }
        Fault::Overloaded => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        Fault::HttpsOnly => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        _ => {}
    }
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Makes a redirect of a refusal: status and place, without the words and the headers of the refusal.
pub(crate) fn send_away(response: &mut Response<ResponseBody>, redirect: Redirect) {
    let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
    *response.status_mut() = status;
    let body = response.body_mut();
    body.kind = Kind::Made(None);
    if let Some(record) = &mut body.record {
        record.draft().head.status = redirect.status;
    }
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, redirect.location);
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::UPGRADE);
    if headers.get(header::CONNECTION).is_some_and(|value| value == "Upgrade") {
        headers.remove(header::CONNECTION);
    }
}

/// The gRPC status of a fault (the HTTP to gRPC mapping of the gRPC project).
fn grpc_code(fault: Fault) -> u16 {
    match fault.status() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        408 | 504 => 4,
        413 | 431 => 8,
        502 | 503 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_accept() {
        for (accept, format) in [
            ("*/*", Format::Json),
            ("text/html,application/xhtml+xml;q=0.9", Format::Html),
            ("image/png, text/plain;q=0.5", Format::Plain),
            ("application/xml", Format::Xml),
            ("image/png", Format::Json),
        ] {
            let headers = [(header::ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
            assert_eq!(format_of(&headers), format, "{accept}");
        }
        let grpc = [(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"))];
        assert_eq!(format_of(&grpc.into_iter().collect()), Format::Grpc);
    }

    #[test]
    fn json_is_json() {
        let (_, text) = body_of(Format::Json, "no Route matched with those values", "ab");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["message"], "no Route matched with those values");
        assert_eq!(value["request_id"], "ab");
    }
}
