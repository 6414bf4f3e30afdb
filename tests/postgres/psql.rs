//! psql: the same rows as over HTTP, errors with their codes and places, and its commands about what there is.

use serde_json::Value;

use super::support::doors::{ROWS, traffic};
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::{psql, said};

fn house() -> (Origin, Site, Tollhouse) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    traffic(&house);
    house.rows(ROWS);
    (origin, site, house)
}

/// One statement, which must end well.
fn ask(house: &Tollhouse, statement: &str) -> String {
    let (good, stdout, stderr) = said(psql(house, "anybody", "").args(["-c", statement]));
    assert!(good, "{statement}: {stderr}");
    assert_eq!(stderr, "", "{statement}");
    stdout
}

/// A value of JSON as psql writes it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A time of JSON as PostgreSQL writes it.
fn time(text: &str) -> String {
    let text = text.replace('T', " ").replace('Z', "+00");
    match text.split_once('.') {
        Some((before, rest)) => {
            let digits = rest.trim_end_matches("+00").trim_end_matches('0');
            if digits.is_empty() { format!("{before}+00") } else { format!("{before}.{digits}+00") }
        }
        None => text,
    }
}

#[test]
fn an_answer_is_fetched_in_parts() {
    let (_origin, _site, house) = house();
    let statement = "SELECT value FROM generate_series(1, 25) ORDER BY 1";
    let fetched = said(psql(&house, "anybody", "").args(["-v", "FETCH_COUNT=10", "-c", statement]));
    let numbers: String = (1..=25).map(|number| format!("{number}\n")).collect();
    assert_eq!(fetched, (true, numbers, String::new()));
    let wrong = "SELECT value FROM generate_series(1, 25) WHERE nope = 1";
    let (good, _, stderr) = said(psql(&house, "anybody", "").args(["-v", "FETCH_COUNT=10", "-c", wrong]));
    assert!(!good && stderr.contains("nope"), "{stderr}");
}

#[test]
fn every_column_says_what_it_says_over_http() {
    let (_origin, _site, house) = house();
    let statement = "SELECT * FROM requests ORDER BY time, sequence";
    let rows = house.sql(statement);
    let separator = "\u{1f}";
    let (good, stdout, stderr) = said(psql(&house, "anybody", "").args(["-F", separator, "-c", statement]));
    assert!(good, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(&rows) {
        let cells: Vec<&str> = line.split(separator).collect();
        let row = row.as_object().unwrap();
        assert_eq!(cells.len(), row.len());
        for (cell, (name, value)) in cells.iter().zip(row) {
            let expected = if name == "time" { time(value.as_str().unwrap()) } else { text(value) };
            assert_eq!(*cell, expected, "{name}");
        }
    }
    // Numbers of each kind, lists, truths, and what is none.
    let rows =
        house.sql("SELECT count(*) AS n, sum(request_bytes) AS bytes, avg(status) AS mean FROM requests");
    let line = ask(&house, "SELECT count(*), sum(request_bytes), avg(status) FROM requests");
    let cells: Vec<&str> = line.trim().split('|').collect();
    assert_eq!(cells[0], rows[0]["n"].to_string());
    assert_eq!(cells[1], rows[0]["bytes"].to_string());
    assert_eq!(cells[2].parse::<f64>().unwrap(), rows[0]["mean"].as_f64().unwrap());
    assert_eq!(
        ask(&house, "SELECT array_agg(status ORDER BY status) FROM requests WHERE status = 404"),
        "{404,404,404}\n"
    );
    assert_eq!(
        ask(&house, "SELECT NULL, true, 1.5, 1e300, 0.1 + 0.2, -0.0"),
        "|t|1.5|1e+300|0.30000000000000004|-0\n"
    );
    assert_eq!(
        ask(&house, "SELECT interval '1 month 2 days 3.5 seconds', date '2026-02-28'"),
        "1 mon 2 days 00:00:03.5|2026-02-28\n"
    );
}

#[test]
fn errors_have_codes_and_places_and_the_connection_goes_on() {
    let (_origin, _site, house) = house();
    for (statement, code, words) in [
        ("SELEC 1", "42601", "SELEC 1\n        ^"),
        ("SELECT nope FROM requests", "42703", "column `nope` does not exist"),
        ("SELECT * FROM nope", "42P01", "nope"),
        ("SELECT nope(1)", "42883", "nope"),
        ("SELECT CAST('x' AS INT)", "22P02", "x"),
        ("SELECT 1 / 0", "22012", ""),
        ("DROP TABLE requests", "42501", "DROP"),
        ("SELECT 1; SELECT 2", "42601", "exactly one statement"),
        ("SET nope = 1", "42704", "nope"),
        ("SET datafusion.execution.batch_size = 1", "42501", "permission denied"),
    ] {
        let mut command = psql(&house, "anybody", "");
        command.args(["-v", "ON_ERROR_STOP=0", "-c", statement, "-c", "SELECT 'goes on'"]);
        let (_, stdout, stderr) = said(&mut command);
        assert!(
            stderr.contains(&format!("ERROR:  {code}: ")) && stderr.contains(words),
            "{statement}: {stderr}"
        );
        assert_eq!(stdout, "goes on\n", "{statement}");
    }
    let asked = house.sql(
        "SELECT status, error, \"user\", protocol FROM system.queries WHERE sql LIKE '%nope FROM requests%' \
         AND protocol = 'postgresql'",
    );
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["status"], "failed");
    assert_eq!(asked[0]["user"], "anonymous");
}

#[test]
fn transactions_and_settings_are_answered_as_clients_expect() {
    let (_origin, _site, house) = house();
    assert_eq!(
        ask(&house, "BEGIN; SET statement_timeout = '5s'; SHOW statement_timeout; SELECT 1; COMMIT"),
        "BEGIN\nSET\n5s\n1\nCOMMIT\n"
    );
    assert!(ask(&house, "SHOW server_version").starts_with("16."));
    assert_eq!(ask(&house, "SHOW transaction isolation level"), "repeatable read\n");
    let (good, stdout, stderr) = said(psql(&house, "anybody", "").args(["-v", "ON_ERROR_STOP=0"]).args([
        "-c",
        "BEGIN",
        "-c",
        "SELECT nope",
        "-c",
        "SELECT 1",
        "-c",
        "ROLLBACK",
        "-c",
        "SELECT 2",
    ]));
    assert!(good && stderr.contains("25P02"), "{stderr}");
    assert_eq!(stdout, "BEGIN\nROLLBACK\n2\n");
    let (good, _, stderr) = said(psql(&house, "anybody", "").args(["-c", "SET TimeZone = 'Europe/Berlin'"]));
    assert!(good && stderr.contains("stays UTC"), "{stderr}");
}

#[test]
fn its_commands_show_what_there_is() {
    let (_origin, _site, house) = house();
    let list = |command: &str| ask(&house, command);
    let tables = list("\\d");
    for line in [
        "public|requests|table|anonymous",
        "public|consumers|view|anonymous",
        "public|call_graph|view|anonymous",
    ] {
        assert!(tables.lines().any(|one| one == line), "{line}: {tables}");
    }
    assert!(!tables.contains("system|"), "another schema is not in the search path");
    assert!(list("\\dt").contains("public|requests|table") && !list("\\dt").contains("|view|"));
    assert!(list("\\dv").contains("public|services|view"));
    let columns = list("\\d requests");
    for line in [
        "time|timestamp with time zone||not null|",
        "status|integer|||",
        "request_bytes|numeric||not null|",
        "trace_id|text|||",
        "extra|json|||",
    ] {
        assert!(columns.lines().any(|one| one == line), "{line}: {columns}");
    }
    assert!(list("\\d+ requests").contains("When the request head was received."));
    assert!(list("\\d consumers").contains("requests|bigint|"));
    assert!(list("\\d system.*").contains("in_flight|numeric|"));
    assert!(list("\\dt system.*").contains("system|queries|table"));
    assert!(list("\\l").contains("tollhouse|anonymous|UTF8|C|C|"));
    let schemas = list("\\dn");
    assert!(schemas.contains("public|anonymous") && schemas.contains("system|anonymous"), "{schemas}");
    assert!(list("\\df").contains("public|latency_percentile|"));
    assert!(list("\\du").contains("anonymous|"));
    assert!(list("\\conninfo").contains("\"tollhouse\""));
    for quiet in
        ["\\di", "\\dT", "\\dp", "\\dx", "\\dt nothing", "\\ds", "\\dm", "\\df+", "\\dt+", "\\dD", "\\des"]
    {
        let (good, _, stderr) = said(psql(&house, "anybody", "").args(["-c", quiet]));
        assert!(good && !stderr.contains("ERROR"), "{quiet}: {stderr}");
    }
}
