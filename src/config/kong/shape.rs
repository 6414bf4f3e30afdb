//! Flat entities of a Kong file that a native file has inside others: targets of upstreams, keys of consumers.

use std::collections::HashMap;

use super::super::locate::{Entry, Kind, Node, Origin};
use super::super::report::Finding;
use super::{list_mut, take};

/// A flat list, the field that refers to the owner, the owners' list, and the fields that name an owner.
const OWNED: [(&str, &str, &str, &[&str]); 2] = [
    ("targets", "upstream", "upstreams", &["name", "id"]),
    ("keyauth_credentials", "consumer", "consumers", &["username", "id", "custom_id"]),
];

/// Puts each under its owner, and remembers where it stood.
pub(super) fn gather(tree: &mut Node, findings: &mut Vec<Finding>, moved: &mut HashMap<String, String>) {
    for (list, field, owners, names) in OWNED {
        let Some(entry) = take(tree, list) else { continue };
        let Kind::List(items) = entry.value.kind else {
            findings.push(Finding::at(entry.origin, list, "must be a list"));
            continue;
        };
        let numbers = numbers(tree, owners, names);
        for (at, mut item) in items.into_iter().enumerate() {
            let path = format!("{list}[{at}]");
            let Some(reference) = take(&mut item, field) else {
                let message = format!("`{field}` is missing");
                findings
                    .push(Finding::at(item.origin, &path, message).hint("it stands alone: say whose it is"));
                continue;
            };
            let key = key_of(&reference.value);
            let number = key.as_ref().and_then(|key| numbers.get(key)).copied();
            match number.and_then(|number| Some((number, list_mut(tree, owners)?.get_mut(number)?))) {
                Some((number, owner)) => {
                    let place = push(owner, list, item, &entry.origin);
                    moved.insert(format!("{owners}[{number}].{list}[{place}]"), path);
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

/// Where each owner stands, by all that may name it; the first of two.
fn numbers(tree: &mut Node, owners: &str, names: &[&str]) -> HashMap<String, usize> {
    let mut numbers = HashMap::new();
    for (number, owner) in list_mut(tree, owners).into_iter().flatten().enumerate() {
        for name in names.iter().filter_map(|name| key_of(&owner.entry(name)?.value)) {
            numbers.entry(name).or_insert(number);
        }
    }
    numbers
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
