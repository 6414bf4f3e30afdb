//! The circuit breaker: how many requests, connections and tries again an upstream is given at once, and what waits for a
//! connection meanwhile. The counts are of all threads; a connection is waited for within a thread.

use super::balance::Endpoint;
use crate::clock::Deadline;
use crate::core::Core;
use crate::error::Fault;
use crate::plan::{ServicePlan, UpstreamPlan};
use crate::upstream::{CircuitPlan, Held, Resource, Usage};
use std::rc::Rc;
use std::sync::Arc;

use super::pool::Lease;

/// What a request has got that asked for a connection.
pub(super) enum Place {
    /// A connection that has become free.
    Free(Box<Lease>),
    /// The right to open one.
    New(Held),
}

/// Counts a request, where that is asked for, and refuses one beyond the bound.
pub(super) fn enter(
    core: &Core,
    service: &ServicePlan,
    upstream: &UpstreamPlan,
) -> Result<Option<Held>, Fault> {
    let usage = core.upstreams.usage(service.upstream);
    match &upstream.circuit {
        Some(circuit) => take(circuit, usage, Resource::Requests).map(Some),
        None => Ok((service.retry.budget_percent > 0).then(|| Held::new(usage, Resource::Requests))),
    }
}

/// A place among those who wait for a connection.
pub(super) fn queue(core: &Core, upstream: usize, circuit: &CircuitPlan) -> Result<Held, Fault> {
    take(circuit, core.upstreams.usage(upstream), Resource::PendingRequests)
}

/// A connection that is there, or the right to open one. Like Envoy's, a thread without any connection to the address
/// may have one in any case: otherwise others could keep it from ever being asked.
pub(super) async fn connection(
    core: &Rc<Core>,
    endpoint: &Rc<Endpoint>,
    service: &ServicePlan,
    circuit: &CircuitPlan,
    deadline: &Deadline,
    fresh_only: bool,
) -> Result<Place, Fault> {
    let usage = core.upstreams.usage(service.upstream);
    let most = circuit.most(Resource::Connections);
    let mut counted = false;
    let waits = async {
        loop {
            // Made before it is looked, so that nothing is missed in between.
            let freed = endpoint.tally.freed();
            if !fresh_only && let Some(lease) = super::reach::pooled(core, endpoint, service.link) {
                return Place::Free(lease);
            }
            if let Some(held) = Held::take(usage, Resource::Connections, most) {
                return Place::New(held);
            }
            if !std::mem::replace(&mut counted, true) {
                usage.overflow(Resource::Connections);
            }
            if endpoint.tally.connections() == 0 {
                return Place::New(Held::new(usage, Resource::Connections));
            }
            freed.await;
        }
    };
    deadline.within(service.connect_timeout_ms, waits).await.ok_or(Fault::Overflow(Resource::Connections))
}

fn take(circuit: &CircuitPlan, usage: &Arc<Usage>, resource: Resource) -> Result<Held, Fault> {
    Held::take(usage, resource, circuit.most(resource)).ok_or_else(|| {
        usage.overflow(resource);
        Fault::Overflow(resource)
    })
}
