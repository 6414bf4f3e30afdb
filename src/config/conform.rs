//! Compares a configuration tree with the JSON Schema of its type, and lists everything that does not fit.
//!
//! The schema comes from the config types themselves (schemars), so there is one source of truth; the walk knows the
//! part of JSON Schema 2020-12 that schemars writes. It reports all unknown keys, wrong types, unknown words, missing
//! keys and numbers out of range in one go, where serde would stop at the first.

mod wording;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::locate::{Kind, Node, Origin, Scalar, join};
use super::report::Finding;
use super::suggest::nearest;
use wording::{mismatch, quoted, unknown_key};

/// `$ref` chains longer than this are a loop.
const REFERENCES_MAX: usize = 32;

/// Most complaints of one file: whoever has more has another kind of file.
const FINDINGS_MAX: usize = 10_000;

/// Everything in `node` that `schema` refuses, or as much as a person could ever read of it.
pub(crate) fn conform(schema: &Value, node: &Node) -> Vec<Finding> {
    let mut findings = Vec::new();
    Checker { root: schema }.check(schema, node, "", &node.origin, &mut findings);
    findings
}

/// The schema of the value at a path of keys, for typed environment overrides: `Err` names the keys known at the first
/// segment that is not.
pub(crate) fn descend<'s>(root: &'s Value, segments: &[&str]) -> Result<Vec<&'s Value>, Vec<String>> {
    let checker = Checker { root };
    let mut here = checker.variants(root);
    for segment in segments {
        let mut next = Vec::new();
        for schema in &here {
            if let Some(found) = schema.get("properties").and_then(|keys| keys.get(*segment)) {
                next.extend(checker.variants(found));
            } else if let Some(items) = schema.get("items")
                && segment.parse::<usize>().is_ok()
            {
                next.extend(checker.variants(items));
            } else if let Some(values) = schema.get("additionalProperties").filter(|more| more.is_object()) {
                next.extend(checker.variants(values));
            }
        }
        if next.is_empty() {
            let known = here.iter().filter_map(|schema| schema.get("properties")?.as_object());
            return Err(known.flat_map(|keys| keys.keys().cloned()).collect());
        }
        here = next;
    }
    Ok(here)
}

/// Whether a schema takes values of this JSON type.
pub(crate) fn takes(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => kind_of(value) == name,
            (None, Some(values)) => values.iter().any(|value| kind_of(value) == name),
            (None, None) => true,
        },
    }
}

struct Checker<'s> {
    root: &'s Value,
}

impl<'s> Checker<'s> {
    fn check(&self, schema: &'s Value, node: &Node, path: &str, at: &Origin, findings: &mut Vec<Finding>) {
        if findings.len() >= FINDINGS_MAX {
            return;
        }
        let schema = self.follow(schema);
        if schema == &Value::Bool(false) {
            findings.push(Finding::at(node.origin.clone(), path, "no value is allowed here"));
            return;
        }
        let Some(rules) = schema.as_object() else { return };
        for all in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.check(all, node, path, at, findings);
        }
        for several in ["anyOf", "oneOf"] {
            if let Some(options) = rules.get(several).and_then(Value::as_array) {
                self.check_one_of(options, node, path, at, findings);
            }
        }
        if rules.contains_key("type") && !expected(schema).iter().any(|name| fits(node, name)) {
            findings.push(mismatch(&expected(schema), node, path));
            return;
        }
        if rules.contains_key("const") || rules.contains_key("enum") {
            self.check_words(&words(schema), node, path, findings);
        }
        match &node.kind {
            Kind::Scalar { .. } => check_range(rules, node, path, findings),
            Kind::List(items) => self.check_list(rules, items, node, path, findings),
            Kind::Map(_) => self.check_map(schema, rules, node, path, at, findings),
        }
    }

    /// The value must fit one of `options`. When it fits none, the complaint is that of the option it was meant to be.
    fn check_one_of(
        &self,
        options: &'s [Value],
        node: &Node,
        path: &str,
        at: &Origin,
        findings: &mut Vec<Finding>,
    ) {
        let mut nearest_miss: Option<Vec<Finding>> = None;
        let mut known_words: Vec<Cow<'s, str>> = Vec::new();
        let mut expected_kinds: Vec<&str> = Vec::new();
        for option in options {
            let followed = self.follow(option);
            let mut misses = Vec::new();
            self.check(followed, node, path, at, &mut misses);
            if misses.is_empty() {
                return;
            }
            known_words.extend(words(followed));
            expected_kinds.extend(expected(followed));
            let same_shape = expected(followed).iter().any(|name| fits(node, name));
            let is_word = followed.get("const").is_some() || followed.get("enum").is_some();
            if same_shape
                && !is_word
                && self.tag_agrees(followed, node)
                && nearest_miss.as_ref().is_none_or(|best| misses.len() < best.len())
            {
                nearest_miss = Some(misses);
            }
        }
        if let Some(misses) = nearest_miss {
            findings.extend(misses);
        } else if !known_words.is_empty() && node.scalar().is_some() {
            self.check_words(&known_words, node, path, findings);
        } else if let Some(finding) = self.unknown_tag(options, node, path) {
            findings.push(finding);
        } else {
            expected_kinds.dedup();
            findings.push(mismatch(&expected_kinds, node, path));
        }
    }

    /// Whether a map carries the constant by which a tagged variant is told from its siblings.
    fn tag_agrees(&self, option: &Value, node: &Node) -> bool {
        let Some(keys) = option.get("properties").and_then(Value::as_object) else { return true };
        keys.iter().filter_map(|(key, schema)| Some((key, self.follow(schema).get("const")?.as_str()?))).all(
            |(key, tag)| node.entry(key).is_some_and(|entry| entry.value.scalar() == Some(Scalar::Text(tag))),
        )
    }

    /// A tagged variant whose tag is none of the known ones.
    fn unknown_tag(&self, options: &'s [Value], node: &Node, path: &str) -> Option<Finding> {
        let tags = options.iter().filter_map(|option| {
            let keys = self.follow(option).get("properties")?.as_object()?;
            keys.iter().find_map(|(key, schema)| Some((key, self.follow(schema).get("const")?.as_str()?)))
        });
        let (keys, names): (Vec<&String>, Vec<&str>) = tags.unzip();
        let key = keys.first()?;
        let mut findings = Vec::new();
        match node.entry(key) {
            Some(entry) => {
                let names: Vec<Cow<'_, str>> = names.into_iter().map(Cow::Borrowed).collect();
                self.check_words(&names, &entry.value, &join(path, key), &mut findings);
            }
            None => findings.push(
                Finding::at(node.origin.clone(), path, format!("`{key}` is missing"))
                    .hint(format!("one of: {}", names.join(", "))),
            ),
        }
        findings.pop()
    }

    fn check_words(&self, known: &[Cow<'_, str>], node: &Node, path: &str, findings: &mut Vec<Finding>) {
        let Kind::Scalar { text, .. } = &node.kind else {
            findings.push(mismatch(&["string"], node, path));
            return;
        };
        if known.iter().any(|word| word == text) {
            return;
        }
        let list: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
        let hint = match nearest(text, known.iter().map(AsRef::as_ref)) {
            Some(word) => format!("did you mean `{word}`? known: {}", list.join(", ")),
            None => format!("one of: {}", list.join(", ")),
        };
        let finding = Finding::at(node.origin.clone(), path, format!("unknown value {}", quoted(node, path)));
        findings.push(finding.hint(hint));
    }

    fn check_list(
        &self,
        rules: &'s Map<String, Value>,
        items: &[Node],
        node: &Node,
        path: &str,
        findings: &mut Vec<Finding>,
    ) {
        if let Some(least) = rules.get("minItems").and_then(Value::as_u64)
            && (items.len() as u64) < least
        {
            findings.push(Finding::at(node.origin.clone(), path, format!("needs at least {least} entries")));
        }
        let fixed = rules.get("prefixItems").and_then(Value::as_array);
        for (index, item) in items.iter().enumerate() {
            let schema = fixed.and_then(|fixed| fixed.get(index)).or_else(|| rules.get("items"));
            if let Some(schema) = schema {
                self.check(schema, item, &format!("{path}[{index}]"), &item.origin, findings);
            }
        }
    }

    fn check_map(
        &self,
        schema: &'s Value,
        rules: &'s Map<String, Value>,
        node: &Node,
        path: &str,
        at: &Origin,
        findings: &mut Vec<Finding>,
    ) {
        let Kind::Map(entries) = &node.kind else { return };
        let closed = ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .any(|rule| rules.get(*rule) == Some(&Value::Bool(false)));
        let mut known = Vec::new();
        self.known_keys(schema, &mut known);
        for entry in entries {
            if findings.len() >= FINDINGS_MAX {
                return;
            }
            let here = join(path, &entry.key);
            let own = rules.get("properties").and_then(|keys| keys.get(&entry.key));
            match own.or_else(|| rules.get("additionalProperties").filter(|more| more.is_object())) {
                Some(value) => self.check(value, &entry.value, &here, &entry.origin, findings),
                None if closed && !known.contains(&entry.key.as_str()) => {
                    findings.push(unknown_key(&entry.key, &entry.origin, &here, &known));
                }
                None => {}
            }
        }
        for key in
            rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if node.entry(key).is_none() {
                let origin = if *at == Origin::Nowhere { node.origin.clone() } else { at.clone() };
                findings.push(Finding::at(origin, path, format!("`{key}` is missing")));
            }
        }
    }

    /// All keys a map may have, those of merged and alternative parts included.
    fn known_keys(&self, schema: &'s Value, known: &mut Vec<&'s str>) {
        let schema = self.follow(schema);
        if let Some(keys) = schema.get("properties").and_then(Value::as_object) {
            known.extend(keys.keys().map(String::as_str));
        }
        for several in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
                self.known_keys(part, known);
            }
        }
    }

    /// A schema without its alternatives: each way the value may be written.
    fn variants(&self, schema: &'s Value) -> Vec<&'s Value> {
        let schema = self.follow(schema);
        let mut all = vec![schema];
        for several in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
                all.push(self.follow(part));
            }
        }
        // A bare list of alternatives describes nothing itself.
        if all.len() > 1 && schema.get("type").is_none() && schema.get("properties").is_none() {
            all.remove(0);
        }
        all
    }

    fn follow(&self, mut schema: &'s Value) -> &'s Value {
        for _ in 0..REFERENCES_MAX {
            let target = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
            match target.and_then(|pointer| self.root.pointer(pointer)) {
                Some(found) => schema = found,
                None => break,
            }
        }
        schema
    }
}

fn check_range(rules: &Map<String, Value>, node: &Node, path: &str, findings: &mut Vec<Finding>) {
    let value = match node.scalar() {
        Some(Scalar::Int(value)) => value as f64,
        Some(Scalar::Float(value)) => value,
        _ => return,
    };
    let bound = |name: &str| rules.get(name).and_then(Value::as_f64);
    let low = bound("minimum").filter(|low| value < *low).map(|low| format!("at least {low}"));
    let high = bound("maximum").filter(|high| value > *high).map(|high| format!("at most {high}"));
    let high = high.or_else(|| {
        let most = width_max(rules.get("format")?.as_str()?)?;
        matches!(node.scalar(), Some(Scalar::Int(value)) if value > most).then(|| format!("at most {most}"))
    });
    let above = bound("exclusiveMinimum").filter(|low| value <= *low).map(|low| format!("more than {low}"));
    if let Some(limit) = low.or(high).or(above) {
        findings.push(Finding::at(
            node.origin.clone(),
            path,
            format!("{} must be {limit}", quoted(node, path)),
        ));
    }
}

/// The largest whole number of a type; schemars writes its name as the format, and the bounds of small types only.
fn width_max(format: &str) -> Option<i128> {
    match format {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
        "uint64" | "uint" => Some(u64::MAX.into()),
        "int32" => Some(i32::MAX.into()),
        "int64" => Some(i64::MAX.into()),
        _ => None,
    }
}

/// The words a closed list allows.
fn words(schema: &Value) -> Vec<Cow<'_, str>> {
    let constant = schema.get("const").into_iter();
    let several = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    constant
        .chain(several)
        .filter(|value| !value.is_null())
        .map(|value| value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed))
        .collect()
}

/// The JSON types a schema takes, by name.
fn expected(schema: &Value) -> Vec<&str> {
    ["null", "boolean", "integer", "number", "string", "array", "object"]
        .into_iter()
        .filter(|name| takes(schema, name))
        .collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn fits(node: &Node, name: &str) -> bool {
    match (&node.kind, node.scalar()) {
        (Kind::List(_), _) => name == "array",
        (Kind::Map(_), _) => name == "object",
        (_, Some(Scalar::Null)) => name == "null",
        // A bare number or boolean is welcome where text is asked: `name: 42` is the text 42.
        (_, Some(Scalar::Bool(_))) => name == "boolean" || name == "string",
        (_, Some(Scalar::Int(_))) => matches!(name, "integer" | "number" | "string"),
        (_, Some(Scalar::Float(_))) => name == "number" || name == "string",
        (_, Some(Scalar::Text(_)) | None) => name == "string",
    }
}
