//! The files: what is in them, that they are as `make.py` writes them, and that Grafana's schema takes them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;

use serde_json::Value;

use super::path;
use super::support::tool::{grafana_schema, output};

/// The dashboards of a folder, by their files' names.
pub fn all(folder: &str) -> BTreeMap<String, Value> {
    let entries = std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().path());
    let read = |file: std::path::PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap())
    };
    entries.map(read).collect()
}

/// Panels that show something.
pub fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Each query of a dashboard, with its panel's title.
pub fn targets(board: &Value) -> impl Iterator<Item = (&str, &Value)> {
    panels(board).flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        panel["targets"].as_array().unwrap().iter().map(move |target| (title, target))
    })
}

/// Variables of a dashboard that a query fills.
pub fn variables(board: &Value) -> impl Iterator<Item = &Value> {
    board["templating"]["list"].as_array().unwrap().iter().filter(|variable| variable["type"] == "query")
}

const NAMES: [&str; 10] =
    ["collector", "consumers", "gateway", "latency", "limits", "map", "route", "service", "slo", "upstreams"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {value}"))
}

/// The names in a list of objects.
fn names<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| text(entry, key)).collect()
}

#[test]
fn the_files_are_as_their_source_writes_them() {
    output(Command::new("python3").arg(path("make.py")).arg("--check"));
}

#[test]
fn grafanas_own_schema_takes_them_and_no_others() {
    let folders = ["grafana", "provisioning/json"];
    let files = folders.iter().flat_map(|folder| NAMES.map(|name| path(folder).join(format!("{name}.json"))));
    assert_eq!(output(Command::new(grafana_schema()).args(files)).trim(), "20 dashboards");

    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.json");
    let right = std::fs::read_to_string(path("grafana/gateway.json")).unwrap();
    for (good, bad) in [("\"fieldConfig\"", "\"fieldconfig\""), ("\"wideLayout\": true", "\"wideLayout\": 1")]
    {
        std::fs::write(&wrong, right.replacen(good, bad, 1)).unwrap();
        assert!(!Command::new(grafana_schema()).arg(&wrong).output().unwrap().status.success(), "{bad}");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_stands_by_itself() {
    let boards = all("grafana");
    assert_eq!(boards.keys().map(String::as_str).collect::<Vec<_>>(), NAMES);
    let uids: BTreeSet<&str> = boards.values().map(|board| text(board, "uid")).collect();
    assert_eq!(uids.len(), NAMES.len(), "a uid is another dashboard's");
    for (name, board) in &boards {
        assert_eq!(text(board, "uid"), format!("tollhouse-{name}"), "links and bookmarks name it");
        assert!(!text(board, "description").is_empty(), "{name}");
        let (mut ids, mut cells, mut titles) = (HashSet::new(), HashSet::new(), HashSet::new());
        for panel in board["panels"].as_array().unwrap() {
            let title = format!("{name}: {}", text(panel, "title"));
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
            assert!(titles.insert(title.clone()), "{title} is there twice");
            let grid = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(grid("x") + grid("w") <= 24, "{title}: wider than the grid");
            for x in grid("x")..grid("x") + grid("w") {
                for y in grid("y")..grid("y") + grid("h") {
                    assert!(cells.insert((x, y)), "{title}: covers another panel");
                }
            }
        }
        for panel in panels(board) {
            let title = format!("{name}: {}", text(panel, "title"));
            assert!(text(panel, "description").len() > 20, "{title}: no description");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!text(defaults, "unit").is_empty(), "{title}: no unit");
            assert!(
                !defaults["thresholds"]["steps"].as_array().unwrap().is_empty(),
                "{title}: no thresholds"
            );
            let refs = names(&panel["targets"], "refId");
            assert_eq!(refs.iter().collect::<BTreeSet<_>>().len(), refs.len(), "{title}: {refs:?}");
            for target in panel["targets"].as_array().unwrap() {
                let expr = target["expr"].as_str().unwrap_or_default();
                // What is counted over a fixed time on a graph has holes, or is too smooth, at other zooms.
                assert!(!expr.contains("[1m]") && !expr.contains("[5m]"), "{title}: {expr}");
            }
        }
    }
}

#[test]
fn a_panel_that_stands_on_several_dashboards_is_the_same_everywhere() {
    // Without what its scope and its place change.
    let mut known: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for (name, board) in all("grafana") {
        for panel in panels(&board) {
            let mut bare = panel.clone();
            for key in ["id", "gridPos", "targets"] {
                bare.as_object_mut().unwrap().remove(key);
            }
            let title = text(panel, "title").to_owned();
            let (first, same) = known.entry(title.clone()).or_insert_with(|| (name.clone(), bare.clone()));
            assert_eq!(*same, bare, "{title} of {first} and of {name}");
        }
    }
}

#[test]
fn data_sources_are_asked_for_on_import_and_provisioned_by_their_uids() {
    let text_of = super::text("provisioning/datasources/tollhouse.yaml");
    let sources: Value = serde_saphyr::from_str(&text_of).unwrap();
    let sources = sources["datasources"].as_array().unwrap();
    let provisioned = all("provisioning/json");
    for (name, board) in all("grafana") {
        let required = names(&board["__requires"], "id");
        for panel in panels(&board) {
            assert!(required.contains(&text(panel, "type")), "{name}: {} is not required", panel["type"]);
        }
        let inputs = names(&board["__inputs"], "name");
        let is_source = |variable: &&Value| variable["type"] == "datasource";
        let of = |board: &Value| -> Vec<Value> {
            let list = board["templating"]["list"].as_array().unwrap();
            list.iter().filter(is_source).cloned().collect()
        };
        let (asked, given) = (of(&board), of(&provisioned[&name]));
        assert_eq!(asked.len(), inputs.len(), "{name}");
        assert!(provisioned[&name].get("__inputs").is_none(), "{name}");
        for (asked, given) in asked.iter().zip(&given) {
            let input = text(&asked["current"], "value").trim_start_matches("${").trim_end_matches('}');
            assert!(inputs.contains(&input), "{name}: {input}");
            let uid = text(&given["current"], "value");
            let source =
                sources.iter().find(|source| source["uid"] == uid).unwrap_or_else(|| panic!("{uid}"));
            assert_eq!(source["type"], asked["query"], "{name}: {uid}");
            assert!(required.contains(&text(asked, "query")), "{name}");
        }
        // But for this, the two are the same.
        let (mut one, mut other) = (board.clone(), provisioned[&name].clone());
        for key in ["__inputs", "__elements", "__requires", "templating"] {
            one.as_object_mut().unwrap().remove(key);
            other.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(one, other, "{name}");
        for (title, target) in targets(&board) {
            let uid = text(&target["datasource"], "uid").trim_start_matches("${").trim_end_matches('}');
            assert!(asked.iter().any(|variable| variable["name"] == uid), "{name}: {title}: {uid}");
        }
    }
    let prometheus = sources.iter().find(|source| source["type"] == "prometheus").unwrap();
    let destination = &prometheus["jsonData"]["exemplarTraceIdDestinations"][0];
    assert_eq!(destination["name"], "trace_id", "as exemplars call it");
    assert!(
        sources
            .iter()
            .any(|source| source["uid"] == destination["datasourceUid"] && source["type"] == "jaeger")
    );
}

#[test]
fn links_lead_to_dashboards_and_variables_that_are_there() {
    let boards = all("grafana");
    let mut found = 0;
    for (name, board) in &boards {
        for url in board.to_string().split("\"/d/tollhouse-").skip(1) {
            let (target, rest) = url.split_once("?var-").unwrap();
            let variable = rest.split('=').next().unwrap();
            let known = boards.get(target).unwrap_or_else(|| panic!("{name} links to {target}"));
            assert!(
                names(&known["templating"]["list"], "name").contains(&variable),
                "{name}: {target} {variable}"
            );
            found += 1;
        }
        let all_of_them = &board["links"][0];
        assert_eq!((&all_of_them["type"], &all_of_them["tags"]), (&"dashboards".into(), &board["tags"]));
    }
    assert!(found > 20, "{found}");
}
