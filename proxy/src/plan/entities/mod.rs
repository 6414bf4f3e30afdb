//! Checks services, routes, upstreams, consumers and plugins, resolves their references and interns them.

pub(super) mod upstreams;

mod subsets;

mod hashing;

mod health;

mod outlier;

mod circuit;

mod services;

mod links;

mod proxy_protocol;

mod retry;

mod plugins;

mod matches;

mod conditions;

mod destinations;

mod diversions;

mod mirror;

mod faults;

mod routes;

mod streams;

mod consumers;

use super::certificates::Store;
use super::link::{Links, Material};
use super::{LinkPlan, ServicePlan, TargetPlan, UpstreamPlan};
use crate::auth::{Guard, Keyring};
use crate::config::{Entities, Reference};
use crate::route::{Builder, StreamMatches, StreamRoute};
use event::Problem;
use std::collections::HashMap;
use std::path::Path;

#[derive(Default)]
pub(super) struct Back {
    pub router: Builder,
    pub streams: Vec<(StreamRoute, StreamMatches)>,
    pub services: Vec<ServicePlan>,
    pub links: Vec<LinkPlan>,
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
    links: Links,
    material: Material<'a>,
    global_guard: Option<usize>,
    service_guards: Vec<Option<usize>>,
    /// Services with another upstream than their own, by the numbers of both.
    derived_services: HashMap<(usize, usize), usize>,
}

pub(super) fn check<'a>(
    entities: &'a Entities,
    store: Store<'a>,
    roots: Option<&'a Path>,
    problems: &'a mut Vec<Problem>,
) -> Back {
    let mut checker = Checker {
        back: Back::default(),
        problems,
        entities,
        links: Links::default(),
        material: Material { roots, store },
        global_guard: None,
        service_guards: Vec::new(),
        derived_services: HashMap::new(),
    };
    checker.upstreams();
    checker.services();
    checker.plugins();
    checker.routes();
    checker.consumers();
    checker.checks_by_proxy_protocol();
    checker.back.links = checker.links.plans;
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

    fn protocols(&mut self, protocols: &[String], path: &str) {
        for (at, protocol) in protocols.iter().enumerate() {
            if !["http", "https", "grpc", "grpcs"].contains(&protocol.as_str()) {
                self.problem_hint(
                    format!("{path}[{at}]"),
                    format!("`{protocol}` is not supported yet"),
                    "supported: http, https, grpc, grpcs; of streams tcp, tls, tls_passthrough",
                );
            }
        }
    }
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
