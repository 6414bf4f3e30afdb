//! The entities of a Kong file, one by one: what a native file has no word for is dropped where it changes nothing and
//! refused otherwise, and paths of older formats get the mark of a regular expression.

use serde_json::{Value, json};

use super::super::conform::descend;
use super::super::locate::{Entry, Kind, Node, join};
use super::super::report::Finding;
use super::fields::{BOOK_KEEPING, LISTS, is_inert, way_out};
use super::line;
use super::version::Version;

/// Lists of entities that stand at the top, native ones or such as are put under others.
const TOP: [&str; 10] = [
    "services",
    "routes",
    "upstreams",
    "targets",
    "consumers",
    "keyauth_credentials",
    "plugins",
    "certificates",
    "snis",
    "ca_certificates",
];

/// Longest name.
const NAME_BYTES_MAX: usize = 253;

/// Most tries again, here and in Kong.
const RETRIES_MAX: u32 = 15;
const RETRIES_MAX_OF_KONG: u32 = 32_767;

/// What Kong tries again: nginx passes on to the next target what cannot be sent or gets no answer, unless it may do harm.
const RETRIED: [&str; 3] = ["connect-failure", "refused-stream", "reset"];

/// Which lists stand inside which entities.
const NESTED: [(&str, &str); 6] = [
    ("services", "routes"),
    ("services", "plugins"),
    ("routes", "plugins"),
    ("upstreams", "targets"),
    ("consumers", "keyauth_credentials"),
    ("certificates", "snis"),
];

pub(super) fn translate(
    tree: &mut Node,
    schema: &Value,
    version: Version,
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    let mut translator = Translator { schema, version, findings, notes };
    let Kind::Map(entries) = &mut tree.kind else { return };
    entries.retain_mut(|entry| {
        if TOP.contains(&&*entry.key) {
            translator.list(&entry.key, &mut entry.value, &entry.key);
            return true;
        }
        let empty = matches!(&entry.value.kind, Kind::List(items) if items.is_empty());
        match LISTS.iter().find(|(name, _)| *name == entry.key) {
            Some(_) if empty => {}
            Some((_, hint)) => {
                let finding = Finding::at(entry.origin.clone(), &entry.key, "is not supported");
                translator.findings.push(finding.hint(*hint));
            }
            None => {
                let message = format!("unknown key `{}`", entry.key);
                let finding = Finding::at(entry.origin.clone(), &entry.key, message);
                let near = super::super::suggest::nearest(&entry.key, TOP);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known in a Kong file: {}", TOP.join(", ")),
                };
                translator.findings.push(finding.hint(hint));
            }
        }
        false
    });
}

/// Whether the native file has a key.
fn knows(schema: &Value, path: &[&str]) -> bool {
    descend(schema, path).is_ok()
}

struct Translator<'a> {
    schema: &'a Value,
    version: Version,
    findings: &'a mut Vec<Finding>,
    notes: &'a mut Vec<String>,
}

impl Translator<'_> {
    fn list(&mut self, entity: &str, node: &mut Node, path: &str) {
        // What is no list is for the schema to refuse.
        let Kind::List(items) = &mut node.kind else { return };
        for (at, item) in items.iter_mut().enumerate() {
            self.entity(entity, item, &format!("{path}[{at}]"));
        }
    }

    fn entity(&mut self, entity: &str, node: &mut Node, path: &str) {
        let Kind::Map(entries) = &mut node.kind else { return };
        entries.retain_mut(|entry| {
            let here = join(path, &entry.key);
            if NESTED.contains(&(entity, &entry.key)) {
                self.list(&entry.key, &mut entry.value, &here);
                return true;
            }
            match (entity, &*entry.key) {
                ("routes", "created_at") => {}
                ("routes", "paths") => self.paths(&mut entry.value, &here),
                ("plugins", "protocols") => self.plugin_protocols(&mut entry.value, &here),
                ("services", "retries") => self.retries(&mut entry.value, &here),
                ("services" | "routes" | "upstreams", "name") => self.name(entity, &entry.value, &here),
                (_, key) if BOOK_KEEPING.contains(&key) => return false,
                _ => {}
            }
            if self.is_native(entity, &entry.key) && entry.key != "response_buffering" {
                return true;
            }
            if let Kind::Scalar { text, .. } = &entry.value.kind
                && is_inert(entity, &entry.key, text)
            {
                return false;
            }
            let Some(hint) = way_out(entity, &entry.key) else { return true };
            let message = format!("`{}` is not supported", entry.key);
            self.findings.push(Finding::at(entry.origin.clone(), &here, message).hint(hint));
            false
        });
        if entity == "services" && !entries.iter().any(|entry| entry.key == "retry") {
            let (key, origin) = ("retry".to_owned(), node.origin.clone());
            let value = Node::from_json(&json!({ "retry_on": RETRIED }), &origin);
            entries.push(Entry { key, origin, value, merged: false });
        }
    }

    fn is_native(&self, entity: &str, field: &str) -> bool {
        let place: &[&str] = match entity {
            "targets" => &["upstreams", "0", "targets", "0"],
            "keyauth_credentials" => &["consumers", "0", "keyauth_credentials", "0"],
            _ => &[entity, "0"],
        };
        knows(self.schema, &[place, &[field]].concat())
    }

    /// Below 3.0 a path with characters of regular expressions is one.
    fn paths(&mut self, node: &mut Node, path: &str) {
        let Kind::List(items) = &mut node.kind else { return };
        for (at, item) in items.iter_mut().enumerate() {
            let Kind::Scalar { text, plain } = &mut item.kind else { continue };
            let here = format!("{path}[{at}]");
            match self.version {
                Version::Guessed(version) if text.starts_with('/') && is_expression(text) => {
                    self.notes.push(format!(
                        "{}{here}: `{text}` is a regular expression in format {version}: taken as `~{text}`",
                        line(&item.origin)
                    ));
                    *text = format!("~{text}");
                    *plain = false;
                }
                Version::Guessed(version) if text.starts_with('~') => {
                    let message = format!("`{text}` does not begin with / as format {version} asks for");
                    let finding = Finding::at(item.origin.clone(), &here, message);
                    self.findings.push(finding.hint("write _format_version: \"3.0\", or leave the ~ away"));
                }
                Version::Guessed(_) | Version::Marked => {}
            }
        }
    }

    /// A plugin of all protocols is one of HTTP; what it does for others never happens here. Of one of some Kong, too,
    /// asks only whether requests or streams are among them: it runs for every request.
    fn plugin_protocols(&mut self, node: &mut Node, path: &str) {
        let Kind::List(items) = &mut node.kind else { return };
        let is = |item: &Node, names: &[&str]| matches!(&item.kind, Kind::Scalar { text, .. } if names.contains(&text.as_str()));
        let both = ["http", "https"].iter().all(|name| items.iter().any(|item| is(item, &[name])));
        if both {
            items.retain(|item| {
                !is(item, &["grpc", "grpcs", "ws", "wss", "tcp", "tls", "udp", "tls_passthrough"])
            });
        } else if items.iter().any(|item| is(item, &["http", "https", "grpc", "grpcs"])) {
            let line = line(&node.origin);
            self.notes.push(format!(
                "{line}{path}: restricts nothing, as in Kong: the plugin runs for every request, by HTTP, HTTPS or gRPC"
            ));
        }
    }

    /// Kong takes more of them than an event has room for.
    fn retries(&mut self, node: &mut Node, path: &str) {
        let Kind::Scalar { text, plain: true } = &mut node.kind else { return };
        let many =
            text.parse::<u32>().is_ok_and(|asked| (RETRIES_MAX + 1..=RETRIES_MAX_OF_KONG).contains(&asked));
        if many {
            let line = line(&node.origin);
            self.notes.push(format!(
                "{line}{path}: a request is tried again {RETRIES_MAX} times at most, rather than {text}"
            ));
            *text = RETRIES_MAX.to_string();
        }
    }

    /// Kong's rule for names.
    fn name(&mut self, entity: &str, node: &Node, path: &str) {
        let Kind::Scalar { text, .. } = &node.kind else { return };
        let allowed =
            |letter: char| letter.is_alphanumeric() || "._~-".contains(letter) || !letter.is_ascii();
        let wrong = if entity == "upstreams" {
            let address = text.parse::<std::net::IpAddr>().is_ok();
            let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            (address || !letters).then_some("a host name without port, and no address")
        } else {
            (!text.chars().all(allowed)).then_some("letters, digits and . - _ ~")
        };
        let long = (text.len() > NAME_BYTES_MAX).then_some("at most 253 bytes");
        if let Some(wrong) = wrong.or(long).filter(|_| !text.contains("${")) {
            let message = format!("`{text}` is not a name that Kong allows");
            self.findings.push(Finding::at(node.origin.clone(), path, message).hint(wrong));
        }
    }
}

/// Kong's rule of formats below 3.0: anything but unreserved characters, slashes and escapes.
fn is_expression(path: &str) -> bool {
    !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~/%".contains(&byte))
}
