//! What a route asks of requests: its hosts, paths, methods, headers and names of TLS, read and compiled.

use super::Checker;
use crate::config::Route;
use crate::path;
use crate::route::{
    Conditions, HeaderCondition, HeaderValueCondition, HostPattern, Matches, PathPattern, Pattern,
};
use http::{HeaderName, Method, header};

/// Greatest `regex_priority`: Kong's own bound.
const REGEX_PRIORITY_MAX: i64 = 4_294_967_295;

impl Checker<'_> {
    /// What a route asks for, with the guard before it.
    pub(super) fn matches(&mut self, route: &Route, guard: Option<usize>, path: &str) -> Matches {
        if route.hosts.is_empty()
            && route.paths.is_empty()
            && route.methods.is_empty()
            && route.headers.is_empty()
            && route.snis.is_empty()
            && route.query_args.is_empty()
            && route.cookies.is_empty()
            && route.consumers.is_empty()
        {
            self.problem_hint(
                path,
                "matches nothing",
                "give hosts, paths, methods, headers, snis, query_args, cookies or consumers; paths: [/] takes everything",
            );
        }
        if route.regex_priority.is_some_and(|priority| !(0..=REGEX_PRIORITY_MAX).contains(&priority)) {
            self.problem(format!("{path}.regex_priority"), format!("must be from 0 to {REGEX_PRIORITY_MAX}"));
        }
        Matches {
            hosts: self.hosts(route, path),
            paths: self.paths(route, path),
            conditions: Conditions {
                methods: self.methods(route, path),
                headers: self.headers(route, path),
                snis: self.snis(route, path),
                query_args: self.arguments(&route.query_args, &format!("{path}.query_args")),
                cookies: self.cookies(route, path),
                caller: self.caller(route, guard, path),
            },
            regex_priority: route.regex_priority.unwrap_or(0),
            created_at: route.created_at,
        }
    }

    fn hosts(&mut self, route: &Route, path: &str) -> Vec<HostPattern> {
        let mut hosts = Vec::new();
        for (at, host) in route.hosts.iter().enumerate() {
            match HostPattern::read(host) {
                Some(pattern) => hosts.push(pattern),
                None => self.problem_hint(
                    format!("{path}.hosts[{at}]"),
                    format!("`{host}` is not a host pattern"),
                    "like api.example.com, *.example.com, example.* or api.example.com:8443",
                ),
            }
        }
        hosts
    }

    fn paths(&mut self, route: &Route, path: &str) -> Vec<PathPattern> {
        let mut paths = Vec::new();
        for (at, text) in route.paths.iter().enumerate() {
            let path = format!("{path}.paths[{at}]");
            if let Some(expression) = text.strip_prefix('~') {
                if let Some(pattern) = self.pattern(expression, false, path) {
                    let prefix = pattern.prefix.clone();
                    paths
                        .push(PathPattern::Regex { pattern: self.back.router.patterns.add(pattern), prefix });
                }
            } else if !text.starts_with('/') {
                self.problem_hint(
                    path,
                    format!("`{text}` is not a path"),
                    "begin a prefix with / and a regular expression with ~",
                );
            } else if path::normalise(text).is_none_or(|normal| *normal != **text) {
                self.problem_hint(
                    path,
                    format!("`{text}` is not a normalised path"),
                    "begin with / and leave out //, . and .. and needless percent-encoding",
                );
            } else {
                paths.push(PathPattern::Prefix(text.clone()));
            }
        }
        paths
    }

    pub(super) fn pattern(
        &mut self,
        expression: &str,
        case_insensitive: bool,
        path: String,
    ) -> Option<Pattern> {
        let wrong = match Pattern::new(expression, case_insensitive) {
            Ok(pattern) => return Some(pattern),
            Err(error) => error.to_string(),
        };
        self.problem_hint(
            path,
            format!("`{expression}` is not a regular expression that can be used: {wrong}"),
            "expressions are those of Rust's regex crate: no look-around, no back-references",
        );
        None
    }

    fn methods(&mut self, route: &Route, path: &str) -> Vec<Method> {
        let mut methods = Vec::new();
        for (at, text) in route.methods.iter().enumerate() {
            let capitals = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
            match Method::from_bytes(text.as_bytes()).ok().filter(|_| capitals) {
                Some(method) => methods.push(method),
                None => self.problem_hint(
                    format!("{path}.methods[{at}]"),
                    format!("`{text}` is not a method"),
                    "methods are capital letters only, like GET",
                ),
            }
        }
        methods
    }

    fn headers(&mut self, route: &Route, path: &str) -> Vec<HeaderCondition> {
        let mut headers: Vec<HeaderCondition> = Vec::new();
        for (text, wanted) in &route.headers {
            let path = format!("{path}.headers.{text}");
            let Ok(name) = HeaderName::try_from(text.as_str()) else {
                self.problem(path, format!("`{text}` is not a header name"));
                continue;
            };
            if name == header::HOST {
                self.problem_hint(path, "the host is not matched as a header", "give it in `hosts`");
                continue;
            }
            if headers.iter().any(|known| known.name == name) {
                self.problem(path, format!("`{name}` is given twice"));
                continue;
            }
            let exact = |value: &str| HeaderValueCondition::Exact(value.as_bytes().to_vec());
            let Some(values) = self.values(wanted, path, exact, HeaderValueCondition::Regex) else {
                continue;
            };
            headers.push(HeaderCondition { name, values });
        }
        headers
    }

    fn snis(&mut self, route: &Route, path: &str) -> Vec<String> {
        let secure = route.protocols.is_empty()
            || route.protocols.iter().any(|protocol| ["https", "grpcs"].contains(&protocol.as_str()));
        if !route.snis.is_empty() && !secure {
            self.problem_hint(
                format!("{path}.snis"),
                "can only be asked of TLS clients",
                "add https or grpcs to `protocols`",
            );
        }
        let mut snis = Vec::new();
        for (at, text) in route.snis.iter().enumerate() {
            let pattern = HostPattern::read(text).filter(|host| !host.is_wildcard() && host.port.is_none());
            if pattern.is_none() || text.parse::<std::net::Ipv4Addr>().is_ok() || text.starts_with('[') {
                self.problem_hint(
                    format!("{path}.snis[{at}]"),
                    format!("`{text}` is not a host name"),
                    "like api.example.com, without port or wildcard",
                );
            }
            snis.push(text.trim_end_matches('.').to_ascii_lowercase());
        }
        snis
    }
}
