//! Statements that would do more than read, or would cost too much to plan: all refused, the service stays up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{house, refusal, serve, sql};

fn lives(addr: SocketAddr) {
    assert_eq!(sql(addr, "SELECT sum(sequence) AS s FROM requests")[0]["s"], 45_150);
}

#[test]
fn what_does_more_than_read_is_refused_and_does_nothing() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("out").display().to_string();
    std::fs::write(outside.path().join("secret.csv"), "a,b\n1,canary\n").unwrap();
    let secret = outside.path().join("secret.csv").display().to_string();
    for text in [
        format!("COPY requests TO '{path}'"),
        format!("COPY (SELECT 1) TO '{path}' STORED AS CSV"),
        format!("EXPLAIN ANALYZE COPY requests TO '{path}'"),
        format!("EXPLAIN COPY requests TO '{path}'"),
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{secret}'"),
        format!("EXPLAIN ANALYZE CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{secret}'"),
        format!("SELECT * FROM read_csv('{secret}')"),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        format!("SELECT * FROM csv('{secret}')"),
        format!("SELECT pg_read_file('{secret}')"),
        format!("SELECT * FROM parquet_metadata('{secret}')"),
        format!("WITH a AS (SELECT * FROM read_parquet('{secret}')) SELECT * FROM a"),
        "SET datafusion.runtime.memory_limit = '100G'".into(),
        "SET datafusion.catalog.location = '/'".into(),
        "SELECT 1; SELECT 2".into(),
        "SELECT 1; DROP TABLE requests".into(),
        "SELECT 1;;DROP TABLE requests".into(),
        "SELECT 1 /* ; */; -- x\nDROP TABLE requests".into(),
        "CREATE TABLE x AS SELECT * FROM requests".into(),
        "CREATE OR REPLACE VIEW requests AS SELECT 1".into(),
        "INSERT INTO requests SELECT * FROM requests".into(),
        "EXPLAIN ANALYZE INSERT INTO requests SELECT * FROM requests".into(),
        "EXPLAIN ANALYZE DELETE FROM requests".into(),
        "EXPLAIN EXPLAIN ANALYZE DROP TABLE requests".into(),
        "PREPARE p AS SELECT 1".into(),
        "DROP TABLE requests".into(),
        "SELECT * INTO x FROM requests".into(),
        "WITH a AS (DELETE FROM requests RETURNING 1) SELECT * FROM a".into(),
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/x.so'".into(),
    ] {
        let (status, error) = refusal(running.addr, &text);
        assert!(status == 403 || status == 400, "{text}: {status} {error}");
        assert!(!error.to_string().contains("canary"), "{text}: {error}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "something was written");
    lives(running.addr);
}

#[test]
fn nesting_and_length_never_overflow_a_stack() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.timeout_ms = 10_000);
    let chain = |what: &str, times: usize| vec![what; times].join(" ");
    for (name, text) in [
        ("parentheses", format!("SELECT {}1{}", "(".repeat(60_000), ")".repeat(60_000))),
        ("brackets", format!("SELECT {}1{}", "[".repeat(60_000), "]".repeat(60_000))),
        ("not", format!("SELECT {} true", chain("NOT", 60_000))),
        ("minus", format!("SELECT {} 1", chain("-", 60_000))),
        ("sum", format!("SELECT {} 1", chain("1 +", 60_000))),
        ("and", format!("SELECT 1 FROM requests WHERE {} true", chain("status = 1 AND", 15_000))),
        ("or", format!("SELECT 1 FROM requests WHERE {} true", chain("status = 1 OR", 15_000))),
        ("text", format!("SELECT {} ''", chain("'a' ||", 30_000))),
        ("array type", format!("SELECT NULL::int{}", "[]".repeat(60_000))),
        ("not null", format!("SELECT 1 {}", "NOTNULL ".repeat(25_000))),
        ("is null", format!("SELECT 1 {}", "IS NULL ".repeat(25_000))),
        ("most operators", format!("SELECT {} 1", chain("1 +", 2_000))),
        ("most conditions", format!("SELECT 1 FROM requests WHERE {} true", chain("status = 1 OR", 990))),
        ("most unions", format!("{} SELECT 1", chain("SELECT 1 UNION ALL", 2_000))),
        (
            "most tables",
            format!(
                "SELECT 1 FROM requests {}",
                (0..63).map(|n| format!("JOIN requests r{n} USING (sequence) ")).collect::<String>()
            ),
        ),
        ("cast", format!("SELECT 1{}", "::int".repeat(40_000))),
        ("access", format!("SELECT a{} FROM requests", "[1]".repeat(60_000))),
        ("union", format!("{} SELECT 1", chain("SELECT 1 UNION ALL", 12_000))),
        (
            "subquery",
            format!("SELECT * FROM {}requests{}", "(SELECT * FROM ".repeat(10_000), ")".repeat(10_000)),
        ),
        (
            "join",
            format!(
                "SELECT 1 FROM requests {}",
                (0..8_000).map(|n| format!("CROSS JOIN requests r{n} ")).collect::<String>()
            ),
        ),
        ("case", format!("SELECT {} 1 {}", chain("CASE WHEN true THEN", 8_000), chain("END", 8_000))),
        ("function", format!("SELECT {}1{}", "abs(".repeat(40_000), ")".repeat(40_000))),
        ("exists", format!("SELECT {}1{}", "EXISTS (SELECT ".repeat(10_000), ")".repeat(10_000))),
        (
            "in",
            format!("SELECT count(*) FROM requests WHERE sequence IN ({})", chain("1234567,", 20_000) + "1"),
        ),
        ("columns", format!("SELECT {} 1", chain("status,", 30_000))),
    ] {
        let begun = Instant::now();
        let (status, error) = match text.len() {
            0..250_000 => refusal_or_rows(running.addr, &text),
            _ => panic!("{name} is longer than a statement may be"),
        };
        assert!([200, 400, 403, 504].contains(&status), "{name}: {status} {error}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} took {:?}", begun.elapsed());
        lives(running.addr);
    }
}

fn refusal_or_rows(addr: SocketAddr, text: &str) -> (u16, String) {
    let answer = crate::support::ask(addr, "/sql", &[], text);
    (answer.status, answer.text().chars().take(300).collect())
}

#[test]
fn small_statements_that_mean_much_work_end() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.timeout_ms, config.memory_bytes_max) = (1_000, 64 << 20);
    });
    let doubling = |body: &str, levels: usize| {
        let steps: Vec<String> =
            (1..levels).map(|n| format!("t{n} AS ({})", body.replace('?', &format!("t{}", n - 1)))).collect();
        format!("WITH t0 AS (SELECT 'x' AS x), {} SELECT count(*) FROM t{}", steps.join(", "), levels - 1)
    };
    for (name, text) in [
        ("recursion", "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t".to_owned()),
        ("growing recursion", "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT a.x FROM t a CROSS JOIN t b) SELECT count(*) FROM t".to_owned()),
        ("cross join", "SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000000000) b".to_owned()),
        ("laughs", doubling("SELECT * FROM ? UNION ALL SELECT * FROM ?", 30)),
        ("joined laughs", doubling("SELECT a.x FROM ? a CROSS JOIN ? b", 30)),
        ("cube", format!("SELECT count(*) FROM requests GROUP BY CUBE ({})", event::columns::COLUMNS.iter().take(40).map(|column| column.name).collect::<Vec<_>>().join(", "))),
        ("array of series", "SELECT cardinality(generate_series(1, 100000000000))".to_owned()),
        ("array of range", "SELECT cardinality(range(1, 100000000000))".to_owned()),
        ("repeated array", "SELECT cardinality(array_repeat(1, 100000000000))".to_owned()),
        ("resized array", "SELECT cardinality(array_resize([1], 100000000000, 1))".to_owned()),
        ("repeat", "SELECT length(repeat('x', 100000000000))".to_owned()),
        ("pad", "SELECT length(lpad('x', 2000000000, 'y')), length(rpad('x', 2000000000, 'y'))".to_owned()),
        ("repeat of rows", "SELECT sum(length(repeat('x', 1000000))) FROM generate_series(1, 100000)".to_owned()),
    ] {
        let begun = Instant::now();
        let (status, error) = refusal(running.addr, &text);
        assert!([400, 403, 504, 507].contains(&status), "{name}: {status} {error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} took {:?}", begun.elapsed());
        lives(running.addr);
    }
}
