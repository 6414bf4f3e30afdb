//! From YAML text to a tree in which every key and value knows where it was written.
//!
//! Text comes in from `load`; the tree goes to `env` (which lays overrides over it), `conform` (which compares it
//! with the schema) and `decode` (which makes the typed value). Serde alone would forget the places and stop at the
//! first mistake; the tree is what lets `check` name them all, each with line and column.

mod parse;

#[cfg(test)]
mod tests;

pub(crate) use parse::parse;

/// Where a value came from, which is where a complaint about it must point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Written in the file.
    File(Mark),
    /// Set by the environment variable of this name.
    Variable(String),
    /// Set by this command line flag.
    Flag(&'static str),
    /// Written nowhere: a default, or a file that says nothing.
    Nowhere,
}

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// Characters to underline, all on `line`; at least 1.
    pub(crate) length: usize,
}

/// One value of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) origin: Origin,
    /// The text came from the environment, so it may be a secret: messages do not repeat it.
    pub(crate) veiled: bool,
}

/// The shapes of a value.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `plain` text may be a number, a boolean or null; quoted text is text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) value: Node,
    /// Came by a merge key, so a key of the map itself takes its place.
    pub(crate) merged: bool,
}

/// What a scalar is under the YAML 1.2 core schema (chapter 10.3 of the specification).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

impl Node {
    /// A map without entries, for a file that says nothing.
    pub(crate) fn empty() -> Self {
        Self { kind: Kind::Map(Vec::new()), origin: Origin::Nowhere, veiled: false }
    }

    /// A tree made by a flag rather than read from text.
    pub(crate) fn from_json(value: &serde_json::Value, origin: &Origin) -> Self {
        use serde_json::Value;
        let kind = match value {
            Value::String(text) => Kind::Scalar { text: text.clone(), plain: false },
            Value::Array(items) => {
                Kind::List(items.iter().map(|item| Self::from_json(item, origin)).collect())
            }
            Value::Object(keys) => Kind::Map(
                keys.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        origin: origin.clone(),
                        value: Self::from_json(value, origin),
                        merged: false,
                    })
                    .collect(),
            ),
            other => Kind::Scalar { text: other.to_string(), plain: true },
        };
        Self { kind, origin: origin.clone(), veiled: false }
    }

    /// The entry of a map, or `None` for any other shape.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Kind::Scalar { .. } | Kind::List(_) => None,
        }
    }

    /// What a scalar means; `None` for lists and maps.
    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => Some(resolve(text)),
            Kind::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Says every value below came from `origin`: for values parsed out of a variable.
    pub(crate) fn stamp(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        self.veiled = true;
        match &mut self.kind {
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter_mut().for_each(|item| item.stamp(origin)),
            Kind::Map(entries) => {
                for entry in entries {
                    entry.origin = origin.clone();
                    entry.value.stamp(origin);
                }
            }
        }
    }

    /// The place that a path such as `services[0].routes[1].paths` names: of its key where it stands in a map, of the
    /// nearest parent that exists otherwise.
    pub(crate) fn place(&self, path: &str) -> Origin {
        let (mut node, mut origin) = (self, self.origin.clone());
        for segment in segments(path) {
            match (&node.kind, segment) {
                (Kind::Map(entries), Segment::Key(key)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == key) else { break };
                    origin = entry.origin.clone();
                    node = &entry.value;
                }
                (Kind::List(items), Segment::Index(index)) => {
                    let Some(item) = items.get(index) else { break };
                    origin = item.origin.clone();
                    node = item;
                }
                _ => break,
            }
        }
        // A scalar at the end of the path is what is wrong, more than the key before it.
        match node.kind {
            Kind::Scalar { ref text, .. } if !text.is_empty() => node.origin.clone(),
            _ => origin,
        }
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

/// Splits `services[0].routes[1]`. Brackets that hold no number belong to the key.
pub(crate) fn segments(path: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let mut key = part;
        let mut indexes = Vec::new();
        while let Some((head, number)) = key
            .strip_suffix(']')
            .and_then(|open| open.rsplit_once('['))
            .and_then(|(head, number)| number.parse::<usize>().ok().map(|number| (head, number)))
        {
            indexes.push(Segment::Index(number));
            key = head;
        }
        if !key.is_empty() {
            found.push(Segment::Key(key));
        }
        found.extend(indexes.into_iter().rev());
    }
    found
}

/// The lines of a text as YAML counts them: a carriage return alone ends one, too.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// `parent.key`, or `key` at the top.
pub(crate) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    let radix =
        |prefix: &str, base| text.strip_prefix(prefix).map(|digits| i128::from_str_radix(digits, base));
    if let Some(Ok(number)) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Scalar::Int(number);
    }
    let starts_like_a_number = text
        .trim_start_matches(['+', '-'])
        .strip_prefix('.')
        .unwrap_or(text.trim_start_matches(['+', '-']))
        .starts_with(|first: char| first.is_ascii_digit());
    if starts_like_a_number {
        if let Ok(number) = text.parse::<i128>() {
            return Scalar::Int(number);
        }
        if let Ok(number) = text.parse::<f64>() {
            return Scalar::Float(number);
        }
    }
    Scalar::Text(text)
}
