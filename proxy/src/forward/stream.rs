//! The upstream of a TCP or TLS stream: pick a target and connect, another one where that fails. Each try is an attempt in
//! the event.

use super::balance::{Ask, Load};
use super::pool::Lease;
use super::reach::connect;
use super::{Try, circuit, more, next, note, verdict};
use crate::config::Algorithm;
use crate::core::Core;
use crate::error::Fault;
use crate::record::Record;
use event::{ABSENT_U16, AttemptError};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use twox_hash::XxHash3_64;

/// Connects to the upstream of a service, for a client between these ends.
pub(crate) async fn attach(
    core: &Rc<Core>,
    service: usize,
    ends: (SocketAddr, SocketAddr),
    record: &mut Record,
) -> Result<Box<Lease>, Fault> {
    let service = &core.plan.services[service];
    let upstream = &core.plan.upstreams[service.upstream];
    let deadline = core.clock.deadline();
    let begun = Instant::now();
    // Of all that can be hashed a stream has only its client.
    let hashed = upstream.algorithm == Algorithm::ConsistentHashing;
    let hash = hashed.then(|| XxHash3_64::oneshot(&event::ip_bytes(ends.0.ip())));
    let mut ask = Ask { hash, ..Ask::default() };
    let (mut tries_left, mut retrying) = (service.retries, None);
    // While it lives, the upstream's bounds see the stream.
    let mut used = circuit::enter(core, service, upstream)?;
    let mut started = begun;
    loop {
        let mut attempt = Try { started, endpoint: None, reused: false, span_id: core.random_id() };
        let endpoint = next(core, service, &mut ask, &deadline, &attempt, begun, record).await?;
        attempt.endpoint = Some(Rc::clone(&endpoint));
        let load = Load::new(&endpoint, upstream.counts_load());
        match connect(core, &endpoint, service, ends, &deadline, true, record).await? {
            Ok(mut lease) => {
                note(record, &attempt, ABSENT_U16, AttemptError::None, begun);
                // A connection is all that an upstream of streams has to answer.
                if upstream.outlier.is_some() {
                    endpoint.peer.did_well();
                }
                lease.load = Some(load);
                lease.used = used.take();
                return Ok(lease);
            }
            Err((error, fault)) => {
                started = note(record, &attempt, ABSENT_U16, error, begun);
                verdict::failed(core, service.upstream, &endpoint, error);
                let again = service.retry.takes_error(error);
                if !again || !more(core, service, &mut tries_left, &mut retrying) {
                    return Err(fault);
                }
            }
        }
    }
}
