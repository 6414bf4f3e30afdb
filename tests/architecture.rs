//! The dependency graph is the architecture: this reads it from cargo and compares.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn cargo(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_parts_depend_on_the_contract_and_not_on_each_other() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let ours = package["dependencies"].as_array().unwrap().iter();
        // Tests may use what they like; what ships may not.
        let ours = ours.filter(|dependency| dependency["kind"] != "dev" && dependency["path"].is_string());
        let names = ours.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        graph.insert(package["name"].as_str().unwrap().to_owned(), names);
    }
    let arrows = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let expected = BTreeMap::from([
        ("tollhouse-event".to_owned(), arrows(&[])),
        ("tollhouse-proxy".to_owned(), arrows(&["tollhouse-event"])),
        ("tollhouse-collector".to_owned(), arrows(&["tollhouse-event"])),
        ("tollhouse-analytics".to_owned(), arrows(&["tollhouse-event"])),
        (
            "tollhouse".to_owned(),
            arrows(&["tollhouse-event", "tollhouse-proxy", "tollhouse-collector", "tollhouse-analytics"]),
        ),
    ]);
    assert_eq!(graph, expected);
}

#[test]
fn the_proxy_alone_links_no_analytics_engine() {
    let tree = cargo(&["tree", "-p", "tollhouse-proxy", "-e", "normal", "--prefix", "none", "--offline"]);
    assert!(tree.contains("tollhouse-event") && tree.contains("hyper"), "not the tree it should be:\n{tree}");
    let heavy: Vec<&str> = tree
        .lines()
        .filter(|line| {
            ["arrow", "parquet", "datafusion", "object_store"].iter().any(|name| line.starts_with(name))
        })
        .collect();
    assert_eq!(heavy, Vec::<&str>::new());
}

/// A profile that inherits takes along what the other says of packages by their names.
#[test]
fn what_the_first_try_optimises_lightly_is_optimised_fully_in_what_ships() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let levels = |profile: &str| -> BTreeMap<String, u8> {
        let section = text.split_once(&format!("[profile.{profile}.package]\n")).unwrap().1;
        let lines = section.lines().take_while(|line| !line.is_empty());
        let level = |line: &str| {
            let (name, level) = line.split_once(".opt-level = ").unwrap();
            (name.to_owned(), level.parse().unwrap())
        };
        lines.map(level).collect()
    };
    let (first_try, ships) = (levels("release"), levels("dist"));
    assert!(first_try.len() > 10 && first_try.values().all(|level| *level == 1), "{first_try:?}");
    assert!(ships.values().all(|level| *level == 3), "{ships:?}");
    assert!(first_try.keys().eq(ships.keys()), "{first_try:?} {ships:?}");
}
