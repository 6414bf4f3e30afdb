//! Errors: a status, a code for programs, a message for people, a place in the statement.

use serde_json::Value;

use crate::support::{ask, house, post, refusal, serve};

#[test]
fn errors_name_a_status_a_code() {
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
fn errors_point_at_their_place() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for (text, line, column, says) in [
        ("SELEC 1", 1, 1, "SELEC"),
        ("SELECT 1 +", 1, 11, "expr"),
        ("SELECT\n  nothing FROM requests", 2, 3, "nothing"),
        ("SELECT count(*)\nFROM requests\nWHERE nowhere = 1", 3, 7, "nowhere"),
        ("SELECT r.nothing FROM requests r", 1, 8, "nothing"),
        ("SELECT 1\nFROM missing", 2, 6, "missing"),
        ("SELECT status, count(*) FROM requests", 1, 8, "status"),
        ("SELECT no_such_function(1)", 1, 8, "no_such_function"),
        ("SELECT 'open", 1, 8, "string"),
        ("SELECT 1 FROM requests\nWHERE trace_id = 'xyz'", 2, 7, "32 hexadecimal digits"),
    ] {
        let (status, error) = refusal(running.addr, text);
        assert_eq!(status, 400, "{text}: {error}");
        assert_eq!((&error["line"], &error["column"]), (&line.into(), &column.into()), "{text}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.to_lowercase().contains(&says.to_lowercase()), "{text}: {message}");
        let inner = ["ParserError", "Error during", "Line:", "DataFusion"]
            .iter()
            .find(|word| message.contains(**word));
        assert_eq!(inner, None, "{text}: {message}");
    }
}

#[test]
fn requests_that_are_no_question_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.query_bytes_max = 1_000);
    let long = format!("SELECT '{}'", "x".repeat(2_000));
    let json = [("content-type", "application/json")];
    for (headers, body, status, code) in [
        (&json[..], "{", 400, "bad_request"),
        (&json, r#"{"query": "SELECT 1", "parameters": []}"#, 400, "bad_request"),
        (&json, r#"{"query": "SELECT $1", "params": [[1]]}"#, 400, "bad_request"),
        (&json, r#"{"query": "SELECT $1", "params": []}"#, 400, "bad_request"),
        (&json, r#"{"query": "SELECT 1", "params": [1]}"#, 400, "bad_request"),
        (&[], &long, 413, "too_long"),
        (&[], "", 403, "refused"),
    ] {
        let answer = ask(running.addr, "/sql", headers, body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &code.into()), "{body}");
    }
    assert_eq!(ask(running.addr, "/sql?format=xml", &[], "SELECT 1").status, 400);
    assert_eq!(crate::support::get(running.addr, "/sql", &[]).status, 400);
    assert_eq!(crate::support::get(running.addr, "/nothing", &[]).status, 404);
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
