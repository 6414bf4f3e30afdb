//! What is wrong with a configuration, and how it is shown: one line per problem for editors and logs, with the source
//! and a caret on a terminal, or JSON.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde_json::json;

use super::locate::{Origin, lines};

/// Problems that a person is shown; a program gets all of them.
const SHOWN_MAX: usize = 100;

/// One problem.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Where the value stands: file, variable or flag.
    pub(crate) origin: Origin,
    /// `services[0].routes[1].paths[0]`; empty for the document itself.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn at(origin: Origin, path: &str, message: impl Into<String>) -> Self {
        Self { origin, path: path.to_owned(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All the problems of one configuration, with the text they point into.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file's name as the user gave it; `None` when no file was read.
    pub(crate) file: Option<String>,
    /// The file's text, for snippets.
    pub(crate) text: String,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// In the order of the file; what stands in no file comes last.
    pub(crate) fn new(file: Option<String>, text: String, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| match &finding.origin {
            Origin::File(mark) => (mark.line, mark.column),
            Origin::Variable(_) | Origin::Flag(_) | Origin::Nowhere => (usize::MAX, 0),
        });
        Self { file, text, findings }
    }

    /// One line per problem, `file:line:column: path: message (hint)`: what editors and `grep` read. The first ones, if
    /// they are very many.
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for finding in self.findings.iter().take(SHOWN_MAX) {
            let path = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
            let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let _ = writeln!(out, "{}: {path}{}{hint}", self.place(finding), finding.message);
        }
        out
    }

    /// Coloured, with the source line and a caret under the value, for a terminal.
    pub fn snippets(&self) -> String {
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let blue = Style::new().fg_color(Some(AnsiColor::Blue.into()));
        let bold = Style::new().bold();
        let mut out = String::new();
        for finding in self.findings.iter().take(SHOWN_MAX) {
            let _ = writeln!(out, "{red}error{red:#}{bold}: {}{bold:#}", finding.message);
            let path = if finding.path.is_empty() { String::new() } else { format!("  {}", finding.path) };
            let _ = writeln!(out, "  {blue}-->{blue:#} {}{path}", self.place(finding));
            if let Origin::File(mark) = finding.origin
                && let Some(source) = lines(&self.text).nth(mark.line - 1)
            {
                let gutter = mark.line.to_string().len();
                // Tabs are kept in the margin so that the caret stands under what it means.
                let margin: String = source
                    .chars()
                    .take(mark.column - 1)
                    .map(|letter| if letter == '\t' { '\t' } else { ' ' })
                    .collect();
                let carets = "^".repeat(mark.length);
                let _ = writeln!(out, "{blue}{:gutter$} |{blue:#}", "");
                let _ = writeln!(out, "{blue}{} |{blue:#} {source}", mark.line);
                let _ = writeln!(out, "{blue}{:gutter$} |{blue:#} {margin}{red}{carets}{red:#}", "");
            }
            if let Some(hint) = &finding.hint {
                let _ = writeln!(out, "  {blue}={blue:#} {hint}");
            }
            out.push('\n');
        }
        out
    }

    /// `[{file, line, column, variable, flag, path, message, hint}]`, absent fields null.
    pub fn json(&self) -> serde_json::Value {
        let rows = self.findings.iter().map(|finding| {
            let mark = if let Origin::File(mark) = &finding.origin { Some(mark) } else { None };
            let variable = if let Origin::Variable(name) = &finding.origin { Some(name) } else { None };
            let flag = if let Origin::Flag(name) = &finding.origin { Some(name) } else { None };
            json!({
                "file": self.file,
                "line": mark.map(|mark| mark.line),
                "column": mark.map(|mark| mark.column),
                "variable": variable,
                "flag": flag,
                "path": finding.path,
                "message": finding.message,
                "hint": finding.hint,
            })
        });
        rows.collect()
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.findings.len()
    }

    /// How many of them `lines` and `snippets` leave out; `json` has them all.
    pub fn count_hidden(&self) -> usize {
        self.findings.len().saturating_sub(SHOWN_MAX)
    }

    fn place(&self, finding: &Finding) -> String {
        let file = self.file.as_deref().unwrap_or("configuration");
        match &finding.origin {
            Origin::File(mark) => format!("{file}:{}:{}", mark.line, mark.column),
            Origin::Variable(name) => format!("environment variable {name}"),
            Origin::Flag(name) => format!("flag {name}"),
            Origin::Nowhere => file.to_owned(),
        }
    }
}
