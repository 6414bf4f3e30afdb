//! Services: an address or the name of an upstream, a path, time-outs.

use super::{Checker, split_target};
use crate::config::Service;
use crate::path;
use crate::plan::{ServicePlan, UpstreamPlan};
use http::Uri;
use http::uri::Authority;

/// Longest time-out of a service, milliseconds: Kong's own bound.
const TIMEOUT_MS_MAX: u64 = 2_147_483_646;

/// Most tries after the first: an event has room for so many.
const RETRIES_MAX: u32 = event::ATTEMPTS_MAX as u32 - 1;

impl Checker<'_> {
    pub(super) fn services(&mut self) {
        let names: Vec<_> = self.entities.services.iter().map(|one| one.name.as_deref()).collect();
        self.unique("services", "name", &names);
        let ids: Vec<_> = self.entities.services.iter().map(|one| one.id.as_deref()).collect();
        self.unique("services", "id", &ids);
        for (at, service) in self.entities.services.iter().enumerate() {
            let plan = self.service(service, at);
            self.back.services.push(plan);
        }
    }

    fn service(&mut self, service: &Service, at: usize) -> ServicePlan {
        let path = format!("services[{at}]");
        let mut protocol = service.protocol.clone();
        let (mut host, mut port, mut base) = (service.host.clone(), service.port, service.path.clone());
        if let Some(url) = &service.url {
            if host.is_some() || port.is_some() || base.is_some() || protocol.is_some() {
                self.problem_hint(
                    format!("{path}.url"),
                    "stands beside protocol, host, port or path",
                    "give either the url or its parts",
                );
            }
            match url.parse::<Uri>() {
                Ok(uri) if uri.authority().is_some_and(|named| named.as_str().contains('@')) => self
                    .problem_hint(
                        format!("{path}.url"),
                        "holds a user or a password, which no upstream would get",
                        "leave it away, and have a header set for the upstream",
                    ),
                Ok(uri) if uri.authority().is_some_and(has_no_such_port) => self.problem_hint(
                    format!("{path}.url"),
                    format!("`{url}` has a port that is none"),
                    "a whole number from 1 to 65535, or no port at all",
                ),
                Ok(uri) if uri.host().is_some() && uri.scheme().is_some() && uri.query().is_none() => {
                    protocol = uri.scheme_str().map(str::to_owned);
                    host = uri.host().map(str::to_owned);
                    port = uri.port_u16();
                    base = Some(uri.path().to_owned());
                }
                _ => self.problem_hint(
                    format!("{path}.url"),
                    format!("`{url}` is not a URL of a service"),
                    "like http://10.0.0.1:9000/base",
                ),
            }
        } else if host.is_none() {
            self.problem_hint(format!("{path}.host"), "is missing", "give `url`, or `host` and `port`");
        }
        let field = if service.url.is_some() { "url" } else { "protocol" };
        match protocol.as_deref() {
            None | Some("http" | "https" | "grpc" | "grpcs" | "tcp" | "tls") => {}
            Some(other) => {
                self.problem_hint(
                    format!("{path}.{field}"),
                    format!("`{other}` is not supported"),
                    "use http, https, grpc, grpcs, tcp or tls",
                );
            }
        }
        let base = base.unwrap_or_default();
        if !base.is_empty() && path::normalise(&base).is_none_or(|normal| *normal != *base) {
            self.problem_hint(
                format!("{path}.path"),
                format!("`{base}` is not a normalised path"),
                "begin with / and leave out //, . and ..",
            );
        }
        for (name, value) in [
            ("connect_timeout", service.connect_timeout),
            ("write_timeout", service.write_timeout),
            ("read_timeout", service.read_timeout),
        ] {
            if value.is_some_and(|value| !(1..=TIMEOUT_MS_MAX).contains(&value)) {
                self.problem(
                    format!("{path}.{name}"),
                    format!("must be from 1 to {TIMEOUT_MS_MAX} milliseconds"),
                );
            }
        }
        if service.retries.is_some_and(|retries| retries > RETRIES_MAX) {
            self.problem_hint(
                format!("{path}.retries"),
                format!("must be from 0 to {RETRIES_MAX}"),
                "an event has room for so many; more would only make a failure longer",
            );
        }
        let stream = matches!(protocol.as_deref(), Some("tcp" | "tls"));
        if stream {
            self.stream_service(service, &base, &path);
        }
        let tls = matches!(protocol.as_deref(), Some("https" | "grpcs" | "tls"));
        let grpc = matches!(protocol.as_deref(), Some("grpc" | "grpcs"));
        if grpc && service.http2 == Some(false) {
            self.problem_hint(
                format!("{path}.http2"),
                "is false, but gRPC needs HTTP/2",
                "leave it out, or use http or https",
            );
        }
        let link = self.link(service, tls, grpc || service.http2 == Some(true), stream, &path);
        let host = host.unwrap_or_default();
        let field = if service.url.is_some() { "url" } else { "host" };
        if !host.is_empty() && split_target(&host).is_none_or(|(_, port)| port.is_some()) {
            self.problem(format!("{path}.{field}"), format!("`{host}` is not a host name or address"));
        }
        ServicePlan {
            name: service.name.clone().or(service.id.clone()).unwrap_or_else(|| host.clone()),
            upstream: self.upstream_of(&host, port.unwrap_or(if tls { 443 } else { 80 })),
            link,
            path: if base.is_empty() { "/".to_owned() } else { base },
            retries: service.retries.unwrap_or(5),
            retry: self.retry(&service.retry.clone().unwrap_or_default(), &path),
            connect_timeout_ms: service.connect_timeout.unwrap_or(60_000),
            write_timeout_ms: service.write_timeout.unwrap_or(60_000),
            read_timeout_ms: service.read_timeout.unwrap_or(60_000),
            enabled: service.enabled.unwrap_or(true),
            stream,
            kept: None,
        }
    }

    /// The upstream of that name, or one with this host as its only target.
    fn upstream_of(&mut self, host: &str, port: u16) -> usize {
        if let Some(found) = self.back.upstreams.iter().position(|one| one.name.as_deref() == Some(host)) {
            return found;
        }
        let target = self.target(host, port);
        self.back.upstreams.push(UpstreamPlan::single(target));
        self.back.upstreams.len() - 1
    }
}

/// Whether something stands behind the colon of a host that is no port.
fn has_no_such_port(authority: &Authority) -> bool {
    let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    !behind.is_empty() && authority.port_u16().is_none_or(|port| port == 0)
}
