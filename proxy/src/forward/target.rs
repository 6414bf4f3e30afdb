//! Path and query as they go upstream: Kong's two ways of putting the service's path before the request's.

use crate::route::PathHandling;

/// What the target of an upstream request is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The service's path; `/` for none.
    pub base: &'a str,
    /// The request's normalised path.
    pub path: &'a str,
    /// How many bytes of it the route matched; none for a route without paths.
    pub matched_bytes: usize,
    /// Whether these are taken off.
    pub strip: bool,
    pub handling: PathHandling,
    /// What goes upstream in place of the path.
    pub rewritten: Option<&'a str>,
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// What is taken off the path.
    pub fn stripped(&self) -> &'a str {
        if self.strip && self.rewritten.is_none() { &self.path[..self.matched_bytes] } else { "" }
    }

    /// Writes path and query.
    pub fn write(&self, out: &mut Vec<u8>) {
        // A route without paths takes only the slash off, which the service's path brings back.
        let rest = match (self.rewritten, self.strip, self.matched_bytes) {
            (Some(path), ..) => &path[1..],
            (None, false, _) | (None, true, 0) => &self.path[1..],
            (None, true, matched_bytes) => &self.path[matched_bytes..],
        };
        match self.handling {
            PathHandling::V0 => self.write_v0(rest, out),
            PathHandling::V1 => {
                out.extend_from_slice(self.base.as_bytes());
                let double = self.base.ends_with('/') && rest.starts_with('/');
                out.extend_from_slice(&rest.as_bytes()[usize::from(double)..]);
            }
        }
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
    }

    /// One slash between base and rest; none at the end that the request does not have.
    fn write_v0(&self, rest: &str, out: &mut Vec<u8>) {
        let base = self.base.strip_suffix('/').unwrap_or(self.base);
        out.extend_from_slice(base.as_bytes());
        let slash = if rest.is_empty() {
            let path = self.rewritten.unwrap_or(self.path);
            let asked = path.ends_with('/') && (path.len() > 1 || self.base.ends_with('/'));
            asked || base.is_empty()
        } else {
            !rest.starts_with('/')
        };
        if slash {
            out.push(b'/');
        }
        out.extend_from_slice(rest.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, route: &str, strip: bool, handling: PathHandling, path: &str, expected: &str) {
        let target = Target {
            base,
            path,
            matched_bytes: route.len(),
            strip,
            handling,
            rewritten: None,
            query: Some("q"),
        };
        let mut out = Vec::new();
        target.write(&mut out);
        let found = String::from_utf8(out).unwrap();
        assert_eq!(found, format!("{expected}?q"), "{base} + {route} {path}, strip {strip}, {handling:?}");
    }

    /// The cases that Kong documents and tries (`path_handling` of the route), by service path and route path. The last
    /// two columns are v0 and v1.
    #[test]
    fn paths_are_put_together_as_kong_does() {
        const KEPT: bool = false;
        const STRIPPED: bool = true;
        let cases: &[(&str, &str, bool, &[[&str; 3]])] = &[
            ("/", "/route", KEPT, &[["/route", "/route", "/route"], ["/route/", "/route/", "/route/"]]),
            ("/", "/route", KEPT, &[["/routereq", "/routereq", "/routereq"]]),
            (
                "/",
                "/route",
                STRIPPED,
                &[["/route", "/", "/"], ["/route/", "/", "/"], ["/routereq", "/req", "/req"]],
            ),
            (
                "/",
                "/route/",
                KEPT,
                &[["/route/", "/route/", "/route/"], ["/route/req", "/route/req", "/route/req"]],
            ),
            ("/", "/route/", STRIPPED, &[["/route/", "/", "/"], ["/route/req", "/req", "/req"]]),
            ("/srv", "/rou", KEPT, &[["/roureq", "/srv/roureq", "/srvroureq"]]),
            ("/srv", "/rou", STRIPPED, &[["/roureq", "/srv/req", "/srvreq"]]),
            ("/srv/", "/rou", KEPT, &[["/rou", "/srv/rou", "/srv/rou"]]),
            ("/srv/", "/rou", STRIPPED, &[["/rou", "/srv", "/srv/"]]),
            ("/service", "/route", KEPT, &[["/route", "/service/route", "/serviceroute"]]),
            ("/service", "/route", KEPT, &[["/route/", "/service/route/", "/serviceroute/"]]),
            ("/service", "/route", KEPT, &[["/routereq", "/service/routereq", "/serviceroutereq"]]),
            ("/service", "/route", STRIPPED, &[["/route", "/service", "/service"]]),
            ("/service", "/route", STRIPPED, &[["/route/", "/service/", "/service/"]]),
            ("/service", "/route", STRIPPED, &[["/routereq", "/service/req", "/servicereq"]]),
            ("/service", "/route/", KEPT, &[["/route/", "/service/route/", "/serviceroute/"]]),
            ("/service", "/route/", KEPT, &[["/route/req", "/service/route/req", "/serviceroute/req"]]),
            ("/service", "/route/", STRIPPED, &[["/route/", "/service/", "/service"]]),
            ("/service", "/route/", STRIPPED, &[["/route/req", "/service/req", "/servicereq"]]),
            ("/service/", "/route", KEPT, &[["/route", "/service/route", "/service/route"]]),
            ("/service/", "/route", STRIPPED, &[["/route", "/service", "/service/"]]),
            ("/service/", "/route", STRIPPED, &[["/route/", "/service/", "/service/"]]),
            ("/service/", "/route", STRIPPED, &[["/routereq", "/service/req", "/service/req"]]),
            ("/service/", "/route/", KEPT, &[["/route/req", "/service/route/req", "/service/route/req"]]),
            ("/service/", "/route/", STRIPPED, &[["/route/", "/service/", "/service/"]]),
            ("/service/", "/route/", STRIPPED, &[["/route/req", "/service/req", "/service/req"]]),
        ];
        for (base, route, strip, rows) in cases {
            for [path, v0, v1] in *rows {
                check(base, route, *strip, PathHandling::V0, path, v0);
                check(base, route, *strip, PathHandling::V1, path, v1);
            }
        }
    }

    /// The same whether stripped or not: the route `/`, and routes without paths.
    #[test]
    fn a_route_of_everything_strips_nothing() {
        for (base, path, v0, v1) in [
            ("/", "/", "/", "/"),
            ("/", "/route", "/route", "/route"),
            ("/", "/route/", "/route/", "/route/"),
            ("/service", "/", "/service", "/service"),
            ("/service", "/route", "/service/route", "/serviceroute"),
            ("/service", "/route/req", "/service/route/req", "/serviceroute/req"),
            ("/service/", "/", "/service/", "/service/"),
            ("/service/", "/route", "/service/route", "/service/route"),
            ("/service/", "/route/", "/service/route/", "/service/route/"),
        ] {
            for (route, strip) in [("/", true), ("/", false), ("", true), ("", false)] {
                check(base, route, strip, PathHandling::V0, path, v0);
                check(base, route, strip, PathHandling::V1, path, v1);
            }
        }
    }
}
