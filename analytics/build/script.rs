//! The modules of the console as one script: a browser that has nothing yet asks for one file in the place of thirty, six at a
//! time.
//!
//! The console keeps to a plain form of modules, which is why no bundler is needed: an import is one line that names what
//! it takes, and an export stands before a function, a constant or a class. Anything else fails the build.

use std::collections::{BTreeMap, BTreeSet};

/// The modules that `entry` needs, each before those that need it, in one script; none of them may need one another.
pub fn bundle(entry: &str, modules: &BTreeMap<String, String>) -> Result<String, String> {
    let mut bundle = Bundle { modules, done: BTreeSet::new(), open: Vec::new(), script: String::new() };
    bundle.add(entry)?;
    match modules.keys().find(|path| !bundle.done.contains(*path)) {
        Some(path) => Err(format!("nothing needs {path}")),
        None => Ok(bundle.script),
    }
}

struct Bundle<'a> {
    modules: &'a BTreeMap<String, String>,
    done: BTreeSet<String>,
    /// Those that wait for one that they need.
    open: Vec<String>,
    script: String,
}

impl Bundle<'_> {
    fn add(&mut self, path: &str) -> Result<(), String> {
        if self.done.contains(path) {
            return Ok(());
        }
        if self.open.iter().any(|open| open == path) {
            return Err(format!("{path} needs itself, by {:?}", self.open));
        }
        let text = self.modules.get(path).ok_or_else(|| format!("{path} is not there"))?;
        self.open.push(path.to_owned());
        let is_entry = self.open.len() == 1;
        let (mut body, mut exported) = (String::new(), Vec::new());
        for line in text.lines() {
            let line = self.line(path, line, &mut exported)?;
            body.push_str(&line);
            body.push('\n');
        }
        self.open.pop();
        self.done.insert(path.to_owned());
        let (name, exported) = (name(path), exported.join(", "));
        self.script.push_str(&match is_entry {
            true => format!("// {path}\n{body}"),
            false => {
                format!("// {path}\nconst {name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n\n")
            }
        });
        Ok(())
    }

    fn line(&mut self, path: &str, line: &str, exported: &mut Vec<String>) -> Result<String, String> {
        let unknown = || format!("{path}: the build does not know this form of a module: {line}");
        if let Some(rest) = line.strip_prefix("import ") {
            let (names, from) = rest.split_once(" from \"").ok_or_else(unknown)?;
            let from = resolve(path, from.strip_suffix("\";").ok_or_else(unknown)?);
            let names =
                names.strip_prefix("{ ").and_then(|names| names.strip_suffix(" }")).ok_or_else(unknown)?;
            self.add(&from)?;
            return Ok(format!("const {{ {} }} = {};", names.replace(" as ", ": "), name(&from)));
        }
        if let Some(declared) = line.strip_prefix("export ") {
            let kinds = ["async function ", "function ", "const ", "class "];
            let rest = kinds.iter().find_map(|kind| declared.strip_prefix(kind)).ok_or_else(unknown)?;
            let end =
                rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').ok_or_else(unknown)?;
            exported.push(rest[..end].to_owned());
            return Ok(declared.to_owned());
        }
        if let Some((before, rest)) = line.split_once("import(\"") {
            let (from, after) = rest.split_once("\")").ok_or_else(unknown)?;
            let from = resolve(path, from);
            self.add(&from)?;
            return Ok(format!("{before}Promise.resolve({}){after}", name(&from)));
        }
        Ok(line.to_owned())
    }
}

/// The path of a module that another one names.
fn resolve(path: &str, from: &str) -> String {
    let mut place: Vec<&str> = path.split('/').collect();
    place.pop();
    for step in from.split('/') {
        match step {
            "." => {}
            ".." => drop(place.pop()),
            name => place.push(name),
        }
    }
    place.join("/")
}

/// What a module is called in the script.
fn name(path: &str) -> String {
    let letters = path.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' });
    format!("module_{}", letters.collect::<String>())
}
