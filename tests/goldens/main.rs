//! Every documented object, asked by a program that knows nothing of us: the files beside this one are sqllogictest's, each
//! answer in them was worked out from [`traffic`] or checked against it, and the program compares by PostgreSQL's protocol.
//!
//! After a change that means other answers: `sqllogictest --engine postgres --override ...`, and read the difference.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;

use event::layout::DataFolder;
use serde_json::json;
use support::origin::Origin;
use support::site::{Site, Tollhouse};
use support::tool::{find, output};

/// The house with those two hours in sealed files and in roll-ups, and a configuration whose every field is known.
fn house() -> (Site, Tollhouse) {
    let origin = Origin::start();
    let service = |name: &str| {
        json!({ "name": name, "url": format!("http://{name}/base"), "tags": ["shop"],
            "routes": [{ "name": format!("{name}-all"), "paths": [format!("/{name}")], "methods": ["GET", "POST"] }] })
    };
    let upstream = |(hop, name): (usize, &str)| {
        let targets: Vec<_> =
            (0..2).map(|last| json!({ "target": format!("10.1.{hop}.{last}:8080") })).collect();
        json!({ "name": name, "algorithm": "least-connections", "targets": targets })
    };
    let names = ["web", "orders", "stock"];
    let consumers: Vec<_> = ["acme", "birch", "cedar"]
        .map(|name| json!({ "username": name, "keyauth_credentials": [{ "key": format!("{name}-0123456789") }] }))
        .into();
    let mut services: Vec<_> = names.map(service).into();
    services[0]["plugins"] = json!([{ "name": "key-auth" }]);
    let plan = json!({ "base_fee": "9", "included_requests": 10, "price_per_thousand": "1000" });
    let site = Site::new(origin.addr)
        .set(&["services"], services.into())
        .set(&["upstreams"], names.into_iter().enumerate().map(upstream).collect())
        .set(&["consumers"], consumers.into())
        .set(&["analytics", "plans"], json!({ "standard": plan }));
    traffic::write(&DataFolder::open(&site.data()).unwrap());
    let house = site.run();
    house.rows(traffic::ROWS);
    assert!(house.terminate().success());
    let house = site.run();
    house.rows(traffic::ROWS);
    (site, house)
}

/// The files, in order.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|kind| kind == "slt")).collect();
    files.sort();
    files
}

#[test]
fn every_answer_is_the_one_that_is_written_down() {
    let (_site, house) = house();
    let addr = house.addr("postgres");
    let mut command = Command::new(find("TESTS_SQLLOGICTEST", "bin/sqllogictest-0.29.1"));
    command.args([
        "--engine",
        "postgres",
        "--host",
        &addr.ip().to_string(),
        "--port",
        &addr.port().to_string(),
    ]);
    command.args(["--user", "anybody", "--db", "tollhouse", "--color", "never"]).args(files());
    println!("{}", output(&mut command));
}

#[test]
fn no_object_is_without_an_answer() {
    let (_site, house) = house();
    let asked: String = files().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let tables = house.sql("SHOW TABLES");
    let objects = tables.iter().filter(|row| row["table_schema"] != "information_schema").map(|row| {
        let (schema, table) = (row["table_schema"].as_str().unwrap(), row["table_name"].as_str().unwrap());
        if schema == "public" { table.to_owned() } else { format!("{schema}.{table}") }
    });
    // Functions, as the page on SQL has them in its tables.
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md")).unwrap();
    let functions =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('(').map(|(name, _)| name));
    let functions: Vec<String> =
        functions.filter(|name| !name.contains(' ')).map(|name| format!("{name}(")).collect();
    assert!(functions.len() >= 15, "{functions:?}");
    for object in objects.chain(functions) {
        assert!(asked.contains(&object), "no file in tests/goldens asks for {object}");
    }
}
