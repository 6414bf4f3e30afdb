//! What a route does with requests beyond passing them on: faults that are wanted, other places for clients, other paths.

use super::secure::{Redirect, Stop, came_by_tls};
use crate::accept::Conn;
use crate::core::Core;
use crate::error::Fault;
use crate::host::Host;
use crate::record::Record;
use crate::route::{FaultPlan, Matched, PathChange, RedirectPlan};
use http::{HeaderMap, HeaderValue};
use std::fmt::Write;

const MALFORMED: Fault = Fault::BadRequest("malformed path");

/// Delays or refuses a request where its lot says so.
pub(super) async fn inject(core: &Core, plan: &FaultPlan, record: &mut Record) -> Result<(), Fault> {
    let lot = |end| core.random_below(end);
    let delay = plan.delay.filter(|(share, _)| share.takes(lot));
    let abort = plan.abort.filter(|(share, _)| share.takes(lot));
    let word: &[u8] = match (delay, abort) {
        (None, None) => return Ok(()),
        (Some(_), None) => b"delay",
        (None, Some(_)) => b"abort",
        (Some(_), Some(_)) => b"delay,abort",
    };
    record.draft().extra(b"fault", word);
    if let Some((_, delay)) = delay {
        // Boxed: requests without one need no room for it.
        Box::pin(tokio::time::sleep(delay)).await;
    }
    abort.map_or(Ok(()), |(_, status)| Err(Fault::Injected(status)))
}

/// The path that goes upstream in place of the client's.
pub(super) fn rewritten(
    core: &Core,
    change: &PathChange,
    matched: &Matched,
    path: &str,
) -> Result<String, Fault> {
    let bytes_max = core.plan.limits.request_line_bytes_max;
    change.apply(path, matched, &core.plan.router, &core.caches, bytes_max).ok_or(MALFORMED)
}

/// What a request asked for.
pub(super) struct Place<'a> {
    pub host: &'a Host,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

/// Where the client is sent: always a whole address, so that no path is taken for a host.
pub(super) fn away(
    core: &Core,
    conn: &Conn,
    headers: &HeaderMap,
    plan: &RedirectPlan,
    matched: &Matched,
    place: &Place<'_>,
) -> Stop {
    let path = match &plan.path {
        None => Ok(place.path.to_owned()),
        Some(change) => rewritten(core, change, matched, place.path),
    };
    let path = match path {
        Ok(path) => path,
        Err(fault) => return fault.into(),
    };
    let scheme = plan.scheme.unwrap_or(if came_by_tls(conn, headers) { "https" } else { "http" });
    let host = plan.host.as_deref().unwrap_or(place.host.name());
    let mut location = format!("{scheme}://{host}");
    // The port of the request belongs to its own scheme and host.
    let moved = plan.scheme.is_some() || plan.host.is_some();
    let port = plan.port.or(place.host.port.filter(|_| !moved));
    if let Some(port) = port.filter(|port| *port != if scheme == "https" { 443 } else { 80 }) {
        // Writing into a string cannot fail.
        let _written = write!(location, ":{port}");
    }
    location.push_str(&path);
    if let Some(query) = place.query {
        location.push('?');
        location.push_str(query);
    }
    match HeaderValue::from_str(&location) {
        Ok(location) => {
            let redirect = Some(Box::new(Redirect { status: plan.status, location }));
            Stop { fault: Fault::Redirected, redirect }
        }
        Err(_) => MALFORMED.into(),
    }
}
