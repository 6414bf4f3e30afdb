//! TLS as Kong means it: what is not asked to be verified is not, the port is 80 all the same, and server names make a
//! listener of their own.

use serde_json::json;

use super::super::locate::{Entry, Kind, Node, Origin, Scalar};
use super::{line, list_mut, take};

/// Where Kong listens for TLS.
const LISTEN_TLS: &str = "0.0.0.0:8443";

/// Fields of a service that say whom its upstream must prove to be.
const VERIFYING: [&str; 2] = ["ca_certificates", "tls_verify_depth"];

/// Writes out of each service with TLS what a native one would take otherwise: whether it verifies, and its port.
pub(super) fn services(tree: &mut Node, notes: &mut Vec<String>) {
    let Some(services) = list_mut(tree, "services") else { return };
    for (at, service) in services.iter_mut().enumerate() {
        let asked =
            service.entry("tls_verify").map(|entry| entry.value.scalar() == Some(Scalar::Bool(false)));
        let unverified = asked == Some(true);
        if !speaks_tls(service) {
            if unverified {
                take(service, "tls_verify");
            }
            continue;
        }
        let mut note = |origin: &Origin, message: String| {
            notes.push(format!("{}services[{at}]: {message}", line(origin)));
        };
        if unverified {
            for name in VERIFYING {
                if let Some(entry) = take(service, name) {
                    note(&entry.origin, format!("`{name}` is not used, for `tls_verify` is false"));
                }
            }
        }
        let names_authorities = VERIFYING.iter().any(|name| service.entry(name).is_some());
        if asked.is_none() && !names_authorities {
            note(
                &service.origin,
                "the certificate of its upstream is not verified, as in Kong: set `tls_verify: true`".into(),
            );
            set(service, "tls_verify", &json!(false));
        }
        // Of a `url` the scheme says it, of `protocol` nothing.
        if service.entry("url").is_none() && service.entry("port").is_none() {
            set(service, "port", &json!(80));
        }
    }
}

fn set(service: &mut Node, key: &str, value: &serde_json::Value) {
    let origin = service.origin.clone();
    let value = Node::from_json(value, &origin);
    if let Kind::Map(entries) = &mut service.kind {
        entries.push(Entry { key: key.into(), origin, value, merged: false });
    }
}

fn speaks_tls(service: &Node) -> bool {
    let text = |name: &str| match &service.entry(name)?.value.kind {
        Kind::Scalar { text, .. } => Some(text.as_str()),
        Kind::List(_) | Kind::Map(_) => None,
    };
    match (text("url"), text("protocol")) {
        (Some(url), _) => ["https:", "grpcs:", "tls:"].iter().any(|scheme| url.starts_with(scheme)),
        (None, protocol) => matches!(protocol, Some("https" | "grpcs" | "tls")),
    }
}

/// The listeners: with server names one for TLS beside the other, named as Kong's ports are.
pub(super) fn listeners(tree: &Node) -> serde_json::Value {
    let plain = json!({"name": "http", "address": "0.0.0.0:8000"});
    let certificates = list(tree, "certificates");
    let named = certificates.iter().any(|certificate| !list(certificate, "snis").is_empty());
    if named || !list(tree, "snis").is_empty() {
        json!([plain, {"name": "https", "address": LISTEN_TLS, "tls": {}}])
    } else {
        json!([plain])
    }
}

fn list<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    match node.entry(name).map(|entry| &entry.value.kind) {
        Some(Kind::List(items)) => items,
        _ => &[],
    }
}
