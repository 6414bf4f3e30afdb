//! DuckDB and pyarrow read the Parquet files without Tollhouse, and come to the same sums as its SQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;

use serde_json::Value;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site};
use support::tool;

/// Prints the sums that each of the two readers finds under the folder in its argument.
const SCRIPT: &str = r#"
import collections, duckdb, glob, json, sys
import pyarrow.parquet
pattern = sys.argv[1] + "/requests/**/*.parquet"
files = glob.glob(pattern, recursive=True)
assert files, "no Parquet file"
con = duckdb.connect()
one = con.execute("SELECT count(*), sum(request_bytes), sum(response_bytes), sum(duration_us) FROM read_parquet(?)", [files]).fetchone()
per = con.execute("SELECT coalesce(consumer, '-'), count(*) FROM read_parquet(?) GROUP BY 1", [files]).fetchall()
duck = {"n": int(one[0]), "sent": int(one[1]), "received": int(one[2]), "took": int(one[3]), "per": dict(per)}
arrow = {"n": 0, "sent": 0, "received": 0, "took": 0, "per": collections.Counter()}
for file in files:
    # A ParquetFile, not a data set: folder names must not be taken for columns.
    table = pyarrow.parquet.ParquetFile(file).read()
    table.validate(full=True)
    arrow["n"] += table.num_rows
    for name, column in (("sent", "request_bytes"), ("received", "response_bytes"), ("took", "duration_us")):
        arrow[name] += sum(table[column].to_pylist())
    arrow["per"].update(c or "-" for c in table["consumer"].to_pylist())
print(json.dumps({"duckdb": duck, "pyarrow": arrow}))
"#;

#[test]
fn duckdb_and_pyarrow_come_to_the_same_sums() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    for turn in 0..50 {
        house.get(&format!("/open/bytes/{}", turn * 100), &[]);
        house.get("/private/echo", &[("apikey", ALICE_KEY)]);
    }
    for _ in 0..7 {
        house.get("/private/status/500", &[("apikey", BOB_KEY)]);
    }
    house.rows(107);
    let sums = &house.sql(
        "SELECT count(*) AS n, sum(request_bytes) AS sent, sum(response_bytes) AS received, \
         sum(duration_us) AS took FROM requests",
    )[0];
    let per = house.sql("SELECT coalesce(consumer, '-') AS consumer, count(*) AS n FROM requests GROUP BY 1");
    assert!(house.terminate().success(), "the end seals hot files");

    let text = tool::output(Command::new(tool::python()).arg("-c").arg(SCRIPT).arg(site.data()));
    let read: Value = serde_json::from_str(&text).unwrap();
    for reader in ["duckdb", "pyarrow"] {
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
