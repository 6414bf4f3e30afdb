//! Two parts that want one address: found before anything runs, since each part knows only its own.

use std::net::SocketAddr;

use event::Problem;

use super::{Config, Role};

/// Every address that is also another listener's.
pub(super) fn conflicts(config: &Config, role: Role) -> Vec<Problem> {
    let mut wanted: Vec<(String, SocketAddr)> = Vec::new();
    if role.runs(Role::Proxy) {
        for (index, listen) in config.gateway.listen.iter().enumerate() {
            // What is no address is for the gateway to refuse.
            if let Ok(addr) = listen.address.parse() {
                wanted.push((format!("gateway.listen[{index}].address"), addr));
            }
        }
    }
    if role.runs(Role::Proxy) {
        for (index, listen) in config.gateway.stream_listen.iter().enumerate() {
            if let Ok(addr) = listen.address.parse() {
                wanted.push((format!("gateway.stream_listen[{index}].address"), addr));
            }
        }
    }
    if role.runs(Role::Collector) {
        wanted.push(("collector.metrics.listen".to_owned(), config.collector.metrics.listen));
        let receive = config.collector.receive.listen;
        wanted.extend(receive.map(|addr| ("collector.receive.listen".to_owned(), addr)));
    }
    if role.runs(Role::Analytics) {
        if let Ok(addr) = config.analytics.listen.parse() {
            wanted.push(("analytics.listen".to_owned(), addr));
        }
        let postgres = config.analytics.postgres.listen;
        wanted.extend(postgres.map(|addr| ("analytics.postgres.listen".to_owned(), addr)));
        let flight = config.analytics.flight.listen;
        wanted.extend(flight.map(|addr| ("analytics.flight.listen".to_owned(), addr)));
    }
    if role.runs(Role::Analytics) && config.analytics.engine == analytics::EngineKind::Ballista {
        wanted.push(("analytics.ballista.listen".to_owned(), config.analytics.ballista.listen));
    }
    let mut problems = Vec::new();
    for (index, (path, addr)) in wanted.iter().enumerate() {
        if let Some((other, taken)) = wanted[..index].iter().find(|(_, other)| meet(*addr, *other)) {
            problems.push(
                Problem::new(path, format!("{addr} is taken by `{other}`, which listens on {taken}"))
                    .hint("choose another port; 0 takes a free one"),
            );
        }
    }
    problems
}

/// Whether both cannot be bound: the same port, and one address or all of a family.
fn meet(left: SocketAddr, right: SocketAddr) -> bool {
    let (one, other) = (left.ip(), right.ip());
    let overlap = one == other
        || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
        // `[::]` takes the addresses of version 4 too, unless the system was told otherwise.
        || (one.is_ipv6() && one.is_unspecified())
        || (other.is_ipv6() && other.is_unspecified());
    left.port() != 0 && left.port() == right.port() && overlap
}

#[cfg(test)]
mod tests {
    use super::meet;

    #[test]
    fn addresses_meet_when_one_holds_the_other() {
        for (left, right, both) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.2:80", "127.0.0.1:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
        ] {
            assert_eq!(meet(left.parse().unwrap(), right.parse().unwrap()), both, "{left} {right}");
            assert_eq!(meet(right.parse().unwrap(), left.parse().unwrap()), both, "{right} {left}");
        }
    }
}
