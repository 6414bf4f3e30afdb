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

#[test]
fn a_secret_of_the_wrong_shape_is_not_repeated() {
    let schema = crate::config::Config::schema();
    let complaints = |text: &str| -> Vec<String> {
        let findings = conform(&schema, &parse(text).unwrap());
        findings.iter().map(|finding| format!("{} {:?}", finding.message, finding.hint)).collect()
    };
    for text in [
        "collector: { receive: { tokens: hunter2hunter2hunter2 } }",
        "collector: { forward: { token: [hunter2hunter2] } }",
        "collector: { otlp: { headers: hunter2 } }",
        "analytics: { tokens: hunter2hunter2hunter2 }",
        "analytics: { tokens: [hunter2hunter2hunter2] }",
        "consumers: [{ username: a, keyauth_credentials: [hunter2] }]",
    ] {
        let said = complaints(text).join("\n");
        assert!(!said.is_empty() && !said.contains("hunter2"), "{text}: {said}");
    }
    // Wherever the schema has a secret, its key is one of those.
    let secrets = |schema: &serde_json::Value| -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![(String::new(), schema)];
        while let Some((key, value)) = left.pop() {
            if value.get("$ref").and_then(|to| to.as_str()) == Some("#/$defs/Secret") {
                found.push(key.clone());
            }
            let properties = value.get("properties").and_then(|keys| keys.as_object());
            left.extend(properties.into_iter().flatten().map(|(key, value)| (key.clone(), value)));
            left.extend(value.get("items").map(|items| (key.clone(), items)));
            let defs = value.get("$defs").and_then(|defs| defs.as_object());
            left.extend(defs.into_iter().flatten().map(|(_, value)| (String::new(), value)));
        }
        found
    };
    let secrets = secrets(&schema);
    assert!(secrets.len() >= 3, "{secrets:?}");
    assert!(secrets.iter().all(|key| super::wording::PRIVATE.contains(&key.as_str())), "{secrets:?}");
}
