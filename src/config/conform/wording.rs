//! How a value that does not fit is spoken of.

use super::super::locate::{Kind, Node, Origin, Scalar};
use super::super::report::Finding;
use super::super::suggest::nearest;

/// A complaint about a key that does not exist here.
pub(super) fn unknown_key(key: &str, origin: &Origin, path: &str, known: &[&str]) -> Finding {
    let finding = Finding::at(origin.clone(), path, format!("unknown key `{key}`"));
    match nearest(key, known.iter().copied()) {
        Some(near) => finding.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => finding,
        None => finding.hint(format!("known here: {}", known.join(", "))),
    }
}

/// A complaint about a value of another kind.
pub(super) fn mismatch(expected: &[&str], node: &Node, path: &str) -> Finding {
    let mut names: Vec<&str> = Vec::new();
    for name in expected.iter().filter(|name| **name != "null") {
        let word = match *name {
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "string" => "text",
            "array" => "a list",
            _ => "a map of keys",
        };
        if !names.contains(&word) {
            names.push(word);
        }
    }
    let finding = Finding::at(
        node.origin.clone(),
        path,
        format!("expected {}, found {}", names.join(" or "), described(node, path)),
    );
    match node.scalar() {
        Some(Scalar::Text("yes" | "on" | "Yes" | "On")) if expected.contains(&"boolean") => {
            finding.hint("YAML 1.2 writes it `true`")
        }
        Some(Scalar::Text("no" | "off" | "No" | "Off")) if expected.contains(&"boolean") => {
            finding.hint("YAML 1.2 writes it `false`")
        }
        Some(Scalar::Text(text))
            if expected.contains(&"integer") && text.parse::<i64>().is_ok() && !is_private(node, path) =>
        {
            finding.hint(format!("leave the quotes away: {text}"))
        }
        Some(Scalar::Null) => finding.hint("write something under this key, or leave the key away"),
        _ => finding,
    }
}

fn described(node: &Node, path: &str) -> String {
    match (&node.kind, node.scalar()) {
        (Kind::List(_), _) => "a list".to_owned(),
        (Kind::Map(_), _) => "a map of keys".to_owned(),
        (_, Some(Scalar::Null)) => "nothing".to_owned(),
        (_, Some(Scalar::Bool(_))) => quoted(node, path),
        (_, Some(Scalar::Int(_) | Scalar::Float(_))) => format!("the number {}", quoted(node, path)),
        _ => format!("the text {}", quoted(node, path)),
    }
}

/// The value as written, cut short; not repeated when nobody else may read it.
pub(super) fn quoted(node: &Node, path: &str) -> String {
    match &node.kind {
        Kind::Scalar { .. } if is_private(node, path) => "(not shown)".to_owned(),
        Kind::Scalar { text, .. } => {
            let short: String = text.chars().take(60).collect();
            format!("`{short}`")
        }
        Kind::List(_) | Kind::Map(_) => described(node, path),
    }
}

/// Keys below which secrets stand, in whatever shape: one that is wrong is logged, and kept in a file for who asks.
pub(super) const PRIVATE: [&str; 7] =
    ["token", "tokens", "secret", "headers", "key", "credentials", "keyauth_credentials"];

/// Whether a value is a secret, or may be one in the wrong place; or came from the environment.
fn is_private(node: &Node, path: &str) -> bool {
    let keys = path.split('.').map(|key| key.split('[').next().unwrap_or_default());
    node.veiled || keys.into_iter().any(|key| PRIVATE.contains(&key))
}
