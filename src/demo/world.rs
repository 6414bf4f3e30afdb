//! The small world of the demo: which services exist, who calls them, and the configuration that joins them.
//! `services` listens under these names, `traffic` calls with these keys, and `yaml` is the very file that
//! somebody would write by hand for the same world; it is left in the data folder for reading.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A sample service: the name in the gateway, the path prefix that leads to it and whether a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Name of the service, of its route and of its column value in SQL.
    pub name: &'static str,
    /// Path prefix on the gateway.
    pub path: &'static str,
    /// True when the gateway demands an API key.
    pub keyed: bool,
}

/// Edge services ask for a key; those behind them are called by other services, through the same gateway.
pub const SERVICES: [ServiceSpec; 5] = [
    ServiceSpec { name: "shop", path: "/shop", keyed: true },
    ServiceSpec { name: "catalog", path: "/catalog", keyed: false },
    ServiceSpec { name: "orders", path: "/orders", keyed: false },
    ServiceSpec { name: "payments", path: "/payments", keyed: false },
    ServiceSpec { name: "search", path: "/search", keyed: true },
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
    Caller { name: "acme", key: Some("demo-key-acme"), known: true },
    Caller { name: "mobile-app", key: Some("demo-key-mobile-app"), known: true },
    Caller { name: "globex", key: Some("demo-key-globex"), known: true },
    Caller { name: "anonymous", key: None, known: false },
    Caller { name: "initech", key: Some("demo-key-initech"), known: true },
    Caller { name: "wrong key", key: Some("demo-key-expired"), known: false },
];

/// Begins the `user-agent` of every request that the demo sends, so that SQL can tell them from the reader's own.
pub const USER_AGENT: &str = "tollhouse-demo";

/// Where the three listeners of the demo should stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The gateway.
    pub gateway: SocketAddr,
    /// `/metrics`, by the collector.
    pub metrics: SocketAddr,
    /// `/sql`, by the analytics.
    pub sql: SocketAddr,
}

/// The configuration of the demo as a `tollhouse.yaml`; `targets` holds one address per entry of `SERVICES`.
pub fn yaml(listen: &Listen, targets: &[SocketAddr; SERVICES.len()]) -> String {
    let mut text =
        String::from("# Written by `tollhouse demo`: the world it runs, in Kong's shapes.\nnode: demo\n\n");
    let Listen { gateway, metrics, sql } = listen;
    // Writing to a String cannot fail.
    let _ = write!(text, "gateway:\n  listen:\n    - name: http\n      address: {gateway}\n");
    let _ = write!(text, "collector:\n  metrics:\n    listen: {metrics}\n");
    let _ = write!(text, "analytics:\n  listen: {sql}\n\nservices:\n");
    for (service, target) in SERVICES.iter().zip(targets) {
        let ServiceSpec { name, path, keyed } = service;
        let _ = write!(
            text,
            "  - name: {name}\n    url: http://{target}\n    retries: 1\n    routes:\n      - name: {name}\n        paths: [{path}]\n"
        );
        if *keyed {
            text.push_str(
                "    plugins:\n      - name: key-auth\n        config: { hide_credentials: true }\n",
            );
        }
    }
    text.push_str("\nconsumers:\n");
    for caller in CALLERS.iter().filter(|caller| caller.known) {
        let key = caller.key.unwrap_or_default();
        let _ = write!(text, "  - username: {}\n    keyauth_credentials:\n      - key: {key}\n", caller.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_every_service_and_only_known_keys() {
        let address: SocketAddr = ([127, 0, 0, 1], 9).into();
        let text =
            yaml(&Listen { gateway: address, metrics: address, sql: address }, &[address; SERVICES.len()]);
        for service in SERVICES {
            assert!(text.contains(&format!("paths: [{}]", service.path)), "{text}");
        }
        assert!(text.contains("demo-key-acme") && !text.contains("demo-key-expired"), "{text}");
        assert_eq!(text.matches("key-auth").count(), 2);
    }
}
