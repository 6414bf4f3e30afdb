//! The parser's events made into a tree: places, aliases, merge keys, duplicate keys, and the bounds of a file.

use std::collections::HashMap;
use std::ops::{Add, Sub};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::super::load::FILE_BYTES_MAX;
use super::super::report::Finding;
use super::{Entry, Kind, Mark, Node, Origin, join, lines};

/// Values in one file, aliases expanded: a bound against "billion laughs" documents.
const NODES_MAX: usize = 500_000;
/// Text of all keys and values, aliases expanded: a long text may be repeated as well.
const TEXT_BYTES_MAX: usize = 4 * FILE_BYTES_MAX as usize;
/// Nesting of maps and lists, which bounds the recursion of every later walk.
const DEPTH_MAX: usize = 64;
/// Keys one in another, which bounds what is copied when a value is named by its path.
const PATH_BYTES_MAX: usize = 4096;
/// The place in a list, in a path.
const INDEX_BYTES: usize = "[499999]".len();

/// Parses one YAML document. All duplicate keys are reported; a syntax error ends the reading, so it comes alone.
pub(crate) fn parse(text: &str) -> Result<Node, Vec<Finding>> {
    let mut builder = Builder {
        lines: lines(text).collect(),
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        size: Size::default(),
        kept: Size::default(),
        documents: 0,
    };
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
    lines: Vec<&'t str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Named>,
    root: Option<Node>,
    /// Of the tree.
    size: Size,
    /// Of what is kept for aliases.
    kept: Size,
    documents: usize,
}

/// What has a name, for aliases of it.
struct Named {
    node: Node,
    size: Size,
    /// How deep it is nested in itself.
    depth: usize,
}

/// What a part of the tree takes.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

impl Add for Size {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { nodes: self.nodes + more.nodes, bytes: self.bytes + more.bytes }
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self { nodes: self.nodes - less.nodes, bytes: self.bytes - less.bytes }
    }
}

impl Size {
    /// It has grown; not beyond its bounds.
    fn grow(&mut self, more: Self, origin: &Origin) -> Result<(), Finding> {
        *self = *self + more;
        let message = if self.nodes > NODES_MAX {
            format!("more than {NODES_MAX} values in one file")
        } else if self.bytes > TEXT_BYTES_MAX {
            format!("more than {TEXT_BYTES_MAX} bytes of text in one file, with what aliases repeat")
        } else {
            return Ok(());
        };
        Err(Finding::at(origin.clone(), "", message))
    }
}

/// A list or map whose end has not been read yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key that waits for its value.
    key: Option<(String, Origin)>,
    /// In a map: where each key stands.
    places: HashMap<String, usize>,
    /// That of the tree before it.
    before: Size,
    /// How long its path is, about.
    path_bytes: usize,
    /// How deep it is nested in itself, as far as it was read.
    depth: usize,
}

fn too_deep(origin: Origin) -> Finding {
    Finding::at(origin, "", format!("nested more than {DEPTH_MAX} deep"))
}

/// Path of the list or map inside of all these.
fn path(around: &[Open]) -> String {
    around.iter().fold(String::new(), |path, open| match (&open.node.kind, &open.key) {
        (Kind::List(items), _) => format!("{path}[{}]", items.len()),
        (_, Some((key, _))) => join(&path, key),
        _ => path,
    })
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
                let size = Size { nodes: 1, bytes: text.len() };
                self.size.grow(size, &origin)?;
                let node =
                    Node { kind: Kind::Scalar { text: text.into_owned(), plain }, origin, veiled: false };
                self.keep(anchor, &node, size, 0)?;
                self.place(node, 0, findings)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Kind::List(Vec::new()), origin, anchor)?,
            Event::MappingStart(_, anchor, _) => self.begin(Kind::Map(Vec::new()), origin, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser ends only what it began");
                self.keep(open.anchor, &open.node, self.size - open.before, open.depth)?;
                self.place(open.node, open.depth, findings)?;
            }
            Event::Alias(id) => {
                let Some(named) = self.anchors.get(&id) else {
                    return Err(Finding::at(origin, "", "an alias inside its own anchor"));
                };
                if self.open.len() + named.depth > DEPTH_MAX {
                    return Err(too_deep(origin));
                }
                self.size.grow(named.size, &origin)?;
                let (node, depth) = (named.node.clone(), named.depth);
                self.place(node, depth, findings)?;
            }
            // Stream marks and comments carry no value.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, origin: Origin, anchor: usize) -> Result<(), Finding> {
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(origin));
        }
        let before = self.size;
        self.size.grow(Size { nodes: 1, bytes: 0 }, &origin)?;
        let node = Node { kind, origin, veiled: false };
        let path_bytes = self.open.last().map_or(0, |around| {
            around.path_bytes + around.key.as_ref().map_or(INDEX_BYTES, |(key, _)| key.len() + 1)
        });
        self.open.push(Open {
            node,
            anchor,
            key: None,
            places: HashMap::new(),
            before,
            path_bytes,
            depth: 1,
        });
        Ok(())
    }

    /// Keeps a copy of what has a name.
    fn keep(&mut self, anchor: usize, node: &Node, size: Size, depth: usize) -> Result<(), Finding> {
        if anchor != 0 {
            self.kept.grow(size, &node.origin)?;
            self.anchors.insert(anchor, Named { node: node.clone(), size, depth });
        }
        Ok(())
    }

    /// Puts a finished value where it belongs: into the list, after its key, or as the document itself.
    fn place(&mut self, node: Node, depth: usize, findings: &mut Vec<Finding>) -> Result<(), Finding> {
        let Some((open, around)) = self.open.split_last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.depth = open.depth.max(depth + 1);
        match (&mut open.node.kind, open.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(_), None) => match node.kind {
                Kind::Scalar { text, .. } if open.path_bytes + text.len() > PATH_BYTES_MAX => {
                    let message = format!("keys of more than {PATH_BYTES_MAX} bytes, one in another");
                    return Err(Finding::at(node.origin, "", message));
                }
                Kind::Scalar { text, .. } => open.key = Some((text, node.origin)),
                Kind::List(_) | Kind::Map(_) => {
                    return Err(Finding::at(node.origin, &path(around), "a key must be plain text"));
                }
            },
            (Kind::Map(entries), Some((key, origin))) if key == "<<" => {
                let from = merged(node).ok_or_else(|| {
                    let message = "`<<` takes a map or a list of maps";
                    Finding::at(origin, &path(around), message)
                })?;
                for entry in from {
                    open.places.entry(entry.key.clone()).or_insert_with(|| {
                        entries.push(Entry { merged: true, ..entry });
                        entries.len() - 1
                    });
                }
            }
            (Kind::Map(entries), Some((key, origin))) => match open.places.get(&key).copied() {
                Some(index) if entries[index].merged => {
                    entries[index] = Entry { key, origin, value: node, merged: false };
                }
                Some(index) => {
                    let first = match &entries[index].origin {
                        Origin::File(mark) => format!("the first is in line {}; keep one", mark.line),
                        _ => "keep one".to_owned(),
                    };
                    let message = format!("`{key}` is given twice");
                    findings.push(Finding::at(origin, &join(&path(around), &key), message).hint(first));
                }
                None => {
                    open.places.insert(key.clone(), entries.len());
                    entries.push(Entry { key, origin, value: node, merged: false });
                }
            },
            (Kind::Scalar { .. }, _) => unreachable!("only lists and maps are opened"),
        }
        Ok(())
    }

    fn mark(&self, span: &Span) -> Mark {
        let line = span.start.line().max(1);
        let column = span.start.col() + 1;
        let length = if span.end.line() == span.start.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            let whole = self.lines.get(line - 1).map_or(0, |text| text.trim_end().chars().count());
            whole.saturating_sub(span.start.col())
        };
        Mark { line, column, length: length.max(1) }
    }
}

/// What `<<: *other` brings: the keys of another map, or of several, where this one has none of its own (YAML merge key).
fn merged(node: Node) -> Option<Vec<Entry>> {
    match node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::List(items) => {
            let maps = items.into_iter().filter_map(|item| match item.kind {
                Kind::Map(entries) => Some(entries),
                Kind::Scalar { .. } | Kind::List(_) => None,
            });
            Some(maps.flatten().collect())
        }
        Kind::Scalar { .. } => None,
    }
}

fn tagged_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
}
