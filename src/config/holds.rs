//! What must hold of any text that is given as a configuration, native or of Kong. The tests below call it with every
//! file of the fuzzer's corpus and with files that were broken at random; the fuzzer (`fuzz/`), which takes this module
//! in by its path, with whatever it thinks of.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::load::{Converted, FileFormat, Loaded, Sources, convert, load};
use super::locate::{Origin, lines};
use super::report::Report;

/// What the parts say of a configuration that was read: its version, or what is wrong.
pub(crate) type Judge<T> = fn(&T) -> Result<u64, Vec<event::Problem>>;

/// Reads a text both ways; says whether it was taken as a native file and as one of Kong.
pub(crate) fn hold<T: DeserializeOwned + JsonSchema>(text: &str, judge: Judge<T>) -> [bool; 2] {
    [FileFormat::Native, FileFormat::Kong].map(|format| match read(text, format, judge) {
        Ok(version) => {
            if format == FileFormat::Kong {
                converts(text, version, judge);
            }
            true
        }
        Err(report) => {
            is_told(&report, text);
            false
        }
    })
}

fn read<T: DeserializeOwned + JsonSchema>(
    text: &str,
    format: FileFormat,
    judge: Judge<T>,
) -> Result<u64, Report> {
    let file = Some(("t.yaml".to_owned(), text.to_owned()));
    let loaded: Loaded<T> = load(Sources { file, format, vars: vars(), flags: Vec::new() })?;
    judge(&loaded.value).map_err(|problems| loaded.report(problems))
}

/// Some that a file may refer to.
fn vars() -> BTreeMap<String, String> {
    [("X", "x"), ("EMPTY", ""), ("SECRET_KEY", "s3cret"), ("MINE_B", "b")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// A file of Kong that runs is converted to a native one that runs, and that is the same gateway.
fn converts<T: DeserializeOwned + JsonSchema>(text: &str, version: u64, judge: Judge<T>) {
    let converted: Result<Converted<T>, Report> = convert(("t.yaml".to_owned(), text.to_owned()), vars());
    let native = match converted {
        Ok(Converted { native, missing, .. }) if missing.is_empty() => native,
        Ok(Converted { missing, .. }) => panic!("it runs without {missing:?}:\n{text}"),
        Err(report) => panic!("it runs, but is not converted: {}\n{text}", report.lines()),
    };
    match read(&native, FileFormat::Native, judge) {
        Ok(again) => assert_eq!(again, version, "another gateway:\n{text}\n---\n{native}"),
        Err(report) => panic!("what it becomes is refused: {}\n{text}\n---\n{native}", report.lines()),
    }
}

/// What is refused is refused for something that is said, with its place in the text.
fn is_told(report: &Report, text: &str) {
    assert!(report.count() > 0, "refused for nothing:\n{text}");
    // Rendered too: a caret beyond its line would show here.
    assert!(!report.lines().is_empty() && !report.snippets().is_empty());
    assert_eq!(report.json().as_array().map(Vec::len), Some(report.count()));
    let lines = lines(text).count();
    for finding in &report.findings {
        assert!(!finding.message.is_empty(), "{finding:?}\n{text}");
        match finding.origin {
            Origin::File(mark) => {
                assert!((1..=lines + 1).contains(&mark.line) && mark.column > 0, "{finding:?}\n{text}");
            }
            // What stands nowhere is missing from the whole, or is the gateway that every file of Kong has.
            _ => assert!(
                !finding.path.contains(['[']) || finding.path.starts_with("gateway"),
                "{finding:?}\n{text}"
            ),
        }
    }
}
