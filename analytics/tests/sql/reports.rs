//! Table functions of the house: what they say of rows whose answers are known.

use std::sync::Arc;

use analytics::PlanConfig;
use arrow::array::{ArrayRef, FixedSizeBinaryBuilder, TimestampMicrosecondArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use event::layout::{DataFolder, Manifest};
use serde_json::{Value, json};

use crate::support::{get, hot, house, refusal, rows, seal, serve, sql, sql_of, trace_id};

/// One value of each row.
fn of<'a>(rows: &'a Value, name: &str) -> Vec<&'a Value> {
    rows.as_array().unwrap().iter().map(|row| &row[name]).collect()
}

#[test]
fn a_series_has_no_gaps() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let series = sql(
        running.addr,
        "SELECT * FROM traffic_series(TIMESTAMP '1969-12-31T23:59:59.95', '1970-01-01T00:00:00.5', INTERVAL '100 ms') ORDER BY time",
    );
    // Steps begin where date_bin lets them begin.
    assert_eq!(of(&series, "requests"), [0, 99, 100, 100, 1, 0]);
    assert_eq!(of(&series, "errors"), [0, 9, 10, 10, 1, 0]);
    assert_eq!(of(&series, "time")[1], "1970-01-01T00:00:00Z");
    assert_eq!(of(&series, "p50_ms")[5], &Value::Null);
    let by = sql(
        running.addr,
        "SELECT name, CAST(sum(requests) AS BIGINT) AS n, count(*) AS steps FROM traffic_series(\
         until => '1970-01-01T00:00:00.2', from => '1970-01-01', step => INTERVAL '50 ms', by => consumer || '!') \
         GROUP BY name ORDER BY name",
    );
    assert_eq!(by, json!([{"name": "even!", "n": 99, "steps": 4}, {"name": "odd!", "n": 100, "steps": 4}]));
    let params = [json!("1970-01-01"), json!("1970-01-01T00:00:01")];
    let bound = sql_of(
        running.addr,
        "SELECT CAST(sum(requests) AS BIGINT) AS n, count(DISTINCT name) AS names FROM compare_periods($1, $2, $1, $2) c",
        &params,
    );
    assert_eq!(bound, json!([{"n": 300, "names": 1}]));
}

#[test]
fn two_sides_are_compared() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let periods = sql(
        running.addr,
        "SELECT * FROM compare_periods('1970-01-01', '1970-01-01T00:00:00.1', '1970-01-01T00:00:00.2', \
         '1970-01-01T00:00:01', by => consumer) ORDER BY name",
    );
    assert_eq!(of(&periods, "name"), ["even", "odd"]);
    assert_eq!(
        (of(&periods, "requests"), of(&periods, "other_requests")),
        (vec![&json!(49), &json!(50)], vec![&json!(51), &json!(50)])
    );
    assert_eq!(
        (of(&periods, "errors"), of(&periods, "other_errors")),
        (vec![&json!(9), &json!(0)], vec![&json!(11), &json!(0)])
    );
    let z = periods[0]["error_rate_z"].as_f64().unwrap();
    // By hand: rates 9/49 and 11/51, pooled 20/100.
    let expected = (9.0 / 49.0 - 11.0 / 51.0) / (0.2 * 0.8 * (1.0 / 49.0 + 1.0 / 51.0_f64)).sqrt();
    assert!((z - expected).abs() < 1e-9, "{z} {expected}");
    assert_eq!(periods[1]["error_rate_z"], Value::Null);
    let versions = sql(running.addr, "SELECT * FROM compare_versions(1, 2, since => '1970-01-01')");
    assert_eq!((&versions[0]["requests"], &versions[0]["other_requests"]), (&json!(300), &json!(0)));
    let canary = sql(running.addr, "SELECT * FROM compare_canary('shop', 'v2', 'v1', since => '1970-01-01')");
    assert_eq!(canary, json!([]));
}

#[test]
fn an_objective_has_a_budget() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let report = sql(running.addr, "SELECT * FROM slo_report(0.95, INTERVAL '100 years')");
    let row = &report[0];
    assert_eq!((&row["name"], &row["requests"], &row["errors"]), (&json!("shop"), &json!(300), &json!(30)));
    let close = |name: &str, to: f64| {
        let found = row[name].as_f64().unwrap();
        assert!((found - to).abs() < 1e-6, "{name}: {found}");
    };
    close("availability", 0.9);
    close("budget", 15.0);
    close("budget_left", -1.0);
    close("burn_3d", 0.0);
    assert_eq!(row["alert"], "none");
    let hour = sql(running.addr, "SELECT * FROM slo_report()");
    assert_eq!(hour, json!([]), "nothing in the last 30 days");
}

/// Of the last minutes one in two failed: that burns a budget of one in a hundred fifty times too quickly.
#[test]
fn a_budget_that_burns_calls_somebody() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let now_us =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    // Every tenth of these fails.
    let batch = with(
        rows(1, 200),
        "time",
        Arc::new(
            TimestampMicrosecondArray::from_iter_values((0..200).map(|n| now_us - n * 1_000_000))
                .with_timezone("UTC"),
        ),
    );
    hot(&folder, 1, &batch);
    let running = serve(&folder, |_| {});
    let report = sql(running.addr, "SELECT * FROM slo_report(0.999)");
    assert_eq!(report[0]["alert"], "page", "{report}");
    assert_eq!(sql(running.addr, "SELECT alert FROM slo_report(0.8)")[0]["alert"], "none");
}

#[test]
fn what_is_unusual_stands_out() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    // The first step has nine requests and no error, all others ten and one.
    let found = sql(
        running.addr,
        "SELECT * FROM anomalies('1970-01-01', '1970-01-01T00:00:00.3', INTERVAL '10 ms') ORDER BY measure",
    );
    assert_eq!(of(&found, "measure"), ["error_rate", "requests"], "{found}");
    assert_eq!(of(&found, "time"), ["1970-01-01T00:00:00Z"; 2]);
    assert_eq!((&found[1]["value"], &found[1]["expected"]), (&json!(9.0), &json!(10.0)));
    assert!(found[1]["score"].as_f64().unwrap() < -3.5);
}

#[test]
fn a_bill_is_the_rows() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        let standard = PlanConfig {
            base_fee: "10".into(),
            included_requests: 100,
            price_per_thousand: "2.5".into(),
            ..PlanConfig::default()
        };
        let all = PlanConfig {
            bill_errors: true,
            price_per_gib: "1073741824".into(),
            included_bytes: 299,
            ..standard.clone()
        };
        config.plans = [("standard".to_owned(), standard), ("all".to_owned(), all)].into();
    });
    let bill = sql(running.addr, "SELECT * FROM billing('standard', '1970-01') ORDER BY consumer");
    assert_eq!(of(&bill, "consumer"), ["even", "odd"]);
    assert_eq!(of(&bill, "billable"), [120, 150]);
    let amounts: Vec<String> = of(&bill, "amount").iter().map(|amount| amount.to_string()).collect();
    // 20 and 50 beyond the hundred, at 2.50 for a thousand.
    assert_eq!(amounts, ["10.05", "10.13"], "{bill}");
    // Each request has a byte each way: one byte is beyond what is included.
    let bill = sql(running.addr, "SELECT * FROM billing('all', '1970-01') ORDER BY consumer");
    let amounts: Vec<String> = of(&bill, "amount").iter().map(|amount| amount.to_string()).collect();
    assert_eq!(
        (of(&bill, "bytes"), amounts),
        (vec![&json!(300), &json!(300)], vec!["11.13".to_owned(), "11.13".to_owned()]),
        "{bill}"
    );
    assert_eq!(sql(running.addr, "SELECT * FROM billing('standard', '1970-02')"), json!([]));
    assert_eq!(sql(running.addr, "SELECT * FROM billing('other', '1970-01')"), json!([]));
}

/// A batch with one column replaced.
fn with(batch: RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let place = schema.index_of(name).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[place] = column;
    RecordBatch::try_new(schema, columns).unwrap()
}

#[test]
fn a_trace_is_a_tree() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let spans = |numbers: [Option<u64>; 5]| -> ArrayRef {
        let mut column = FixedSizeBinaryBuilder::new(8);
        for number in numbers {
            match number {
                Some(number) => column.append_value(number.to_be_bytes()).unwrap(),
                None => column.append_null(),
            }
        }
        Arc::new(column.finish())
    };
    let mut ids = FixedSizeBinaryBuilder::new(16);
    for _ in 0..5 {
        ids.append_value(trace_id(7).to_be_bytes()).unwrap();
    }
    // Two overlapping calls below the first, one below the second of them, and one whose parent is nowhere.
    let ms = |times: [i64; 5]| times.map(|ms| ms * 1_000);
    let mut batch = rows(1, 5);
    for (name, column) in [
        ("trace_id", Arc::new(ids.finish()) as ArrayRef),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from(ms([0, 10, 30, 20, 200]).to_vec()).with_timezone("UTC")),
        ),
        ("duration_us", Arc::new(UInt32Array::from(ms([100, 30, 30, 10, 5]).map(|us| us as u32).to_vec()))),
        ("parent_span_id", spans([None, Some(101), Some(101), Some(102), Some(999)])),
        ("upstream_span_id", spans([Some(101), Some(102), None, None, None])),
    ] {
        batch = with(batch, name, column);
    }
    seal(&folder, &mut Manifest::default(), 1, &batch);
    let running = serve(&folder, |_| {});
    let id = format!("{:032x}", trace_id(7));
    let tree = sql(
        running.addr,
        &format!(
            "SELECT depth, duration_us / 1000 AS ms, self_us / 1000 AS self FROM trace('{id}') ORDER BY n"
        ),
    );
    let hop = |depth: u64, ms: u64, own: u64| json!({"depth": depth, "ms": ms, "self": own});
    assert_eq!(tree, json!([hop(0, 100, 50), hop(1, 30, 20), hop(2, 10, 10), hop(1, 30, 30), hop(0, 5, 5)]));
    assert_eq!(sql_of(running.addr, "SELECT count(*) AS n FROM trace($1)", &[json!(id)]), json!([{"n": 5}]));
    let graph = "SELECT caller, callee, requests, errors, round(critical_share * 105) AS own_ms \
                 FROM service_graph('1970-01-01', '1970-01-02') ORDER BY requests";
    let edge = |caller: &str, requests: u64, own_ms: f64| json!({"caller": caller, "callee": "shop", "requests": requests, "errors": 0, "own_ms": own_ms});
    assert_eq!(sql(running.addr, graph), json!([edge("odd", 2, 55.0), edge("shop", 3, 60.0)]));
    let drawn = get(running.addr, "/graph?from=1970-01-01&until=1970-01-02", &[]);
    assert_eq!(drawn.status, 200, "{}", drawn.text());
    assert_eq!(drawn.json()["nodes"][1], json!({"id": "shop", "requests": 5, "errors": 0}));
    let dot = get(running.addr, "/graph?from=1970-01-01&until=1970-01-02&format=dot", &[]);
    assert!(dot.text().contains("\"odd\" -> \"shop\" [label=\"2 requests"), "{}", dot.text());
    let mermaid = get(running.addr, "/graph?until=1970-01-02&from=1970-01-01&format=mermaid", &[]);
    assert!(mermaid.text().starts_with("flowchart LR\n"), "{}", mermaid.text());
    for wrong in ["format=svg", "from=yesterday"] {
        assert_eq!(get(running.addr, &format!("/graph?{wrong}"), &[]).status, 400, "{wrong}");
    }
    let nodes =
        sql(running.addr, "SELECT id, arc__ok FROM graph_nodes('1970-01-01', '1970-01-02') ORDER BY id");
    assert_eq!(nodes, json!([{"id": "odd", "arc__ok": 1.0}, {"id": "shop", "arc__ok": 1.0}]));
    let edges =
        sql(running.addr, "SELECT source, target FROM graph_edges('1970-01-01', '1970-01-02') ORDER BY id");
    assert_eq!(edges.as_array().unwrap().len(), 2);
    let traces = sql(
        running.addr,
        &format!("SELECT hops, duration_us, services, service FROM traces WHERE trace_id = '{id}'"),
    );
    assert_eq!(traces, json!([{"hops": 5, "duration_us": 205_000, "services": 1, "service": "shop"}]));
}

#[test]
fn views_name_what_failed_and_what_was_slow() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    assert_eq!(
        sql(running.addr, "SELECT count(*) AS n, min(status) AS low FROM errors"),
        json!([{"n": 30, "low": 500}])
    );
    let slow = sql(running.addr, "SELECT duration_ms, p99_ms FROM slow_requests ORDER BY time");
    let slow: Vec<f64> = of(&slow, "duration_ms").iter().map(|ms| ms.as_f64().unwrap()).collect();
    assert!((1..=6).contains(&slow.len()) && slow.iter().all(|ms| *ms > 290.0), "{slow:?}");
    assert_eq!(sql(running.addr, "SELECT * FROM upstreams"), json!([]));
}

#[test]
fn a_wrong_call_says_what_is_wanted() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for (call, said) in [
        (
            "traffic_series()",
            "traffic_series wants an argument `from`: traffic_series(from, until => now(), step",
        ),
        ("trace('a', 'b')", "trace takes at most 1 arguments: trace(id)"),
        ("trace(od => 'a')", "trace has no argument `od` here"),
        ("trace('a', id => 'b')", "trace has no argument `id` here"),
        ("trace(*)", "trace has no argument `*` here"),
        ("trace((SELECT 'a'))", "an argument of trace is an expression without queries"),
        (
            "slo_report(by => (SELECT * FROM trace('a')))",
            "an argument of slo_report is an expression without queries",
        ),
        ("trace('xyz')", "32 hexadecimal digits"),
        ("no_such_report(1)", "the table function `no_such_report` is refused"),
    ] {
        let (status, error) = refusal(running.addr, &format!("SELECT * FROM {call}"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(said) && [400, 403].contains(&status), "{call}: {status} {message}");
    }
    let many = vec!["slo_report()"; 70].join(", ");
    let (_, error) = refusal(running.addr, &format!("SELECT 1 FROM {many}"));
    assert_eq!(error["code"], "too_complex");
}
