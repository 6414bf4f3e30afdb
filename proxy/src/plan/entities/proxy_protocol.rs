//! `send_proxy_protocol` of services, and what it means for the health checks of their upstreams.

use super::Checker;
use crate::accept::ProxyVersion;
use crate::config::{SendProxyProtocol, Service};

/// The version that a service asks for.
pub(super) fn version(service: &Service) -> Option<ProxyVersion> {
    service.send_proxy_protocol.map(|version| match version {
        SendProxyProtocol::V1 => ProxyVersion::V1,
        SendProxyProtocol::V2 => ProxyVersion::V2,
    })
}

impl Checker<'_> {
    /// Who waits for a header takes no health check without one: it is sent as services of the upstream do.
    pub(super) fn checks_by_proxy_protocol(&mut self) {
        for at in 0..self.back.upstreams.len() {
            let services = self.back.services.iter().filter(|service| service.upstream == at);
            let mut versions: Vec<_> = services.map(|service| self.links.plans[service.link].proxy).collect();
            versions.dedup();
            let health = self.back.upstreams[at].health.as_mut();
            let Some(active) = health.and_then(|health| health.active.as_mut()) else { continue };
            active.proxy = versions.first().copied().flatten();
            if versions.len() > 1 {
                self.problem_hint(
                    format!("upstreams[{at}].healthchecks.active"),
                    "must know of a header of the PROXY protocol that not all services of the upstream send",
                    "give these services the same send_proxy_protocol, or an upstream each",
                );
            }
        }
    }
}
