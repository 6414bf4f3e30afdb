//! The endpoint over real data folders: hot files, sealed Parquet, both at once, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use analytics::{AnalyticsConfig, Running};
use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, StringViewArray, TimestampMicrosecondArray, UInt16Array, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use event::hot::HotWriter;
use event::layout::{DataFolder, FileEntry, Manifest};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// Rows with `sequence` from..from+count, one millisecond apart, duration = sequence in milliseconds.
fn rows(from: u64, count: u64) -> RecordBatch {
    let schema = event::columns::schema();
    let ids: Vec<u64> = (from..from + count).collect();
    let text = |value: fn(u64) -> &'static str| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(ids.iter().map(|&id| value(id))))
    };
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "time" => Arc::new(
                TimestampMicrosecondArray::from_iter_values(ids.iter().map(|&id| id as i64 * 1_000))
                    .with_timezone("UTC"),
            ),
            "sequence" => Arc::new(UInt64Array::from(ids.clone())),
            "status" => Arc::new(UInt16Array::from_iter_values(
                ids.iter().map(|id| if id % 10 == 0 { 500 } else { 200 }),
            )),
            "duration_us" => Arc::new(UInt32Array::from_iter_values(ids.iter().map(|&id| id as u32 * 1_000))),
            "consumer" => text(|id| if id % 2 == 0 { "even" } else { "odd" }),
            "service" => text(|_| "shop"),
            "path" => text(|_| "/a\r\n\u{1b}\"',"),
            "outcome" => text(|_| "ok"),
            "trace_id" => Arc::new(
                FixedSizeBinaryArray::try_from_iter(ids.iter().map(|&id| u128::from(id).to_be_bytes()))
                    .unwrap(),
            ),
            _ if field.is_nullable() => new_null_array(field.data_type(), ids.len()),
            _ => match field.data_type() {
                DataType::Utf8View => text(|_| "x"),
                DataType::Boolean => Arc::new(arrow::array::BooleanArray::from(vec![false; ids.len()])),
                DataType::UInt16 => Arc::new(UInt16Array::from(vec![1; ids.len()])),
                DataType::UInt32 => Arc::new(UInt32Array::from(vec![1; ids.len()])),
                _ => Arc::new(UInt64Array::from(vec![1; ids.len()])),
            },
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn hot(folder: &DataFolder, number: u64, batch: &RecordBatch) {
    let mut writer = HotWriter::create(folder, number).unwrap();
    writer.append(batch, &BTreeMap::default()).unwrap();
    writer.sync().unwrap();
}

fn seal(folder: &DataFolder, manifest: &mut Manifest, number: u64, batch: &RecordBatch) {
    let path = format!("requests/{number}.parquet");
    let file = File::create(folder.root().join(&path)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let times = arrow::compute::cast(batch.column(0), &DataType::Int64).unwrap();
    let times = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&times).clone();
    manifest.files.push(FileEntry {
        bytes: folder.root().join(&path).metadata().unwrap().len(),
        path,
        rows: batch.num_rows() as u64,
        checksum: String::new(),
        time_min_us: arrow::compute::min(&times).unwrap(),
        time_max_us: arrow::compute::max(&times).unwrap(),
        hot: number,
    });
    manifest.sealed_through = number;
    manifest.version += 1;
    manifest.store(folder).unwrap();
}

/// 1..=100 sealed, 101..=200 sealed, 201..=300 hot.
fn house(root: &Path) -> DataFolder {
    let folder = DataFolder::open(root).unwrap();
    let mut manifest = Manifest::default();
    seal(&folder, &mut manifest, 1, &rows(1, 100));
    seal(&folder, &mut manifest, 2, &rows(101, 100));
    hot(&folder, 3, &rows(201, 100));
    folder
}

fn serve(folder: &DataFolder, change: impl FnOnce(&mut AnalyticsConfig)) -> Running {
    let mut config = AnalyticsConfig { listen: "127.0.0.1:0".into(), threads: 2, ..Default::default() };
    change(&mut config);
    analytics::start(analytics::validate(&config).unwrap(), folder).unwrap()
}

/// Status, head and body of one exchange.
fn post(addr: SocketAddr, target: &str, kind: &str, body: &str) -> (u16, String, Vec<u8>) {
    let mut socket = TcpStream::connect(addr).unwrap();
    write!(
        socket,
        "POST {target} HTTP/1.0\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head[9..12].parse().unwrap(), head, answer[end + 4..].to_vec())
}

fn sql(addr: SocketAddr, text: &str) -> Value {
    let (status, _, body) = post(addr, "/sql", "text/plain", text);
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn hot_and_sealed_rows_are_one_table() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let addr = running.addr;
    assert_eq!(sql(addr, "SELECT count(*) AS n FROM requests")[0]["n"], 300);
    let sums = sql(addr, "SELECT sum(sequence) AS s, count(DISTINCT sequence) AS d FROM requests");
    assert_eq!((&sums[0]["s"], &sums[0]["d"]), (&Value::from(45_150), &Value::from(300)));
    let one = sql(addr, "SELECT sequence, path, time FROM requests WHERE sequence = 250");
    assert_eq!(one[0]["path"], "/a\r\n\u{1b}\"',");
    assert_eq!(one[0]["time"], "1970-01-01T00:00:00.250Z");
    let id =
        "SELECT sequence FROM requests WHERE trace_id = decode('00000000000000000000000000000096', 'hex')";
    assert_eq!(sql(addr, id)[0]["sequence"], 150);
}

#[test]
fn files_out_of_the_time_range_are_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let plan = sql(running.addr, "EXPLAIN SELECT path FROM requests WHERE time > '1970-01-01T00:00:00.150Z'");
    let plan = plan.to_string();
    assert!(plan.contains("2.parquet") && !plan.contains("/1.parquet"), "{plan}");
}

#[test]
fn views_give_the_numbers_of_the_rows() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let services = sql(running.addr, "SELECT * FROM services");
    assert_eq!((&services[0]["requests"], &services[0]["errors"]), (&Value::from(300), &Value::from(30)));
    let p99 = services[0]["p99_ms"].as_f64().unwrap();
    assert!((p99 - 297.0).abs() <= 297.0 * 0.01, "{p99}");
    let consumers = sql(running.addr, "SELECT consumer, requests, errors FROM consumers ORDER BY 1");
    assert_eq!((&consumers[0]["consumer"], &consumers[0]["errors"]), (&"even".into(), &Value::from(30)));
    assert_eq!((&consumers[1]["requests"], &consumers[1]["errors"]), (&Value::from(150), &Value::from(0)));
    let graph = sql(running.addr, "SELECT caller, callee, requests FROM call_graph ORDER BY 1");
    assert_eq!((&graph[0]["caller"], &graph[0]["requests"]), (&"even".into(), &Value::from(150)));
    let files = sql(running.addr, "SELECT kind, sum(rows) AS n FROM system.files GROUP BY 1 ORDER BY 1");
    assert_eq!((&files[0]["n"], &files[1]["n"]), (&Value::from(100), &Value::from(200)));
    assert!(sql(running.addr, "SHOW TABLES").to_string().contains("call_graph"));
}

#[test]
fn errors_name_a_status_a_code_and_a_place() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.rows_max = 299);
    for (text, status, code) in [
        ("SELEC 1", 400, "syntax"),
        ("SELECT nothing FROM requests", 400, "plan"),
        ("SELECT 1; SELECT 2", 403, "refused"),
        ("DROP TABLE requests", 403, "refused"),
        ("SELECT * FROM '/etc/passwd'", 400, "plan"),
    ] {
        let (found, _, body) = post(running.addr, "/sql", "text/plain", text);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((found, &body["error"]["code"]), (status, &code.into()), "{text}: {body}");
    }
    let (_, _, body) = post(running.addr, "/sql", "text/plain", "SELECT\n  nothing FROM requests");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["error"]["line"], &body["error"]["column"]), (&2.into(), &3.into()));
    let all = "SELECT sequence FROM requests";
    let (_, _, body) = post(running.addr, "/sql?format=ndjson", "text/plain", all);
    assert!(String::from_utf8(body).unwrap().contains("too_many_rows"));
}

#[test]
fn parameters_take_the_type_of_their_place() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let body = r#"{"query": "SELECT count(*) AS n FROM requests WHERE consumer = $1 AND sequence <= $2", "params": ["odd", 100]}"#;
    let (status, _, answer) = post(running.addr, "/sql", "application/json", body);
    assert_eq!((status, answer), (200, br#"[{"n":50}]"#.to_vec()));
    let (status, _, csv) = post(running.addr, "/sql?format=csv", "text/plain", "SELECT 1 AS a, 'x,y' AS b");
    assert_eq!((status, csv), (200, b"a,b\n1,\"x,y\"\n".to_vec()));
}

#[test]
fn a_damaged_file_makes_the_answer_partial() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    File::options().write(true).open(root.path().join("requests/1.parquet")).unwrap().set_len(100).unwrap();
    let running = serve(&folder, |_| {});
    let (status, head, body) = post(running.addr, "/sql", "text/plain", "SELECT count(*) AS n FROM requests");
    assert_eq!((status, body), (200, br#"[{"n":200}]"#.to_vec()));
    assert!(head.contains("x-tollhouse-partial: requests/1.parquet"), "{head}");
}

#[test]
fn no_row_is_twice_or_missing_while_files_are_sealed() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    for number in 1..=30 {
        hot(&folder, number, &rows(number * 10, 10));
    }
    let running = serve(&folder, |_| {});
    let sealer = {
        let folder = folder.clone();
        std::thread::spawn(move || {
            let mut manifest = Manifest::default();
            for number in 1..=30 {
                seal(&folder, &mut manifest, number, &rows(number * 10, 10));
                std::fs::remove_file(folder.hot_file(number)).unwrap();
                std::fs::remove_file(folder.hot_commits(number)).unwrap();
            }
        })
    };
    let mut asked = 0;
    while asked < 5 || !sealer.is_finished() {
        let found = sql(running.addr, "SELECT count(*) AS n, count(DISTINCT sequence) AS d FROM requests");
        assert_eq!((&found[0]["n"], &found[0]["d"]), (&300.into(), &300.into()));
        asked += 1;
    }
    sealer.join().unwrap();
}
