//! The Delta log against engines that read such tables: delta-rs with its own engine, pyarrow and Polars. What they see is
//! what the client was answered, after merges, kills and a disk that refuses, in a data folder and in a bucket.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::bucket::{KEY, SECRET, Store};
use support::eventually;
use support::load::{Load, assert_exact, stored};
use support::origin::Origin;
use support::site::{ALICE_KEY, Site, Tollhouse};
use support::tool;

/// Prints what is in the table at the place in its first argument, by each reader, and what the log says of each version.
const SCRIPT: &str = r#"
import json, sys
import polars, pyarrow, pyarrow.parquet
from deltalake import DeltaTable, QueryBuilder

place, options = sys.argv[1], json.loads(sys.argv[2])
table = DeltaTable(place, storage_options=options)

def ask(sql):
    return pyarrow.table(QueryBuilder().register("requests", table).execute(sql).read_all()).to_pylist()

def per(pairs):
    return {name or "-": int(count) for name, count in pairs}

found = {"version": table.version()}
found["ids"] = [row["id"] for row in ask("SELECT encode(request_id, 'hex') AS id FROM requests")]
sums = ask("SELECT count(*) AS n, sum(request_bytes) AS sent, sum(response_bytes) AS received, sum(duration_us) AS took FROM requests")
found["sums"] = {name: int(sum) for name, sum in sums[0].items()}
found["engine"] = per(row.values() for row in ask("SELECT consumer, count(*) AS n FROM requests GROUP BY 1"))
# Of the hours that rows say they are of, by the columns of the folders and by their times.
hours = ask("SELECT date, hour, date_part('hour', time) AS h, CAST(time AS DATE) AS d FROM requests GROUP BY 1, 2, 3, 4")
assert all(row["hour"] == row["h"] and row["date"] == row["d"] for row in hours), hours

rows = table.to_pyarrow_table()
assert rows.num_rows == len(found["ids"])
found["pyarrow"] = per(row.values() for row in rows["consumer"].value_counts().to_pylist())
assert {"attempts", "extra", "trace_id", "date", "hour"} <= set(rows.column_names)
frame = polars.scan_delta(place, storage_options=options or None, use_pyarrow=not options)
found["polars"] = per(frame.group_by("consumer").len().collect().iter_rows())

# A time of the statistics that is wrong would take rows away: each file is asked for its first and its last moment.
if not options:
    for file in table.file_uris():
        times = pyarrow.parquet.ParquetFile(file).read(columns=["time"])["time"].to_pylist()
        for time in (min(times), max(times)):
            there = rows["time"].to_pylist().count(time)
            assert ask(f"SELECT count(*) AS n FROM requests WHERE time = '{time.isoformat()}'")[0]["n"] == there, (file, time)

found["refused"] = []
for write in (lambda: table.delete(), lambda: table.optimize.compact(), lambda: table.vacuum(0, enforce_retention_duration=False, dry_run=False)):
    try:
        write()
    except Exception as error:
        found["refused"].append(str(error))
found["operations"] = sorted({commit["operation"] for commit in table.history()})
print(json.dumps(found))
"#;

/// What the readers find at a place.
fn read(place: &str, options: &Value) -> Value {
    let mut command = Command::new(tool::python());
    let text = tool::output(command.arg("-c").arg(SCRIPT).arg(place).arg(options.to_string()));
    serde_json::from_str(&text).unwrap()
}

/// The ids that were found, as often as they were.
fn ids(found: &Value) -> HashMap<String, u64> {
    let mut ids = HashMap::new();
    for id in found["ids"].as_array().unwrap() {
        *ids.entry(id.as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    ids
}

fn site(origin: &Origin) -> Site {
    Site::new(origin.addr)
        .set(&["collector", "seal"], json!({ "interval_s": 1, "rows_max": 200, "grace_ms": 0 }))
        .set(&["collector", "compaction"], json!({ "files_min": 3 }))
        .set(&["collector", "retention"], json!({ "grace_s": 1 }))
        .set(&["collector", "delta"], json!({ "enabled": true, "checkpoint_commits": 3 }))
}

fn table(site: &Site) -> String {
    site.data().join("requests").to_str().unwrap().to_owned()
}

/// How many rows a stream that follows the log is given: those of files that changed what the table says; and how many files
/// changed nothing. (That each row is once in the table is seen in the table.)
fn streamed(table: &Path) -> (i64, usize) {
    let mut commits: Vec<_> =
        fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    commits.sort();
    let (mut rows, mut moved) = (0, 0);
    for path in &commits {
        for line in fs::read_to_string(path).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            let Some(add) = action.get("add") else { continue };
            let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
            match add["dataChange"].as_bool().unwrap() {
                true => rows += stats["numRecords"].as_i64().unwrap(),
                false => moved += 1,
            }
        }
    }
    (rows, moved)
}

fn metric(house: &Tollhouse, name: &str) -> f64 {
    house.metric(&format!("tollhouse_delta_{name}"), &[])
}

#[test]
fn other_engines_see_the_table_and_nobody_else_writes_it() {
    let origin = Origin::start();
    let site = site(&origin);
    let house = site.run();
    let load = Load::start_paced(house.gateway(), "/open/echo", 2, Duration::from_millis(1));
    for _ in 0..20 {
        house.get("/private/bytes/1000", &[("apikey", ALICE_KEY)]);
        load.wait(100);
    }
    eventually("files that were merged", || {
        let merged = "SELECT count(*) AS n FROM system.files WHERE path LIKE 'requests/%merged%'";
        if house.number(merged) > 0 { Ok(()) } else { Err(house.metrics()) }
    });
    let sent = load.stop();
    assert_eq!(sent.failed, Vec::<String>::new());
    let rows = sent.received.len() as u64 + 20;
    house.rows(rows);
    let sums = house.sql(
        "SELECT count(*) AS n, sum(request_bytes) AS sent, sum(response_bytes) AS received, \
         sum(duration_us) AS took FROM requests",
    );
    assert!(metric(&house, "commits_total") > 1.0);
    assert_eq!(metric(&house, "failures_total"), 0.0);
    assert!(house.terminate().success());

    let found = read(&table(&site), &json!({}));
    let there = ids(&found);
    assert_exact(&there, sent.received.iter().map(|(id, _)| id.as_str()));
    assert_eq!(there.len() as u64, rows, "the end sealed all of it, and said so");
    assert_eq!(found["sums"], sums[0]);
    for reader in ["engine", "pyarrow", "polars"] {
        assert_eq!(found[reader], json!({ "-": rows - 20, "alice": 20 }), "{reader}");
    }
    let refused = found["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].as_str().unwrap().contains("tollhouse"), "{refused:?}");
    // A stream has each row once, though files were merged while it followed.
    let (rows_of_stream, moved) = streamed(Path::new(&table(&site)));
    assert_eq!(rows_of_stream as u64, rows);
    assert!(moved > 0, "{}", found["operations"]);
    assert!(site.data().join("requests/_delta_log/_last_checkpoint").exists());

    // Neither a start nor the tools take the log for rows that nobody names.
    let (code, problems) = site.storage(&["check", "--deep"]);
    assert_eq!((code, &problems["problems"]), (0, &json!([])));
    let house = site.run();
    assert_eq!(stored(&house).len() as u64, rows);
    assert!(house.terminate().success());
    assert_eq!(ids(&read(&table(&site), &json!({}))), there);
}

#[test]
fn kills_at_any_moment_leave_a_log_that_becomes_equal_again() {
    let origin = Origin::start();
    let site = site(&origin);
    let mut sent = Vec::new();
    for turn in 0..8 {
        let house = site.run();
        let load = Load::start_paced(house.gateway(), "/open/echo", 2, Duration::from_millis(1));
        load.wait(200 + 130 * turn);
        // The clients have what they were answered; what is younger than 50 ms may go with the process.
        sent.extend(load.stop().received.into_iter().map(|(id, _)| id));
        house.rows(sent.len() as u64);
        house.kill9();
    }
    let house = site.run();
    house.rows(sent.len() as u64);
    assert!(house.terminate().success());
    let there = ids(&read(&table(&site), &json!({})));
    assert_exact(&there, sent.iter().map(String::as_str));
    assert_eq!(there.len(), sent.len());
    let (rows, _) = streamed(Path::new(&table(&site)));
    assert_eq!(rows as usize, sent.len(), "a stream has each row once");
}

#[test]
fn a_log_that_cannot_be_written_harms_nothing_else() {
    let origin = Origin::start();
    let site = site(&origin);
    // In the place of its folder is a file.
    fs::create_dir_all(site.data().join("requests")).unwrap();
    let log = site.data().join("requests/_delta_log");
    fs::write(&log, "in the way").unwrap();
    let house = site.run();
    for _ in 0..300 {
        assert_eq!(house.get("/open/echo", &[]).status, 200);
    }
    house.rows(300);
    eventually("sealed files, and the complaint", || {
        let sealed = house.number("SELECT count(*) AS n FROM system.files WHERE path LIKE 'requests/%'");
        let failures = metric(&house, "failures_total");
        if sealed > 0 && failures > 1.0 {
            Ok(())
        } else {
            Err(format!("{sealed} files, {failures} failures"))
        }
    });
    let complaints = house.log().matches("the Delta log stays as it is").count();
    assert_eq!(complaints, 1, "each cause is said once: {}", house.log());
    fs::remove_file(&log).unwrap();
    eventually("the log", || match metric(&house, "last_success_timestamp_seconds") {
        0.0 => Err(house.log()),
        _ => Ok(()),
    });
    assert!(house.log().contains("the Delta log is written again"));
    assert!(house.terminate().success());
    assert_eq!(read(&table(&site), &json!({}))["sums"]["n"], 300);
}

#[test]
fn two_collectors_are_one_table_in_a_bucket() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let house =
        |node: &str| site(&origin).set(&["node"], node.into()).set(&["object_store"], store.section());
    let sites = [house("one"), house("two")];
    let houses = [sites[0].run(), sites[1].run()];
    let loads = houses
        .each_ref()
        .map(|house| Load::start_paced(house.gateway(), "/open/echo", 2, Duration::from_millis(1)));
    eventually("merges of both in the bucket", || {
        let merged =
            "SELECT count(*) AS n FROM system.files WHERE path LIKE 'requests/%merged%' AND place = 'both'";
        let merged = houses.each_ref().map(|house| house.number(merged));
        if merged.iter().all(|merged| *merged > 0) { Ok(()) } else { Err(format!("{merged:?}")) }
    });
    let mut sent = Vec::new();
    for load in loads {
        let ledger = load.stop();
        assert_eq!(ledger.failed, Vec::<String>::new());
        sent.extend(ledger.received.into_iter().map(|(id, _)| id));
    }
    // Each seals what it has within a second, uploads it and says so.
    eventually("commits of both", || {
        let commits = houses.each_ref().map(|house| metric(house, "commits_total"));
        if commits.iter().all(|commits| *commits > 0.0) { Ok(()) } else { Err(format!("{commits:?}")) }
    });
    let options = json!({
        "AWS_ENDPOINT_URL": format!("http://{}", store.addr()), "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
    });
    let found = eventually("all rows of both in the log", || {
        let found = read("s3://logs/tollhouse", &options);
        match ids(&found).len() {
            all if all == sent.len() => Ok(found),
            some => Err(format!("{some} of {}", sent.len())),
        }
    });
    assert_exact(&ids(&found), sent.iter().map(String::as_str));
    assert_eq!(found["sums"]["n"], sent.len());
    // A vacuum that finds nothing to do writes nothing.
    assert!(found["refused"].as_array().unwrap().len() >= 2, "{}", found["refused"]);
    let commits = houses.iter().map(|house| metric(house, "commits_total")).sum::<f64>();
    assert!(found["version"].as_f64().unwrap() + 1.0 <= commits, "a commit is of one of them");
    for house in houses {
        assert_eq!(metric(&house, "failures_total"), 0.0);
        assert!(house.terminate().success());
    }
}

#[test]
fn the_examples_of_the_documentation_work() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/delta.md")).unwrap();
    let origin = Origin::start();
    let site = site(&origin);
    let house = site.run();
    house.get("/private/echo", &[("apikey", ALICE_KEY)]);
    house.rows(1);
    assert!(house.terminate().success());
    std::os::unix::fs::symlink(site.data(), site.folder().join("tollhouse-data")).unwrap();
    let mut examples = 0;
    for block in page.split("```python\n").skip(1) {
        let program = block.split("```").next().unwrap();
        let mut command = Command::new(tool::python());
        let said = tool::output(command.arg("-c").arg(program).current_dir(site.folder()));
        assert!(said.contains("alice"), "{program}\n{said}");
        examples += 1;
    }
    assert!(examples >= 2);
}
