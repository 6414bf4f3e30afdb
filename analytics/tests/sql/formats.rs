//! The forms of an answer, read back by other readers.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{UInt16Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::support::{ask, encoded, get, house, serve, trace_id};

const QUESTION: &str = "SELECT sequence, status, consumer, path, trace_id, time, workspace FROM requests \
     WHERE sequence >= 99 ORDER BY sequence LIMIT 3";
const FORMATS: [(&str, &str); 5] = [
    ("json", "application/json"),
    ("ndjson", "application/x-ndjson"),
    ("csv", "text/csv"),
    ("arrow", "application/vnd.apache.arrow.stream"),
    ("parquet", "application/vnd.apache.parquet"),
];

/// Checks an answer in one of the formats against what the rows must be.
fn check(format: &str, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let id = format!("{:032x}", trace_id(99));
    let first = r#"{"sequence":99,"status":200,"consumer":"odd","path":"/a\r\n\u001b\"',","trace_id":"ID","time":"1970-01-01T00:00:00.099Z","workspace":null}"#.replace("ID", &id);
    match format {
        "json" => {
            let rows: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(rows.as_array().unwrap().len(), 3);
            assert_eq!(rows[0], serde_json::from_str::<Value>(&first).unwrap());
        }
        "ndjson" => {
            assert_eq!(text.lines().count(), 3);
            assert_eq!(text.lines().next().unwrap(), first);
        }
        "csv" => {
            let expected = "sequence,status,consumer,path,trace_id,time,workspace\n\
                99,200,odd,\"/a\r\n\u{1b}\"\"',\",ID,1970-01-01T00:00:00.099Z,\n";
            assert!(text.starts_with(&expected.replace("ID", &id)), "{text:?}");
        }
        "arrow" => {
            batches(&StreamReader::try_new(body, None).unwrap().map(Result::unwrap).collect::<Vec<_>>())
        }
        _ => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(body)).unwrap();
            batches(&reader.build().unwrap().map(Result::unwrap).collect::<Vec<_>>());
        }
    }
}

fn batches(batches: &[RecordBatch]) {
    let all = arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap();
    assert_eq!(all.column(0).as_primitive::<UInt64Type>().values(), &[99, 100, 101]);
    assert_eq!(all.column(1).as_primitive::<UInt16Type>().values(), &[200, 500, 200]);
    assert_eq!(all.column(2).as_string_view().value(1), "even");
    assert_eq!(all.column(4).as_fixed_size_binary().value(0)[15], 99);
    assert_eq!(all.column(6).null_count(), 3);
}

#[test]
fn every_format_is_given_by_name_and_by_accept() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for (format, media) in FORMATS {
        let accept = format!("text/html, {media};q=0.9, */*;q=0.1");
        let target = format!("/sql?q={}", encoded(QUESTION));
        for answer in [
            ask(running.addr, &format!("/sql?format={format}"), &[], QUESTION),
            ask(running.addr, "/sql", &[("accept", &accept)], QUESTION),
            get(running.addr, &target, &[("accept", media)]),
            get(running.addr, &format!("{target}&format={format}"), &[("accept", "text/html")]),
        ] {
            assert_eq!(answer.status, 200, "{format}: {}", answer.text());
            assert!(
                answer.whole && answer.head.contains(&format!("content-type: {media}")),
                "{}",
                answer.head
            );
            check(format, &answer.body);
        }
    }
    check("json", &ask(running.addr, "/sql", &[], QUESTION).body);
}

#[test]
fn an_answer_without_rows_is_whole_in_every_format() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let none = "SELECT sequence, extra FROM requests WHERE sequence = 0";
    let body = |format: &str| {
        let answer = ask(running.addr, &format!("/sql?format={format}"), &[], none);
        assert_eq!((answer.status, answer.whole), (200, true), "{format}");
        answer.body
    };
    assert_eq!(body("json"), b"[]");
    assert_eq!(body("ndjson"), b"");
    assert_eq!(body("csv"), b"sequence,extra\n");
    assert_eq!(StreamReader::try_new(&body("arrow")[..], None).unwrap().schema().fields().len(), 2);
    let parquet = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(body("parquet"))).unwrap();
    assert_eq!(parquet.metadata().file_metadata().num_rows(), 0);
}

#[test]
fn nested_values_are_text_in_csv() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let answer = ask(
        running.addr,
        "/sql?format=csv",
        &[],
        "SELECT [1, 2] AS list, named_struct('a', 1, 'b', NULL) AS s",
    );
    assert_eq!(answer.text(), "list,s\n\"[1,2]\",\"{\"\"a\"\":1,\"\"b\"\":null}\"\n");
}
