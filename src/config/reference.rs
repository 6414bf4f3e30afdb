//! `docs/configuration.md` and `docs/tollhouse.schema.json`, written from the types that read the configuration.

use std::fmt::Write;

use serde_json::{Map, Value};

/// What stands before the generated tables.
const INTRODUCTION: &str = include_str!("reference_introduction.md");

/// Maps nested deeper than this would be a type that contains itself.
const DEPTH_MAX: usize = 12;

/// The JSON Schema, pretty, with its newline.
pub fn schema_text(schema: &Value) -> String {
    // A `Value` holds no map with keys other than text, so it always has a JSON form.
    format!("{schema:#}\n")
}

/// The reference as Markdown: an introduction, then a table for each map of keys.
pub fn markdown(schema: &Value) -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## All keys\n\nThe tables are written from the program's own types by `tollhouse config reference`.\n");
    Writer { root: schema }.section(schema, "", 0, &mut out);
    out
}

struct Writer<'s> {
    root: &'s Value,
}

/// A map or list of maps below the table, which gets a table of its own.
struct Below<'s> {
    path: String,
    schema: &'s Value,
    text: Option<&'s str>,
}

impl<'s> Writer<'s> {
    fn section(&self, schema: &'s Value, path: &str, depth: usize, out: &mut String) {
        if depth > DEPTH_MAX {
            return;
        }
        let Some(keys) = schema.get("properties").and_then(Value::as_object) else { return };
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut below = Vec::new();
        let _ = writeln!(out, "\n| key | type | default | meaning |\n| --- | --- | --- | --- |");
        for (key, value) in keys {
            let inner = self.inner(value);
            let default = match value.get("default") {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                Some(default @ (Value::Object(_) | Value::Array(_)))
                    if !is_empty(default) && inner.is_some() =>
                {
                    "see below".to_owned()
                }
                Some(default) => format!("`{default}`"),
                None => String::new(),
            };
            let text = description(value).or_else(|| description(self.follow(value))).unwrap_or_default();
            let _ = writeln!(
                out,
                "| `{key}` | {} | {} | {} |",
                cell(&self.kind(value, 0)),
                cell(&default),
                cell(&self.with_words(text, value))
            );
            if let Some((suffix, inner)) = inner {
                let text = description(value).or_else(|| description(inner));
                below.push(Below {
                    path: format!("{}{suffix}", super::locate::join(path, key)),
                    schema: inner,
                    text,
                });
            }
        }
        for Below { path, schema, text } in below {
            let _ = write!(out, "\n### `{path}`\n");
            if let Some(text) = text {
                let _ = write!(out, "\n{text}\n");
            }
            if let Some(variants) =
                schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array)
            {
                self.variants(variants, &path, depth, out);
            }
            self.section(schema, &path, depth + 1, out);
        }
    }

    /// Each way a map may be written, under the words that choose it.
    fn variants(&self, variants: &'s [Value], path: &str, depth: usize, out: &mut String) {
        for variant in variants.iter().map(|variant| self.follow(variant)) {
            let Some(keys) = variant.get("properties").and_then(Value::as_object) else { continue };
            let tags: Vec<String> = keys
                .iter()
                .filter_map(|(key, value)| Some(format!("`{key}: {}`", value.get("const")?.as_str()?)))
                .collect();
            let name = if tags.is_empty() { "Form".to_owned() } else { tags.join(", ") };
            let _ = write!(out, "\n{name}: {}\n", description(variant).unwrap_or_default());
            self.section(variant, path, depth + 1, out);
        }
    }

    /// The map of keys inside a value, with what its path gains: nothing, `[]` for a list, `.<name>` for a free map.
    fn inner(&self, schema: &'s Value) -> Option<(String, &'s Value)> {
        let schema = self.follow(schema);
        if let Some(items) = schema.get("items") {
            return self.inner(items).map(|(suffix, inner)| (format!("[]{suffix}"), inner));
        }
        if let Some(values) = schema.get("additionalProperties").filter(|more| more.is_object()) {
            return self.inner(values).map(|(suffix, inner)| (format!(".<name>{suffix}"), inner));
        }
        if schema.get("properties").is_some() {
            return Some((String::new(), schema));
        }
        let options = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)?;
        let mut maps = options.iter().filter_map(|option| self.inner(option));
        match (maps.next(), maps.next()) {
            (Some(only), None) => Some(only),
            (Some(_), Some(_)) => Some((String::new(), schema)),
            _ => None,
        }
    }

    fn kind(&self, schema: &'s Value, depth: usize) -> String {
        let schema = self.follow(schema);
        if depth > DEPTH_MAX {
            return "any".to_owned();
        }
        if schema.get("enum").is_some() || schema.get("const").is_some() {
            return "word".to_owned();
        }
        if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            let mut names: Vec<String> = Vec::new();
            for option in options {
                let name = self.kind(option, depth + 1);
                if name != "null" && !names.contains(&name) {
                    names.push(name);
                }
            }
            return names.join(" or ");
        }
        let one = |name: &str| match name {
            "boolean" => "true/false".to_owned(),
            "integer" => "integer".to_owned(),
            "array" => {
                let items =
                    schema.get("items").map_or_else(|| "any".to_owned(), |items| self.kind(items, depth + 1));
                format!("list of {items}")
            }
            "object" => match schema.get("additionalProperties").filter(|more| more.is_object()) {
                Some(values) => format!("map of {}", self.kind(values, depth + 1)),
                None => "map".to_owned(),
            },
            "string" => "text".to_owned(),
            other => other.to_owned(),
        };
        match schema.get("type") {
            Some(Value::String(name)) => one(name),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
                names.map(one).collect::<Vec<_>>().join(" or ")
            }
            _ => "any".to_owned(),
        }
    }

    /// The description, and for a closed list of words each word with its meaning.
    fn with_words(&self, text: &str, schema: &'s Value) -> String {
        let schema = self.follow(schema);
        let mut words = Vec::new();
        self.collect_words(schema, 0, &mut words);
        if words.is_empty() {
            return text.to_owned();
        }
        format!("{text}\n\nOne of: {}", words.join("; "))
    }

    fn collect_words(&self, schema: &'s Value, depth: usize, words: &mut Vec<String>) {
        let schema = self.follow(schema);
        if depth > DEPTH_MAX || schema.get("properties").is_some() {
            return;
        }
        for word in
            schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            words.push(format!("`{word}`"));
        }
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            let meaning = description(schema).map(|text| format!(" ({})", text.trim_end_matches('.')));
            words.push(format!("`{word}`{}", meaning.unwrap_or_default()));
        }
        for options in [schema.get("anyOf"), schema.get("oneOf")].into_iter().flatten() {
            for option in options.as_array().into_iter().flatten() {
                self.collect_words(option, depth + 1, words);
            }
        }
        if let Some(items) = schema.get("items") {
            self.collect_words(items, depth + 1, words);
        }
    }

    fn follow(&self, schema: &'s Value) -> &'s Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
        target.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// Text fit for one cell of a Markdown table.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace("\n\n", "<br>").replace('\n', " ")
}
