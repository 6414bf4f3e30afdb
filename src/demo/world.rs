//! The small world of the demo: which services exist, who calls them, and the configuration that joins them.
//! `services` listens under these names, `traffic` calls with these keys, and `yaml` is the very file that
//! somebody would write by hand for the same world; it is left in the data folder for reading.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A sample service: the name in the gateway, the path prefix that leads to it and the key it calls others with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Name of the service, of its route and of its column value in SQL.
    pub name: &'static str,
    /// Path prefix on the gateway.
    pub path: &'static str,
    /// Its own API key; absent for a service that calls nobody.
    pub key: Option<&'static str>,
}

/// All services ask for a key, and those that call others through the gateway have one, as any consumer.
pub const SERVICES: [ServiceSpec; 5] = [
    ServiceSpec { name: "shop", path: "/shop", key: Some("demo-key-shop") },
    ServiceSpec { name: "catalog", path: "/catalog", key: None },
    ServiceSpec { name: "orders", path: "/orders", key: Some("demo-key-orders") },
    ServiceSpec { name: "payments", path: "/payments", key: None },
    ServiceSpec { name: "search", path: "/search", key: Some("demo-key-search") },
];

/// Somebody who sends traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name for the traffic ledger.
    pub name: &'static str,
    /// The API key sent, if any.
    pub key: Option<&'static str>,
    /// True when the gateway knows the key.
    pub known: bool,
}

/// In order of size: traffic follows Zipf's law over this list, the first sends most.
pub const CALLERS: [Caller; 6] = [
    Caller { name: "acme", key: Some(KEY), known: true },
    Caller { name: "mobile-app", key: Some("demo-key-mobile-app"), known: true },
    Caller { name: "globex", key: Some("demo-key-globex"), known: true },
    Caller { name: "initech", key: Some("demo-key-initech"), known: true },
    Caller { name: "anonymous", key: None, known: false },
    Caller { name: "wrong key", key: Some("demo-key-expired"), known: false },
];

/// The key that a reader may call with.
pub const KEY: &str = "demo-key-acme";

/// Begins the `user-agent` of every request that the demo sends, so that SQL can tell them from the reader's own.
pub const USER_AGENT: &str = "tollhouse-demo";

/// Where the listeners of the demo should stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The gateway.
    pub gateway: SocketAddr,
    /// `/metrics`, by the collector.
    pub metrics: SocketAddr,
    /// `/sql`, by the analytics.
    pub sql: SocketAddr,
    /// SQL for clients of PostgreSQL.
    pub postgres: SocketAddr,
}

/// The configuration of the demo as a `tollhouse.yaml`; `targets` holds one address per entry of `SERVICES`.
pub fn yaml(listen: &Listen, targets: &[SocketAddr; SERVICES.len()]) -> String {
    let mut text =
        String::from("# Written by `tollhouse demo`: the world it runs, in Kong's shapes.\nnode: demo\n\n");
    let Listen { gateway, metrics, sql, postgres } = listen;
    // Writing to a String cannot fail.
    let _ = write!(text, "gateway:\n  listen:\n    - name: http\n      address: {gateway}\n");
    let _ = write!(text, "collector:\n  metrics:\n    listen: {metrics}\n");
    let _ = write!(
        text,
        "analytics:\n  listen: {sql}\n  postgres:\n    listen: {postgres}\n  flight:\n    listen: null\n\n"
    );
    text.push_str("# Every service wants an API key.\nplugins:\n  - name: key-auth\n    config: { hide_credentials: true }\n\n");
    text.push_str("services:\n");
    for (service, target) in SERVICES.iter().zip(targets) {
        let ServiceSpec { name, path, .. } = service;
        let _ = write!(
            text,
            "  - name: {name}\n    url: http://{target}\n    retries: 1\n    routes:\n      - name: {name}\n        paths: [{path}]\n"
        );
    }
    text.push_str("\nconsumers:\n");
    let callers = CALLERS.iter().filter(|caller| caller.known).map(|caller| (caller.name, caller.key));
    for (name, key) in callers.chain(SERVICES.iter().map(|service| (service.name, service.key))) {
        if let Some(key) = key {
            let _ = write!(text, "  - username: {name}\n    keyauth_credentials:\n      - key: {key}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_every_service_and_only_known_keys() {
        let address: SocketAddr = ([127, 0, 0, 1], 9).into();
        let listen = Listen { gateway: address, metrics: address, sql: address, postgres: address };
        let text = yaml(&listen, &[address; SERVICES.len()]);
        for service in SERVICES {
            assert!(text.contains(&format!("paths: [{}]", service.path)), "{text}");
        }
        assert!(text.contains("demo-key-acme") && !text.contains("demo-key-expired"), "{text}");
        // Four customers, and the three services that call others.
        assert_eq!(text.matches("  - username: ").count(), 7, "{text}");
    }
}
