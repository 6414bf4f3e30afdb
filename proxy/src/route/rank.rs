//! Kong's order (its documentation: "Proxying requests", "Routing priorities"): which of several routes that match is
//! taken.

use super::{Matches, PathPattern};
use std::cmp::Reverse;

/// Most headers that count, as in Kong.
const HEADERS_COUNTED_MAX: usize = 255;

/// The greater comes first. The fields stand in the order of their weight.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// How many kinds of attributes are asked for.
    kinds: u8,
    has_host: bool,
    has_header: bool,
    has_path: bool,
    has_method: bool,
    has_sni: bool,
    /// No host has a `*`.
    plain_hosts: bool,
    /// A host with a `*` names a port.
    wildcard_port: bool,
    headers: usize,
    regex: bool,
    regex_priority: i64,
    /// Of a plain path; an expression has none.
    path_bytes: usize,
    /// Arguments, cookies and consumers, which Kong does not know: they decide what it leaves to age.
    beyond_kong: usize,
    created_at: Reverse<u64>,
    order: Reverse<usize>,
}

impl Rank {
    /// Of a route that is the `order`th, under one of its paths.
    pub fn of(asked: &Matches, path: Option<&PathPattern>, order: usize) -> Self {
        let conditions = &asked.conditions;
        let has_host = !asked.hosts.is_empty();
        let has_header = !conditions.headers.is_empty();
        let has_path = !asked.paths.is_empty();
        let has_method = !conditions.methods.is_empty();
        let has_sni = !conditions.snis.is_empty();
        let kinds = [has_host, has_header, has_path, has_method, has_sni];
        let regex = matches!(path, Some(PathPattern::Regex { .. }));
        Self {
            kinds: kinds.into_iter().map(u8::from).sum(),
            has_host,
            has_header,
            has_path,
            has_method,
            has_sni,
            plain_hosts: !asked.hosts.iter().any(super::HostPattern::is_wildcard),
            wildcard_port: asked.hosts.iter().any(|host| host.is_wildcard() && host.port.is_some()),
            headers: conditions.headers.len().min(HEADERS_COUNTED_MAX),
            regex,
            regex_priority: if regex { asked.regex_priority } else { 0 },
            path_bytes: match path {
                Some(PathPattern::Prefix(prefix)) => prefix.len(),
                _ => 0,
            },
            beyond_kong: conditions.beyond_kong(),
            // What does not say when it was made is made now.
            created_at: Reverse(asked.created_at.unwrap_or(u64::MAX)),
            order: Reverse(order),
        }
    }
}
