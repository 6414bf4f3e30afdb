use super::super::locate::parse;
use super::conform;
use schemars::JsonSchema;
use std::collections::BTreeMap;

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Sample {
    port: u16,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    labels: BTreeMap<String, u8>,
    #[serde(default)]
    nested: Option<Nested>,
}

#[derive(JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)]
enum Mode {
    /// Runs.
    #[default]
    Fast,
    /// Crawls.
    Slow,
}

#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code)]
enum Part {
    Wheel { teeth: u32 },
    Rod { length: f64 },
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Nested {
    on: bool,
}

fn problems(text: &str) -> Vec<String> {
    let schema = schemars::schema_for!(Sample).to_value();
    let findings = conform(&schema, &parse(text).unwrap());
    findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
}

#[test]
fn a_good_file_has_none() {
    let good = "port: 80\nname: 42\nmode: slow\nparts: [{kind: wheel, teeth: 3}]\nlabels: {a: 1}\nnested: {on: true}";
    assert_eq!(problems(good), Vec::<String>::new());
    assert_eq!(problems("port: 80\nname: ~\nnested: null"), Vec::<String>::new());
}

#[test]
fn all_problems_are_found_at_once() {
    let found =
        problems("prot: 80\nmode: sloww\nlabels: {a: 300}\nnested: {on: yes, of: 1}\nparts: [{kind: rod}]");
    assert_eq!(found.len(), 7, "{found:#?}");
    for expected in [
        ": `port` is missing",
        "prot: unknown key `prot`",
        "mode: unknown value `sloww`",
        "labels.a: `300` must be at most 255",
        "nested.on: expected true or false, found the text `yes`",
        "nested.of: unknown key `of`",
        "parts[0]: `length` is missing",
    ] {
        assert!(found.iter().any(|line| line == expected), "{expected} not in {found:#?}");
    }
}

#[test]
fn tagged_variants_name_the_tags() {
    assert_eq!(problems("port: 1\nparts: [{kind: whele}]"), ["parts[0].kind: unknown value `whele`"]);
    assert_eq!(problems("port: 1\nparts: [{teeth: 1}]"), ["parts[0]: `kind` is missing"]);
}

#[test]
fn quoted_numbers_and_shapes_are_told_apart() {
    assert_eq!(problems("port: '80'"), ["port: expected a whole number, found the text `80`"]);
    assert_eq!(problems("port: 70000"), ["port: `70000` must be at most 65535"]);
    assert_eq!(problems("port: [1]"), ["port: expected a whole number, found a list"]);
    assert_eq!(problems("- 1"), [": expected a map of keys, found a list"]);
}
