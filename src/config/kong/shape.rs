//! Flat entities of a Kong file that a native file has inside others: targets of upstreams, keys of consumers.

use super::super::locate::{Entry, Kind, Node, Origin};
use super::super::report::Finding;
use super::{list_mut, take};

/// A flat list, the field that refers to the owner, the owners' list, and the fields that name an owner.
const OWNED: [(&str, &str, &str, &[&str]); 2] = [
    ("targets", "upstream", "upstreams", &["name", "id"]),
    ("keyauth_credentials", "consumer", "consumers", &["username", "id", "custom_id"]),
];

/// Puts each under its owner, and remembers where it stood.
pub(super) fn gather(tree: &mut Node, findings: &mut Vec<Finding>, moved: &mut Vec<(String, String)>) {
    for (list, field, owners, names) in OWNED {
        let Some(entry) = take(tree, list) else { continue };
        let Kind::List(items) = entry.value.kind else {
            findings.push(Finding::at(entry.origin, list, "must be a list"));
            continue;
        };
        for (at, mut item) in items.into_iter().enumerate() {
            let path = format!("{list}[{at}]");
            let Some(reference) = take(&mut item, field) else {
                let message = format!("`{field}` is missing");
                findings
                    .push(Finding::at(item.origin, &path, message).hint("it stands alone: say whose it is"));
                continue;
            };
            let key = key_of(&reference.value);
            let owner = list_mut(tree, owners).and_then(|owners| {
                let named = |owner: &Node| {
                    names.iter().any(|name| owner.entry(name).and_then(|name| key_of(&name.value)) == key)
                };
                owners.iter_mut().enumerate().find(|(_, owner)| key.is_some() && named(owner))
            });
            match owner {
                Some((number, owner)) => {
                    let place = push(owner, list, item, &entry.origin);
                    moved.push((format!("{owners}[{number}].{list}[{place}]"), path));
                }
                None => {
                    let key = key.unwrap_or_default();
                    let message = format!("there is no {field} `{key}`");
                    findings.push(Finding::at(reference.origin, &format!("{path}.{field}"), message));
                }
            }
        }
    }
}

/// A reference by name or id, plain or in a map of one of them.
fn key_of(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Scalar { text, .. } => Some(text.clone()),
        Kind::Map(entries) => key_of(&entries.first()?.value),
        Kind::List(_) => None,
    }
}

/// Appends to a list inside the owner; says at which place.
fn push(owner: &mut Node, list: &str, item: Node, origin: &Origin) -> usize {
    let Kind::Map(entries) = &mut owner.kind else { return 0 };
    let at = entries.iter().position(|entry| entry.key == list).unwrap_or_else(|| {
        let value = Node { kind: Kind::List(Vec::new()), origin: origin.clone(), veiled: false };
        entries.push(Entry { key: list.to_owned(), origin: origin.clone(), value, merged: false });
        entries.len() - 1
    });
    let Kind::List(items) = &mut entries[at].value.kind else { return 0 };
    items.push(item);
    items.len() - 1
}
