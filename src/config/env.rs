//! The environment in the configuration: `TOLLHOUSE_ANALYTICS__LISTEN=...` overrides, and `${NAME}` in values of the
//! file. Variables arrive as a list, so that tests pass their own and nothing here touches the process.

use std::collections::BTreeMap;

use serde_json::Value;

use super::conform::{descend, takes};
use super::load::FILE_BYTES_MAX;
use super::locate::{Entry, Kind, Node, Origin, join, parse};
use super::report::Finding;
use super::suggest::nearest;

/// What every override begins with.
pub const PREFIX: &str = "TOLLHOUSE_";

/// Names with the prefix that are read elsewhere: `--config` on the command line.
const RESERVED: [&str; 2] = ["TOLLHOUSE_CONFIG", "TOLLHOUSE_TOKEN"];

/// Most text that references may become, of all values together: one may name a long variable many times.
const FILLED_BYTES_MAX: usize = FILE_BYTES_MAX as usize;

/// Replaces `${NAME}` and `${NAME:-fallback}` in all values of the file; `$${` stands for a literal `${`.
pub(crate) fn fill_in(root: &mut Node, vars: &BTreeMap<String, String>, findings: &mut Vec<Finding>) {
    let mut room = FILLED_BYTES_MAX;
    fill_in_below(root, "", vars, &mut room, findings);
}

fn fill_in_below(
    node: &mut Node,
    path: &str,
    vars: &BTreeMap<String, String>,
    room: &mut usize,
    findings: &mut Vec<Finding>,
) {
    match &mut node.kind {
        Kind::Scalar { text, .. } if text.contains("${") => match expand(text, vars, *room) {
            Ok(filled) => {
                *room -= filled.len();
                *text = filled;
                node.veiled = true;
            }
            Err(message) => findings.push(Finding::at(node.origin.clone(), path, message)),
        },
        Kind::Scalar { .. } => {}
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                fill_in_below(item, &format!("{path}[{index}]"), vars, room, findings);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                fill_in_below(&mut entry.value, &join(path, &entry.key), vars, room, findings);
            }
        }
    }
}

/// The text with its references filled in, of at most so many bytes.
fn expand(text: &str, vars: &BTreeMap<String, String>, room: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let inside = &rest[start + 2..];
        let end = inside.find('}').ok_or("`${` without `}`; write `$${` for a literal `${`")?;
        let (name, fallback) = match inside[..end].split_once(":-") {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (&inside[..end], None),
        };
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !is_name {
            return Err(format!("`${{{name}}}` is not a variable's name; write `$${{` for a literal `${{`"));
        }
        match (vars.get(name), fallback) {
            (Some(value), _) if !value.is_empty() || fallback.is_none() => out.push_str(value),
            (_, Some(fallback)) => out.push_str(fallback),
            _ => return Err(format!("the environment variable {name} is not set")),
        }
        rest = &inside[end + 1..];
        if out.len() > room {
            break;
        }
    }
    out.push_str(rest);
    if out.len() > room {
        return Err(format!("all `${{...}}` of the file become more than {FILLED_BYTES_MAX} bytes"));
    }
    Ok(out)
}

/// Lays all `TOLLHOUSE_...` variables over the tree. A name is a path: `__` parts keys, a number counts in a list.
pub(crate) fn overlay(
    root: &mut Node,
    schema: &Value,
    vars: &BTreeMap<String, String>,
    findings: &mut Vec<Finding>,
) {
    for (name, value) in vars {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        if RESERVED.contains(&name.as_str()) || set_by_kubernetes(path, value) {
            continue;
        }
        let lower = path.to_ascii_lowercase();
        let segments: Vec<&str> = lower.split("__").collect();
        let origin = Origin::Variable(name.clone());
        match descend(schema, &segments) {
            Ok(schemas) => match read(value, &schemas, &origin) {
                Ok(node) => {
                    if let Err(message) = set(root, &segments, node, &origin) {
                        findings.push(Finding::at(origin, &segments.join("."), message));
                    }
                }
                Err(message) => findings.push(Finding::at(origin, &segments.join("."), message)),
            },
            Err(known) => findings.push(unknown(name, &segments, schema, &known, origin)),
        }
    }
}

fn unknown(name: &str, segments: &[&str], schema: &Value, known: &[String], origin: Origin) -> Finding {
    let bad = (0..segments.len()).find(|index| descend(schema, &segments[..=*index]).is_err()).unwrap_or(0);
    let finding = Finding::at(
        origin,
        &segments[..bad].join("."),
        format!("{name} names no key of the configuration: `{}` is unknown", segments[bad]),
    );
    match nearest(segments[bad], known.iter().map(String::as_str)) {
        Some(near) => {
            let mut right = segments.to_vec();
            right[bad] = near;
            finding.hint(format!("did you mean {PREFIX}{}?", right.join("__").to_ascii_uppercase()))
        }
        None => finding.hint("`tollhouse config reference` lists all keys; `__` stands between them"),
    }
}

/// A pod next to a Kubernetes Service called `tollhouse` (or `tollhouse-...`) gets variables with our prefix that are
/// not meant for us: `TOLLHOUSE_SERVICE_HOST`, `TOLLHOUSE_PORT=tcp://...`, `TOLLHOUSE_PORT_8000_TCP_ADDR`.
fn set_by_kubernetes(path: &str, value: &str) -> bool {
    let parts: Vec<&str> = path.split('_').collect();
    let service = parts.windows(2).any(|pair| pair == ["SERVICE", "HOST"] || pair == ["SERVICE", "PORT"]);
    let address = path.ends_with("PORT") && (value.starts_with("tcp://") || value.starts_with("udp://"));
    let port = parts.windows(3).any(|three| {
        three[0] == "PORT" && three[1].parse::<u16>().is_ok() && matches!(three[2], "TCP" | "UDP" | "SCTP")
    });
    service || address || port
}

/// A variable's text as the schema types it: text as it is, lists and maps in YAML's flow style, the rest as a scalar.
fn read(value: &str, schemas: &[&Value], origin: &Origin) -> Result<Node, String> {
    let any = |name| schemas.iter().any(|schema| takes(schema, name));
    let bracketed = value.trim_start().starts_with(['[', '{']);
    if bracketed && (any("array") || any("object")) {
        let parsed = parse(value).map_err(|findings| findings[0].message.clone());
        return parsed.map(|mut node| {
            node.stamp(origin);
            node
        });
    }
    let scalar = |text: &str, plain| Node {
        kind: Kind::Scalar { text: text.to_owned(), plain },
        origin: origin.clone(),
        veiled: true,
    };
    if any("array") && !any("string") {
        let items = value.split(',').map(|item| scalar(item.trim(), true)).collect();
        return Ok(Node { kind: Kind::List(items), origin: origin.clone(), veiled: true });
    }
    let only_text = any("string") && !any("integer") && !any("number") && !any("boolean");
    Ok(scalar(value, !only_text))
}

/// Puts `value` at the path, making the maps on the way. A list may be changed where it has an entry, or grow by one.
pub(crate) fn set(node: &mut Node, segments: &[&str], value: Node, origin: &Origin) -> Result<(), String> {
    let Some((first, rest)) = segments.split_first() else {
        *node = value;
        return Ok(());
    };
    if matches!(&node.kind, Kind::Scalar { .. }) {
        let index = first.parse::<usize>().is_ok();
        node.kind = if index { Kind::List(Vec::new()) } else { Kind::Map(Vec::new()) };
        node.origin = origin.clone();
    }
    let fresh = || Node {
        kind: Kind::Scalar { text: String::new(), plain: true },
        origin: origin.clone(),
        veiled: true,
    };
    match &mut node.kind {
        Kind::Map(entries) => {
            let index = entries.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
                entries.push(Entry {
                    key: (*first).to_owned(),
                    origin: origin.clone(),
                    value: fresh(),
                    merged: false,
                });
                entries.len() - 1
            });
            if rest.is_empty() {
                entries[index].origin = origin.clone();
            }
            set(&mut entries[index].value, rest, value, origin)
        }
        Kind::List(items) => {
            let index = first.parse::<usize>().map_err(|_| format!("`{first}` is not a place in a list"))?;
            if index > items.len() {
                return Err(format!("the list has {} entries, so the next is {}", items.len(), items.len()));
            }
            if index == items.len() {
                items.push(fresh());
            }
            set(&mut items[index], rest, value, origin)
        }
        Kind::Scalar { .. } => unreachable!("scalars were made a list or a map above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        node: Option<String>,
        analytics: Option<Analytics>,
    }

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Analytics {
        listen: String,
        rows_max: u32,
        tags: Vec<String>,
    }

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn overlaid(pairs: &[(&str, &str)]) -> (Node, Vec<Finding>) {
        let mut root = parse("analytics: {rows_max: 1}").unwrap();
        let mut findings = Vec::new();
        overlay(&mut root, &schemars::schema_for!(Sample).to_value(), &vars(pairs), &mut findings);
        (root, findings)
    }

    #[test]
    fn overrides_are_typed_by_the_schema() {
        let (root, findings) = overlaid(&[
            ("TOLLHOUSE_NODE", "007"),
            ("TOLLHOUSE_ANALYTICS__LISTEN", "127.0.0.1:0"),
            ("TOLLHOUSE_ANALYTICS__ROWS_MAX", "5"),
            ("TOLLHOUSE_ANALYTICS__TAGS", "a, b"),
            ("HOME", "/"),
        ]);
        assert!(findings.is_empty(), "{findings:?}");
        let analytics = &root.entry("analytics").unwrap().value;
        let scalar = |node: &Node| format!("{:?}", node.scalar().unwrap());
        assert_eq!(scalar(&root.entry("node").unwrap().value), "Text(\"007\")");
        assert_eq!(scalar(&analytics.entry("rows_max").unwrap().value), "Int(5)");
        assert_eq!(
            analytics.entry("rows_max").unwrap().origin,
            Origin::Variable("TOLLHOUSE_ANALYTICS__ROWS_MAX".into())
        );
        assert!(
            matches!(&analytics.entry("tags").unwrap().value.kind, Kind::List(items) if items.len() == 2)
        );
    }

    #[test]
    fn unknown_variables_are_named_with_the_nearest() {
        let (_, findings) = overlaid(&[("TOLLHOUSE_ANALYTICS__LISTN", "x")]);
        assert!(findings[0].message.contains("TOLLHOUSE_ANALYTICS__LISTN"));
        assert_eq!(findings[0].hint.as_deref(), Some("did you mean TOLLHOUSE_ANALYTICS__LISTEN?"));
    }

    #[test]
    fn variables_of_kubernetes_and_of_the_command_line_are_left_alone() {
        let (_, findings) = overlaid(&[
            ("TOLLHOUSE_CONFIG", "x.yaml"),
            ("TOLLHOUSE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLHOUSE_SERVICE_PORT_HTTP", "80"),
            ("TOLLHOUSE_PORT", "tcp://10.0.0.1:80"),
            ("TOLLHOUSE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ]);
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn references_are_filled_in_and_missing_ones_named() {
        let vars = vars(&[("KEY", "s3cret"), ("EMPTY", "")]);
        assert_eq!(expand("a-${KEY}-b", &vars, 100), Ok("a-s3cret-b".into()));
        assert_eq!(expand("${NONE:-x}${EMPTY:-y}${EMPTY}", &vars, 100), Ok("xy".into()));
        assert_eq!(expand("$${KEY} costs $5", &vars, 100), Ok("${KEY} costs $5".into()));
        assert!(expand("${NONE}", &vars, 100).unwrap_err().contains("NONE"));
        assert!(expand("${oops", &vars, 100).is_err());
        assert_eq!(expand("${KEY}${KEY}", &vars, 12).map(|text| text.len()), Ok(12));
        assert!(expand("${KEY}${KEY}", &vars, 11).unwrap_err().contains("more than"));

        let mut root = parse("list:\n  - ${NONE}\n").unwrap();
        let mut findings = Vec::new();
        fill_in(&mut root, &vars, &mut findings);
        assert_eq!(findings[0].path, "list[0]");
        assert!(matches!(findings[0].origin, Origin::File(mark) if mark.line == 2));

        let vars = BTreeMap::from([("LONG".to_owned(), "x".repeat(1 << 20))]);
        let mut root = parse(&format!("list: [{}]", ["'${LONG}'"; 40].join(","))).unwrap();
        let mut findings = Vec::new();
        fill_in(&mut root, &vars, &mut findings);
        assert_eq!((findings.len(), findings[0].path.as_str()), (24, "list[16]"), "the first 16 are 16 MiB");
    }
}
