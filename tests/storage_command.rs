//! `tollhouse storage` on a folder that a gateway has left: what it says, how it exits, and that answers go on.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::origin::Origin;
use support::site::Site;

/// Exit code and standard output of `tollhouse storage`; on standard error there is nothing but failures.
fn storage(site: &Site, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.arg("storage").args(args).arg("--data").arg(site.data()).current_dir(site.folder()).env_clear();
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(site: &Site, args: &[&str]) -> (i32, Value) {
    let (code, out, _) = storage(site, &[args, &["--json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}")))
}

/// A site of which 30 requests are sealed, and the one file that has them.
fn sealed() -> (Site, Origin, PathBuf) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    for _ in 0..30 {
        house.get("/open/echo", &[]);
    }
    house.rows(30);
    assert!(house.terminate().success());
    let (code, table) = json(&site, &["inspect"]);
    assert_eq!((code, table["all"]["rows"].as_u64()), (0, Some(30)));
    let hour = table["hours"].as_object().unwrap().keys().next_back().unwrap().clone();
    let folder = site.data().join("requests").join(&hour);
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    (site, origin, file)
}

#[test]
fn a_good_folder_passes_and_damage_is_found_named_and_set_aside() {
    let (site, _origin, file) = sealed();
    let (code, out, errors) = storage(&site, &["check", "--deep"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("with 30 rows")
            && out.ends_with("ok: every file is what was written, and no event is there twice\n"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "colour on no terminal: {out:?}");

    let mut bytes = fs::read(&file).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let name = file.strip_prefix(site.data()).unwrap().to_str().unwrap().to_owned();
    let (code, found) = json(&site, &["check"]);
    assert_eq!((code, found["problems"].as_array().unwrap().len()), (1, 1), "{found}");
    let problem = &found["problems"][0];
    assert_eq!((&problem["kind"], &problem["file"]), (&"damaged".into(), &Value::from(name.as_str())));
    let missing = problem["rows"].as_u64().unwrap();
    let (code, out, _) = storage(&site, &["check"]);
    assert_eq!(code, 1);
    assert!(out.contains(&name) && out.contains("what to do: ") && out.contains("1 problem"), "{out}");

    // Beside a collector nothing is changed.
    let house = site.run();
    let (code, out, errors) = storage(&site, &["repair"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("has a collector already"), "{errors}");
    let (code, found) = json(&site, &["check"]);
    assert_eq!((code, &found["at_work"]), (1, &Value::Bool(true)), "{found}");
    assert!(house.terminate().success());

    let (code, out, errors) = storage(&site, &["repair"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(out.contains(&format!("{missing} rows are missing from now on")), "{out}");
    assert_eq!(fs::read(site.data().join("quarantine").join(&name)).unwrap(), bytes);
    let (code, found) = json(&site, &["check", "--deep"]);
    assert_eq!((code, &found["rows_set_aside"]), (0, &missing.into()), "{found}");

    // The house goes on without those rows, and says nothing of them any more.
    let house = site.run();
    house.get("/open/echo", &[]);
    house.rows(31 - missing);
    assert!(house.terminate().success());
}

#[test]
fn a_file_and_an_hour_are_shown_column_by_column() {
    let (site, _origin, file) = sealed();
    let hour = file.parent().unwrap().strip_prefix(site.data().join("requests")).unwrap();
    for what in [file.to_str().unwrap(), hour.to_str().unwrap()] {
        let (code, out, _) = storage(&site, &["inspect", what]);
        assert_eq!(code, 0);
        let route = out.lines().find(|line| line.starts_with("route ")).unwrap_or_else(|| panic!("{out}"));
        assert!(route.contains("RLE_DICTIONARY ZSTD") && route.ends_with("open-route"), "{route}");
    }
    let (code, out, errors) = storage(&site, &["inspect", "date=1999-01-01/hour=00"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(errors.contains("neither a Parquet file nor an hour"), "{errors}");
}

#[test]
fn what_is_no_data_folder_is_not_made_one() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let (code, out, errors) = storage(&site, &["check"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("there is no data folder"), "{errors}");
    assert!(!site.data().exists());
}

#[test]
fn the_examples_of_the_documentation_work() {
    let (site, _origin, _) = sealed();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let mut examples = 0;
    for line in page.lines().filter(|line| line.starts_with("tollhouse storage ")) {
        let words =
            line.strip_suffix(" --data tollhouse-data").unwrap_or_else(|| panic!("another folder: {line}"));
        let args: Vec<&str> = words.split_whitespace().skip(2).collect();
        let (code, out, errors) = storage(&site, &args);
        assert_eq!((code, errors.as_str()), (0, ""), "{line}: {out}");
        examples += 1;
    }
    assert!(examples >= 2);
}
