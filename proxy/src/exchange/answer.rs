//! The upstream's response handed over: its head with the gateway's own headers, its body to follow, or a tunnel.

use crate::accept::{Conn, Hold};
use crate::core::Core;
use crate::error::Fault;
use crate::forward::{self, Answer, Relay, Tunnel};
use crate::record::Record;
use crate::respond::{self, ResponseBody};
use crate::trace;
use bytes::{BufMut, Bytes, BytesMut};
use event::{Protocol, Source, Text};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version, header};
use std::time::Instant;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_KONG_UPSTREAM_LATENCY: HeaderName = HeaderName::from_static("x-kong-upstream-latency");
const X_KONG_PROXY_LATENCY: HeaderName = HeaderName::from_static("x-kong-proxy-latency");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Hands the response head over, its body to follow.
pub(super) fn relay(core: &Core, answer: Answer, mut record: Record, hold: Hold) -> Response<ResponseBody> {
    let Answer { head, lease, upload, deadline, read_timeout_ms, at, set_cookie } = answer;
    record.answer(head.status.as_u16(), Source::Upstream, at);
    let mut headers = head.headers;
    if let Some(value) = headers.get(header::CONTENT_TYPE) {
        record.draft().text(Text::ContentType, value.as_bytes());
    }
    // Any other answer has it in no place that means something.
    let grpc = record.draft().head.protocol == Protocol::Grpc as u8;
    if grpc && let Some(status) = forward::grpc_status(&headers) {
        record.draft().head.grpc_status = status;
    }
    if let Some(cookie) = set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    decorate(core, &mut headers, &mut record, at);
    deadline.disarm();
    let mut relay = Box::new(Relay {
        body: head.body,
        lease: Some(lease),
        upload,
        deadline,
        read_timeout_ms,
        waiting: false,
        broken: None,
        unwritten: true,
    });
    if relay.is_end() {
        relay.end(&mut record);
    }
    let mut response = Response::new(ResponseBody::upstream(relay, record, hold));
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

/// Adds the gateway's response headers.
fn decorate(core: &Core, headers: &mut HeaderMap, record: &mut Record, now: Instant) {
    if core.plan.sends_request_id {
        headers.insert(X_REQUEST_ID, trace::id_value(&record.draft().head.request_id));
    }
    if core.plan.sends_server_timing {
        let upstream_us = record.draft().head.upstream_us;
        headers
            .append(SERVER_TIMING, timing(record.elapsed_us(now).saturating_sub(upstream_us), upstream_us));
    }
    let kong = core.plan.sends_kong;
    if kong.request_id {
        headers.insert(respond::X_KONG_REQUEST_ID, trace::id_value(&record.draft().head.request_id));
    }
    if kong.upstream_latency || kong.proxy_latency {
        let upstream_us = record.draft().head.upstream_us;
        let gateway_us = record.elapsed_us(now).saturating_sub(upstream_us);
        for (sends, name, us) in [
            (kong.upstream_latency, X_KONG_UPSTREAM_LATENCY, upstream_us),
            (kong.proxy_latency, X_KONG_PROXY_LATENCY, gateway_us),
        ] {
            if sends {
                headers.insert(name, HeaderValue::from(us / 1000));
            }
        }
    }
    if core.plan.sends_via {
        headers.append(header::VIA, HeaderValue::from_static("1.1 tollhouse"));
    }
}

/// Time in gateway and upstream, in milliseconds (W3C Server Timing).
fn timing(gateway_us: u32, upstream_us: u32) -> HeaderValue {
    let mut text = BytesMut::with_capacity(64);
    for (name, us) in [(&b"gateway;dur="[..], gateway_us), (b", upstream;dur=", upstream_us)] {
        text.put_slice(name);
        let mut digits = [0; 10];
        let (mut at, mut left) = (digits.len(), us / 1000);
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        text.put_slice(&digits[at..]);
        let rest = us % 1000;
        let digit = |number: u32| b'0' + (number % 10) as u8;
        text.put_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits, letters and punctuation")
}

/// Passes a 101 on and lays the tunnel ready for the connection's owner.
pub(super) fn switch(
    answer: Answer,
    request: &Parts,
    mut record: Record,
    conn: &Conn,
    hold: Hold,
) -> Response<ResponseBody> {
    let asked = request.version == Version::HTTP_11 && forward::upgrade_of(&request.headers).is_some();
    if !asked {
        return respond::refuse(Fault::Malformed, respond::format_of(&request.headers), true, record, hold);
    }
    record.answer(101, Source::Upstream, answer.at);
    let tunnel = Tunnel::new(*answer.lease, record, answer.deadline);
    conn.tunnel.replace(Some(Box::new(tunnel)));
    let mut response = Response::new(ResponseBody::none(hold));
    *response.status_mut() = answer.head.status;
    let headers = response.headers_mut();
    *headers = answer.head.headers;
    if let Some(upgrade) = answer.head.upgrade {
        headers.insert(header::UPGRADE, upgrade);
    }
    if let Some(cookie) = answer.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_written_in_milliseconds() {
        for (us, text) in [(0, "0.000"), (7, "0.007"), (1_020, "1.020"), (u32::MAX, "4294967.295")] {
            let value = super::timing(us, 12_345);
            assert_eq!(value, format!("gateway;dur={text}, upstream;dur=12.345").as_str());
        }
    }
}
