//! Roll-ups and hot rows as one table, and the functions over their sketches.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, StringViewArray, TimestampMicrosecondArray, UInt64Array, new_null_array,
};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use event::distinct::{Distinct, hash};
use event::layout::{DataFolder, FileEntry, Manifest, Place, RollupEntry};
use event::rollup::{Grouping, Resolution};
use event::sketch::Sketch;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::support::{ask, hot, house, refusal, rows, serve, sql};

/// A roll-up by the minute of 1970 with two groups of `shop`, one of a minute that hot rows are of too.
fn roll(folder: &DataFolder) {
    let schema = event::rollup::schema();
    let durations = |values: [f64; 2]| {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch.to_bytes()
    };
    let clients = |names: &[&str]| {
        let mut clients = Distinct::default();
        names.iter().for_each(|name| clients.add(hash(name.as_bytes())));
        clients.to_bytes()
    };
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "time" => Arc::new(TimestampMicrosecondArray::from(vec![0, 60_000_000]).with_timezone("UTC")),
            "service" => Arc::new(StringViewArray::from(vec!["shop", "shop"])),
            "consumer" => Arc::new(StringViewArray::from(vec!["even", "even"])),
            "status_class" => Arc::new(StringViewArray::from(vec!["2xx", "2xx"])),
            "requests" => Arc::new(UInt64Array::from(vec![2, 2])),
            "duration_sketch" | "gateway_sketch" => {
                let sketches = [durations([1e6, 2e6]), durations([3e6, 4e6])];
                Arc::new(BinaryArray::from_iter_values(sketches))
            }
            "clients_sketch" => {
                Arc::new(BinaryArray::from_iter_values([clients(&["a", "b"]), clients(&["b", "c", "d"])]))
            }
            _ if field.is_nullable() => new_null_array(field.data_type(), 2),
            _ => Arc::new(UInt64Array::from(vec![1, 1])),
        }
    });
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    let path = "rollups/1m/1.parquet";
    let whole = folder.root().join(path);
    std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&whole).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let file = FileEntry {
        path: path.into(),
        rows: 2,
        bytes: bytes.len() as u64,
        checksum: event::layout::checksum(&bytes),
        time_min_us: 0,
        time_max_us: 60_000_000,
        hot: 0,
        level: 0,
        place: Place::Local,
    };
    let mut manifest = Manifest::load(folder).unwrap();
    let entry = RollupEntry {
        file,
        resolution: Resolution::Minute,
        grouping: Grouping::All,
        requests: 4,
        overflowed: 0,
    };
    manifest.rollups = vec![entry];
    manifest.version += 1;
    manifest.store(folder).unwrap();
}

fn rolled_house(root: &Path) -> DataFolder {
    let folder = house(root);
    roll(&folder);
    folder
}

#[test]
fn groups_and_hot_rows_of_one_key_are_one_row() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&rolled_house(root.path()), |_| {});
    let found = sql(
        running.addr,
        "SELECT time, consumer, status_class, requests, errors, sketch_percentile(duration_sketch, 1) AS most, \
         distinct_count(clients_sketch) AS clients FROM traffic_1m WHERE service = 'shop' ORDER BY 1, 2, 3",
    );
    // Hot are 201 to 300, of which the tenths failed: even ones.
    let columns = ["consumer", "status_class", "requests", "errors"];
    let rows: Vec<[&Value; 4]> =
        found.as_array().unwrap().iter().map(|row| columns.map(|name| &row[name])).collect();
    let expected = json!([
        ["even", "2xx", 42, 1],
        ["even", "5xx", 10, 10],
        ["odd", "2xx", 50, 0],
        ["even", "2xx", 2, 1]
    ]);
    assert_eq!(json!(rows), expected, "{found}");
    assert_eq!((&found[0]["clients"], &found[3]["clients"]), (&2.into(), &3.into()));
    assert!((found[0]["most"].as_f64().unwrap() - 2e6).abs() < 2e4, "{found}");
    // The hour has no roll-up of its own here: only what is hot.
    let hours = sql(running.addr, "SELECT sum(requests) AS n, min(time) AS t FROM traffic_1h");
    assert_eq!((&hours[0]["n"], &hours[0]["t"]), (&100.into(), &"1970-01-01T00:00:00Z".into()));
    let described = sql(running.addr, "SHOW COLUMNS FROM traffic_1m");
    assert_eq!(described.as_array().unwrap().len(), 14, "{described}");
    let tables = sql(running.addr, "SHOW TABLES").to_string();
    assert!(tables.contains("traffic_1h") && !tables.contains("sealed"), "{tables}");
}

#[test]
fn files_out_of_the_time_range_are_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&rolled_house(root.path()), |_| {});
    let plan = |condition: &str| {
        sql(running.addr, &format!("EXPLAIN SELECT requests FROM traffic_1m WHERE {condition}")).to_string()
    };
    assert!(plan("time >= '1970-01-01T00:01:00Z'").contains("rollups/1m/1.parquet"));
    let late = plan("time >= '1970-01-01T00:02:00Z'");
    assert!(!late.contains("rollups/1m/1.parquet"), "{late}");
    // Sketches that nobody asks for are not merged.
    let few = plan("consumer = 'even'");
    assert!(!few.contains("latency_merge") && !few.contains("latency_sketch"), "{few}");
}

#[test]
fn sketches_merge_over_any_groups() {
    let root = tempfile::tempdir().unwrap();
    let folder = rolled_house(root.path());
    let running = serve(&folder, |_| {});
    let found = sql(
        running.addr,
        "SELECT sketch_percentile(latency_merge(duration_sketch), 1) AS most, \
         sketch_percentile(latency_merge(duration_sketch) FILTER (WHERE consumer = 'odd'), 1) AS odd, \
         sketch_percentile(latency_merge(duration_sketch), 0) AS least, \
         distinct_count(distinct_merge(clients_sketch)) AS clients FROM traffic_1m",
    );
    let close = |found: &Value, exact: f64| (found.as_f64().unwrap() - exact).abs() <= exact * 0.01;
    assert!(close(&found[0]["most"], 4e6) && close(&found[0]["odd"], 299e3), "{found}");
    assert!(close(&found[0]["least"], 201e3), "{found}");
    assert_eq!(found[0]["clients"], 4);
    // Many groups, in several partitions, by way of states.
    let by = sql(
        running.addr,
        "SELECT sequence % 7 AS k, distinct_count(distinct_sketch(request)) AS n, count(DISTINCT request) AS exact, \
         distinct_count(distinct_sketch(request) FILTER (WHERE sequence <= 100)) AS few \
         FROM (SELECT sequence, CAST(sequence % 90 AS TEXT) AS request FROM requests) GROUP BY 1 ORDER BY 1",
    );
    for row in by.as_array().unwrap() {
        let (found, exact) = (row["n"].as_i64().unwrap(), row["exact"].as_i64().unwrap());
        assert!((found - exact).abs() <= 2, "{row}");
        assert!(row["few"].as_i64().unwrap() <= 16, "{row}");
    }
    let (status, _) = refusal(running.addr, "SELECT latency_merge(clients_sketch) FROM traffic_1m");
    assert!(status >= 400, "a sketch of another kind is refused");
    let (status, error) = refusal(running.addr, "SELECT latency_merge(requests) FROM traffic_1m");
    assert_eq!(status, 400, "{error}");
}

#[test]
fn a_damaged_roll_up_makes_only_answers_about_traffic_partial() {
    let root = tempfile::tempdir().unwrap();
    let folder = rolled_house(root.path());
    let path = root.path().join("rollups/1m/1.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    // Behind the first magic mark: the length and both marks stay as they are.
    bytes[4..200].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let running = serve(&folder, |_| {});
    let statement = "SELECT sum(requests) AS n, min(service) AS s, max(time) AS t FROM traffic_1m";
    let found = ask(running.addr, "/sql", &[], statement);
    assert_eq!((found.status, &found.json()[0]["n"]), (200, &100.into()), "{}", found.text());
    assert!(found.head.contains("x-tollhouse-partial: rollups/1m/1.parquet"), "{}", found.head);
    let found = ask(running.addr, "/sql", &[], "SELECT count(*) AS n FROM requests");
    assert!(!found.head.contains("x-tollhouse-partial"), "{}", found.head);
    let files = sql(running.addr, "SELECT kind, status FROM system.files WHERE status <> 'ok'");
    assert_eq!(files[0]["kind"], "rollup_1m");
}

#[test]
fn a_folder_without_roll_ups_has_what_is_hot() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    hot(&folder, 1, &rows(1, 50));
    let running = serve(&folder, |_| {});
    let found = sql(running.addr, "SELECT sum(requests) AS n FROM traffic_1m");
    assert_eq!(found[0]["n"], 50);
    assert_eq!(
        sql(running.addr, "SELECT arrow_typeof(time) AS t FROM traffic_1m LIMIT 1")[0]["t"],
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())).to_string()
    );
}
