//! The SQL attack list through this door and the others: all refused, and no file opened for any of it; and the rows of
//! others, which a consumer's token does not see whatever it says.

use std::process::{Command, Stdio};

use super::raw::{Raw, query};
use super::support::doors::{ALICE, ALL, ROWS, arrived, guarded, http, traffic};
use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::Site;
use super::support::tool::{Running, output, python};
use super::{psql, said};

/// What somebody might try. `CANARY` is a file that must not be opened.
const ATTACKS: &[&str] = &[
    "COPY (SELECT 1) TO PROGRAM 'touch CANARY'",
    "COPY requests TO 'CANARY'",
    "COPY requests FROM 'CANARY'",
    "COPY requests FROM PROGRAM 'cat CANARY'",
    "COPY (SELECT 1) TO STDOUT",
    "COPY requests FROM STDIN",
    "SELECT pg_read_file('CANARY')",
    "SELECT pg_read_binary_file('CANARY')",
    "SELECT * FROM pg_read_file('CANARY')",
    "SELECT pg_ls_dir('/')",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT pg_stat_file('CANARY')",
    "SELECT lo_import('CANARY')",
    "SELECT lo_export(1, 'CANARY')",
    "SELECT pg_sleep(100)",
    "SELECT dblink('host=127.0.0.1', 'SELECT 1')",
    "SELECT * FROM 'CANARY'",
    "SELECT * FROM \"CANARY\"",
    "SELECT * FROM read_csv('CANARY')",
    "SELECT * FROM read_parquet('CANARY')",
    "SELECT * FROM parquet_metadata('CANARY')",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'CANARY'",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x (a int)",
    "CREATE FUNCTION x() RETURNS int AS 'CANARY', 'x' LANGUAGE C",
    "CREATE EXTENSION plpython3u",
    "CREATE VIEW x AS SELECT 1",
    "CREATE ROLE x SUPERUSER",
    "ALTER SYSTEM SET archive_command = 'touch CANARY'",
    "ALTER ROLE current_user SUPERUSER",
    "DO $$ BEGIN PERFORM 1; END $$",
    "CALL x()",
    "LOAD 'CANARY'",
    "PREPARE x AS DROP TABLE requests",
    "EXECUTE x",
    "DECLARE x CURSOR FOR DELETE FROM requests",
    "BEGIN; DECLARE x BINARY CURSOR WITH HOLD FOR DROP TABLE requests",
    "BEGIN; DECLARE x CURSOR FOR SELECT 1; DECLARE y CURSOR FOR COPY requests TO 'CANARY'",
    "INSERT INTO requests VALUES (1)",
    "INSERT OVERWRITE DIRECTORY 'CANARY' SELECT 1",
    "UPDATE requests SET status = 200",
    "DELETE FROM requests",
    "TRUNCATE requests",
    "DROP TABLE requests",
    "MERGE INTO requests USING requests ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (DELETE FROM requests RETURNING *) SELECT * FROM x",
    "SELECT * INTO x FROM requests",
    "SELECT * FROM requests FOR UPDATE",
    "EXPLAIN ANALYZE DELETE FROM requests",
    "LOCK TABLE requests",
    "VACUUM",
    "GRANT ALL ON requests TO public",
    "LISTEN x",
    "NOTIFY x",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET datafusion.catalog.location = 'CANARY'",
    "SET data_directory = '/'",
    "SET session_preload_libraries = 'CANARY'",
    "RESET datafusion.execution.batch_size",
    "SELECT 1; DROP TABLE requests",
    "SELECT 1; SELECT 2",
    "BEGIN; DROP TABLE requests; COMMIT",
    "SET application_name = 'x'; COPY requests TO 'CANARY'",
    "SELECT 1 /* ; */; /* */ DELETE FROM requests --",
];

#[test]
fn every_attack_is_refused_and_opens_no_file() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    traffic(&house);
    house.rows(ROWS);
    let canary = site.folder().join("canary.csv");
    std::fs::write(&canary, "a,b\n1,2\n").unwrap();
    let mut raw = Raw::open(house.addr("postgres"));
    raw.rows("SELECT count(*) FROM requests").unwrap();
    let trace = site.folder().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=openat,open,creat,execve,unlink,unlinkat,rename", "-o"])
        .arg(&trace);
    strace.arg("-p").arg(house.pid().to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
    let tracer =
        Running(strace.spawn().unwrap_or_else(|error| panic!("{error} (`tests/run` installs strace)")));
    // It sees what the process opens from here on.
    eventually("strace to see", || {
        house.sql("SELECT count(*) FROM system.ledger");
        let seen = std::fs::read_to_string(&trace).unwrap_or_default();
        if seen.contains("state/") { Ok(()) } else { Err(seen) }
    });
    let mut codes = Vec::new();
    let attacks: Vec<String> =
        ATTACKS.iter().map(|attack| attack.replace("CANARY", canary.to_str().unwrap())).collect();
    for sql in &attacks {
        let (code, message) = match raw.rows(sql) {
            Err(error) => error,
            Ok(rows) => panic!("{sql}: answered: {rows:?}"),
        };
        assert!(
            ["42501", "42601", "42P01", "42883", "42704", "0A000", "42000"].contains(&code.as_str()),
            "{sql}: {code} {message}"
        );
        codes.push(code);
        // A transaction that it began has ended.
        raw.rows("ROLLBACK").unwrap();
    }
    assert!(codes.iter().filter(|code| *code == "42501").count() > 30, "{codes:?}");
    for sql in &attacks {
        let answer = house.try_sql(sql);
        assert!(answer.as_ref().is_err_and(|said| said.contains(": 40")), "{sql}: {answer:?}");
    }
    let list = site.folder().join("attacks.json");
    std::fs::write(&list, serde_json::to_vec(&attacks).unwrap()).unwrap();
    let mut flight = Command::new(python());
    flight.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flight_sql/clients.py")).arg("attacks");
    flight.arg(format!("grpc://{}", house.addr("flight"))).arg(format!("http://{}/sql", house.addr("sql")));
    assert!(output(flight.arg(&list)).trim().ends_with("done"));
    drop(tracer);
    let opened = std::fs::read_to_string(&trace).unwrap();
    assert!(!opened.contains("canary"), "{opened}");
    assert!(!opened.contains("execve"), "{opened}");
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "a,b\n1,2\n");
    house.rows(ROWS);
}

#[test]
fn the_rows_of_others_are_not_there() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let house = site.run();
    traffic(&house);
    arrived(&house);
    let ask = |sql: &str| said(psql(&house, "alice", ALICE).args(["-c", sql]));
    let secrets = ["bob", "/nowhere", "5000"];
    for sql in [
        "SELECT DISTINCT consumer FROM requests",
        "SELECT * FROM requests",
        "SELECT * FROM consumers",
        "SELECT * FROM traffic_1m",
        "SELECT * FROM (SELECT * FROM requests) x WHERE consumer = $$bob$$ OR true",
        "WITH x AS (SELECT * FROM requests) SELECT consumer FROM x UNION ALL SELECT consumer FROM requests",
        "SELECT a.consumer FROM requests a FULL JOIN requests b ON true",
        "SELECT min(consumer), max(consumer), max(request_bytes) FROM requests",
        "SELECT (SELECT string_agg(path, $$,$$) FROM requests)",
        "SELECT * FROM pg_stats",
        "SELECT * FROM pg_stat_user_tables",
        "SELECT reltuples FROM pg_class WHERE relname = $$requests$$",
        "SELECT * FROM information_schema.tables",
        "SELECT \"user\", status, protocol FROM system.queries",
    ] {
        let (good, stdout, stderr) = ask(sql);
        assert!(good, "{sql}: {stderr}");
        assert!(!secrets.iter().any(|secret| stdout.contains(secret)), "{sql}: {stdout}");
    }
    // Errors tell nothing of them either: nothing of a row of somebody else is looked at.
    for sql in [
        "SELECT CAST(path AS INT) FROM requests",
        "SELECT 1 / CASE WHEN consumer = $$bob$$ THEN 0 ELSE 1 END FROM requests",
        "SELECT CAST(consumer AS INT) FROM requests WHERE consumer <> $$alice$$",
    ] {
        let (_, stdout, stderr) = ask(sql);
        assert!(!secrets.iter().any(|secret| stderr.contains(secret)), "{sql}: {stderr}");
        assert!(!stderr.contains("22012"), "{sql}: {stdout}{stderr}");
    }
    for (sql, code) in [
        ("EXPLAIN SELECT * FROM requests", "42501"),
        ("EXPLAIN ANALYZE VERBOSE SELECT count(*) FROM requests", "42501"),
        ("SELECT * FROM system.files", "42501"),
        ("SELECT * FROM system.settings", "42501"),
        ("SELECT * FROM system.ledger", "42501"),
    ] {
        let (good, _, stderr) = ask(sql);
        assert!(!good && stderr.contains(code), "{sql}: {stderr}");
    }
    // Prepared, without being run.
    let described = site.folder().join("described.sql");
    std::fs::write(&described, "SELECT consumer FROM requests WHERE status > 0 \\gdesc\n").unwrap();
    let (good, stdout, stderr) = said(psql(&house, "alice", ALICE).arg("-f").arg(described));
    assert!(good && stdout == "consumer|text\n", "{stdout}{stderr}");
    let lists = |user: &str, secret: &str| {
        let (good, stdout, stderr) = said(
            psql(&house, user, secret)
                .args(["-c", "\\d *.*", "-c", "\\dt *.*", "-c", "\\dn", "-c", "\\du", "-c", "\\l"]),
        );
        assert!(good, "{stderr}");
        stdout
    };
    let (hers, all) = (lists("alice", ALICE), lists("grafana", ALL));
    for hidden in ["in_flight", "ledger", "circuits", "grafana"] {
        assert!(all.contains(hidden) && !hers.contains(hidden), "{hidden}: {hers}");
    }
    let asked = http(
        &house,
        ALL,
        "SELECT count(*) AS n FROM system.queries WHERE protocol = 'postgresql' AND \"user\" = 'alice'",
    );
    assert!(asked[0]["n"].as_u64().unwrap() > 20, "{asked:?}");
    // A statement that is prepared by one is not there for another.
    let mut raw = Raw::connect(house.addr("postgres"));
    raw.send(&query("SELECT 1"));
    assert!(!raw.rest().iter().any(|(kind, _)| *kind == b'D'));
}
