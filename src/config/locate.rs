//! From YAML text to a tree in which every key and value knows where it was written.
//!
//! Text comes in from `load`; the tree goes to `env` (which lays overrides over it), `conform` (which compares it
//! with the schema) and `decode` (which makes the typed value). Serde alone would forget the places and stop at the
//! first mistake; the tree is what lets `check` name them all, each with line and column.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::report::Finding;

/// Values in one file, aliases expanded: a bound against "billion laughs" documents.
const NODES_MAX: usize = 500_000;
/// Nesting of maps and lists, which bounds the recursion of every later walk.
const DEPTH_MAX: usize = 64;

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

/// Parses one YAML document. All duplicate keys are reported; a syntax error ends the reading, so it comes alone.
pub(crate) fn parse(text: &str) -> Result<Node, Vec<Finding>> {
    let mut builder =
        Builder { text, open: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0, documents: 0 };
    let mut findings = Vec::new();
    for step in Parser::new_from_str(text) {
        match step {
            Ok((event, span)) => {
                if let Err(fatal) = builder.take(event, span, &mut findings) {
                    findings.push(fatal);
                    return Err(findings);
                }
            }
            Err(error) => {
                let marker = error.marker();
                let mark = Mark { line: marker.line().max(1), column: marker.col() + 1, length: 1 };
                findings.push(Finding::at(Origin::File(mark), "", format!("not YAML: {}", error.info())));
                return Err(findings);
            }
        }
    }
    let root = match builder.root {
        Some(Node { kind: Kind::Scalar { ref text, plain: true }, .. }) if text.is_empty() => Node::empty(),
        Some(root) => root,
        None => Node::empty(),
    };
    if findings.is_empty() { Ok(root) } else { Err(findings) }
}

struct Builder<'t> {
    text: &'t str,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

/// A list or map whose end has not been read yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key that waits for its value.
    key: Option<(String, Origin)>,
    nodes_before: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span, findings: &mut Vec<Finding>) -> Result<(), Finding> {
        let origin = Origin::File(self.mark(&span));
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Finding::at(
                        origin,
                        "",
                        "a second YAML document: a file holds one configuration",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !tagged_text(tag.as_deref());
                let kind = Kind::Scalar { text: text.into_owned(), plain };
                self.count(1, &origin)?;
                let node = Node { kind, origin, veiled: false };
                if anchor != 0 {
                    self.anchors.insert(anchor, (node.clone(), 1));
                }
                self.place(node, findings)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Kind::List(Vec::new()), origin, anchor)?,
            Event::MappingStart(_, anchor, _) => self.begin(Kind::Map(Vec::new()), origin, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser ends only what it began");
                if open.anchor != 0 {
                    let size = self.nodes - open.nodes_before;
                    self.anchors.insert(open.anchor, (open.node.clone(), size));
                }
                self.place(open.node, findings)?;
            }
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(Finding::at(origin, "", "an alias inside its own anchor"));
                };
                self.count(size, &origin)?;
                self.place(node, findings)?;
            }
            // Stream marks and comments carry no value.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, origin: Origin, anchor: usize) -> Result<(), Finding> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Finding::at(origin, "", format!("nested more than {DEPTH_MAX} deep")));
        }
        let nodes_before = self.nodes;
        self.count(1, &origin)?;
        self.open.push(Open { node: Node { kind, origin, veiled: false }, anchor, key: None, nodes_before });
        Ok(())
    }

    fn count(&mut self, nodes: usize, origin: &Origin) -> Result<(), Finding> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(Finding::at(origin.clone(), "", format!("more than {NODES_MAX} values in one file")));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs: into the list, after its key, or as the document itself.
    fn place(&mut self, node: Node, findings: &mut Vec<Finding>) -> Result<(), Finding> {
        let path = self.path();
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(_), None) => match node.kind {
                Kind::Scalar { text, .. } => open.key = Some((text, node.origin)),
                Kind::List(_) | Kind::Map(_) => {
                    return Err(Finding::at(node.origin, &path, "a key must be plain text"));
                }
            },
            (Kind::Map(entries), Some((key, origin))) if key == "<<" => merge(entries, node, &origin, &path)?,
            (Kind::Map(entries), Some((key, origin))) => {
                match entries.iter().position(|entry| entry.key == key) {
                    Some(index) if entries[index].merged => {
                        entries[index] = Entry { key, origin, value: node, merged: false };
                    }
                    Some(index) => {
                        let first = match &entries[index].origin {
                            Origin::File(mark) => format!("the first is in line {}; keep one", mark.line),
                            _ => "keep one".to_owned(),
                        };
                        let message = format!("`{key}` is given twice");
                        findings.push(Finding::at(origin, &join(&path, &key), message).hint(first));
                    }
                    None => entries.push(Entry { key, origin, value: node, merged: false }),
                }
            }
            (Kind::Scalar { .. }, _) => unreachable!("only lists and maps are opened"),
        }
        Ok(())
    }

    /// Path of the list or map that is being filled.
    fn path(&self) -> String {
        let mut path = String::new();
        for pair in self.open.windows(2) {
            match (&pair[0].node.kind, &pair[0].key) {
                (Kind::List(items), _) => path = format!("{path}[{}]", items.len()),
                (_, Some((key, _))) => path = join(&path, key),
                _ => {}
            }
        }
        path
    }

    fn mark(&self, span: &Span) -> Mark {
        let line = span.start.line().max(1);
        let column = span.start.col() + 1;
        let length = if span.end.line() == span.start.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            let whole = self.text.lines().nth(line - 1).map_or(0, |text| text.trim_end().chars().count());
            whole.saturating_sub(span.start.col())
        };
        Mark { line, column, length: length.max(1) }
    }
}

/// `<<: *other`: the keys of another map, where this one has none of its own (YAML merge key).
fn merge(entries: &mut Vec<Entry>, node: Node, at: &Origin, path: &str) -> Result<(), Finding> {
    let sources = match node.kind {
        Kind::Map(more) => vec![more],
        Kind::List(items) => items
            .into_iter()
            .filter_map(|item| if let Kind::Map(more) = item.kind { Some(more) } else { None })
            .collect(),
        Kind::Scalar { .. } => {
            return Err(Finding::at(at.clone(), path, "`<<` takes a map or a list of maps"));
        }
    };
    for entry in sources.into_iter().flatten() {
        if !entries.iter().any(|own| own.key == entry.key) {
            entries.push(Entry { merged: true, ..entry });
        }
    }
    Ok(())
}

fn tagged_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}

#[cfg(test)]
mod tests;
