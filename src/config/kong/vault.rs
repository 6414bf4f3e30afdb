//! References to secrets: `{vault://env/NAME}` and decK's `${{ env "NAME" }}` become the native `${NAME}`, which is
//! filled in later, so that a converted file holds references and no secrets.

use super::super::locate::{Kind, Node, join};
use super::super::report::Finding;
use super::take;

/// A vault of environment variables, as an entity of the file names it.
struct Vault {
    /// What stands behind `vault://`.
    name: String,
    /// What each variable's name begins with.
    prefix: String,
}

/// Rewrites every reference of the tree, and takes the vaults off it.
pub(super) fn rewrite(tree: &mut Node, findings: &mut Vec<Finding>) {
    let vaults = vaults(tree, findings);
    walk(tree, "", &vaults, findings);
}

fn vaults(tree: &mut Node, findings: &mut Vec<Finding>) -> Vec<Vault> {
    let mut vaults = vec![Vault { name: "env".into(), prefix: String::new() }];
    let Some(Kind::List(items)) = take(tree, "vaults").map(|entry| entry.value.kind) else { return vaults };
    for (at, item) in items.iter().enumerate() {
        let path = format!("vaults[{at}]");
        let text = |key: &str| match item.entry(key).map(|entry| &entry.value.kind) {
            Some(Kind::Scalar { text, .. }) => Some(text.clone()),
            _ => None,
        };
        if text("name").as_deref() != Some("env") {
            let message = format!("vault `{}` is not supported", text("name").unwrap_or_default());
            let finding = Finding::at(item.origin.clone(), &format!("{path}.name"), message);
            findings.push(finding.hint("put its secrets into environment variables: {vault://env/NAME}"));
            continue;
        }
        let known = ["id", "name", "prefix", "description", "config", "tags", "created_at", "updated_at"];
        if let Kind::Map(entries) = &item.kind {
            for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
                let path = format!("{path}.{}", entry.key);
                findings
                    .push(Finding::at(entry.origin.clone(), &path, "is not supported").hint("leave it out"));
            }
        }
        let config = item.entry("config").map(|entry| &entry.value);
        let mut prefix = String::new();
        if let Some(Kind::Map(entries)) = config.map(|config| &config.kind) {
            for entry in entries {
                match (&*entry.key, &entry.value.kind) {
                    ("prefix", Kind::Scalar { text, .. }) => prefix.clone_from(text),
                    _ => {
                        let path = format!("{path}.config.{}", entry.key);
                        let finding = Finding::at(entry.origin.clone(), &path, "is not supported");
                        findings.push(finding.hint("of a vault of the environment only `prefix` is"));
                    }
                }
            }
        }
        match text("prefix") {
            Some(name) => vaults.push(Vault { name, prefix }),
            None => findings.push(Finding::at(item.origin.clone(), &format!("{path}.prefix"), "is missing")),
        }
    }
    vaults
}

fn walk(node: &mut Node, path: &str, vaults: &[Vault], findings: &mut Vec<Finding>) {
    match &mut node.kind {
        Kind::Scalar { text, plain } => match native(text, vaults) {
            Ok(Some(reference)) => {
                *text = reference;
                *plain = false;
            }
            Ok(None) => {}
            Err((message, hint)) => {
                findings.push(Finding::at(node.origin.clone(), path, message).hint(hint));
            }
        },
        Kind::List(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{path}[{at}]"), vaults, findings);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                walk(&mut entry.value, &join(path, &entry.key), vaults, findings);
            }
        }
    }
}

/// The native form of a value that is a reference.
fn native(text: &str, vaults: &[Vault]) -> Result<Option<String>, (String, &'static str)> {
    if let Some(name) = deck(text) {
        return Ok(Some(format!("${{{name}}}")));
    }
    let Some(inside) = text.strip_prefix("{vault://").and_then(|rest| rest.strip_suffix('}')) else {
        return Ok(None);
    };
    let (vault, name) = inside.split_once('/').unwrap_or((inside, ""));
    let Some(vault) = vaults.iter().find(|known| known.name == vault) else {
        return Err((format!("there is no vault `{vault}`"), "supported: {vault://env/NAME}"));
    };
    if name.contains(['/', '?', '#']) {
        return Err((
            "of a secret that is JSON one value cannot be taken".into(),
            "put the value into a variable of its own",
        ));
    }
    // As Kong reads the names of its variables.
    let name = format!("{}{name}", vault.prefix).to_ascii_uppercase().replace('-', "_");
    if name.is_empty() {
        return Err(("names no variable".into(), "like {vault://env/NAME}"));
    }
    Ok(Some(format!("${{{name}}}")))
}

/// decK's `${{ env "NAME" }}`.
fn deck(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${{")?.strip_suffix("}}")?.trim().strip_prefix("env")?.trim();
    inside.strip_prefix('"')?.strip_suffix('"')
}
