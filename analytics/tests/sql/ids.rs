//! Ids are bytes in the table and hexadecimal digits to people.

use crate::support::{house, refusal, serve, sql, sql_of, trace_id};
use serde_json::Value;

#[test]
fn ids_compare_with_hexadecimal_text() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    // 150 is sealed, 250 is hot.
    let sought = format!("{:032x}", trace_id(150));
    let dashed = format!("{}-{}-{}", &sought[..8], &sought[8..20], &sought[20..].to_uppercase());
    for filter in [
        "trace_id = '{id}'",
        "'{id}' = trace_id",
        "trace_id = '{dashed}'",
        "trace_id = '\\x{id}'",
        "request_id = '{id}'",
        "span_id = '0000000000000096'",
        "trace_id IN ('{id}')",
        "trace_id IN ('{id}', 'ffffffffffffffffffffffffffffffff', \
         'fffffffffffffffffffffffffffffff0', 'fffffffffffffffffffffffffffffff1', 'fffffffffffffffffffffffffffffff2')",
        "trace_id BETWEEN '{id}' AND '{id}'",
        "trace_id = decode('{id}', 'hex')",
        "encode(trace_id, 'hex') = '{id}'",
        "trace_id = (SELECT max(trace_id) FROM requests WHERE trace_id <= '{id}')",
        "EXISTS (SELECT 1 FROM requests p WHERE p.trace_id = requests.trace_id AND p.trace_id = \
         '{id}')",
    ] {
        let filter = filter.replace("{id}", &sought).replace("{dashed}", &dashed);
        let found = sql(running.addr, &format!("SELECT sequence, trace_id FROM requests WHERE {filter}"));
        assert_eq!(found, serde_json::json!([{"sequence": 150, "trace_id": sought}]), "{filter}");
    }
    let others = format!("SELECT count(*) AS n FROM requests WHERE trace_id <> '{sought}'");
    assert_eq!(sql(running.addr, &others)[0]["n"], 299);
    let found = sql_of(
        running.addr,
        "SELECT sequence FROM requests WHERE trace_id = $1 OR trace_id IN ($2)",
        &[Value::from(sought.clone()), Value::from(format!("{:032x}", trace_id(250)))],
    );
    assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
    let shown = format!("SELECT trace_id = '{sought}' AS it FROM requests WHERE sequence = 150");
    let shown = sql(running.addr, &shown);
    assert_eq!(shown[0]["it"], true);
}

#[test]
fn text_that_is_no_id_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for text in ["", "96", "0000000000000000000000000000009g", "000000000000000000000000000000960"] {
        let (status, error) =
            refusal(running.addr, &format!("SELECT 1 FROM requests WHERE trace_id = '{text}'"));
        assert_eq!((status, &error["code"]), (400, &"plan".into()));
        assert!(error["message"].as_str().unwrap().contains("32 hexadecimal digits"), "{error}");
    }
}

#[test]
fn a_look_up_by_id_reads_only_the_file_that_has_it() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let plan =
        format!("EXPLAIN ANALYZE SELECT sequence FROM requests WHERE trace_id = '{:032x}'", trace_id(150));
    let plan = sql(running.addr, &plan).to_string();
    assert!(plan.contains("requests/2.parquet") && !plan.contains("requests/1.parquet"), "{plan}");
}
