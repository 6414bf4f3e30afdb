//! One request, in the order of its journey: read who and what, route, authenticate, forward, relay the response.
//! Each stage either goes on or ends with a [`Fault`], which becomes a response in one place.

mod arrival;

mod identify;

mod secure;

mod divert;

mod answer;

mod refuse;

pub(crate) use refuse::record_refused;
pub(crate) use secure::Redirect;

use crate::accept::{ClientBody, Conn, Hold, is_target};
use crate::auth::Identity;
use crate::core::{Core, Phase};
use crate::error::Fault;
use crate::forward::{self, Answer, Job, Outgoing, Target, Upload};
use crate::host;
use crate::record::{Record, micros};
use crate::respond::{self, ResponseBody};
use crate::route::{Asked, Callers, Destination, Matched, Number, RoutePlan};
use divert::Place;
use event::{AuthMethod, Protocol, Text};
use futures::FutureExt;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use secure::{Stop, came_by_tls, insecure};
use std::borrow::Cow;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

/// Answers a request. A panic on the way is answered too.
pub(crate) async fn serve(
    core: Rc<Core>,
    conn: Rc<Conn>,
    request: Request<ClientBody>,
    hold: Hold,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut record = Record::open(&core, Instant::now());
    let (mut parts, body) = request.into_parts();
    let mut rest = Some(body);
    let passed =
        AssertUnwindSafe(pass(&core, &conn, &mut parts, &mut rest, &mut record)).catch_unwind().await;
    let draining = core.phase.get() != Phase::Serving && parts.version != Version::HTTP_2;
    let Stop { fault, redirect } = match passed {
        Ok(Ok(answer)) => {
            let mut response = match answer.head.status {
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok(answer::switch(answer, &parts, record, &conn, hold));
                }
                _ => answer::relay(&core, answer, record, hold),
            };
            if draining {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            return Ok(response);
        }
        Ok(Err(stop)) => stop,
        Err(_panic) => Fault::Panic.into(),
    };
    let drained = refuse::drain(&core, rest, fault).await;
    let close = draining || (!drained && parts.version != Version::HTTP_2);
    let mut response = respond::refuse(fault, respond::format_of(&parts.headers), close, record, hold);
    if let Some(redirect) = redirect {
        respond::send_away(&mut response, *redirect);
    }
    Ok(response)
}

/// The journey to the response head. `body` is taken when it is forwarded.
async fn pass(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    parts: &mut Parts,
    body: &mut Option<ClientBody>,
    record: &mut Record,
) -> Result<Answer, Stop> {
    let claims = identify::request(core, conn, parts, record);
    if core.is_overloaded() {
        core.doors.overloaded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return Err(Fault::Overloaded.into());
    }
    let Parts { method, uri, headers, version, .. } = parts;
    let host = host::of(uri, headers, conn.default_port());
    if let Ok(host) = &host {
        record.draft().text(Text::Host, host.name().as_bytes());
    }
    let host = host.map_err(Fault::BadRequest)?;
    if *method == Method::CONNECT {
        return Err(Fault::Connect.into());
    }
    if *version == Version::HTTP_2 && !is_http1_target(uri) {
        return Err(Fault::BadRequest("malformed request target").into());
    }
    let path = match crate::path::normalise(uri.path()) {
        Some(path) => path,
        None if *method == Method::OPTIONS && uri.path() == "*" => Cow::Borrowed("/"),
        None => return Err(Fault::BadRequest("malformed path").into()),
    };
    record.draft().text(Text::Path, path.as_bytes());
    let asked = Asked {
        host: host.name(),
        port: host.port.unwrap_or(conn.default_port()),
        path: &path,
        method,
        headers,
        query: uri.query(),
        callers: Callers { guards: &core.plan.guards, keyring: &core.plan.keyring },
        tls: conn.tls.is_some(),
        sni: conn.server_name(),
    };
    let matched = route(core, &asked, record)?;
    let plan = &core.plan.router.routes[matched.route];
    if let Some(status) = plan.https_only.filter(|_| !came_by_tls(conn, headers)) {
        return Err(insecure(status, &host, &path, uri.query()));
    }
    if plan.grpc_only {
        grpc_only(record)?;
    }
    let more = plan.more.as_deref();
    let guard = plan.guard.map(Number::get);
    let (identity, hidden) = authenticate(core, guard, method, headers, uri.query(), record)?;
    let query = match &hidden {
        Some(query) => Some(query.as_str()).filter(|query| !query.is_empty()),
        None => uri.query(),
    };
    if let Some(fault) = more.and_then(|more| more.fault.as_ref()) {
        divert::inject(core, fault, record).await?;
    }
    if let Some(redirect) = more.and_then(|more| more.redirect.as_ref()) {
        let place = Place { host: &host, path: &path, query };
        return Err(divert::away(core, conn, headers, redirect, &matched, &place));
    }
    let rewrite = more.and_then(|more| more.rewrite.as_ref());
    let rewritten = match rewrite.and_then(|rewrite| rewrite.path.as_ref()) {
        Some(change) => Some(divert::rewritten(core, change, &matched, &path)?),
        None => None,
    };
    let destination = destine(core, plan, headers, identity, record)?;
    let service = &core.plan.services[destination.service()];
    let upgrade = if *version == Version::HTTP_11 { forward::upgrade_of(headers) } else { None };
    if upgrade.is_some() {
        record.draft().head.protocol = Protocol::Websocket as u8;
    }
    let limit = core.plan.limits.body_bytes_max;
    let declared = body.as_ref().and_then(ClientBody::length);
    if limit > 0 && declared.is_some_and(|bytes| bytes > limit) {
        return Err(Fault::BodyTooLarge.into());
    }
    let request_id = record.draft().head.request_id;
    let head = Outgoing {
        core,
        conn,
        method,
        target: Target {
            base: &service.path,
            path: &path,
            matched_bytes: matched.prefix_bytes,
            strip: plan.strip_path,
            handling: plan.path_handling,
            rewritten: rewritten.as_deref(),
            query,
        },
        headers,
        host: &host,
        matched,
        host_line: match rewrite.and_then(|rewrite| rewrite.host.as_ref()) {
            Some(host) => Some(host.as_bytes()),
            None => plan.preserve_host.then(|| host.with_port().as_bytes()),
        },
        shadow: false,
        identity,
        request_id: &request_id,
        trace: claims.trace,
        has_parent: claims.has_parent,
        upgrade: upgrade.as_ref(),
        client: claims.client,
        trusted: claims.trusted,
    };
    let mut body = body.take();
    if let Some(mirror) = more.and_then(|more| more.mirror.as_ref())
        && upgrade.is_none()
        && mirror.share.takes(|end| core.random_below(end))
    {
        body = forward::mirror(core, conn, &head, mirror.destination, body, record);
    }
    let buffered =
        if more.is_some_and(|more| more.streams) { 0 } else { core.plan.limits.request_buffer_bytes_max };
    if let Some(body) = &mut body
        && body.begun(buffered).is_some()
    {
        // On the heap: most bodies are here by now.
        Box::pin(arrival::wait(core, body, buffered, record)).await?;
    }
    let upload = Upload::new(body, limit, conn.strict.clone());
    Ok(forward::send(Job { core, destination, head, upload }, record).await?)
}

fn route(core: &Core, asked: &Asked<'_>, record: &mut Record) -> Result<Matched, Fault> {
    let router = &core.plan.router;
    let matched = router.find(asked, &core.caches).ok_or(Fault::NoRoute)?;
    let plan = &router.routes[matched.route];
    record.draft().text(Text::Route, plan.name.as_bytes());
    match plan.destination {
        Some(destination) if plan.split().is_none() => note(core, destination, record),
        // Until one of several is chosen.
        Some(first) => {
            let service = &core.plan.services[first.service()];
            record.kept = service.kept;
            record.draft().text(Text::Service, service.name.as_bytes());
        }
        None => {}
    }
    Ok(matched)
}

/// Where a request of a route goes.
fn destine(
    core: &Core,
    plan: &RoutePlan,
    headers: &HeaderMap,
    identity: Option<&Identity>,
    record: &mut Record,
) -> Result<Destination, Fault> {
    let Some(split) = plan.split() else { return plan.destination.ok_or(Fault::NoTarget) };
    let destination = split.choose(headers, identity, |end| core.random_below(end));
    note(core, destination, record);
    Ok(destination)
}

/// Writes into the event where a request goes.
fn note(core: &Core, destination: Destination, record: &mut Record) {
    let service = &core.plan.services[destination.service()];
    let upstream = &core.plan.upstreams[service.upstream];
    record.kept = service.kept;
    let draft = record.draft();
    draft.text(Text::Service, service.name.as_bytes());
    if let Some(name) = &upstream.name {
        draft.text(Text::Upstream, name.as_bytes());
    }
    if let Some(subset) = destination.subset() {
        draft.text(Text::ServiceVersion, upstream.subsets[subset].name.as_bytes());
    }
}

/// Whether a target of HTTP/2 could stand in a request line, as the guard sees to it for HTTP/1.
fn is_http1_target(uri: &Uri) -> bool {
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let of_http = uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
    of_http && target.starts_with(['/', '*']) && is_target(target)
}

/// Refuses what is not gRPC by HTTP/2.
fn grpc_only(record: &mut Record) -> Result<(), Fault> {
    match record.draft().head.protocol {
        protocol if protocol == Protocol::Grpc as u8 => Ok(()),
        protocol if protocol == Protocol::H2 as u8 => Err(Fault::NotGrpc),
        _ => Err(Fault::Http2Only),
    }
}

/// Finds out who calls, where the route asks for it. Returns the query to send too, if a key was taken out of it.
fn authenticate<'c>(
    core: &'c Core,
    guard: Option<usize>,
    method: &Method,
    headers: &mut HeaderMap,
    query: Option<&str>,
    record: &mut Record,
) -> Result<(Option<&'c Identity>, Option<String>), Fault> {
    let Some(guard) = guard.map(|guard| &core.plan.guards[guard]) else { return Ok((None, None)) };
    if *method == Method::OPTIONS && !guard.run_on_preflight {
        return Ok((None, None));
    }
    let begun = Instant::now();
    let found = guard.identify(&core.plan.keyring, headers, query);
    let draft = record.draft();
    draft.head.auth_us = micros(begun, Instant::now());
    let (identity, query) = found.map_err(Fault::Auth)?;
    draft.head.auth_method = AuthMethod::KeyAuth as u8;
    draft.text(Text::Consumer, identity.consumer.as_bytes());
    draft.text(Text::CredentialId, identity.credential_id.as_bytes());
    Ok((Some(identity), query))
}
