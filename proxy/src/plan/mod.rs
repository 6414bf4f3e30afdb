//! From configuration to plan. [`validate`] is pure: it reports everything that is wrong with full field paths, or
//! returns the [`Plan`] that [`crate::start`] runs. Services, upstreams, targets and routes are numbers from here
//! on; all header values that can be built once are built here.

mod entities;

mod pem;

mod certificates;

mod link;

mod listen_tls;

mod gateway;

mod trust;

#[cfg(test)]
mod tests;

use crate::accept::ServerTls;
use crate::auth::{Guard, Keyring};
use crate::config::{Entities, GatewayConfig, Limits, Timeouts};
use crate::route::Router;
use event::Problem;
use http::{HeaderName, HeaderValue};
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use link::LinkPlan;
pub(crate) use trust::TrustedNetworks;

/// A checked configuration, ready to run.
#[derive(Debug)]
pub struct Plan {
    pub(crate) listeners: Vec<ListenPlan>,
    pub(crate) threads: u16,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) trusted: TrustedNetworks,
    /// Whether events are written.
    pub(crate) recording: bool,
    pub(crate) source_service_header: HeaderName,
    /// A new trace is sampled when a random u32 is below this.
    pub(crate) sample_below: u64,
    pub(crate) sends_request_id: bool,
    pub(crate) sends_server_timing: bool,
    pub(crate) sends_via: bool,
    /// Identity of this configuration, in each event.
    pub(crate) version: u64,
    pub(crate) router: Router,
    pub(crate) services: Vec<ServicePlan>,
    pub(crate) links: Vec<LinkPlan>,
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) targets: Vec<TargetPlan>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) keyring: Keyring,
}

impl Plan {
    /// How many threads, and so spool writers, it wants.
    pub fn threads(&self) -> u16 {
        self.threads
    }

    /// Whom the certificate of a target must be for.
    pub(crate) fn server_name(&self, upstream: usize, target: usize) -> &str {
        match &self.upstreams[upstream].server_name {
            Some(name) => name,
            None => &self.targets[target].host,
        }
    }
}

/// One listener.
#[derive(Debug)]
pub(crate) struct ListenPlan {
    pub name: String,
    pub addr: SocketAddr,
    pub tls: Option<Arc<ServerTls>>,
}

/// What a route forwards to.
#[derive(Debug)]
pub(crate) struct ServicePlan {
    pub name: String,
    pub upstream: usize,
    /// How its connections are made.
    pub link: usize,
    /// Path put before each request's, without a final slash; empty for none.
    pub path: String,
    pub retries: u32,
    pub connect_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub read_timeout_ms: u64,
    pub enabled: bool,
}

/// A group of targets. A service with a plain host has one of its own, without a name.
#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    pub name: Option<String>,
    /// Indexes of targets, and their weights.
    pub targets: Vec<(usize, i64)>,
    pub host_header: Option<HeaderValue>,
    /// The name in `host_header`, to which certificates are held.
    pub server_name: Option<String>,
}

/// One target.
#[derive(Debug)]
pub(crate) struct TargetPlan {
    pub host: String,
    pub port: u16,
    /// Set when `host` is an address.
    pub addr: Option<SocketAddr>,
    pub host_header: HeaderValue,
}

/// Checks a configuration and makes the plan of it.
///
/// # Errors
/// All that is wrong, each with the path of its field.
pub fn validate(gateway: &GatewayConfig, entities: &Entities) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let store = certificates::check(entities, &mut problems);
    let front = gateway::check(gateway, &store.names, &mut problems);
    let back = entities::check(entities, store, gateway.upstream_roots.as_deref(), &mut problems);
    let (Some(front), true) = (front, problems.is_empty()) else {
        return Err(problems);
    };
    let share = gateway.sample_ratio * (u64::from(u32::MAX) + 1) as f64;
    Ok(Plan {
        listeners: front.listeners,
        threads: front.threads,
        limits: gateway.limits.clone(),
        timeouts: gateway.timeouts.clone(),
        trusted: front.trusted,
        recording: gateway.recording,
        source_service_header: front.source_service_header,
        sample_below: share as u64,
        sends_request_id: gateway.headers.contains(&crate::config::ResponseHeader::XRequestId),
        sends_server_timing: gateway.headers.contains(&crate::config::ResponseHeader::ServerTiming),
        sends_via: gateway.headers.contains(&crate::config::ResponseHeader::Via),
        version: version(gateway, entities),
        router: back.router,
        services: back.services,
        links: back.links,
        upstreams: back.upstreams,
        targets: back.targets,
        guards: back.guards,
        keyring: back.keyring,
    })
}

/// FNV-1a over the configuration as JSON: the same file is the same version in every process.
fn version(gateway: &GatewayConfig, entities: &Entities) -> u64 {
    let text = serde_json::to_vec(&(gateway, entities)).unwrap_or_default();
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
