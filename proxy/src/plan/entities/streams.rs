//! Routes and services of TCP and TLS streams.

use super::Checker;
use crate::config::{Route, RouteEnd, Service};
use crate::plan::TrustedNetworks;
use crate::route::{HostPattern, StreamMatches, StreamRoute, StreamSide};

const PROTOCOLS: [&str; 3] = ["tcp", "tls", "tls_passthrough"];

impl Checker<'_> {
    /// Whether a route is for streams.
    pub(super) fn is_stream(&self, route: &Route) -> bool {
        route.protocols.iter().any(|protocol| PROTOCOLS.contains(&protocol.as_str()))
    }

    /// What a service of streams cannot have.
    pub(super) fn stream_service(&mut self, service: &Service, base: &str, path: &str) {
        for (field, given) in [
            ("path", !base.is_empty() && base != "/"),
            ("http2", service.http2 == Some(true)),
            ("plugins", service.plugins.iter().any(|plugin| plugin.enabled != Some(false))),
        ] {
            if given {
                self.problem_hint(format!("{path}.{field}"), "a stream has no requests", "leave it out");
            }
        }
    }

    /// What a route of requests cannot have.
    pub(super) fn request_route(&mut self, route: &Route, path: &str, service: Option<usize>) {
        for (field, ends) in [("sources", &route.sources), ("destinations", &route.destinations)] {
            if !ends.is_empty() {
                self.problem_hint(
                    format!("{path}.{field}"),
                    "of requests the address is not matched",
                    "use hosts, paths or headers, or protocols of streams",
                );
            }
        }
        if service.is_some_and(|service| self.back.services[service].stream) {
            self.problem_hint(
                format!("{path}.protocols"),
                "its service takes streams, not requests",
                "tcp, tls or tls_passthrough",
            );
        }
    }

    pub(super) fn stream_route(
        &mut self,
        route: &Route,
        path: &str,
        service: Option<usize>,
        guard: Option<usize>,
    ) {
        for (at, protocol) in route.protocols.iter().enumerate() {
            if !PROTOCOLS.contains(&protocol.as_str()) {
                self.problem_hint(
                    format!("{path}.protocols[{at}]"),
                    format!("`{protocol}` stands beside a protocol of streams"),
                    "give requests a route of their own",
                );
            }
        }
        let has = |name: &str| route.protocols.iter().any(|protocol| protocol == name);
        for (field, given) in [
            ("hosts", !route.hosts.is_empty()),
            ("paths", !route.paths.is_empty()),
            ("methods", !route.methods.is_empty()),
            ("headers", !route.headers.is_empty()),
            ("query_args", !route.query_args.is_empty()),
            ("cookies", !route.cookies.is_empty()),
            ("consumers", !route.consumers.is_empty()),
            ("weighted_destinations", !route.weighted_destinations.is_empty()),
            ("sticky", route.sticky.is_some()),
            ("rewrite", route.rewrite.is_some()),
            ("redirect", route.redirect.is_some()),
            ("fault", route.fault.is_some()),
            ("mirror", route.mirror.is_some()),
        ] {
            if given {
                self.problem_hint(
                    format!("{path}.{field}"),
                    "a stream has no requests",
                    "use snis, sources or destinations",
                );
            }
        }
        if guard.is_some() {
            self.problem_hint(format!("{path}.plugins"), "a stream has no requests", "leave them out");
        }
        if has("tls_passthrough") && (has("tcp") || has("tls")) {
            self.problem_hint(
                format!("{path}.protocols"),
                "TLS is either passed through or ended here",
                "give tls_passthrough a route of its own",
            );
        }
        if has("tcp") && !route.snis.is_empty() {
            self.problem_hint(
                format!("{path}.snis"),
                "plain TCP has no server name",
                "leave out tcp, or snis",
            );
        }
        if has("tls_passthrough") && route.snis.is_empty() {
            self.problem(format!("{path}.snis"), "is missing: TLS is passed through by its server name");
        }
        if route.snis.is_empty() && route.sources.is_empty() && route.destinations.is_empty() {
            self.problem_hint(
                path,
                "matches nothing",
                "give snis, sources or destinations; sources: [{ip: 0.0.0.0/0}, {ip: '::/0'}] take everything",
            );
        }
        if service.is_some_and(|service| !self.back.services[service].stream) {
            self.problem_hint(
                format!("{path}.service"),
                "takes requests, not streams",
                "give it the protocol tcp or tls",
            );
        }
        let matches = StreamMatches {
            snis: self.stream_names(route, path),
            sources: self.sides(&route.sources, &format!("{path}.sources")),
            destinations: self.sides(&route.destinations, &format!("{path}.destinations")),
            created_at: route.created_at,
        };
        let name =
            route.name.clone().or(route.id.clone()).or(route.snis.first().cloned()).unwrap_or_default();
        let plan = StreamRoute {
            name,
            // None was reported.
            service: service.unwrap_or(0),
            tcp: has("tcp"),
            tls: has("tls"),
            passthrough: has("tls_passthrough"),
        };
        self.back.streams.push((plan, matches));
    }

    fn stream_names(&mut self, route: &Route, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        for (at, text) in route.snis.iter().enumerate() {
            let plain =
                HostPattern::read(text).is_some_and(|host| !host.is_wildcard() && host.port.is_none());
            if !plain || text.parse::<std::net::Ipv4Addr>().is_ok() || text.starts_with('[') {
                self.problem_hint(
                    format!("{path}.snis[{at}]"),
                    format!("`{text}` is not a host name"),
                    "like db.example.com, without port or wildcard",
                );
            }
            names.push(text.trim_end_matches('.').to_ascii_lowercase());
        }
        names
    }

    fn sides(&mut self, ends: &[RouteEnd], path: &str) -> Vec<StreamSide> {
        let mut sides = Vec::new();
        for (at, end) in ends.iter().enumerate() {
            if end.ip.is_none() && end.port.is_none() {
                self.problem_hint(format!("{path}[{at}]"), "asks for nothing", "give ip, port or both");
            }
            if end.port == Some(0) {
                self.problem(format!("{path}[{at}].port"), "must be from 1 to 65535");
            }
            let mut network = None;
            if let Some(text) = &end.ip {
                let mut found = TrustedNetworks::default();
                if !found.add(text) {
                    self.problem_hint(
                        format!("{path}[{at}].ip"),
                        format!("`{text}` is not an address or network"),
                        "like 10.0.0.0/8 or 192.168.1.7",
                    );
                }
                network = Some(found);
            }
            sides.push(StreamSide { network, port: end.port });
        }
        sides
    }
}
