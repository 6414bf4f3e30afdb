//! The schema `system`, health, and what a query leaves behind.

use std::collections::BTreeMap;

use event::connections::ConnectionStates;
use event::layout::{DataFolder, Ledger, LedgerRow, Manifest};
use event::upstreams::{CircuitState, TargetCondition, TargetState, UpstreamStates};
use serde_json::{Value, json};

use crate::support::{ask, get, house, refusal, serve, sql};

#[test]
fn the_ledger_shows_the_books() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let running = serve(&folder, |_| {});
    assert_eq!(sql(running.addr, "SELECT * FROM system.ledger"), serde_json::json!([]));
    let reasons = BTreeMap::from([("spool_full".to_owned(), 3)]);
    let row = LedgerRow {
        node: "n".into(),
        sink: "parquet".into(),
        produced: 300,
        recovered: 10,
        stored: 306,
        dropped: 3,
        in_flight: 1,
        reasons,
    };
    Ledger { at_us: 5, rows: vec![row] }.store(&folder).unwrap();
    let found = sql(
        running.addr,
        "SELECT *, produced + recovered = stored + dropped + in_flight AS balanced FROM system.ledger",
    );
    assert_eq!((&found[0]["stored"], &found[0]["reasons"]), (&306.into(), &"spool_full=3".into()));
    assert_eq!(
        (&found[0]["balanced"], &found[0]["at"]),
        (&true.into(), &"1970-01-01T00:00:00.000005Z".into())
    );
}

#[test]
fn files_are_listed_with_their_rows_and_times() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let files = sql(
        running.addr,
        "SELECT path, kind, rows, time_min, time_max, status FROM system.files ORDER BY path",
    );
    let paths: Vec<&str> =
        files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["hot/0000000003.arrow", "requests/1.parquet", "requests/2.parquet"]);
    assert_eq!(files[0]["time_min"], "1970-01-01T00:00:00.201Z");
    assert_eq!(
        (&files[2]["time_max"], &files[2]["status"]),
        (&"1970-01-01T00:00:00.200Z".into(), &"ok".into())
    );
}

#[test]
fn queries_are_remembered_without_their_literals() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.history_max = 5);
    sql(running.addr, "SELECT sequence FROM requests WHERE consumer = 'odd' AND path <> 'k-secret'");
    refusal(running.addr, "SELECT nothing FROM requests");
    refusal(running.addr, "DROP TABLE requests");
    let found = sql(running.addr, "SELECT * FROM system.queries ORDER BY id");
    let status: Vec<&str> =
        found.as_array().unwrap().iter().map(|query| query["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["ok", "failed", "failed", "running"]);
    assert_eq!((&found[0]["rows"], &found[0]["http_status"]), (&150.into(), &200.into()));
    assert!(found[0]["bytes"].as_u64().unwrap() > 1_000 && found[0]["duration_us"].as_u64().unwrap() > 0);
    assert!(!found.to_string().contains("k-secret"), "{found}");
    assert_eq!((&found[1]["http_status"], &found[2]["http_status"]), (&400.into(), &403.into()));
    for _ in 0..5 {
        sql(running.addr, "SELECT 1");
    }
    assert_eq!(sql(running.addr, "SELECT count(*) AS n FROM system.queries")[0]["n"], 5);
}

#[test]
fn what_there_is_can_be_asked() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.rows_max = 7_654);
    let tables = sql(running.addr, "SHOW TABLES").to_string();
    for table in [
        "requests",
        "consumers",
        "services",
        "routes",
        "call_graph",
        "ledger",
        "files",
        "queries",
        "settings",
        "upstreams",
        "circuits",
        "connections",
    ] {
        assert!(tables.contains(&format!("\"{table}\"")), "{table}: {tables}");
    }
    let columns = sql(running.addr, "DESCRIBE requests");
    assert_eq!(columns.as_array().unwrap().len(), event::columns::COLUMNS.len());
    let columns =
        sql(running.addr, "SELECT column_name FROM information_schema.columns WHERE table_name = 'services'");
    assert!(columns.to_string().contains("p95_ms"), "{columns}");
    assert!(sql(running.addr, "SHOW FUNCTIONS").to_string().contains("latency_percentile"));
    let setting = sql(running.addr, "SELECT value FROM system.settings WHERE name = 'analytics.rows_max'");
    assert_eq!(setting[0]["value"], "7654");
}

#[test]
fn health_is_alive_and_ready_is_readable() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let running = serve(&folder, |_| {});
    let status = |path: &str| get(running.addr, path, &[]).status;
    assert_eq!((status("/healthz"), status("/readyz")), (200, 200));
    std::fs::write(Manifest::path(&folder), b"no manifest").unwrap();
    assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
    let answer = ask(running.addr, "/sql", &[], "SELECT count(*) FROM requests");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &Value::from("catalog")));
    Manifest::default().store(&folder).unwrap();
    assert_eq!((status("/healthz"), status("/readyz")), (200, 200));
}

#[test]
fn the_addresses_of_upstreams_are_shown_as_the_gateway_left_them() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let running = serve(&folder, |_| {});
    assert_eq!(sql(running.addr, "SELECT * FROM system.upstreams"), serde_json::json!([]), "none yet");
    let out = TargetState {
        upstream: Some("pool".into()),
        target: "a.test:80".into(),
        address: Some("10.0.0.1:80".into()),
        state: TargetCondition::Ejected,
        since_us: 1_790_000_000_000_000,
        ejected_until_us: Some(1_790_000_030_000_000),
        requests: 9,
        failures: 5,
        last_failure: Some("http_503".into()),
        ..TargetState::default()
    };
    let lost = TargetState {
        service: Some("s".into()),
        target: "b.test:80".into(),
        state: TargetCondition::DnsError,
        ..TargetState::default()
    };
    let targets = vec![out, lost];
    let node = "n".to_owned();
    let circuits = vec![CircuitState {
        upstream: "pool".into(),
        resource: "max_requests".into(),
        used: 3,
        most: 4,
        overflows: 5,
    }];
    UpstreamStates { at_us: 1_790_000_000_500_000, node, targets, circuits, ..UpstreamStates::default() }
        .store(&folder)
        .unwrap();
    let rows = sql(
        running.addr,
        "SELECT node, service, upstream, target, address, state, requests, failures, last_failure, \
         ejected_until - since AS out_for, at > since AS later FROM system.upstreams ORDER BY target",
    );
    assert_eq!(rows[0]["state"], "ejected", "{rows}");
    assert_eq!((&rows[0]["requests"], &rows[0]["failures"]), (&9.into(), &5.into()));
    assert_eq!(
        (&rows[0]["node"], &rows[0]["service"], &rows[0]["later"]),
        (&"n".into(), &Value::Null, &true.into())
    );
    assert_eq!(rows[0]["last_failure"], "http_503");
    assert!(rows[0]["out_for"].to_string().contains("30"), "{rows}");
    assert_eq!((&rows[1]["state"], &rows[1]["address"]), (&"dns_error".into(), &Value::Null));
    let rows = sql(running.addr, "SELECT upstream, resource, used, most, overflows FROM system.circuits");
    let bound = json!({"upstream": "pool", "resource": "max_requests", "used": 3, "most": 4, "overflows": 5});
    assert_eq!(rows, json!([bound]));
}

#[test]
fn a_damaged_file_is_the_error_of_who_asks_for_its_rows_and_of_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let running = serve(&folder, |_| {});
    let paths = [UpstreamStates::path(&folder), ConnectionStates::path(&folder), Ledger::path(&folder)];
    let whole = sql(
        running.addr,
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns ORDER BY 1, 2, 3",
    );
    for path in &paths {
        std::fs::write(path, b"no picture").unwrap();
    }
    for (table, file) in [
        ("upstreams", "upstreams.json"),
        ("circuits", "upstreams.json"),
        ("connections", "connections.json"),
        ("ledger", "ledger.json"),
    ] {
        for asked in [
            format!("SELECT * FROM system.{table}"),
            format!("SELECT count(*) FROM system.{table}"),
            format!("SELECT r.path FROM requests r, system.{table} t"),
        ] {
            let answer = ask(running.addr, "/sql", &[], &asked);
            let said = answer.json()["error"].clone();
            assert_eq!((answer.status, &said["code"]), (500, &"storage".into()), "{asked}: {said}");
            assert!(
                said["message"].as_str().unwrap().contains(&format!("{file} is damaged")),
                "{asked}: {said}"
            );
        }
        let columns = sql(running.addr, &format!("DESCRIBE system.{table}"));
        assert!(columns.as_array().unwrap().len() > 4, "{columns}");
        let tables = sql(running.addr, "SHOW TABLES").to_string();
        assert!(tables.contains(&format!("\"{table}\"")), "{tables}");
    }
    let shown = sql(
        running.addr,
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns ORDER BY 1, 2, 3",
    );
    assert_eq!(shown, whole);
    assert_eq!(sql(running.addr, "SELECT count(*) > 0 AS some FROM requests")[0]["some"], true);
    UpstreamStates::default().store(&folder).unwrap();
    assert_eq!(
        sql(running.addr, "SELECT * FROM system.upstreams"),
        json!([]),
        "the next picture is one again"
    );
}

#[test]
fn what_became_of_connections_is_shown_as_the_gateway_left_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let running = serve(&folder, |_| {});
    assert_eq!(sql(running.addr, "SELECT * FROM system.connections"), serde_json::json!([]), "none yet");
    let ended = BTreeMap::from([("connections_max".to_owned(), 3)]);
    let (node, at_us) = ("n".to_owned(), 1_790_000_000_000_000);
    ConnectionStates { at_us, node, open: 5, accepted: 9, ended, ..ConnectionStates::default() }
        .store(&folder)
        .unwrap();
    let rows = sql(
        running.addr,
        "SELECT node, kind, reason, count FROM system.connections WHERE kind <> 'overloaded' ORDER BY kind",
    );
    let row = |kind: &str, reason: &str, count: u64| serde_json::json!({"node": "n", "kind": kind, "reason": reason, "count": count});
    assert_eq!(
        rows,
        serde_json::json!([row("accepted", "", 9), row("ended", "connections_max", 3), row("open", "", 5)])
    );
}
