//! A tree written as YAML: the native file that `convert` makes.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::locate::{Kind, Node, Scalar};

/// The tree as a YAML document, in block style.
pub(in crate::config) fn yaml(tree: &Node) -> String {
    let mut out = String::new();
    write(tree, 0, &mut out);
    out.trim_start_matches('\n').to_owned() + "\n"
}

/// The variables that the tree's `${NAME}` references need.
pub(in crate::config) fn references(node: &Node, found: &mut BTreeSet<String>) {
    match &node.kind {
        Kind::Scalar { text, .. } => {
            for (at, _) in text.match_indices("${") {
                let inside = text[at + 2..].split('}').next().unwrap_or_default();
                // `$${` is no reference, and one with a fallback needs nothing.
                if !text[..at].ends_with('$') && !inside.contains(":-") {
                    found.insert(inside.to_owned());
                }
            }
        }
        Kind::List(items) => items.iter().for_each(|item| references(item, found)),
        Kind::Map(entries) => entries.iter().for_each(|entry| references(&entry.value, found)),
    }
}

/// Writes a value after its key or dash.
fn write(node: &Node, depth: usize, out: &mut String) {
    // Writing into a string cannot fail.
    let indent = "  ".repeat(depth);
    match &node.kind {
        Kind::Scalar { text, plain } => out.push_str(&scalar(node, text, *plain)),
        Kind::List(items) if items.is_empty() => out.push_str("[]"),
        Kind::Map(entries) if entries.is_empty() => out.push_str("{}"),
        Kind::List(items) => {
            for item in items {
                let _written = write!(out, "\n{indent}- ");
                match &item.kind {
                    // The first key stands beside the dash.
                    Kind::Map(entries) if !entries.is_empty() => {
                        let mut inner = String::new();
                        write(item, depth + 1, &mut inner);
                        out.push_str(inner.trim_start());
                    }
                    _ => write(item, depth + 1, out),
                }
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let _written = write!(out, "\n{indent}{}:", quoted(&entry.key));
                if matches!(entry.value.kind, Kind::Scalar { .. }) || is_empty(&entry.value) {
                    out.push(' ');
                }
                write(&entry.value, depth + 1, out);
            }
        }
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.kind {
        Kind::List(items) => items.is_empty(),
        Kind::Map(entries) => entries.is_empty(),
        Kind::Scalar { .. } => false,
    }
}

/// Numbers, truth values and simple words stay as they are; all other text is quoted.
fn scalar(node: &Node, text: &str, plain: bool) -> String {
    match node.scalar() {
        Some(Scalar::Text(_)) if plain => quoted(text),
        Some(Scalar::Text(_)) => {
            // Quoted in the source: it may look like something else.
            let word = Node { kind: Kind::Scalar { text: text.to_owned(), plain: true }, ..node.clone() };
            if matches!(word.scalar(), Some(Scalar::Text(_))) { quoted(text) } else { json(text) }
        }
        _ => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let begin = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/');
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    if begin && letters { text.to_owned() } else { json(text) }
}

/// A JSON string is a double-quoted YAML scalar.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
