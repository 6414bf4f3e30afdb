//! Where a route leads: its service, or several destinations with their shares.

use super::{Checker, Known};
use crate::config::{Reference, Route, Sticky, StickyOn};
use crate::plan::ServicePlan;
use crate::route::{Destination, Split, StickyKey};
use http::HeaderName;

/// Most destinations of one route.
const DESTINATIONS_MAX: usize = 64;

/// What names a destination.
pub(super) struct Named<'a> {
    pub service: &'a Option<Reference>,
    pub upstream: &'a Option<Reference>,
    pub subset: &'a Option<String>,
}

/// The route that leads there: its service, its guard, and whether that is its own.
#[derive(Clone, Copy)]
pub(super) struct From {
    pub service: Option<usize>,
    pub guard: Option<usize>,
    pub own_guard: bool,
}

impl Checker<'_> {
    /// The shares of a route that has several destinations.
    pub(super) fn split(&mut self, route: &Route, from: From, path: &str) -> Option<Split> {
        let all = &route.weighted_destinations;
        let sticky = route.sticky.as_ref().and_then(|sticky| self.sticky(sticky, from, path));
        if all.is_empty() {
            if route.sticky.is_some() {
                self.problem_hint(
                    format!("{path}.sticky"),
                    "chooses among weighted_destinations, of which there are none",
                    "leave it out",
                );
            }
            return None;
        }
        let path = format!("{path}.weighted_destinations");
        if all.len() > DESTINATIONS_MAX {
            self.problem(path.clone(), format!("has more than {DESTINATIONS_MAX} destinations"));
        }
        let mut shares = Vec::new();
        for (at, one) in all.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let weight = one.weight.unwrap_or(100);
            if weight > 65_535 {
                self.problem(format!("{path}.weight"), "must be from 0 to 65535");
            }
            let named = Named { service: &one.service, upstream: &one.upstream, subset: &one.subset };
            shares.extend(self.destination(&named, from, &path).map(|found| (found, weight)));
        }
        if all.iter().all(|one| one.weight == Some(0)) {
            self.problem(path, "takes no request: every weight is 0");
        }
        Some(Split::new(shares, sticky))
    }

    /// One destination, which stands at `path`.
    pub(super) fn destination(&mut self, named: &Named<'_>, from: From, path: &str) -> Option<Destination> {
        if named.service.is_some() && named.upstream.is_some() {
            self.problem_hint(path, "names both a service and an upstream", "a service has its own upstream");
        }
        let service = match (named.service, named.upstream) {
            (Some(service), _) => {
                let service = self.service_at(service, &format!("{path}.service"))?;
                self.guarded_alike(service, from, path);
                service
            }
            (None, upstream) => {
                let Some(service) = from.service else {
                    self.problem_hint(
                        path,
                        "leads nowhere: neither it nor its route has a service",
                        "give it a service, or the route",
                    );
                    return None;
                };
                match upstream {
                    None => service,
                    Some(upstream) => {
                        let upstream = self.upstream_at(upstream, &format!("{path}.upstream"))?;
                        self.with_upstream(service, upstream)
                    }
                }
            }
        };
        if self.back.services[service].stream {
            self.problem_hint(path, "its service takes streams, not requests", "name a service of requests");
        }
        let Some(name) = named.subset else { return Some(Destination::new(service, None)) };
        let subsets = &self.back.upstreams[self.back.services[service].upstream].subsets;
        let found = subsets.iter().position(|subset| subset.name == *name);
        if found.is_none() {
            let known: Vec<_> = subsets.iter().map(|subset| subset.name.clone()).collect();
            let hint = match known.is_empty() {
                true => "its upstream has no `subsets`".to_owned(),
                false => format!("known: {}", known.join(", ")),
            };
            self.problem_hint(format!("{path}.subset"), format!("there is no subset `{name}`"), hint);
        }
        Some(Destination::new(service, Some(found?)))
    }

    /// A route must not be a way around the key-auth of a service that it leads to.
    fn guarded_alike(&mut self, service: usize, from: From, path: &str) {
        let asked = self.service_guards.get(service).copied().flatten().or(self.global_guard);
        if asked.is_some() && asked != from.guard && !from.own_guard {
            self.problem_hint(
                format!("{path}.service"),
                "has a key-auth of its own, which requests of this route would not pass",
                "give the route a key-auth of its own",
            );
        }
    }

    fn upstream_at(&mut self, reference: &Reference, path: &str) -> Option<usize> {
        let all = &self.entities.upstreams;
        let known: Known = all.iter().map(|one| (Some(one.name.as_str()), one.id.as_deref())).collect();
        self.refer(reference, &known, path, "upstream")
    }

    /// The service with another upstream, made once.
    fn with_upstream(&mut self, service: usize, upstream: usize) -> usize {
        if self.back.services[service].upstream == upstream {
            return service;
        }
        let next = self.back.services.len();
        let found = *self.derived_services.entry((service, upstream)).or_insert(next);
        if found == next {
            let derived = ServicePlan { upstream, ..self.back.services[service].clone() };
            self.back.services.push(derived);
        }
        found
    }

    fn sticky(&mut self, sticky: &Sticky, from: From, path: &str) -> Option<StickyKey> {
        let path = format!("{path}.sticky");
        let on = sticky.hash_on;
        for (field, value, reads) in [
            ("hash_on_header", &sticky.hash_on_header, on == StickyOn::Header),
            ("hash_on_cookie", &sticky.hash_on_cookie, on == StickyOn::Cookie),
        ] {
            match value {
                None if reads => self.problem(format!("{path}.{field}"), "is missing: hash_on asks for it"),
                Some(_) if !reads => {
                    self.problem_hint(
                        format!("{path}.{field}"),
                        "is not read",
                        "set hash_on, or leave it out",
                    );
                }
                // Names of cookies are tokens, as those of headers are.
                Some(name) if HeaderName::try_from(name.as_str()).is_err() => {
                    self.problem(format!("{path}.{field}"), format!("`{name}` is not a name"));
                }
                _ => {}
            }
        }
        match on {
            StickyOn::Consumer => {
                if from.guard.is_none() {
                    self.problem_hint(
                        format!("{path}.hash_on"),
                        "nobody finds out who calls: there is no key-auth before this route",
                        "give the route or its service the plugin key-auth, or hash a header or a cookie",
                    );
                }
                Some(StickyKey::Consumer)
            }
            StickyOn::Header => {
                Some(StickyKey::Header(HeaderName::try_from(sticky.hash_on_header.as_deref()?).ok()?))
            }
            StickyOn::Cookie => Some(StickyKey::Cookie(sticky.hash_on_cookie.clone()?)),
        }
    }
}
