//! The documentation says what the program does: generated files are as the program writes them now, and every
//! configuration in the docs passes `check`.
//!
//! After a change of a config type: `tollhouse config reference > docs/configuration.md` and
//! `tollhouse config schema > docs/tollhouse.schema.json`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tollhouse(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollhouse")).args(args).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn generated_files_are_as_the_program_writes_them() {
    for (what, file) in [("reference", "docs/configuration.md"), ("schema", "docs/tollhouse.schema.json")] {
        let (_, written, _) = tollhouse(&["config", what]);
        let kept = fs::read_to_string(root().join(file)).unwrap();
        assert!(written == kept, "{file} is stale: run `tollhouse config {what} > {file}`");
    }
}

#[test]
fn the_example_file_passes() {
    let path = root().join("tollhouse.example.yaml");
    let (good, _, errors) = tollhouse(&["check", "--config", path.to_str().unwrap()]);
    assert!(good, "{errors}");
}

#[test]
fn every_configuration_in_the_docs_passes() {
    let mut pages = vec![root().join("README.md")];
    pages.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut checked = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|kind| kind == "md") && page.exists())
    {
        for (line, block) in configurations(page) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("tollhouse.yaml");
            fs::write(&file, &block).unwrap();
            let (good, _, errors) = tollhouse(&["check", "--config", file.to_str().unwrap()]);
            assert!(good, "{} line {line}:\n{errors}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 0, "no configuration was found in the docs");
}

/// The fenced `yaml` blocks that call themselves `tollhouse.yaml`, with the line each begins in.
fn configurations(page: &PathBuf) -> Vec<(usize, String)> {
    let text = fs::read_to_string(page).unwrap();
    let mut found = Vec::new();
    let mut block: Option<(usize, Vec<&str>)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut block, line.trim_end()) {
            (None, "```yaml") => block = Some((index + 1, Vec::new())),
            (Some(_), "```") => found.extend(block.take()),
            (Some((_, lines)), _) => lines.push(line),
            (None, _) => {}
        }
    }
    let ours = found.into_iter().filter(|(_, lines)| lines.first() == Some(&"# tollhouse.yaml"));
    ours.map(|(line, lines)| (line, lines.join("\n") + "\n")).collect()
}
