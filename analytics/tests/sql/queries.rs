//! What a query says of itself while it runs, and its end by somebody who may.

use std::io::Read;
use std::net::SocketAddr;

use analytics::TokenConfig;
use serde_json::Value;

use crate::support::{Answer, get, house, receive, send, serve, sql, wait_for};

const ENDLESS: &str = "SELECT value FROM generate_series(1, 9000000000000000)";
const BUSY: &str = "SELECT count(*) FROM generate_series(1, 9000000000000000) WHERE value % 7 = 8";

const ALL: &str = "all-secret-0123456789";
const EVEN: &str = "even-secret-0123456789";
const ODD: &str = "odd-secret-0123456789";

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn delete(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Answer {
    receive(send(addr, "DELETE", target, headers, ""))
}

#[test]
fn an_answer_names_its_query() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let good = get(running.addr, "/sql?q=SELECT%201%20AS%20n", &[]);
    let id: u64 = header(&good, "x-tollhouse-query-id").unwrap().parse().unwrap();
    let rows = sql(running.addr, &format!("SELECT sql, status FROM system.queries WHERE id = {id}"));
    assert_eq!((&rows[0]["sql"], &rows[0]["status"]), (&"SELECT 1 AS n".into(), &"ok".into()));
    let bad = get(running.addr, "/sql?q=SELECT%20nowhere", &[]);
    let id: u64 = header(&bad, "x-tollhouse-query-id").unwrap().parse().unwrap();
    let said = get(running.addr, &format!("/queries/{id}"), &[]).json();
    assert_eq!((&said["status"], &said["rows"]), (&"failed".into(), &0.into()), "{said}");
    assert!(said["error"].as_str().unwrap().contains("nowhere"), "{said}");
    for unknown in ["999999", "0", "-1", "x", "18446744073709551616"] {
        let answer = get(running.addr, &format!("/queries/{unknown}"), &[]);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"not_found".into()), "{unknown}");
        assert_eq!(delete(running.addr, &format!("/queries/{unknown}"), &[]).status, 404);
    }
}

#[test]
fn progress_grows_and_a_cancelled_query_ends() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.rows_max = u64::MAX);
    let mut socket = send(running.addr, "POST", "/sql?format=ndjson", &[], ENDLESS);
    let mut head = vec![0; 4096];
    socket.read_exact(&mut head).unwrap();
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let id = text.lines().find_map(|line| line.strip_prefix("x-tollhouse-query-id: ")).unwrap().to_owned();
    let target = format!("/queries/{id}");
    let first = get(running.addr, &target, &[]).json();
    assert_eq!(
        (&first["status"], &first["user"], &first["protocol"]),
        (&"running".into(), &"anonymous".into(), &"http".into())
    );
    assert!(first["started"].as_str().unwrap().ends_with('Z'), "{first}");
    let mut more = vec![0; 4 << 20];
    socket.read_exact(&mut more).unwrap();
    let later = wait_for(
        "rows",
        || get(running.addr, &target, &[]).json(),
        |said: &Value| {
            said["rows"].as_u64() > first["rows"].as_u64() && said["bytes"].as_u64() > Some(4 << 20)
        },
    );
    assert!(later["elapsed_ms"].as_u64() >= first["elapsed_ms"].as_u64());
    let answer = delete(running.addr, &target, &[]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    // The rest of what was on its way, and why it ends.
    let mut rest = Vec::new();
    let _cut = socket.read_to_end(&mut rest);
    assert!(String::from_utf8_lossy(&rest).contains("\"cancelled\""));
    let said =
        wait_for("its end", || get(running.addr, &target, &[]).json(), |said| said["status"] != "running");
    assert_eq!(said["status"], "cancelled", "{said}");
    assert_eq!(delete(running.addr, &target, &[]).status, 200, "there is nothing to end any more");
}

#[test]
fn one_that_has_no_row_yet_is_ended_and_its_client_told() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.concurrency_max = 2);
    let socket = send(running.addr, "POST", "/sql", &[], BUSY);
    let ids = "SELECT id FROM system.queries WHERE status = 'running' AND sql LIKE '%% 7%'";
    let found = wait_for("it", || sql(running.addr, ids), |rows| rows.as_array().unwrap().len() == 1);
    assert_eq!(delete(running.addr, &format!("/queries/{}", found[0]["id"]), &[]).status, 202);
    let answer = receive(socket);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (499, &"cancelled".into()));
}

#[test]
fn of_others_one_learns_nothing() {
    let root = tempfile::tempdir().unwrap();
    let token = |name: &str, secret: &str, consumer: Option<&str>| TokenConfig {
        name: name.into(),
        secret: secret.into(),
        consumer: consumer.map(str::to_owned),
        ..TokenConfig::default()
    };
    let running = serve(&house(root.path()), |config| {
        config.tokens =
            vec![token("all", ALL, None), token("even", EVEN, Some("even")), token("odd", ODD, Some("odd"))];
    });
    let bearer = |secret: &str| format!("Bearer {secret}");
    let (all, even, odd) = (bearer(ALL), bearer(EVEN), bearer(ODD));
    let socket = send(running.addr, "POST", "/sql", &[("authorization", &even)], BUSY);
    let ids = "/sql?q=SELECT%20id%20FROM%20system.queries%20WHERE%20status%20%3D%20%27running%27%20AND%20%22user%22%20%3D%20%27even%27";
    let found = wait_for(
        "it",
        || get(running.addr, ids, &[("authorization", &all)]).json(),
        |rows| rows.as_array().unwrap().len() == 1,
    );
    let target = format!("/queries/{}", found[0]["id"]);
    let nothing = get(running.addr, "/queries/999999", &[("authorization", &odd)]);
    for answer in [
        get(running.addr, &target, &[("authorization", &odd)]),
        delete(running.addr, &target, &[("authorization", &odd)]),
        get(running.addr, &format!("{target}/next"), &[("authorization", &odd)]),
    ] {
        assert_eq!(answer.status, 404);
        assert!(answer.text() == nothing.text() || answer.text().contains("is open"), "{}", answer.text());
    }
    assert_eq!(get(running.addr, &target, &[]).status, 401);
    assert_eq!(get(running.addr, &target, &[("authorization", &all)]).json()["user"], "even");
    assert_eq!(get(running.addr, &target, &[("authorization", &even)]).json()["status"], "running");
    assert_eq!(delete(running.addr, &target, &[("authorization", &even)]).status, 202);
    assert_eq!(receive(socket).status, 499);
}
