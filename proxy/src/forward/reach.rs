//! A connection for a try: one that is there, or a new one within the bounds of the upstream.

use super::balance::Endpoint;
use super::circuit;
use super::connect::{self, NotConnected};
use super::pool::{self, Lease};
use super::tally::Open;
use crate::clock::Deadline;
use crate::core::Core;
use crate::error::Fault;
use crate::plan::ServicePlan;
use crate::record::{Record, micros};
use crate::upstream::Held;
use event::AttemptError;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// A connection that is there already.
pub(super) fn pooled(core: &Rc<Core>, endpoint: &Rc<Endpoint>, link: usize) -> Option<Box<Lease>> {
    let link = &core.plan.links[link];
    if link.http2 { pool::join(core, endpoint, link.id) } else { pool::take(endpoint, link.id) }
}

/// Connects, within the bounds of the upstream where it has some.
pub(super) async fn connect(
    core: &Rc<Core>,
    endpoint: &Rc<Endpoint>,
    service: &ServicePlan,
    ends: (SocketAddr, SocketAddr),
    deadline: &Deadline,
    fresh_only: bool,
    record: &mut Record,
) -> Result<Result<Box<Lease>, (AttemptError, Fault)>, Fault> {
    let Some(circuit) = &core.plan.upstreams[service.upstream].circuit else {
        return Ok(open(core, endpoint, service, ends, None, deadline, record).await);
    };
    let _pending = circuit::queue(core, service.upstream, circuit)?;
    let place = circuit::connection(core, endpoint, service, circuit, deadline, fresh_only);
    Ok(match place.await? {
        circuit::Place::Free(lease) => Ok(lease),
        circuit::Place::New(held) => open(core, endpoint, service, ends, Some(held), deadline, record).await,
    })
}

async fn open(
    core: &Rc<Core>,
    endpoint: &Rc<Endpoint>,
    service: &ServicePlan,
    ends: (SocketAddr, SocketAddr),
    held: Option<Held>,
    deadline: &Deadline,
    record: &mut Record,
) -> Result<Box<Lease>, (AttemptError, Fault)> {
    let link = &core.plan.links[service.link];
    let counted = Open::new(&endpoint.tally, held);
    let (timeout_ms, addr) = (service.connect_timeout_ms, endpoint.peer.addr);
    let named = core.plan.upstreams[service.upstream].server_name.is_none().then_some(&endpoint.peer.srv);
    let name = match named {
        Some(Some(srv)) => srv.host.as_str(),
        _ => core.plan.server_name(service.upstream, endpoint.peer.target),
    };
    let begun = Instant::now();
    let connected = deadline.within(timeout_ms, connect::open(link, addr, name, ends)).await;
    let now = Instant::now();
    record.draft().head.connect_us = micros(begun, now);
    match connected {
        Some(Ok(connected)) => {
            if let Some(from) = connected.handshake_from {
                let head = &mut record.draft().head;
                (head.connect_us, head.tls_us) = (micros(begun, from), micros(from, now));
            }
            if !link.http2 {
                return Ok(Lease::new(connected.wire, Some(counted), endpoint, link.id));
            }
            let shared = deadline.within(timeout_ms, connected.http2(core, link.id, (addr, counted))).await;
            shared
                .ok_or((AttemptError::ConnectTimeout, Fault::ConnectTimeout))?
                .map(|shared| pool::share(core, endpoint, shared))
                .map_err(refused)
        }
        Some(Err(error)) => {
            tracing::debug!(%addr, %error, "no connection");
            Err(refused(error))
        }
        None => Err((AttemptError::ConnectTimeout, Fault::ConnectTimeout)),
    }
}

fn refused(error: NotConnected) -> (AttemptError, Fault) {
    match error {
        NotConnected::Tcp(_) => (AttemptError::ConnectFailed, Fault::ConnectFailed),
        NotConnected::Tls(_) => (AttemptError::TlsFailed, Fault::TlsFailed),
    }
}
