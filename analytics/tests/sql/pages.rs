//! Answers page by page: every row once, in every format, and no turn is kept for ever.

use serde_json::Value;

use crate::support::{Answer, ask, get, house, receive, send, serve, sql, wait_for};

fn next(answer: &Answer) -> Option<String> {
    answer.head.lines().find_map(|line| line.strip_prefix("x-tollhouse-next: ")).map(str::to_owned)
}

const ALL: &str = "SELECT sequence FROM requests ORDER BY sequence";

#[test]
fn pages_together_are_the_answer() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for (page_rows, pages) in [(1000, 1), (300, 1), (299, 2), (150, 2), (70, 5)] {
        let mut answer = ask(running.addr, &format!("/sql?page_rows={page_rows}"), &[], ALL);
        let (mut found, mut count) = (Vec::new(), 1);
        loop {
            assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
            let rows = answer.json().as_array().unwrap().clone();
            assert!(rows.len() <= page_rows);
            found.extend(rows.iter().map(|row| row["sequence"].as_u64().unwrap()));
            let Some(target) = next(&answer) else { break };
            assert_eq!(rows.len(), page_rows, "only the last page is shorter");
            answer = get(running.addr, &target, &[]);
            count += 1;
        }
        assert_eq!(found, (1..=300).collect::<Vec<u64>>(), "{page_rows}");
        assert_eq!(count, pages, "{page_rows}");
    }
    let by_get =
        get(running.addr, "/sql?q=SELECT%20*%20FROM%20generate_series(1,3)&page_rows=2&format=csv", &[]);
    assert_eq!(by_get.text(), "value\n1\n2\n");
    let target = next(&by_get).unwrap();
    assert_eq!(get(running.addr, &target, &[]).text(), "value\n3\n");
    assert_eq!(get(running.addr, &target, &[]).status, 404, "it has ended");
    let statuses = sql(
        running.addr,
        "SELECT status, rows FROM system.queries WHERE sql LIKE '%generate_series%' AND id < 10",
    );
    assert_eq!(statuses[0], serde_json::json!({"status": "ok", "rows": 3}));
}

#[test]
fn open_answers_are_bounded_and_close_by_themselves() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.pages.open_max, config.pages.idle_ms, config.pages.rows_max) = (1, 1_000, 1_000);
    });
    let first = ask(running.addr, "/sql?page_rows=10", &[], ALL);
    let target = next(&first).unwrap();
    let beside = ask(running.addr, "/sql?page_rows=10", &[], ALL);
    assert_eq!((beside.status, &beside.json()["error"]["code"]), (429, &"busy".into()));
    assert_eq!(sql(running.addr, "SELECT 1 AS n")[0]["n"], 1, "others have their turn");
    let closed = wait_for(
        "a place",
        || ask(running.addr, "/sql?page_rows=10", &[], ALL),
        |answer| answer.status == 200,
    );
    assert_eq!(get(running.addr, &target, &[]).status, 404);
    // A cancelled one closes at once.
    let id = next(&closed).unwrap().replace("/next", "");
    assert_eq!(receive(send(running.addr, "DELETE", &id, &[], "")).status, 202);
    wait_for("a place", || ask(running.addr, "/sql?page_rows=1000", &[], ALL), |answer| answer.status == 200);
    for (page_rows, code) in [("0", 400), ("1001", 400), ("x", 400), ("-1", 400)] {
        assert_eq!(
            ask(running.addr, &format!("/sql?page_rows={page_rows}"), &[], ALL).status,
            code,
            "{page_rows}"
        );
    }
    let other = tempfile::tempdir().unwrap();
    let long = serve(&house(other.path()), |config| config.pages.bytes_max = 2_000);
    let answer = ask(long.addr, "/sql?page_rows=300", &[], "SELECT * FROM requests");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("analytics.pages.bytes_max"), "{}", answer.text());
}

#[test]
fn the_document_is_openapi_and_names_every_route() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let answer = get(running.addr, "/openapi.json", &[]);
    assert!(answer.head.contains("application/json"), "{}", answer.head);
    let document: Value = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        let target = path.replace("{id}", "1");
        for method in ["GET", "POST", "DELETE", "PUT"] {
            let answer = receive(send(running.addr, method, &target, &[], "SELECT 1"));
            let known = item.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status == 405, !known, "{method} {path}: {}", answer.status);
        }
    }
    assert!(get(running.addr, "/elsewhere", &[]).text().contains("/openapi.json"));
}
