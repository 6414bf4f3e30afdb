//! Data folders made by hand, a service over them, and a small HTTP client.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::{AnalyticsConfig, Running};
use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, StringViewArray, TimestampMicrosecondArray, UInt16Array, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use event::hot::HotWriter;
use event::layout::{DataFolder, FileEntry, Manifest, Place};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

/// Rows with `sequence` from..from+count, one millisecond apart, duration = sequence in milliseconds.
pub fn rows(from: u64, count: u64) -> RecordBatch {
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
            "trace_id" | "request_id" => Arc::new(
                FixedSizeBinaryArray::try_from_iter(ids.iter().map(|&id| trace_id(id).to_be_bytes()))
                    .unwrap(),
            ),
            "span_id" => {
                Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter().map(|&id| id.to_be_bytes())).unwrap())
            }
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

/// The trace id of a row, which is its request id too; scattered, as ids are.
pub fn trace_id(id: u64) -> u128 {
    u128::from(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(id)
}

pub fn hot(folder: &DataFolder, number: u64, batch: &RecordBatch) {
    let mut writer = HotWriter::create(folder, number).unwrap();
    writer.append(batch, &BTreeMap::default()).unwrap();
    writer.sync().unwrap();
}

pub fn seal(folder: &DataFolder, manifest: &mut Manifest, number: u64, batch: &RecordBatch) {
    let path = format!("requests/{number}.parquet");
    let file = File::create(folder.root().join(&path)).unwrap();
    let bloom = WriterProperties::builder().set_column_bloom_filter_enabled("trace_id".into(), true);
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(bloom.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let times = arrow::compute::cast(batch.column(0), &DataType::Int64).unwrap();
    let times = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&times).clone();
    manifest.files.push(FileEntry {
        bytes: folder.root().join(&path).metadata().unwrap().len(),
        rows: batch.num_rows() as u64,
        checksum: event::layout::checksum(&std::fs::read(folder.root().join(&path)).unwrap()),
        time_min_us: arrow::compute::min(&times).unwrap(),
        time_max_us: arrow::compute::max(&times).unwrap(),
        hot: number,
        level: 0,
        place: Place::Local,
        path,
    });
    manifest.sealed_through = number;
    manifest.version += 1;
    manifest.store(folder).unwrap();
}

/// 1..=100 sealed, 101..=200 sealed, 201..=300 hot.
pub fn house(root: &Path) -> DataFolder {
    let folder = DataFolder::open(root).unwrap();
    let mut manifest = Manifest::default();
    seal(&folder, &mut manifest, 1, &rows(1, 100));
    seal(&folder, &mut manifest, 2, &rows(101, 100));
    hot(&folder, 3, &rows(201, 100));
    folder
}

pub fn serve(folder: &DataFolder, change: impl FnOnce(&mut AnalyticsConfig)) -> Running {
    let mut config = AnalyticsConfig { listen: "127.0.0.1:0".into(), threads: 2, ..Default::default() };
    config.postgres.listen = None;
    config.flight.listen = None;
    change(&mut config);
    analytics::start(analytics::validate(&config).unwrap(), folder).unwrap()
}

/// One exchange, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub whole: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Sends a request and leaves the answer to be read.
pub fn send(addr: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    socket
}

/// Reads an answer to its end.
pub fn receive(mut socket: TcpStream) -> Answer {
    let mut answer = Vec::new();
    // A cut is an error on the socket; what came before it counts.
    let cut = socket.read_to_end(&mut answer).is_err();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    let raw = &answer[end + 4..];
    let (body, whole) = match head.contains("transfer-encoding: chunked") {
        true => unchunk(raw),
        false => (raw.to_vec(), true),
    };
    Answer { status: head[9..12].parse().unwrap(), head, body, whole: whole && !cut }
}

/// The body of chunks, and whether the last one is there.
fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = raw.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
        let rest = &raw[line + 2..];
        if size == 0 {
            return (body, true);
        }
        body.extend(&rest[..size.min(rest.len())]);
        raw = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

pub fn get(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Answer {
    receive(send(addr, "GET", target, headers, ""))
}

pub fn ask(addr: SocketAddr, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    receive(send(addr, "POST", target, headers, body))
}

/// Status, head and body of one exchange.
pub fn post(addr: SocketAddr, target: &str, kind: &str, body: &str) -> (u16, String, Vec<u8>) {
    let answer = ask(addr, target, &[("content-type", kind)], body);
    (answer.status, answer.head, answer.body)
}

/// The rows of a statement that must succeed.
pub fn sql(addr: SocketAddr, text: &str) -> Value {
    sql_of(addr, text, &[])
}

/// The rows of a statement with parameters.
pub fn sql_of(addr: SocketAddr, text: &str, params: &[Value]) -> Value {
    let body = serde_json::json!({"query": text, "params": params}).to_string();
    let answer = ask(addr, "/sql", &[("content-type", "application/json")], &body);
    assert_eq!(answer.status, 200, "{text}: {}", answer.text());
    assert!(answer.whole, "{text}: cut");
    answer.json()
}

/// Status and `error` of a statement that must fail before its first row.
pub fn refusal(addr: SocketAddr, text: &str) -> (u16, Value) {
    let answer = ask(addr, "/sql", &[("content-type", "text/plain")], text);
    assert_ne!(answer.status, 200, "{}", answer.text().chars().take(300).collect::<String>());
    (answer.status, answer.json()["error"].clone())
}

/// A statement for the target of a GET.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Asks until it holds; panics with the last answer when it does not in time.
pub fn wait_for<T: std::fmt::Debug>(what: &str, mut ask: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = ask();
        if holds(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
