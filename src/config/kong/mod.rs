//! Kong's declarative files: the tree of a `kong.yml` becomes the tree of a native file, place by place, so that every
//! later step (references, schema, types, the parts' own checks) and every complaint is the same for both.
//!
//! `version` reads the head of the file, `fields` says what becomes of each field, `shape` puts flat entities under
//! those they belong to, `tls` writes out what Kong takes for granted, `vault` turns references to secrets into native ones, `write` makes a native file of it.

mod version;

mod vault;

mod fields;

mod entities;

mod shape;

mod tls;

mod write;

#[cfg(test)]
pub(super) mod tests;

pub(super) use write::{references, yaml};

use std::collections::HashMap;

use serde_json::Value;

use super::locate::{Entry, Kind, Node, Origin};
use super::report::Finding;

/// What the translation has to say beside the tree.
#[derive(Debug, Default)]
pub(super) struct Translation {
    /// What was read in another way than it is written, a line for each.
    pub(super) notes: Vec<String>,
    /// Paths in the native tree, and where the same stands in the Kong file.
    pub(super) moved: HashMap<String, String>,
}

impl Translation {
    /// The path in the Kong file of a path in the native tree.
    pub(super) fn path(&self, native: &str) -> String {
        // What was moved is an entry of a list inside an entry of a list.
        let end = native.match_indices(']').nth(1).map_or(native.len(), |(at, _)| at + 1);
        let (new, rest) = native.split_at(end);
        self.moved.get(new).map_or_else(|| native.to_owned(), |old| format!("{old}{rest}"))
    }
}

/// The response headers that Kong adds.
const HEADERS: [&str; 5] = [
    "X-Kong-Upstream-Latency",
    "X-Kong-Proxy-Latency",
    "X-Kong-Response-Latency",
    "X-Kong-Request-Id",
    "Via",
];

/// Makes a native tree of a Kong tree. `schema` is that of the native file.
pub(super) fn translate(tree: &mut Node, schema: &Value, findings: &mut Vec<Finding>) -> Translation {
    let mut translation = Translation::default();
    let Kind::Map(_) = tree.kind else {
        findings.push(Finding::at(tree.origin.clone(), "", "not a Kong declarative file: it is no map"));
        return translation;
    };
    let Some(version) = version::read(tree, findings) else { return translation };
    drop_nulls(tree);
    vault::rewrite(tree, findings);
    entities::translate(tree, schema, version, findings, &mut translation.notes);
    shape::gather(tree, findings, &mut translation.moved);
    tls::services(tree, &mut translation.notes);
    let names = serde_json::json!({"headers": HEADERS, "listen": tls::listeners(tree)});
    if let Kind::Map(entries) = &mut tree.kind {
        let value = Node::from_json(&names, &Origin::Nowhere);
        entries.push(Entry { key: "gateway".into(), origin: Origin::Nowhere, value, merged: false });
    }
    translation
}

/// Dumps write out what is not set.
fn drop_nulls(node: &mut Node) {
    match &mut node.kind {
        Kind::Map(entries) => {
            entries.retain(|entry| entry.value.scalar() != Some(super::locate::Scalar::Null));
            entries.iter_mut().for_each(|entry| drop_nulls(&mut entry.value));
        }
        Kind::List(items) => items.iter_mut().for_each(drop_nulls),
        Kind::Scalar { .. } => {}
    }
}

/// What begins a note on something: its line, where it has one.
fn line(origin: &Origin) -> String {
    match origin {
        Origin::File(mark) => format!("line {}: ", mark.line),
        Origin::Variable(_) | Origin::Flag(_) | Origin::Nowhere => String::new(),
    }
}

/// Takes an entry out of a map.
fn take(node: &mut Node, key: &str) -> Option<Entry> {
    let Kind::Map(entries) = &mut node.kind else { return None };
    let at = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.remove(at))
}

/// The list of this name.
fn list_mut<'n>(tree: &'n mut Node, name: &str) -> Option<&'n mut Vec<Node>> {
    let Kind::Map(entries) = &mut tree.kind else { return None };
    match &mut entries.iter_mut().find(|entry| entry.key == name)?.value.kind {
        Kind::List(items) => Some(items),
        Kind::Scalar { .. } | Kind::Map(_) => None,
    }
}
