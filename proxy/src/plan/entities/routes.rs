//! Routes: what each matches, what it leads to, and the guard before it.

use super::plugins::set_guard;
use super::{Checker, Known, split_target};
use crate::config::Route;
use crate::path;
use crate::route::RoutePlan;
use http::Method;

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
                None => {
                    self.problem(format!("{path}.service"), "is missing: the route leads nowhere");
                    None
                }
            };
            all.push((route, path, service));
        }
        let mut seen = std::collections::HashMap::new();
        for (route, path, _) in &all {
            if let Some(name) = &route.name
                && let Some(first) = seen.insert(name, path.clone())
            {
                self.problem(format!("{path}.name"), format!("`{name}` is already the name of {first}"));
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
            self.route(route, &path, service.unwrap_or(0), guards[at]);
        }
    }

    fn route(&mut self, route: &Route, path: &str, service: usize, guard: Option<usize>) {
        if route.hosts.is_empty() && route.paths.is_empty() && route.methods.is_empty() {
            self.problem_hint(
                path,
                "matches nothing",
                "give hosts, paths or methods; paths: [/] takes everything",
            );
        }
        self.protocols(&route.protocols, &format!("{path}.protocols"));
        let mut hosts = Vec::new();
        for (at, host) in route.hosts.iter().enumerate() {
            let host = host.to_ascii_lowercase();
            let stars = host.matches('*').count();
            let star_ok = stars == 0 || (stars == 1 && (host.starts_with("*.") || host.ends_with(".*")));
            let plain = host.replace('*', "x");
            if !star_ok || split_target(&plain).is_none() || (stars == 1 && host.contains(':')) {
                self.problem_hint(
                    format!("{path}.hosts[{at}]"),
                    format!("`{host}` is not a host pattern"),
                    "like api.example.com, *.example.com or example.*",
                );
            }
            hosts.push(host.trim_end_matches('.').to_owned());
        }
        for (at, prefix) in route.paths.iter().enumerate() {
            let path = format!("{path}.paths[{at}]");
            if prefix.starts_with('~') {
                self.problem_hint(path, "regular expressions are not supported yet", "use a plain prefix");
            } else if path::normalise(prefix).is_none_or(|normal| *normal != **prefix) {
                self.problem_hint(
                    path,
                    format!("`{prefix}` is not a normalised path"),
                    "begin with / and leave out //, . and .. and needless percent-encoding",
                );
            }
        }
        let mut methods = Vec::new();
        for (at, method) in route.methods.iter().enumerate() {
            match Method::from_bytes(method.as_bytes()) {
                Ok(known) if *method == method.to_ascii_uppercase() => methods.push(known),
                _ => self.problem_hint(
                    format!("{path}.methods[{at}]"),
                    format!("`{method}` is not a method"),
                    "methods are in capitals",
                ),
            }
        }
        self.kong_only(route, path);
        let has = |name: &str| route.protocols.iter().any(|protocol| protocol == name);
        let guard = guard.or(self.service_guards.get(service).copied().flatten()).or(self.global_guard);
        let fallback = route.hosts.first().or(route.paths.first()).or(route.methods.first());
        let plan = RoutePlan {
            name: route
                .name
                .clone()
                .or(route.id.clone())
                .unwrap_or_else(|| fallback.cloned().unwrap_or_default()),
            service,
            methods,
            https_only: (has("https") || has("grpcs")) && !has("http") && !has("grpc"),
            grpc_only: (has("grpc") || has("grpcs")) && !has("http") && !has("https"),
            http_only: (has("http") || has("grpc")) && !has("https") && !has("grpcs"),
            strip_path: route.strip_path.unwrap_or(true),
            preserve_host: route.preserve_host.unwrap_or(false),
            guard,
        };
        self.back.router.add(plan, &hosts, &route.paths);
    }

    /// Fields of Kong files that are accepted with the one value that changes nothing.
    fn kong_only(&mut self, route: &Route, path: &str) {
        if route.path_handling.as_deref().is_some_and(|handling| handling != "v0") {
            self.problem_hint(format!("{path}.path_handling"), "only v0 is supported yet", "leave it out");
        }
        if route.https_redirect_status_code.is_some_and(|status| status != 426) {
            self.problem_hint(
                format!("{path}.https_redirect_status_code"),
                "only 426 is supported yet",
                "leave it out",
            );
        }
        if route.regex_priority.is_some_and(|priority| priority != 0) {
            self.problem(format!("{path}.regex_priority"), "regular expressions are not supported yet");
        }
        for (name, value) in
            [("request_buffering", route.request_buffering), ("response_buffering", route.response_buffering)]
        {
            if value == Some(true) {
                self.problem_hint(format!("{path}.{name}"), "bodies always stream", "set it to false");
            }
        }
    }
}
