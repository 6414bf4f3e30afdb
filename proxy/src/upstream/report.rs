//! The picture of all upstreams' addresses: what the threads have counted and the checks have found, put into rows.

use super::peer::{By, Failure, Peer};
use super::{Group, Member, Resource, Upstreams};
use crate::plan::{Part, Plan, UpstreamPlan};
use event::upstreams::{CheckCounts, CircuitState, TargetCondition, TargetState};
use std::sync::atomic::Ordering::Relaxed;

/// Rows of all upstreams, at most so many, and how many there would be beyond.
pub(super) fn rows(upstreams: &Upstreams, rows_max: usize) -> (Vec<TargetState>, u64) {
    let plan = &upstreams.plan;
    let (mut rows, mut omitted) = (Vec::new(), 0);
    let mut add = |row: &dyn Fn() -> TargetState| {
        if rows.len() < rows_max {
            rows.push(row());
        } else {
            omitted += 1;
        }
    };
    let pages = upstreams.book.open();
    for (at, upstream) in plan.upstreams.iter().enumerate() {
        let group = upstreams.groups[at].borrow().clone();
        let service = service_of(plan, at, upstream);
        for &Part { target, weight, .. } in &upstream.targets {
            let named = || TargetState {
                service: service.map(str::to_owned),
                upstream: upstream.name.clone(),
                target: plan.targets[target].text.clone(),
                dns_failing_since_us: pages.failing_since_us(&plan.targets[target].text),
                weight,
                ..TargetState::default()
            };
            let mut found = members(&group, target).peekable();
            if found.peek().is_none() {
                add(&|| without_address(named(), upstreams.begun_us));
            }
            for member in found {
                add(&|| with_address(named(), upstream, member));
            }
        }
    }
    (rows, omitted)
}

/// The bounds of all upstreams with a circuit breaker.
pub(super) fn circuits(upstreams: &Upstreams) -> Vec<CircuitState> {
    let mut states = Vec::new();
    for (upstream, usage) in upstreams.plan.upstreams.iter().zip(&upstreams.usages) {
        let (Some(circuit), Some(name)) = (&upstream.circuit, &upstream.name) else { continue };
        states.extend(Resource::ALL.map(|resource| CircuitState {
            upstream: name.clone(),
            resource: resource.as_str().to_owned(),
            used: usage.of(resource).into(),
            most: circuit.most(resource).into(),
            overflows: usage.overflows(resource),
        }));
    }
    states
}

/// The first service whose host an upstream without a name is.
fn service_of<'a>(plan: &'a Plan, at: usize, upstream: &UpstreamPlan) -> Option<&'a str> {
    if upstream.name.is_some() {
        return None;
    }
    plan.services.iter().find(|service| service.upstream == at).map(|service| service.name.as_str())
}

fn members(group: &Group, target: usize) -> impl Iterator<Item = &Member> {
    group.members.iter().filter(move |member| member.peer.target == target)
}

fn without_address(row: TargetState, begun_us: i64) -> TargetState {
    match row.dns_failing_since_us {
        Some(since_us) => TargetState { state: TargetCondition::DnsError, since_us, ..row },
        None => TargetState { state: TargetCondition::DnsPending, since_us: begun_us, ..row },
    }
}

fn with_address(row: TargetState, upstream: &UpstreamPlan, member: &Member) -> TargetState {
    let peer = &*member.peer;
    let (health, outlier, traffic) = (&peer.health, &peer.outlier, &peer.traffic);
    let ejected = peer.is_ejected();
    let [success, failure, ignored] = [0, 1, 2].map(|result| health.checks[result].load(Relaxed));
    let last = peer.failure.read();
    TargetState {
        address: Some(peer.addr_text.to_string()),
        state: condition(upstream, peer),
        since_us: health.since_us.load(Relaxed),
        weight: member.weight,
        active: traffic.under_way.load(Relaxed).into(),
        connections: traffic.connections.load(Relaxed).into(),
        requests: traffic.requests.load(Relaxed),
        failures: traffic.failures.load(Relaxed),
        consecutive_5xx: outlier.consecutive.load(Relaxed),
        ejections: outlier.total.load(Relaxed),
        ejected_until_us: ejected.then(|| outlier.until_us.load(Relaxed)),
        successes: health.successes.load(Relaxed),
        http_failures: health.http_failures.load(Relaxed),
        tcp_failures: health.tcp_failures.load(Relaxed),
        timeouts: health.timeouts.load(Relaxed),
        checks: CheckCounts { success, failure, ignored },
        last_check_us: some(health.last_check_us.load(Relaxed)),
        last_failure: last.map(|(_, failure, _)| reason(failure)),
        last_failure_by: last.map(|(by, ..)| if by == By::Check { "check" } else { "request" }.to_owned()),
        last_failure_us: last.map(|(.., at_us)| at_us),
        ..row
    }
}

fn condition(upstream: &UpstreamPlan, peer: &Peer) -> TargetCondition {
    let checked = upstream.passive().is_some()
        || upstream.health.as_ref().is_some_and(|health| health.active.is_some())
        || upstream.outlier.is_some();
    match (peer.is_healthy(), peer.is_ejected()) {
        (false, _) => TargetCondition::Unhealthy,
        (true, true) => TargetCondition::Ejected,
        (true, false) if checked => TargetCondition::Healthy,
        (true, false) => TargetCondition::Unchecked,
    }
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::Status(status) => format!("http_{status}"),
        Failure::Grpc(code) => format!("grpc_{code}"),
        Failure::Error(error) => error.as_str().to_owned(),
        Failure::NotServing => "not_serving".to_owned(),
    }
}

/// A moment; 0 stands for none.
fn some(at_us: i64) -> Option<i64> {
    Some(at_us).filter(|at_us| *at_us > 0)
}
