//! Which route a request takes: Kong's `traditional_compatible` order over hosts, path prefixes and methods.
//!
//! Routes are looked up by hash, first by host (exact, wildcard, any), then by each length of prefix that occurs
//! under it, so a lookup costs the same with ten routes and with ten thousand.

use foldhash::fast::FixedState;
use http::Method;
use std::collections::HashMap;

type Map<V> = HashMap<Box<[u8]>, V, FixedState>;

/// One route, after validation.
#[derive(Debug)]
pub(crate) struct RoutePlan {
    pub name: String,
    pub service: usize,
    pub methods: Vec<Method>,
    /// Cleartext requests are answered 426.
    pub https_only: bool,
    /// What is not gRPC by HTTP/2 is refused.
    pub grpc_only: bool,
    /// TLS requests do not match.
    pub http_only: bool,
    pub strip_path: bool,
    pub preserve_host: bool,
    /// The guard (key-auth) before it.
    pub guard: Option<usize>,
}

/// What matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matched {
    pub route: usize,
    /// Length of the prefix that matched.
    pub prefix_bytes: usize,
}

/// All routes.
#[derive(Debug, Default)]
pub(crate) struct Router {
    pub routes: Vec<RoutePlan>,
    exact: Map<Bucket>,
    /// `*.example.com`, by `.example.com`.
    suffixes: Map<Bucket>,
    /// `example.*`, by `example.`.
    prefixes: Map<Bucket>,
    any: Bucket,
}

/// Routes under one host pattern.
#[derive(Debug, Default)]
struct Bucket {
    paths: Map<Vec<usize>>,
    /// Lengths of prefixes that occur, longest first.
    lengths: Vec<usize>,
    pathless: Vec<usize>,
}

/// Rank of a match; the greater wins.
type Rank = (u8, bool, bool, bool, bool, usize, std::cmp::Reverse<usize>);

impl Router {
    /// Adds a route under each of its hosts and paths. The patterns were checked: lower case, at most one `*`.
    pub fn add(&mut self, route: RoutePlan, hosts: &[String], paths: &[String]) {
        let number = self.routes.len();
        self.routes.push(route);
        if hosts.is_empty() {
            self.any.add(number, paths);
        }
        for host in hosts {
            let bucket = match (host.strip_prefix('*'), host.strip_suffix('*')) {
                (Some(suffix), _) => self.suffixes.entry(suffix.as_bytes().into()),
                (_, Some(prefix)) => self.prefixes.entry(prefix.as_bytes().into()),
                _ => self.exact.entry(host.as_bytes().into()),
            };
            bucket.or_default().add(number, paths);
        }
    }

    /// The route of a request. `host` is lower case and without port; `host_port` is with it, or the same.
    pub fn find(
        &self,
        host: &str,
        host_port: &str,
        path: &str,
        method: &Method,
        tls: bool,
    ) -> Option<Matched> {
        let mut best: Option<(Rank, Matched)> = None;
        let mut look = |bucket: &Bucket, has_host: bool, plain: bool| {
            bucket.each(path.as_bytes(), |route, prefix_bytes| {
                let plan = &self.routes[route];
                if !plan.methods.is_empty() && !plan.methods.contains(method) || (tls && plan.http_only) {
                    return;
                }
                let (has_path, has_method) = (prefix_bytes.is_some(), !plan.methods.is_empty());
                let length = prefix_bytes.unwrap_or(0);
                let kinds = u8::from(has_host) + u8::from(has_path) + u8::from(has_method);
                let rank = (kinds, has_host, has_path, has_method, plain, length, std::cmp::Reverse(route));
                if best.is_none_or(|(other, _)| rank > other) {
                    best = Some((rank, Matched { route, prefix_bytes: length }));
                }
            });
        };
        if !self.exact.is_empty() {
            for name in [host_port, host].iter().take(if host_port.len() == host.len() { 1 } else { 2 }) {
                if let Some(bucket) = self.exact.get(name.as_bytes()) {
                    look(bucket, true, true);
                }
            }
        }
        if !self.suffixes.is_empty() {
            for (at, _) in host.match_indices('.') {
                if let Some(bucket) = self.suffixes.get(&host.as_bytes()[at..]).filter(|_| at > 0) {
                    look(bucket, true, false);
                }
            }
        }
        if !self.prefixes.is_empty() {
            for (at, _) in host.match_indices('.') {
                if let Some(bucket) =
                    self.prefixes.get(&host.as_bytes()[..=at]).filter(|_| at + 1 < host.len())
                {
                    look(bucket, true, false);
                }
            }
        }
        look(&self.any, false, false);
        best.map(|(_, matched)| matched)
    }
}

impl Bucket {
    fn add(&mut self, route: usize, paths: &[String]) {
        if paths.is_empty() {
            self.pathless.push(route);
        }
        for path in paths {
            self.paths.entry(path.as_bytes().into()).or_default().push(route);
            if let Err(at) = self.lengths.binary_search_by(|length| path.len().cmp(length)) {
                self.lengths.insert(at, path.len());
            }
        }
    }

    /// Every route whose prefix is one of the path, longest prefixes first.
    fn each(&self, path: &[u8], mut found: impl FnMut(usize, Option<usize>)) {
        for length in self.lengths.iter().copied().filter(|length| *length <= path.len()) {
            for route in self.paths.get(&path[..length]).into_iter().flatten() {
                found(*route, Some(length));
            }
        }
        for route in &self.pathless {
            found(*route, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(&[&str], &[&str], &[&str])]) -> Router {
        let mut router = Router::default();
        for (hosts, paths, methods) in routes {
            let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let plan = RoutePlan {
                name: String::new(),
                service: 0,
                methods: methods.iter().map(|m| m.parse().unwrap()).collect(),
                https_only: false,
                grpc_only: false,
                http_only: false,
                strip_path: true,
                preserve_host: false,
                guard: None,
            };
            router.add(plan, &own(hosts), &own(paths));
        }
        router
    }

    fn find(router: &Router, host: &str, path: &str) -> Option<usize> {
        router.find(host, host, path, &Method::GET, false).map(|matched| matched.route)
    }

    #[test]
    fn the_longest_prefix_wins_and_the_older_of_equals() {
        let router = router(&[
            (&[], &["/"], &[]),
            (&[], &["/a/b", "/z"], &[]),
            (&[], &["/a"], &[]),
            (&[], &["/a"], &[]),
        ]);
        for (path, route) in [("/a/b/c", 1), ("/a/c", 2), ("/ab", 2), ("/x", 0), ("/zz", 1), ("/a/b", 1)] {
            assert_eq!(find(&router, "h", path), Some(route), "{path}");
        }
        let matched = router.find("h", "h", "/a/b/c", &Method::GET, false).unwrap();
        assert_eq!(matched.prefix_bytes, 4);
    }

    #[test]
    fn hosts_match_exactly_by_wildcard_and_with_port() {
        let router = router(&[
            (&["*.example.com"], &[], &[]),
            (&["api.example.com"], &[], &[]),
            (&["example.*"], &[], &[]),
            (&["api.example.com:8080"], &["/p"], &[]),
        ]);
        assert_eq!(find(&router, "x.example.com", "/"), Some(0));
        assert_eq!(find(&router, "y.x.example.com", "/"), Some(0));
        assert_eq!(find(&router, "api.example.com", "/"), Some(1));
        assert_eq!(find(&router, "example.org", "/"), Some(2));
        assert_eq!(find(&router, "example.com", "/"), Some(2));
        assert_eq!(find(&router, "other.org", "/"), None);
        let with_port = router.find("api.example.com", "api.example.com:8080", "/p", &Method::GET, false);
        assert_eq!(with_port.unwrap().route, 3);
    }

    #[test]
    fn more_kinds_of_attributes_win() {
        let router = router(&[
            (&["h"], &[], &[]),
            (&[], &["/long/path"], &[]),
            (&[], &["/long"], &["GET"]),
            (&[], &[], &["PUT"]),
        ]);
        assert_eq!(find(&router, "h", "/other"), Some(0));
        assert_eq!(find(&router, "x", "/long/path"), Some(2), "two kinds before a longer path");
        assert_eq!(find(&router, "h", "/long/path"), Some(2));
        let put = |host| router.find(host, host, "/long/path", &Method::PUT, false).unwrap().route;
        assert_eq!((put("h"), put("x")), (0, 1), "host before path, path before method");
    }

    #[test]
    fn ten_thousand_routes_are_found_by_hash() {
        let mut router = Router::default();
        for n in 0..10_000 {
            let plan = RoutePlan {
                name: n.to_string(),
                service: 0,
                methods: vec![],
                https_only: false,
                grpc_only: false,
                http_only: false,
                strip_path: true,
                preserve_host: false,
                guard: None,
            };
            router.add(plan, &[format!("h{}.x", n % 100)], &[format!("/r/{n:05}")]);
        }
        assert_eq!(find(&router, "h42.x", "/r/04242/x"), Some(4242));
        assert_eq!(find(&router, "h42.x", "/r/04243/x"), None);
    }
}
