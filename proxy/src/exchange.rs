//! One request, in the order of its journey: read who and what, route, authenticate, forward, relay the response.
//! Each stage either goes on or ends with a [`Fault`], which becomes a response in one place.

use crate::accept::{Conn, Hold};
use crate::core::{Core, Phase};
use crate::error::Fault;
use crate::forward::{self, Answer, Job, Probe, Relay, RequestBody, Tunnel};
use crate::host::{self, Host};
use crate::record::{Record, micros};
use crate::respond::{self, Format, ResponseBody};
use crate::route::Matched;
use crate::trace::{self, Parent};
use event::{AuthMethod, Outcome, Protocol, Scheme, Source, Text};
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

/// Answers a request. A panic on the way is answered too.
pub(crate) async fn serve(
    core: Rc<Core>,
    conn: Rc<Conn>,
    request: Request<Incoming>,
    hold: Hold,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut record = Record::open(&core, Instant::now());
    let (parts, body) = request.into_parts();
    let format = respond::format_of(&parts.headers);
    let version = parts.version;
    let mut rest = Some(body);
    let passed = AssertUnwindSafe(pass(&core, &conn, parts, &mut rest, &mut record)).catch_unwind().await;
    let draining = core.phase.get() != Phase::Serving;
    let fault = match passed {
        Ok(Ok(Passed { mut answer, upgrade })) => {
            if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(switch(answer, upgrade, record, &conn, hold));
            }
            forward::strip_response(answer.response.headers_mut());
            let mut response = relay(&core, answer, record, hold).await;
            if draining && version != Version::HTTP_2 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            return Ok(response);
        }
        Ok(Err(fault)) => fault,
        Err(_panic) => Fault::Panic,
    };
    let drained = drain(&core, rest, fault).await;
    Ok(respond::refuse(fault, format, (!drained || draining) && version != Version::HTTP_2, record, hold))
}

struct Passed {
    answer: Answer,
    upgrade: bool,
}

/// The journey to the response head. `body` is taken when it is forwarded.
async fn pass(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    mut parts: Parts,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Passed, Fault> {
    let trace = identify_request(core, conn, &parts, record);
    let host = host::of(&parts.uri, &parts.headers, conn.default_port());
    if let Ok(host) = &host {
        record.draft().text(Text::Host, host.with_port().as_bytes());
    }
    let host = host.map_err(Fault::BadRequest)?;
    if parts.method == Method::CONNECT {
        return Err(Fault::Connect);
    }
    let path = match crate::path::normalise(parts.uri.path()) {
        Some(path) => path.into_owned(),
        None if parts.method == Method::OPTIONS && parts.uri.path() == "*" => "/".to_owned(),
        None => return Err(Fault::BadRequest("malformed path")),
    };
    record.draft().text(Text::Path, path.as_bytes());
    let matched = route(core, conn, &host, &path, &parts.method, record)?;
    let plan = &core.plan.router.routes[matched.route];
    let query = authenticate(core, plan.guard, &mut parts, record)?;
    let upgrade = if parts.version == Version::HTTP_11 { forward::upgrade_of(&parts.headers) } else { None };
    let limit = core.plan.limits.body_bytes_max;
    let declared = body.as_ref().and_then(|body| body.size_hint().exact());
    if limit > 0 && declared.is_some_and(|bytes| bytes > limit) {
        return Err(Fault::BodyTooLarge);
    }
    parts.uri = upstream_uri(core, matched, &path, query.as_deref(), &parts.uri)?;
    if !record.has_parent() {
        // Without a valid parent its state means nothing (W3C Trace Context, 3.3.1).
        parts.headers.remove("tracestate");
    }
    forward::strip_request(&mut parts.headers);
    forward::add_forwarded(&mut parts.headers, core, conn, &host);
    add_own(core, &mut parts, upgrade.as_ref(), record);
    let (body, probe) = request_body(body, conn, limit, &mut parts);
    parts.version = Version::HTTP_11;
    let client_host = if plan.preserve_host { HeaderValue::from_str(host.with_port()).ok() } else { None };
    let job =
        Job { core, service: plan.service, parts, body, probe: probe.clone(), host: client_host, trace };
    let answer = forward::send(job, record).await;
    if let Some(probe) = &probe {
        record.note_request_body(probe);
    }
    Ok(Passed { answer: answer?, upgrade: upgrade.is_some() })
}

/// Fills in who sent what, and finds or begins the trace.
fn identify_request(core: &Core, conn: &Conn, parts: &Parts, record: &mut Record) -> Parent {
    let trusted = core.plan.trusted.contains(conn.peer.ip());
    let request_id = match parts.headers.get("x-request-id").filter(|_| trusted) {
        Some(value) => trace::parse_id(value.as_bytes()),
        None => None,
    };
    let parent = parts.headers.get("traceparent").and_then(|value| trace::parse(value.as_bytes()));
    let span_id = core.random_id();
    let trace = Parent {
        trace_id: parent.map_or_else(|| core.random_id(), |parent| parent.trace_id),
        span_id,
        sampled: parent.map_or_else(|| u64::from(core.random_u32()) < core.plan.sample_below, |p| p.sampled),
    };
    let client = if trusted { forward::client_of(&parts.headers, core) } else { None };
    let grpc = parts.version == Version::HTTP_2
        && parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    let draft = record.draft();
    let head = &mut draft.head;
    head.request_id = request_id.unwrap_or_else(|| core.random_id());
    head.trace_id = trace.trace_id;
    head.span_id = span_id;
    head.parent_span_id = parent.map_or([0; 8], |parent| parent.span_id);
    head.sampled = u8::from(trace.sampled);
    head.peer_ip = conn.peer_bytes;
    head.client_ip = client.map_or(conn.peer_bytes, event::ip_bytes);
    head.scheme = if conn.tls.is_some() { Scheme::Https } else { Scheme::Http } as u8;
    head.protocol = match parts.version {
        Version::HTTP_2 if grpc => Protocol::Grpc,
        Version::HTTP_2 => Protocol::H2,
        _ => Protocol::H1,
    } as u8;
    conn.describe(core, draft);
    draft.text(Text::Method, parts.method.as_str().as_bytes());
    for (text, name) in [(Text::UserAgent, "user-agent"), (Text::ForwardedFor, "x-forwarded-for")] {
        if let Some(value) = parts.headers.get(name) {
            draft.text(text, value.as_bytes());
        }
    }
    if trusted && let Some(value) = parts.headers.get(&core.plan.source_service_header) {
        draft.text(Text::SourceService, value.as_bytes());
    }
    trace
}

fn route(
    core: &Core,
    conn: &Conn,
    host: &Host,
    path: &str,
    method: &Method,
    record: &mut Record,
) -> Result<Matched, Fault> {
    let tls = conn.tls.is_some();
    let router = &core.plan.router;
    let matched = router.find(host.name(), host.with_port(), path, method, tls).ok_or(Fault::NoRoute)?;
    let plan = &router.routes[matched.route];
    let service = &core.plan.services[plan.service];
    let draft = record.draft();
    draft.text(Text::Route, plan.name.as_bytes());
    draft.text(Text::Service, service.name.as_bytes());
    if let Some(upstream) = &core.plan.upstreams[service.upstream].name {
        draft.text(Text::Upstream, upstream.as_bytes());
    }
    if plan.https_only && !tls { Err(Fault::HttpsOnly) } else { Ok(matched) }
}

/// Finds out who calls, where the route asks for it. Returns the query to send, if a key was taken out of it.
fn authenticate(
    core: &Core,
    guard: Option<usize>,
    parts: &mut Parts,
    record: &mut Record,
) -> Result<Option<String>, Fault> {
    // Before anything else: nobody but the gateway says who the consumer is.
    let Some(guard) = guard.map(|guard| &core.plan.guards[guard]) else { return Ok(None) };
    if parts.method == Method::OPTIONS && !guard.run_on_preflight {
        return Ok(None);
    }
    let begun = Instant::now();
    let found = guard.identify(&core.plan.keyring, &mut parts.headers, parts.uri.query());
    let draft = record.draft();
    draft.head.auth_us = micros(begun, Instant::now());
    let (identity, query) = found.map_err(Fault::Auth)?;
    draft.head.auth_method = AuthMethod::KeyAuth as u8;
    draft.text(Text::Consumer, identity.consumer.as_bytes());
    draft.text(Text::CredentialId, identity.credential_id.as_bytes());
    parts.extensions.insert(Caller(identity.headers.clone()));
    Ok(query)
}

/// Headers that tell the upstream who calls, kept until the client's own claims are stripped.
#[derive(Clone)]
struct Caller(Vec<(header::HeaderName, HeaderValue)>);

/// The request target for the upstream: the service's path, then what is left of the request's.
fn upstream_uri(
    core: &Core,
    matched: Matched,
    path: &str,
    query: Option<&str>,
    uri: &Uri,
) -> Result<Uri, Fault> {
    let route = &core.plan.router.routes[matched.route];
    let base = &core.plan.services[route.service].path;
    let rest = if route.strip_path { &path[matched.prefix_bytes..] } else { path };
    let hidden = query.is_some();
    let query = query.or(uri.query()).filter(|query| !(hidden && query.is_empty()));
    if base.is_empty()
        && rest == uri.path()
        && !hidden
        && let Some(same) = uri.path_and_query()
    {
        return Ok(Uri::from(same.clone()));
    }
    let mut text = String::with_capacity(base.len() + rest.len() + query.map_or(0, str::len) + 2);
    text.push_str(base);
    if !rest.starts_with('/') && (!rest.is_empty() || base.is_empty()) {
        text.push('/');
    }
    text.push_str(rest);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    Uri::from_maybe_shared(bytes::Bytes::from(text)).map_err(|_| Fault::BadRequest("malformed path"))
}

/// Adds the gateway's own request headers, after the client's claims are gone.
fn add_own(core: &Core, parts: &mut Parts, upgrade: Option<&HeaderValue>, record: &mut Record) {
    let headers = &mut parts.headers;
    if let Some(Caller(caller)) = parts.extensions.remove() {
        for (name, value) in caller {
            headers.insert(name, value);
        }
    }
    headers.insert("x-request-id", trace::id_value(&record.draft().head.request_id));
    if core.plan.sends_via {
        headers.append(header::VIA, HeaderValue::from_static("1.1 tollhouse"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        record.draft().head.protocol = Protocol::Websocket as u8;
    }
}

fn request_body(
    body: &mut Option<Incoming>,
    conn: &Conn,
    bytes_max: u64,
    parts: &mut Parts,
) -> (RequestBody, Option<Rc<Probe>>) {
    let Some(incoming) = body.take().filter(|body| !body.is_end_stream()) else {
        return (RequestBody::Empty, None);
    };
    if incoming.size_hint().exact().is_none() {
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let probe = Probe::new();
    let strict = conn.strict.clone();
    (RequestBody::Stream { incoming, probe: Rc::clone(&probe), bytes_max, strict }, Some(probe))
}

/// Hands the response head over, its body to follow.
async fn relay(core: &Core, answer: Answer, mut record: Record, hold: Hold) -> Response<ResponseBody> {
    let Answer { response, lease, deadline, probe, read_timeout_ms } = answer;
    let (mut parts, incoming) = response.into_parts();
    let now = Instant::now();
    record.answer(parts.status.as_u16(), Source::Upstream, now);
    if let Some(value) = parts.headers.get(header::CONTENT_TYPE) {
        record.draft().text(Text::ContentType, value.as_bytes());
    }
    if let Some(status) = parts.headers.get("grpc-status").and_then(|v| v.to_str().ok()?.parse().ok()) {
        record.draft().head.grpc_status = status;
    }
    decorate(core, &mut parts.headers, &mut record, now);
    parts.version = Version::HTTP_11;
    deadline.disarm();
    let mut relay = Box::new(Relay {
        incoming,
        lease: Some(lease),
        deadline,
        read_timeout_ms,
        waiting: false,
        probe,
        broken: None,
        unwritten: true,
    });
    if relay.is_end() {
        std::future::poll_fn(|cx| {
            relay.release(&mut record, cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    Response::from_parts(parts, ResponseBody::upstream(relay, record, hold))
}

/// Adds the gateway's response headers.
fn decorate(core: &Core, headers: &mut http::HeaderMap, record: &mut Record, now: Instant) {
    if core.plan.sends_request_id {
        headers.insert("x-request-id", trace::id_value(&record.draft().head.request_id));
    }
    if core.plan.sends_server_timing {
        let total_us = record.elapsed_us(now);
        let upstream_us = record.draft().head.upstream_us;
        let (gateway, upstream) = (total_us.saturating_sub(upstream_us), upstream_us);
        let text = format!(
            "gateway;dur={}.{:03}, upstream;dur={}.{:03}",
            gateway / 1000,
            gateway % 1000,
            upstream / 1000,
            upstream % 1000
        );
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)) {
            headers.append("server-timing", value);
        }
    }
    if core.plan.sends_via {
        headers.append(header::VIA, HeaderValue::from_static("1.1 tollhouse"));
    }
}

/// Passes a 101 on and lays the tunnel ready for the connection's owner.
fn switch(
    answer: Answer,
    upgrade: bool,
    mut record: Record,
    conn: &Conn,
    hold: Hold,
) -> Response<ResponseBody> {
    if !upgrade {
        return respond::refuse(Fault::Malformed, Format::Json, true, record, hold);
    }
    let (mut parts, incoming) = answer.response.into_parts();
    drop(incoming);
    let upgrade = parts.headers.get(header::UPGRADE).cloned();
    forward::strip_response(&mut parts.headers);
    if let Some(upgrade) = upgrade {
        parts.headers.insert(header::UPGRADE, upgrade);
    }
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    record.answer(101, Source::Upstream, Instant::now());
    let tunnel = Tunnel::new(*answer.lease, record, answer.deadline);
    conn.tunnel.replace(Some(tunnel));
    Response::from_parts(parts, ResponseBody::none(hold))
}

/// Reads what is left of a refused request's body, within a bound, so that the connection can go on.
async fn drain(core: &Core, body: Option<Incoming>, fault: Fault) -> bool {
    let Some(mut body) = body else {
        return !matches!(
            fault,
            Fault::ClientClosed | Fault::Violation { .. } | Fault::BodyTooLarge | Fault::RequestTimeout
        );
    };
    if body.is_end_stream() {
        return true;
    }
    let limit = core.plan.limits.drain_bytes_max as u64;
    if body.size_hint().lower() > limit {
        return false;
    }
    let mut read = 0;
    let deadline = core.clock.deadline();
    let all = deadline.within(core.plan.timeouts.linger_timeout_ms, async {
        loop {
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
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
    let request_id = core.random_id();
    let (trace_id, span_id) = (core.random_id(), core.random_id());
    let sampled = u64::from(core.random_u32()) < core.plan.sample_below;
    record.answer(fault.status(), Source::Gateway, Instant::now());
    record.fault(fault);
    let draft = record.draft();
    draft.head.request_id = request_id;
    (draft.head.trace_id, draft.head.span_id) = (trace_id, span_id);
    draft.head.sampled = u8::from(sampled);
    draft.head.peer_ip = conn.peer_bytes;
    draft.head.client_ip = conn.peer_bytes;
    draft.head.protocol = Protocol::H1 as u8;
    draft.head.scheme = if conn.tls.is_some() { Scheme::Https } else { Scheme::Http } as u8;
    conn.describe(core, draft);
    if let Some(method) = method {
        draft.text(Text::Method, method);
    }
    if let Some(target) = target {
        draft.text(Text::Path, target.split(|byte| *byte == b'?').next().unwrap_or_default());
    }
    debug_assert_ne!(draft.head.outcome, Outcome::Ok as u8);
    request_id
}
