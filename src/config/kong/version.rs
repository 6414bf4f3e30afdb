//! The head of a Kong file: `_format_version` and the other keys that describe the file rather than the gateway.

use super::super::locate::{Kind, Node, Scalar};
use super::super::report::Finding;
use super::take;

/// What a format means by a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 1.1 and 2.1: a path that holds characters of regular expressions is one.
    Guessed(&'static str),
    /// 3.0: a regular expression begins with `~`.
    Marked,
}

/// Takes the head off the file.
pub(super) fn read(tree: &mut Node, findings: &mut Vec<Finding>) -> Option<Version> {
    let origin = tree.origin.clone();
    for key in ["_workspace", "_comment"] {
        if let Some(entry) = take(tree, key)
            && !matches!(entry.value.kind, Kind::Scalar { .. })
        {
            findings.push(Finding::at(entry.origin, key, "must be text"));
        }
    }
    let _ignored = take(tree, "_ignore");
    if let Some(entry) = take(tree, "_transform")
        && !matches!(entry.value.scalar(), Some(Scalar::Bool(_)))
    {
        findings.push(Finding::at(entry.origin, "_transform", "must be true or false"));
    }
    if let Some(entry) = take(tree, "_info")
        && let Some(defaults) = entry.value.entry("defaults")
        && !matches!(&defaults.value.kind, Kind::Map(keys) if keys.is_empty())
    {
        let finding = Finding::at(defaults.origin.clone(), "_info.defaults", "is not supported");
        findings.push(
            finding
                .hint("decK applies these itself: `deck file render` or `deck gateway dump` write them out"),
        );
    }
    let Some(entry) = take(tree, "_format_version") else {
        let finding =
            Finding::at(origin, "_format_version", "is missing: this is not a Kong declarative file");
        findings.push(finding.hint("\"1.1\", \"2.1\" or \"3.0\"; a native file is run with --config"));
        return None;
    };
    let text = match &entry.value.kind {
        Kind::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    match text {
        "1.1" => Some(Version::Guessed("1.1")),
        "2.1" => Some(Version::Guessed("2.1")),
        "3.0" => Some(Version::Marked),
        other => {
            let message = format!("`{other}` is not supported");
            let finding = Finding::at(entry.value.origin.clone(), "_format_version", message);
            findings.push(finding.hint("\"1.1\", \"2.1\" or \"3.0\""));
            None
        }
    }
}
