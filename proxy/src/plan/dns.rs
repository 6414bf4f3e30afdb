//! Checks the section `gateway.dns`.

use crate::config::Dns;
use crate::upstream::DnsPlan;
use event::Problem;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(super) fn check(dns: &Dns, problems: &mut Vec<Problem>) -> DnsPlan {
    let mut resolvers = Vec::new();
    for (at, text) in dns.resolvers.iter().enumerate() {
        let addr = text.parse::<SocketAddr>().ok();
        match addr.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53))) {
            Some(addr) => resolvers.push(addr),
            None => problems.push(
                Problem::new(
                    format!("gateway.dns.resolvers[{at}]"),
                    format!("`{text}` is not ip or ip:port"),
                )
                .hint("like 10.0.0.2 or 127.0.0.1:8600"),
            ),
        }
    }
    if dns.order.is_empty() {
        problems.push(
            Problem::new("gateway.dns.order", "is empty: no name could be looked up")
                .hint("leave it out for SRV, A, AAAA"),
        );
    }
    /// A day: beyond it a number is a mistake.
    const LONGEST_MS: u64 = 86_400_000;
    let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    for (name, value, most) in [
        ("timeout_ms", dns.timeout_ms, 60_000),
        ("attempts", size(dns.attempts), 10),
        ("ttl_min_ms", dns.ttl_min_ms, LONGEST_MS),
        ("ttl_max_ms", dns.ttl_max_ms, LONGEST_MS),
        ("retry_interval_ms", dns.retry_interval_ms, LONGEST_MS),
        ("addresses_max", size(dns.addresses_max), 4096),
    ] {
        if !(1..=most).contains(&value) {
            problems.push(Problem::new(format!("gateway.dns.{name}"), format!("must be from 1 to {most}")));
        }
    }
    if dns.ttl_max_ms < dns.ttl_min_ms {
        problems.push(Problem::new("gateway.dns.ttl_max_ms", "is less than ttl_min_ms"));
    }
    DnsPlan {
        resolvers,
        order: dns.order.clone(),
        timeout: Duration::from_millis(dns.timeout_ms),
        attempts: dns.attempts,
        ttl_min: Duration::from_millis(dns.ttl_min_ms),
        ttl_max: Duration::from_millis(dns.ttl_max_ms.max(dns.ttl_min_ms)),
        retry_interval: Duration::from_millis(dns.retry_interval_ms),
        addresses_max: dns.addresses_max,
    }
}
