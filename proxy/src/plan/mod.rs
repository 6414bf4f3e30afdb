//! From configuration to plan. [`validate`] is pure: it reports everything that is wrong with full field paths, or
//! returns the [`Plan`] that [`crate::start`] runs. Services, upstreams, targets and routes are numbers from here
//! on; all header values that can be built once are built here.

mod entities;

mod pem;

mod certificates;

mod link;

mod listen_tls;

mod dns;

mod states;

mod gateway;

mod trust;

mod anonymize;

mod upstreams;

mod succeed;

mod version;

#[cfg(test)]
mod tests;

use crate::accept::ServerTls;
use crate::auth::{Guard, Keyring};
use crate::config::{Entities, GatewayConfig, Limits, ProxyProtocol, ResponseHeader, Timeouts};
use crate::route::{Router, Streams};
use event::Problem;
use http::HeaderName;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use anonymize::Kept;
pub(crate) use entities::upstreams::authority;
pub(crate) use link::LinkPlan;
#[cfg(any(test, fuzzing))]
pub(crate) use pem::read_any as certificates_in;
pub(crate) use trust::TrustedNetworks;
pub(crate) use upstreams::{Part, SubsetPlan, TargetPlan, UpstreamPlan};

/// A checked configuration, ready to run.
#[derive(Debug)]
pub struct Plan {
    pub(crate) listeners: Vec<ListenPlan>,
    pub(crate) threads: u16,
    pub(crate) limits: Limits,
    /// One thread's share of `requests_max`.
    pub(crate) requests_share: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) trusted: TrustedNetworks,
    pub(crate) dns: crate::upstream::DnsPlan,
    pub(crate) states: crate::config::UpstreamStates,
    /// Whether events are written.
    pub(crate) recording: bool,
    /// What is kept of the client's address of a request without a service; none if all of it.
    pub(crate) kept: Option<Kept>,
    pub(crate) source_service_header: HeaderName,
    /// A new trace is sampled when a random u32 is below this.
    pub(crate) sample_below: u64,
    pub(crate) sends_request_id: bool,
    pub(crate) sends_server_timing: bool,
    pub(crate) sends_via: bool,
    pub(crate) sends_kong: KongHeaders,
    /// Identity of this configuration, in each event.
    pub(crate) version: u64,
    pub(crate) router: Router,
    pub(crate) streams: Streams,
    pub(crate) services: Vec<ServicePlan>,
    pub(crate) links: Vec<LinkPlan>,
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) targets: Vec<TargetPlan>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) keyring: Keyring,
    /// Which upstream of the plan before each one was; empty for a first plan.
    pub(crate) came_from: Vec<Option<usize>>,
}

impl Plan {
    /// How many threads, and so spool writers, it wants.
    pub fn threads(&self) -> u16 {
        self.threads
    }

    /// Identity of the configuration that it was made of, in each event.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whom the certificate of a target must be for.
    pub(crate) fn server_name(&self, upstream: usize, target: usize) -> &str {
        match &self.upstreams[upstream].server_name {
            Some(name) => name,
            None => &self.targets[target].host,
        }
    }
}

/// Which of Kong's own response headers are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KongHeaders {
    pub request_id: bool,
    pub upstream_latency: bool,
    pub proxy_latency: bool,
    pub response_latency: bool,
}

impl KongHeaders {
    fn of(headers: &[ResponseHeader]) -> Self {
        Self {
            request_id: headers.contains(&ResponseHeader::XKongRequestId),
            upstream_latency: headers.contains(&ResponseHeader::XKongUpstreamLatency),
            proxy_latency: headers.contains(&ResponseHeader::XKongProxyLatency),
            response_latency: headers.contains(&ResponseHeader::XKongResponseLatency),
        }
    }
}

/// One listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenPlan {
    /// Whether it takes connections. One that a reload took away stands here as long as connections may point at it.
    pub open: bool,
    pub name: String,
    pub addr: SocketAddr,
    pub tls: Option<Arc<ServerTls>>,
    pub proxy_protocol: ProxyProtocol,
    /// What streams it takes; none for one of requests.
    pub streams: Option<StreamKinds>,
}

/// Which streams a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKinds {
    /// Any bytes.
    Tcp,
    /// What begins with TLS, which is ended here or passed through.
    Tls,
}

/// What a route forwards to.
#[derive(Debug, Clone)]
pub(crate) struct ServicePlan {
    pub name: String,
    pub upstream: usize,
    /// How its connections are made.
    pub link: usize,
    /// Path put before each request's: `/` for none.
    pub path: String,
    pub retries: u32,
    pub retry: crate::forward::RetryPlan,
    pub connect_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub read_timeout_ms: u64,
    pub enabled: bool,
    /// Whether it takes streams rather than requests.
    pub stream: bool,
    /// What is kept of the addresses of its clients; none if all.
    pub kept: Option<Kept>,
}

/// Checks a configuration and makes the plan of it.
///
/// # Errors
/// All that is wrong, each with the path of its field.
pub fn validate(gateway: &GatewayConfig, entities: &Entities) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let version = version::of(gateway, entities);
    let store = certificates::check(entities, &mut problems);
    let front = gateway::check(gateway, &store.names, &mut problems);
    let dns = dns::check(&gateway.dns, &mut problems);
    states::check(&gateway.upstream_states, &mut problems);
    let mut back = entities::check(entities, store, gateway.upstream_roots.as_deref(), &mut problems);
    let kept = anonymize::check(&gateway.anonymize, &mut back.services, &mut problems);
    let (Some(front), true) = (front, problems.is_empty()) else {
        return Err(problems);
    };
    let router = back.router.build();
    let scanned = router.scanned_max();
    if scanned > gateway.limits.routes_scanned_max {
        let message = format!(
            "is less than the {scanned} routes of one host and path that only a look at each tells apart"
        );
        let hint = "give these routes hosts, paths, methods or exact values, or raise it: each costs every such request";
        return Err(vec![Problem::new("gateway.limits.routes_scanned_max", message).hint(hint)]);
    }
    let share = gateway.sample_ratio * (u64::from(u32::MAX) + 1) as f64;
    Ok(Plan {
        listeners: front.listeners,
        threads: front.threads,
        limits: gateway.limits.clone(),
        requests_share: share_of(gateway.limits.requests_max, front.threads),
        timeouts: gateway.timeouts.clone(),
        trusted: front.trusted,
        dns,
        states: gateway.upstream_states.clone(),
        recording: gateway.recording,
        kept,
        source_service_header: front.source_service_header,
        sample_below: share as u64,
        sends_request_id: gateway.headers.contains(&ResponseHeader::XRequestId),
        sends_server_timing: gateway.headers.contains(&ResponseHeader::ServerTiming),
        sends_via: gateway.headers.contains(&ResponseHeader::Via),
        sends_kong: KongHeaders::of(&gateway.headers),
        version,
        router,
        streams: Streams::new(back.streams),
        services: back.services,
        links: back.links,
        upstreams: back.upstreams,
        targets: back.targets,
        guards: back.guards,
        keyring: back.keyring,
        came_from: Vec::new(),
    })
}

/// One thread's part of a bound of all; 0 means none.
fn share_of(all: usize, threads: u16) -> usize {
    if all == 0 { usize::MAX } else { all.div_ceil(usize::from(threads.max(1))) }
}
