//! The order in which a configuration is read: file, `${NAME}` references, environment overrides, flags, schema, types.
//!
//! Generic over the type, which brings its own schema: what the types accept, what the editor completes and what the
//! reference lists are one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::kong::{self, Translation};
use super::locate::{Node, Origin, parse};
use super::report::{Finding, Report};
use super::{conform, decode, env};

/// A file larger than this is not a configuration.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a configuration is read from. Later ones win: file, then `vars`, then `flags`.
#[derive(Debug, Default)]
pub struct Sources {
    /// Name and text of the file; `None` runs on variables, flags and defaults.
    pub file: Option<(String, String)>,
    /// All environment variables that are valid UTF-8.
    pub vars: BTreeMap<String, String>,
    /// What the file is written in.
    pub format: FileFormat,
    /// Values that command line flags set: the flag, the path of keys, the value.
    pub flags: Vec<(&'static str, Vec<&'static str>, serde_json::Value)>,
}

/// The two kinds of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileFormat {
    /// `tollhouse.yaml`.
    #[default]
    Native,
    /// A declarative file of Kong.
    Kong,
}

/// Why no configuration could be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// As the user gave it.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A folder.
    #[error("{path} is a folder: name the file in it, such as {path}/tollhouse.yaml", path = path.display())]
    Folder {
        /// As the user gave it.
        path: PathBuf,
    },
    /// The file is far too large.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes: this is not a configuration", path = path.display())]
    TooLarge {
        /// As the user gave it.
        path: PathBuf,
    },
    /// Not text.
    #[error("{path}:{line}: not UTF-8 text: byte {byte:#04x}", path = path.display())]
    NotText {
        /// As the user gave it.
        path: PathBuf,
        /// The line of the first byte that is none, from 1.
        line: usize,
        /// That byte.
        byte: u8,
    },
}

/// Reads the text of a configuration file.
pub fn read_file(path: &Path) -> Result<(String, String), ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(ReadError::Folder { path: path.to_owned() });
    }
    // Not by the length that the system names: a pipe or a device has none.
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = 1 + bytes[..good].iter().filter(|byte| **byte == b'\n').count();
        ReadError::NotText { path: path.to_owned(), line, byte: bytes[good] }
    })?;
    Ok((path.display().to_string(), text))
}

/// A typed configuration, and the memory of where each value was written.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The typed value.
    pub value: T,
    tree: Node,
    file: Option<String>,
    text: String,
    translation: Translation,
}

impl<T> Loaded<T> {
    /// What a component's `validate` found, with the line of each.
    pub fn report(&self, problems: Vec<event::Problem>) -> Report {
        let findings = problems
            .into_iter()
            .map(|problem| Finding {
                origin: self.tree.place(&problem.path),
                path: self.translation.path(&problem.path),
                message: problem.message,
                hint: problem.hint,
            })
            .collect();
        Report::new(self.file.clone(), self.text.clone(), findings)
    }

    /// What was read in another way than the file is written, a line for each.
    pub fn notes(&self) -> &[String] {
        &self.translation.notes
    }

    /// Whether there is a file, but nothing in it.
    pub fn is_blank(&self) -> bool {
        self.file.is_some() && self.text.trim().is_empty()
    }

    /// The file that was read, as the user named it.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

/// Reads a configuration; `Err` holds every problem that could be found.
pub fn load<T: DeserializeOwned + JsonSchema>(sources: Sources) -> Result<Loaded<T>, Report> {
    let (file, text) = sources.file.map_or((None, String::new()), |(name, text)| (Some(name), text));
    let refused = |findings| Report::new(file.clone(), text.clone(), findings);
    let schema = schemars::schema_for!(T).to_value();

    let mut tree = parse(&text).map_err(refused)?;
    let mut findings = Vec::new();
    let translation = match sources.format {
        FileFormat::Native => Translation::default(),
        FileFormat::Kong => kong::translate(&mut tree, &schema, &mut findings),
    };
    let unmoved = |mut findings: Vec<Finding>| {
        for finding in &mut findings {
            finding.path = translation.path(&finding.path);
        }
        findings
    };
    env::fill_in(&mut tree, &sources.vars, &mut findings);
    env::overlay(&mut tree, &schema, &sources.vars, &mut findings);
    for (flag, path, value) in sources.flags {
        let origin = Origin::Flag(flag);
        let laid = env::set(&mut tree, &path, Node::from_json(&value, &origin), &origin);
        if let Err(message) = laid {
            findings.push(Finding::at(origin, &path.join("."), message));
        }
    }
    findings.extend(conform::conform(&schema, &tree));
    if !findings.is_empty() {
        return Err(refused(unmoved(findings)));
    }
    match decode::decode(&tree) {
        Ok(value) => Ok(Loaded { value, tree, file, text, translation }),
        Err(finding) => Err(refused(unmoved(vec![finding]))),
    }
}

/// A Kong file as a native one.
pub struct Converted<T> {
    /// The native file, its references to the environment kept.
    pub native: String,
    /// What it says, with the names of variables that are not set as their values.
    pub loaded: Loaded<T>,
    /// Variables that it refers to and that are not set.
    pub missing: Vec<String>,
}

/// Makes a native file of a Kong file. Its references need not be set: a secret may be known elsewhere only.
pub fn convert<T: DeserializeOwned + JsonSchema>(
    file: (String, String),
    mut vars: BTreeMap<String, String>,
) -> Result<Converted<T>, Report> {
    let (name, text) = &file;
    let schema = schemars::schema_for!(T).to_value();
    let refused = |findings| Report::new(Some(name.clone()), text.clone(), findings);
    let mut tree = parse(text).map_err(refused)?;
    // What is wrong is said by the load below.
    let _translation = kong::translate(&mut tree, &schema, &mut Vec::new());
    let native = kong::yaml(&tree);
    let mut names = BTreeSet::new();
    kong::references(&tree, &mut names);
    let missing: Vec<String> = names.into_iter().filter(|name| !vars.contains_key(name)).collect();
    vars.extend(missing.iter().map(|name| (name.clone(), name.clone())));
    // Nothing but the file counts for what is written.
    vars.retain(|name, _| !name.starts_with(env::PREFIX));
    let loaded = load(Sources { file: Some(file), vars, format: FileFormat::Kong, flags: Vec::new() })?;
    Ok(Converted { native, loaded, missing })
}
