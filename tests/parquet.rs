//! DuckDB, pyarrow, pandas, Polars, ClickHouse and Spark read the Parquet files without Tollhouse, those that were sealed and
//! those that were merged, and come to the same sums as its SQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;

use event::layout::{DataFolder, Manifest};
use serde_json::{Value, json};
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site};
use support::tool;

/// Prints the sums that each reader finds under the folder in its argument: each program on its own, as its users would.
const SCRIPT: &str = r#"
import collections, duckdb, glob, json, sys
import chdb, pandas, polars, pyarrow.parquet
pattern = sys.argv[1] + "/requests/**/*.parquet"
files = sorted(glob.glob(pattern, recursive=True))
assert any("/merged-" in file for file in files), files
assert any("/merged-" not in file for file in files), files
names = {"sent": "request_bytes", "received": "response_bytes", "took": "duration_us"}
sums = ", ".join(f"sum({column})" for column in names.values())

def of(n, totals, per):
    return {"n": int(n), **dict(zip(names, (int(total) for total in totals))), "per": {name or "-": int(n) for name, n in per}}

def by_sql(ask, table, group):
    (n, *totals), = ask(f"SELECT count(*), {sums} FROM {table}")
    return of(n, totals, ask(f"SELECT consumer, count(*) FROM {table} GROUP BY {group}"))

read = {}
con = duckdb.connect()
read["duckdb"] = by_sql(lambda sql: con.execute(sql, [files]).fetchall(), "read_parquet(?)", "1")

arrow = {"n": 0, "totals": [0, 0, 0], "per": collections.Counter()}
for file in files:
    # A ParquetFile, not a data set: folder names must not be taken for columns.
    table = pyarrow.parquet.ParquetFile(file).read()
    table.validate(full=True)
    arrow["n"] += table.num_rows
    for place, column in enumerate(names.values()):
        arrow["totals"][place] += sum(table[column].to_pylist())
    arrow["per"].update(table["consumer"].to_pylist())
read["pyarrow"] = of(arrow["n"], arrow["totals"], arrow["per"].items())

frame = pandas.concat(pandas.read_parquet(file, partitioning=None) for file in files)
per = frame["consumer"].fillna("-").value_counts()
read["pandas"] = of(len(frame), [frame[column].sum() for column in names.values()], per.items())
assert str(frame["time"].dtype).startswith("datetime64")
# Of an only try that was answered other columns tell; one that failed is listed.
answered = frame["upstream_status"].notnull()
assert frame[~answered]["attempts"].map(lambda tries: tries[0]["error"]).unique().tolist() == ["connect_failed"]
assert frame[answered]["attempts"].map(len).max() == 0
assert frame[answered][["upstream_addr", "upstream_us", "first_byte_us"]].notnull().all(None)

frame = polars.scan_parquet(files, hive_partitioning=False)
totals = frame.select(polars.len().alias("n"), *(polars.col(c).sum() for c in names.values())).collect().row(0)
per = frame.group_by("consumer").len().collect().iter_rows()
read["polars"] = of(totals[0], totals[1:], per)

def clickhouse(sql):
    return [list(row.values()) for row in json.loads(str(chdb.query(sql, "JSON")))["data"]]
read["clickhouse"] = by_sql(clickhouse, f"file('{pattern}', Parquet)", "consumer")
ids = clickhouse(f"SELECT uniqExact(request_id), min(length(request_id)) FROM file('{pattern}', Parquet)")[0]
assert ids == [read["duckdb"]["n"], 16] or [int(i) for i in ids] == [read["duckdb"]["n"], 16], ids

import os
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.read.parquet(*files).createOrReplaceTempView("requests")
read["spark"] = by_sql(lambda sql: [tuple(row) for row in spark.sql(sql).collect()], "requests", "consumer")
spark.stop()
print(json.dumps(read))
"#;

/// How many files are in a folder and those below it.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn other_engines_come_to_the_same_sums() {
    let origin = Origin::start();
    let mut services = Site::new(origin.addr).config()["services"].clone();
    services.as_array_mut().unwrap().push(json!({
        "name": "dead", "url": "http://127.0.0.1:1", "retries": 0,
        "routes": [{ "name": "dead-route", "paths": ["/dead"] }],
    }));
    // Some files are merged while the hour goes on, and the last ones are not.
    let site = Site::new(origin.addr)
        .set(&["services"], services)
        .set(&["collector", "seal"], json!({"rows_max": 10}))
        .set(&["collector", "retention"], json!({"grace_s": 0}))
        .set(&["collector", "compaction"], json!({"files_min": 2}));
    let house = site.run();
    for turn in 0..50 {
        house.get(&format!("/open/bytes/{}", turn * 100), &[]);
        house.get("/private/echo", &[("apikey", ALICE_KEY)]);
        if turn % 10 == 9 {
            // So that they are not all of one batch, and of one file.
            house.rows(2 * turn + 2);
        }
    }
    let folder = DataFolder::existing(&site.data()).unwrap();
    eventually("merged files, and the end of those that they were made of", || {
        let named: Vec<_> =
            Manifest::load(&folder).unwrap().files.into_iter().map(|file| file.path).collect();
        let merged = named.iter().any(|path| path.contains("/merged-"));
        let there = files(&folder.requests());
        if merged && there == named.len() { Ok(()) } else { Err(format!("{there} files, {named:?}")) }
    });
    for _ in 0..7 {
        house.get("/private/status/500", &[("apikey", BOB_KEY)]);
    }
    assert_eq!(house.get("/dead/letter", &[]).status, 502);
    house.rows(108);
    let sums = &house.sql(
        "SELECT count(*) AS n, sum(request_bytes) AS sent, sum(response_bytes) AS received, \
         sum(duration_us) AS took FROM requests",
    )[0];
    let per = house.sql("SELECT coalesce(consumer, '-') AS consumer, count(*) AS n FROM requests GROUP BY 1");
    assert!(house.terminate().success(), "the end seals hot files");

    let text = tool::output(Command::new(tool::python()).arg("-c").arg(SCRIPT).arg(site.data()));
    let read: Value = serde_json::from_str(&text).unwrap();
    for reader in ["duckdb", "pyarrow", "pandas", "polars", "clickhouse", "spark"] {
        for sum in ["n", "sent", "received", "took"] {
            assert_eq!(read[reader][sum], sums[sum], "{sum} by {reader}");
        }
        assert_eq!(read[reader]["per"].as_object().unwrap().len(), per.len(), "consumers by {reader}");
        for row in &per {
            let consumer = row["consumer"].as_str().unwrap();
            assert_eq!(read[reader]["per"][consumer], row["n"], "requests of {consumer} by {reader}");
        }
    }
}
