//! Routes: what each matches, what it leads to, and the guard before it.

use super::destinations::From;
use super::plugins::set_guard;
use super::{Checker, Known};
use crate::config::Route;
use crate::route::{Destination, Label, MorePlan, Number, PathHandling, RoutePlan, Split};

impl Checker<'_> {
    pub(super) fn routes(&mut self) {
        let mut all: Vec<(&Route, String, Option<usize>)> = Vec::new();
        for (at, service) in self.entities.services.iter().enumerate() {
            for (number, route) in service.routes.iter().enumerate() {
                let path = format!("services[{at}].routes[{number}]");
                if route.service.is_some() {
                    self.problem(format!("{path}.service"), "the route stands in its service already");
                }
                all.push((route, path, Some(at)));
            }
        }
        for (at, route) in self.entities.routes.iter().enumerate() {
            let path = format!("routes[{at}]");
            let service = match &route.service {
                Some(service) => self.service_at(service, &format!("{path}.service")),
                None if leads_elsewhere(route) => None,
                None => {
                    self.problem(format!("{path}.service"), "is missing: the route leads nowhere");
                    None
                }
            };
            all.push((route, path, service));
        }
        let mut seen = std::collections::HashMap::new();
        for (route, path, _) in &all {
            for (field, value) in [("name", &route.name), ("id", &route.id)] {
                if let Some(value) = value
                    && let Some(first) = seen.insert((field, value), path.clone())
                {
                    let message = format!("`{value}` is already the {field} of {first}");
                    self.problem(format!("{path}.{field}"), message);
                }
            }
        }
        let known: Known =
            all.iter().map(|(route, _, _)| (route.name.as_deref(), route.id.as_deref())).collect();
        let mut guards = vec![None; all.len()];
        for (at, plugin) in self.entities.plugins.iter().enumerate() {
            let Some(route) = plugin.route.as_ref().filter(|_| plugin.service.is_none()) else { continue };
            let path = format!("plugins[{at}]");
            if let Some(route) = self.refer(route, &known, &format!("{path}.route"), "route") {
                // Its own problems were reported with the other plugins.
                let guard = self.back.guards_of(plugin);
                set_guard(&mut guards[route], guard, &path, self.problems);
            }
        }
        for (at, (route, path, service)) in all.into_iter().enumerate() {
            for (number, plugin) in route.plugins.iter().enumerate() {
                let path = format!("{path}.plugins[{number}]");
                self.no_scope(plugin, &path);
                let guard = self.plugin(plugin, &path);
                set_guard(&mut guards[at], guard, &path, self.problems);
            }
            self.route(route, &path, service, guards[at]);
        }
    }

    fn route(&mut self, route: &Route, path: &str, service: Option<usize>, own_guard: Option<usize>) {
        if self.is_stream(route) {
            return self.stream_route(route, path, service, own_guard);
        }
        self.request_route(route, path, service);
        self.protocols(&route.protocols, &format!("{path}.protocols"));
        let https_only = self.https_only(route, path);
        let path_handling = self.path_handling(route, path);
        self.kong_only(route, path);
        let service_guard = service.and_then(|service| self.service_guards.get(service).copied().flatten());
        let guard = own_guard.or(service_guard).or(self.global_guard);
        let from = From { service, guard, own_guard: own_guard.is_some() };
        let matches = self.matches(route, guard, path);
        let has = |name: &str| route.protocols.iter().any(|protocol| protocol == name);
        let split = self.split(route, from, path);
        let redirect = self.redirect(route, &matches.paths, path);
        let rewrite = self.rewrite(route, &matches.paths, path);
        let fault = self.fault(route, path);
        let mirror = self.mirror(route, from, path);
        let destination = service.map(|service| Destination::new(service, None));
        let fallback = route.hosts.first().or(route.paths.first()).or(route.methods.first());
        let name = route.name.as_ref().or(route.id.as_ref()).or(fallback);
        let destination = destination.or(split.as_ref().and_then(Split::first));
        let streams = route.request_buffering == Some(false);
        let more = MorePlan { split, fault, redirect, rewrite, mirror, streams };
        let plan = RoutePlan {
            name: Label::new(name.map_or("", String::as_str)),
            destination,
            https_only,
            grpc_only: (has("grpc") || has("grpcs")) && !has("http") && !has("https"),
            strip_path: route.strip_path.unwrap_or(true),
            path_handling,
            preserve_host: route.preserve_host.unwrap_or(false),
            guard: guard.map(Number::new),
            more: more.is_something().then(|| Box::new(more)),
        };
        self.back.router.add(plan, matches);
    }

    /// The answer to cleartext requests of a route that is for TLS only.
    fn https_only(&mut self, route: &Route, path: &str) -> Option<u16> {
        let status = route.https_redirect_status_code.unwrap_or(426);
        if ![426, 301, 302, 307, 308].contains(&status) {
            self.problem_hint(
                format!("{path}.https_redirect_status_code"),
                format!("{status} is not an answer to who should have used TLS"),
                "426, 301, 302, 307 or 308",
            );
        }
        let has = |name: &str| route.protocols.iter().any(|protocol| protocol == name);
        ((has("https") || has("grpcs")) && !has("http") && !has("grpc")).then_some(status)
    }

    fn path_handling(&mut self, route: &Route, path: &str) -> PathHandling {
        match route.path_handling.as_deref() {
            None | Some("v0") => PathHandling::V0,
            Some("v1") => PathHandling::V1,
            Some(other) => {
                self.problem_hint(
                    format!("{path}.path_handling"),
                    format!("`{other}` is unknown"),
                    "v0 or v1",
                );
                PathHandling::V0
            }
        }
    }

    /// Fields of Kong files that are accepted with the one value that changes nothing.
    fn kong_only(&mut self, route: &Route, path: &str) {
        if route.response_buffering == Some(true) {
            let field = format!("{path}.response_buffering");
            self.problem_hint(field, "responses always stream", "set it to false");
        }
    }
}

/// Whether a route does without a service of its own.
fn leads_elsewhere(route: &Route) -> bool {
    let all = &route.weighted_destinations;
    route.redirect.is_some() || (!all.is_empty() && all.iter().all(|one| one.service.is_some()))
}
