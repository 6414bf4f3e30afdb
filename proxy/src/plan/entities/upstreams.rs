//! Upstreams and their targets.

use super::{Checker, UpstreamPlan, split_target};
use crate::config::Upstream;
use crate::plan::{Part, TargetPlan};
use http::HeaderValue;
use std::net::{IpAddr, SocketAddr};

impl Checker<'_> {
    pub(super) fn upstreams(&mut self) {
        let names: Vec<_> = self.entities.upstreams.iter().map(|one| Some(one.name.as_str())).collect();
        self.unique("upstreams", "name", &names);
        let ids: Vec<_> = self.entities.upstreams.iter().map(|one| one.id.as_deref()).collect();
        self.unique("upstreams", "id", &ids);
        for (at, upstream) in self.entities.upstreams.iter().enumerate() {
            let plan = self.upstream(upstream, &format!("upstreams[{at}]"));
            self.back.upstreams.push(plan);
        }
    }

    fn upstream(&mut self, upstream: &Upstream, path: &str) -> UpstreamPlan {
        if upstream.name.is_empty() {
            self.problem(format!("{path}.name"), "is missing");
        }
        let (algorithm, hash) = self.algorithm(upstream, path);
        let health = self.health(upstream.healthchecks.as_ref(), path);
        let outlier = self.outlier(upstream.outlier_detection.as_ref(), path);
        let circuit = self.circuit(upstream.circuit_breaker.as_ref(), path);
        let slow_start = self.slow_start(upstream.slow_start.as_ref(), algorithm, path);
        let host_header = upstream.host_header.as_deref().and_then(|host| {
            let value = HeaderValue::from_str(host).ok();
            if value.is_none() {
                self.problem(format!("{path}.host_header"), format!("`{host}` cannot be a header value"));
            }
            value
        });
        // Numbers of targets, and where they stand.
        let (mut targets, mut places) = (Vec::new(), Vec::new());
        for (at, target) in upstream.targets.iter().enumerate() {
            let path = format!("{path}.targets[{at}]");
            let weight = target.weight.unwrap_or(100);
            if weight > 65_535 {
                self.problem(format!("{path}.weight"), "must be from 0 to 65535");
            }
            match split_target(&target.target) {
                Some((host, port)) if weight > 0 => {
                    let number = self.target(host, port.unwrap_or(8000));
                    places.push((number, at));
                    targets.push(Part { target: number, weight, failover: target.failover });
                }
                Some(_) => {}
                None => self.problem_hint(
                    format!("{path}.target"),
                    format!("`{}` is not host:port", target.target),
                    "like 10.0.0.1:9000 or [::1]:9000",
                ),
            }
        }
        let subsets = self.subsets(upstream, &places, path);
        let server_name = host_header.as_ref().and_then(|host| split_target(host.to_str().ok()?));
        let server_name = server_name.map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
        UpstreamPlan {
            name: Some(upstream.name.clone()),
            targets,
            subsets,
            host_header,
            use_srv_name: upstream.use_srv_name,
            server_name,
            algorithm,
            hash,
            health,
            outlier,
            circuit,
            slow_start,
        }
    }

    pub(super) fn target(&mut self, host: &str, port: u16) -> usize {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addr = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        let host_header = authority(host, port).unwrap_or(HeaderValue::from_static("upstream"));
        let text = format!("{host}:{port}");
        self.back.targets.push(TargetPlan { host: bare.to_owned(), port, text, addr, host_header });
        self.back.targets.len() - 1
    }
}

/// The Host of a target.
pub(crate) fn authority(host: &str, port: u16) -> Option<HeaderValue> {
    let text = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
    HeaderValue::from_str(&text).ok()
}
