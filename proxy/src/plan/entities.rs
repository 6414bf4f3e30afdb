//! Checks services, routes, upstreams, consumers and plugins, resolves their references and interns them.

use super::{ServicePlan, TargetPlan, UpstreamPlan};
use crate::auth::{Guard, Keyring};
use crate::config::{Consumer, Entities, KeyAuthConfig, Plugin, Reference, Route, Service, Upstream};
use crate::path;
use crate::route::{RoutePlan, Router};
use event::Problem;
use http::{HeaderValue, Method, Uri};
use std::net::{IpAddr, SocketAddr};

/// Longest time-out of a service, milliseconds: Kong's own bound.
const TIMEOUT_MS_MAX: u64 = 2_147_483_646;

#[derive(Default)]
pub(super) struct Back {
    pub router: Router,
    pub services: Vec<ServicePlan>,
    pub upstreams: Vec<UpstreamPlan>,
    pub targets: Vec<TargetPlan>,
    pub guards: Vec<Guard>,
    pub keyring: Keyring,
}

/// A name or id, and where it was given.
type Known<'a> = Vec<(Option<&'a str>, Option<&'a str>)>;

struct Checker<'a> {
    back: Back,
    problems: &'a mut Vec<Problem>,
    entities: &'a Entities,
    global_guard: Option<usize>,
    service_guards: Vec<Option<usize>>,
}

pub(super) fn check(entities: &Entities, problems: &mut Vec<Problem>) -> Back {
    let mut checker =
        Checker { back: Back::default(), problems, entities, global_guard: None, service_guards: Vec::new() };
    checker.upstreams();
    checker.services();
    checker.plugins();
    checker.routes();
    checker.consumers();
    checker.back
}

impl<'a> Checker<'a> {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn problem_hint(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(path, message).hint(hint));
    }

    fn unique(&mut self, kind: &str, field: &str, names: &[Option<&str>]) {
        let mut seen = std::collections::HashMap::new();
        for (at, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            if let Some(first) = seen.insert(*name, at) {
                self.problem(
                    format!("{kind}[{at}].{field}"),
                    format!("`{name}` is already the {field} of {kind}[{first}]"),
                );
            }
        }
    }

    fn upstreams(&mut self) {
        let names: Vec<_> = self.entities.upstreams.iter().map(|one| Some(one.name.as_str())).collect();
        self.unique("upstreams", "name", &names);
        for (at, upstream) in self.entities.upstreams.iter().enumerate() {
            let plan = self.upstream(upstream, &format!("upstreams[{at}]"));
            self.back.upstreams.push(plan);
        }
    }

    fn upstream(&mut self, upstream: &Upstream, path: &str) -> UpstreamPlan {
        if upstream.name.is_empty() {
            self.problem(format!("{path}.name"), "is missing");
        }
        if let Some(algorithm) = upstream.algorithm.as_deref().filter(|name| *name != "round-robin") {
            self.problem_hint(
                format!("{path}.algorithm"),
                format!("`{algorithm}` is not supported yet"),
                "use round-robin",
            );
        }
        let host_header = upstream.host_header.as_deref().and_then(|host| {
            let value = HeaderValue::from_str(host).ok();
            if value.is_none() {
                self.problem(format!("{path}.host_header"), format!("`{host}` cannot be a header value"));
            }
            value
        });
        let mut targets = Vec::new();
        for (at, target) in upstream.targets.iter().enumerate() {
            let path = format!("{path}.targets[{at}]");
            let weight = target.weight.unwrap_or(100);
            if weight > 65_535 {
                self.problem(format!("{path}.weight"), "must be from 0 to 65535");
            }
            match split_target(&target.target) {
                Some((host, port)) if weight > 0 => {
                    targets.push((self.target(host, port.unwrap_or(8000)), i64::from(weight)));
                }
                Some(_) => {}
                None => self.problem_hint(
                    format!("{path}.target"),
                    format!("`{}` is not host:port", target.target),
                    "like 10.0.0.1:9000 or [::1]:9000",
                ),
            }
        }
        UpstreamPlan { name: Some(upstream.name.clone()), targets, host_header }
    }

    fn target(&mut self, host: &str, port: u16) -> usize {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addr = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        let text = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
        let host_header = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("upstream"));
        self.back.targets.push(TargetPlan { host: bare.to_owned(), port, addr, host_header });
        self.back.targets.len() - 1
    }

    fn services(&mut self) {
        let names: Vec<_> = self.entities.services.iter().map(|one| one.name.as_deref()).collect();
        self.unique("services", "name", &names);
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
            None | Some("http") => {}
            Some("https") => self.problem_hint(
                format!("{path}.{field}"),
                "TLS to upstreams is not supported yet",
                "use http, or a TLS client such as stunnel beside the upstream",
            ),
            Some(other) => {
                self.problem_hint(
                    format!("{path}.{field}"),
                    format!("`{other}` is not supported"),
                    "use http",
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
        if service.retries.is_some_and(|retries| retries > 32_767) {
            self.problem(format!("{path}.retries"), "must be from 0 to 32767");
        }
        let host = host.unwrap_or_default();
        let field = if service.url.is_some() { "url" } else { "host" };
        if !host.is_empty() && split_target(&host).is_none_or(|(_, port)| port.is_some()) {
            self.problem(format!("{path}.{field}"), format!("`{host}` is not a host name or address"));
        }
        ServicePlan {
            name: service.name.clone().or(service.id.clone()).unwrap_or_else(|| host.clone()),
            upstream: self.upstream_of(&host, port.unwrap_or(80)),
            path: base.trim_end_matches('/').to_owned(),
            retries: service.retries.unwrap_or(5),
            connect_timeout_ms: service.connect_timeout.unwrap_or(60_000),
            write_timeout_ms: service.write_timeout.unwrap_or(60_000),
            read_timeout_ms: service.read_timeout.unwrap_or(60_000),
            enabled: service.enabled.unwrap_or(true),
        }
    }

    /// The upstream of that name, or one with this host as its only target.
    fn upstream_of(&mut self, host: &str, port: u16) -> usize {
        if let Some(found) = self.back.upstreams.iter().position(|one| one.name.as_deref() == Some(host)) {
            return found;
        }
        let target = self.target(host, port);
        self.back.upstreams.push(UpstreamPlan { name: None, targets: vec![(target, 1)], host_header: None });
        self.back.upstreams.len() - 1
    }

    /// Plugins at top level without a route, and those of services.
    fn plugins(&mut self) {
        self.service_guards = vec![None; self.entities.services.len()];
        for (at, plugin) in self.entities.plugins.iter().enumerate() {
            let path = format!("plugins[{at}]");
            let guard = self.plugin(plugin, &path);
            match (&plugin.service, &plugin.route) {
                (None, None) => set_guard(&mut self.global_guard, guard, &path, self.problems),
                (Some(service), None) => {
                    if let Some(service) = self.service_at(service, &format!("{path}.service")) {
                        set_guard(&mut self.service_guards[service], guard, &path, self.problems);
                    }
                }
                (Some(_), Some(_)) => self.problem(path, "names both a service and a route"),
                // Taken up by that route.
                (None, Some(_)) => {}
            }
        }
        for (at, service) in self.entities.services.iter().enumerate() {
            for (number, plugin) in service.plugins.iter().enumerate() {
                let path = format!("services[{at}].plugins[{number}]");
                self.no_scope(plugin, &path);
                let guard = self.plugin(plugin, &path);
                set_guard(&mut self.service_guards[at], guard, &path, self.problems);
            }
        }
    }

    fn no_scope(&mut self, plugin: &Plugin, path: &str) {
        if plugin.service.is_some() || plugin.route.is_some() {
            self.problem(path, "is nested, so it names no service and no route");
        }
    }

    fn service_at(&mut self, reference: &Reference, path: &str) -> Option<usize> {
        let known: Known =
            self.entities.services.iter().map(|one| (one.name.as_deref(), one.id.as_deref())).collect();
        self.refer(reference, &known, path, "service")
    }

    fn refer(&mut self, reference: &Reference, known: &Known, path: &str, kind: &str) -> Option<usize> {
        let key = reference.key();
        let found = known.iter().position(|(name, id)| *name == Some(key) || *id == Some(key));
        if found.is_none() {
            let names: Vec<_> = known.iter().filter_map(|(name, id)| name.or(*id)).take(10).collect();
            self.problem_hint(
                path,
                format!("there is no {kind} `{key}`"),
                format!("known: {}", names.join(", ")),
            );
        }
        found
    }

    /// The guard that a plugin makes: the outer `None` for what is wrong or switched off.
    fn plugin(&mut self, plugin: &Plugin, path: &str) -> Option<usize> {
        if plugin.name != "key-auth" {
            self.problem_hint(
                format!("{path}.name"),
                format!("plugin `{}` is not supported yet", plugin.name),
                "supported: key-auth",
            );
            return None;
        }
        if plugin.consumer.is_some() {
            self.problem(
                format!("{path}.consumer"),
                "key-auth finds out the consumer, so it cannot be of one",
            );
        }
        self.protocols(&plugin.protocols, &format!("{path}.protocols"));
        let config = plugin.config.clone().unwrap_or_default();
        let config: KeyAuthConfig = match serde_json::from_value(serde_json::Value::Object(config)) {
            Ok(config) => config,
            Err(error) => {
                self.problem(format!("{path}.config"), error.to_string());
                return None;
            }
        };
        if config.key_in_body {
            self.problem_hint(
                format!("{path}.config.key_in_body"),
                "is not supported: bodies are streamed, not read",
                "send the key in a header",
            );
        }
        if config.key_names.is_empty() {
            self.problem(format!("{path}.config.key_names"), "is empty");
        }
        for (at, name) in config.key_names.iter().enumerate() {
            if http::HeaderName::try_from(name.as_str()).is_err() {
                self.problem(
                    format!("{path}.config.key_names[{at}]"),
                    format!("`{name}` cannot be a header name"),
                );
            }
        }
        if plugin.enabled == Some(false) {
            return None;
        }
        self.back.guards.push(Guard::new(&config));
        Some(self.back.guards.len() - 1)
    }

    fn protocols(&mut self, protocols: &[String], path: &str) {
        for (at, protocol) in protocols.iter().enumerate() {
            if !["http", "https"].contains(&protocol.as_str()) {
                self.problem_hint(
                    format!("{path}[{at}]"),
                    format!("`{protocol}` is not supported yet"),
                    "supported: http, https",
                );
            }
        }
    }

    fn routes(&mut self) {
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
            https_only: has("https") && !has("http"),
            http_only: has("http") && !has("https"),
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

    fn consumers(&mut self) {
        let names: Vec<_> = self.entities.consumers.iter().map(|one| one.username.as_deref()).collect();
        self.unique("consumers", "username", &names);
        let mut keys = std::collections::HashMap::new();
        for (at, consumer) in self.entities.consumers.iter().enumerate() {
            let path = format!("consumers[{at}]");
            if consumer.username.is_none() && consumer.custom_id.is_none() {
                self.problem(path.clone(), "has neither username nor custom_id");
            }
            self.consumer_headers(consumer, &path);
            for (number, credential) in consumer.keyauth_credentials.iter().enumerate() {
                let path = format!("{path}.keyauth_credentials[{number}].key");
                if credential.key.is_empty() {
                    self.problem(path, "is missing");
                } else if let Some(first) = keys.insert(credential.key.as_str(), path.clone()) {
                    self.problem(path, format!("is the same as {first}"));
                }
            }
            self.back.keyring.add(consumer);
        }
    }

    fn consumer_headers(&mut self, consumer: &Consumer, path: &str) {
        for (field, value) in
            [("id", &consumer.id), ("username", &consumer.username), ("custom_id", &consumer.custom_id)]
        {
            if value.as_ref().is_some_and(|value| HeaderValue::from_str(value).is_err() || !value.is_ascii())
            {
                self.problem(
                    format!("{path}.{field}"),
                    "must be printable ASCII: it goes upstream in a header",
                );
            }
        }
    }
}

impl Back {
    /// The guard of a plugin that was checked before.
    fn guards_of(&mut self, plugin: &Plugin) -> Option<usize> {
        let config = plugin.config.clone().unwrap_or_default();
        let config: KeyAuthConfig = serde_json::from_value(serde_json::Value::Object(config)).ok()?;
        if plugin.enabled == Some(false) || plugin.name != "key-auth" {
            return None;
        }
        self.guards.push(Guard::new(&config));
        Some(self.guards.len() - 1)
    }
}

fn set_guard(slot: &mut Option<usize>, guard: Option<usize>, path: &str, problems: &mut Vec<Problem>) {
    if guard.is_some() && slot.is_some() {
        problems.push(Problem::new(path, "there is a key-auth at this place already"));
    }
    *slot = guard.or(*slot);
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_target(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, Some(port.parse().ok().filter(|port| *port > 0)?))
        }
        _ => (text, None),
    };
    let valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    valid.then_some((host, port))
}
