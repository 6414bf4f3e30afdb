//! Which route a request takes: Kong's `traditional_compatible` order over hosts, headers, paths, methods and SNI, then
//! what Kong has no word for: arguments, cookies and consumers.
//!
//! Every pair of a route and one of its paths is an entry, and the entries are put in Kong's order when the plan is
//! made. A request looks its host up by hash, its path among the sorted prefixes (by hash, where they are many) and, where
//! many entries have one prefix, one of its other attributes by hash; of the entries found there the first in order that
//! matches is the answer. What is looked at depends on the request, not on how many routes there are.

mod compact;

mod hosts;

mod paths;

mod narrow;

mod pattern;

mod conditions;

mod arguments;

mod rank;

mod split;

mod template;

mod divert;

mod fault;

mod streams;

#[cfg(test)]
mod tests;

pub(crate) use arguments::{ArgumentCondition, ArgumentValue, CallerCondition, Callers};
pub(crate) use compact::{Label, Number};
pub(crate) use conditions::{Conditions, HeaderCondition, HeaderValueCondition};
pub(crate) use divert::{PathChange, RedirectPlan, RewritePlan, is_of_path};
pub(crate) use fault::{FaultPlan, Share};
pub(crate) use hosts::HostPattern;
pub(crate) use pattern::{Caches, Captured, Pattern, Patterns};
pub(crate) use split::{Destination, MirrorPlan, Split, StickyKey};
pub(crate) use streams::{Side as StreamSide, StreamAsked, StreamMatches, StreamRoute, Streams};
pub(crate) use template::{Group, Template};

use hosts::Hosts;
use http::{HeaderMap, Method};
use paths::{Candidates, Paths};
use rank::Rank;

/// One route, after validation: what is done with the requests that it takes. Fills one line of the cache.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct RoutePlan {
    pub name: Label,
    /// Where it leads.
    pub destination: Option<Destination>,
    /// The guard (key-auth) before it.
    pub guard: Option<Number>,
    /// Cleartext requests are answered with this status.
    pub https_only: Option<u16>,
    /// What is not gRPC by HTTP/2 is refused.
    pub grpc_only: bool,
    pub strip_path: bool,
    pub path_handling: PathHandling,
    pub preserve_host: bool,
    /// What few routes have.
    pub more: Option<Box<MorePlan>>,
}

/// What a route does beyond passing requests on to one place.
#[derive(Debug, Default)]
pub(crate) struct MorePlan {
    /// Its destinations, among which is chosen for each request.
    pub split: Option<Split>,
    pub fault: Option<FaultPlan>,
    /// Its clients are sent elsewhere.
    pub redirect: Option<RedirectPlan>,
    pub rewrite: Option<RewritePlan>,
    pub mirror: Option<MirrorPlan>,
    /// The begin of a body is not waited for.
    pub streams: bool,
}

impl RoutePlan {
    /// Its destinations, where it has several.
    pub fn split(&self) -> Option<&Split> {
        self.more.as_ref()?.split.as_ref()
    }
}

impl MorePlan {
    pub fn is_something(&self) -> bool {
        let Self { split, fault, redirect, rewrite, mirror, streams } = self;
        let diverts = split.is_some() || redirect.is_some() || rewrite.is_some() || mirror.is_some();
        diverts || fault.is_some() || *streams
    }
}

const _: () = assert!(size_of::<RoutePlan>() == 64, "a route is one line of the cache");

/// How the service's path and the request's are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PathHandling {
    /// With one slash between them.
    #[default]
    V0,
    /// End to end.
    V1,
}

/// What a route asks of a request.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub hosts: Vec<HostPattern>,
    pub paths: Vec<PathPattern>,
    pub conditions: Conditions,
    /// Of its regular expressions; plain prefixes have none.
    pub regex_priority: i64,
    /// Seconds since 1970, where the file says it.
    pub created_at: Option<u64>,
}

/// A path that a route asks for.
#[derive(Debug)]
pub(crate) enum PathPattern {
    /// What the path begins with.
    Prefix(String),
    /// The number of an expression that matches from the begin of the path, and what each of its matches begins with.
    Regex { pattern: usize, prefix: String },
}

impl PathPattern {
    fn prefix(&self) -> &str {
        match self {
            Self::Prefix(prefix) | Self::Regex { prefix, .. } => prefix,
        }
    }
}

/// What a request shows to the router.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Lower case, without port.
    pub host: &'a str,
    /// As the Host says, or the default of the scheme.
    pub port: u16,
    pub path: &'a str,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub query: Option<&'a str>,
    pub callers: Callers<'a>,
    pub tls: bool,
    pub sni: Option<&'a str>,
}

/// What matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matched {
    pub route: usize,
    /// Length of the part of the path that matched: what `strip_path` takes off.
    pub prefix_bytes: usize,
    /// The number of the path's expression.
    pub pattern: Option<usize>,
}

/// All routes, in order.
#[derive(Debug, Default)]
pub(crate) struct Router {
    pub routes: Vec<RoutePlan>,
    pub patterns: Patterns,
    conditions: Vec<Conditions>,
    entries: Vec<Entry>,
    hosts: Hosts,
    buckets: Vec<Paths>,
}

/// A route with one of its paths.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its place in the list of all: the first that matches wins.
    order: Number,
    route: Number,
    pattern: Option<Number>,
    /// Whether the route asks for more than host and path.
    conditional: bool,
}

/// Collects routes for a [`Router`].
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub patterns: Patterns,
    routes: Vec<RoutePlan>,
    matches: Vec<Matches>,
}

impl Builder {
    /// Adds a route, after those that are as good and not older.
    pub fn add(&mut self, route: RoutePlan, matches: Matches) {
        self.routes.push(route);
        self.matches.push(matches);
    }

    /// Puts the routes in order and makes the tables.
    pub fn build(self) -> Router {
        let Self { patterns, routes, matches } = self;
        let mut drafts: Vec<(Rank, usize, Option<&PathPattern>)> = Vec::new();
        for (route, asked) in matches.iter().enumerate() {
            let paths = asked.paths.iter().map(Some);
            let paths: Vec<_> = if asked.paths.is_empty() { vec![None] } else { paths.collect() };
            drafts.extend(paths.into_iter().map(|path| (Rank::of(asked, path, route), route, path)));
        }
        // Stable, so that the paths of one route keep the order they were written in.
        drafts.sort_by(|left, right| right.0.cmp(&left.0));
        let (mut hosts, mut entries) = (Hosts::default(), Vec::with_capacity(drafts.len()));
        let mut lists: Vec<Vec<(&str, Entry)>> = Vec::new();
        for (order, (_, route, path)) in drafts.into_iter().enumerate() {
            let prefix = path.map_or("", PathPattern::prefix);
            let pattern = match path {
                Some(PathPattern::Regex { pattern, .. }) => Some(Number::new(*pattern)),
                _ => None,
            };
            let conditional = !matches[route].conditions.is_empty();
            let entry = Entry { order: Number::new(order), route: Number::new(route), pattern, conditional };
            entries.push(entry);
            let mut buckets: Vec<usize> = match &*matches[route].hosts {
                [] => vec![hosts.any(&mut lists)],
                several => several.iter().map(|host| hosts.bucket(host, &mut lists)).collect(),
            };
            buckets.sort_unstable();
            buckets.dedup();
            for bucket in buckets {
                lists[bucket].push((prefix, entry));
            }
        }
        let conditions = |order: usize| {
            let entry: &Entry = &entries[order];
            &matches[entry.route.get()].conditions
        };
        let buckets = lists.into_iter().map(|list| Paths::new(list, conditions)).collect();
        let conditions = matches.into_iter().map(|asked| asked.conditions).collect();
        Router { routes, patterns, conditions, entries, hosts, buckets }
    }
}

impl Router {
    /// The route of a request. `caches` are the thread's own.
    pub fn find(&self, asked: &Asked<'_>, caches: &Caches) -> Option<Matched> {
        let mut checks = 0;
        self.search(asked, caches, &mut checks)
    }

    /// How many routes may have to be looked at one by one.
    pub fn scanned_max(&self) -> usize {
        self.buckets.iter().map(Paths::longest).max().unwrap_or(0)
    }

    /// What the expression of the route's path has captured.
    pub fn captured<'a>(&'a self, matched: &Matched, path: &'a str, caches: &Caches) -> Option<Captured<'a>> {
        self.patterns.captures(matched.pattern?, path, caches)
    }

    /// Counts the entries that it looks at.
    fn search(&self, asked: &Asked<'_>, caches: &Caches, checks: &mut usize) -> Option<Matched> {
        let mut best: Option<(Number, Matched)> = None;
        self.hosts.each(asked.host, asked.port, |bucket| {
            self.buckets[bucket].each(asked, |prefix_bytes, candidates| {
                let mut goes_on = |entry: &Entry| {
                    if best.is_some_and(|(other, _)| other <= entry.order) {
                        return false;
                    }
                    *checks += 1;
                    let matched = self.check(entry, prefix_bytes, asked, caches);
                    best = matched.map(|matched| (entry.order, matched)).or(best);
                    matched.is_none()
                };
                match candidates {
                    Candidates::One(entry) => {
                        goes_on(entry);
                    }
                    Candidates::Several(orders) => {
                        let mut entries = orders.iter().map(|order| &self.entries[*order]);
                        while entries.next().is_some_and(&mut goes_on) {}
                    }
                }
            });
        });
        best.map(|(_, matched)| matched)
    }

    /// Whether an entry whose host and prefix fit takes the request.
    fn check(
        &self,
        entry: &Entry,
        prefix_bytes: usize,
        asked: &Asked<'_>,
        caches: &Caches,
    ) -> Option<Matched> {
        let (route, pattern) = (entry.route.get(), entry.pattern.map(Number::get));
        if entry.conditional && !self.conditions[route].hold(asked, &self.patterns, caches) {
            return None;
        }
        let prefix_bytes = match pattern {
            Some(pattern) => self.patterns.match_end(pattern, asked.path, caches)?,
            None => prefix_bytes,
        };
        Some(Matched { route, prefix_bytes, pattern })
    }
}
