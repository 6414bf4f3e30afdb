//! Every statement of the page about SQL, and some that are hard to cut into tasks, asked of both engines.

use std::path::Path;

use serde_json::{Value, json};

use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::Tollhouse;
use super::{Cluster, Rows, ask};

/// The SQL of the page, without what is about this process.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md")).unwrap();
    let blocks = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let of_requests =
        |sql: &&str| !["system.", "EXPLAIN", "SHOW", "config."].iter().any(|word| sql.contains(word));
    // Which of several rows of one rank are shown is open: all of them are compared.
    let whole = |sql: &str| {
        let sql = sql.trim().trim_end_matches(';');
        match sql.rsplit_once("LIMIT ") {
            Some((all, count)) if count.chars().all(|digit| digit.is_ascii_digit()) => all.trim().to_owned(),
            _ => sql.to_owned(),
        }
    };
    blocks.filter(of_requests).map(whole).collect()
}

/// Joins, windows, lists and orders of all kinds.
const HARD: [&str; 14] = [
    "SELECT * FROM requests ORDER BY node, core, sequence",
    "SELECT count(*) AS n FROM requests WHERE sequence >= 0",
    "SELECT request_id, status, path FROM requests WHERE status >= 500 ORDER BY node, core, sequence LIMIT 7",
    "SELECT service, count(DISTINCT consumer) AS consumers, latency_percentile(duration_us, 0.5) AS p50, \
     latency_percentile(duration_us, 0.99) AS p99, avg(response_bytes) AS bytes FROM requests GROUP BY service",
    "SELECT a.service, count(*) AS n FROM requests a JOIN requests b USING (request_id) GROUP BY 1",
    "SELECT a.sequence, b.status FROM requests a LEFT JOIN requests b ON a.sequence = b.sequence + 1 AND a.core = b.core",
    "SELECT a.sequence, b.sequence AS other FROM requests a FULL JOIN requests b \
     ON a.sequence = b.sequence + 17 AND a.core = b.core",
    "SELECT a.core, a.sequence, b.n FROM requests a LEFT JOIN (SELECT status, count(*) AS n FROM requests GROUP BY 1) b \
     ON a.status > b.status AND b.n > 50",
    "SELECT core, sequence FROM requests WHERE status NOT IN (SELECT status FROM requests WHERE service = 'open')",
    "SELECT core, sequence FROM requests r WHERE EXISTS (SELECT 1 FROM requests o WHERE o.sequence > r.sequence + 20)",
    "SELECT core, sequence, row_number() OVER (PARTITION BY service ORDER BY time, core, sequence) AS n, \
     lag(status) OVER (ORDER BY time, core, sequence) AS before FROM requests",
    "SELECT upper(service) || '-' || replace(path, '/', '.') AS name, count(*) AS n FROM requests GROUP BY 1",
    "SELECT status FROM requests WHERE response_bytes > (SELECT avg(response_bytes) FROM requests)",
    "WITH m AS (SELECT time_bucket(INTERVAL '1 minute', time) AS m, count(*) AS n FROM requests GROUP BY 1) \
     SELECT sum(n) AS n FROM m",
];

/// What is run here, since a part of it has rows without a source.
const HERE: [&str; 2] = [
    "SELECT count(*) AS n FROM requests",
    "SELECT service, status FROM requests WHERE duration_us >= 0 UNION SELECT 'x', 1 \
     UNION ALL SELECT route, status FROM requests",
];

fn sorted(rows: Vec<Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// Asks both engines; what ran the question in the second one.
fn same(local: &Tollhouse, remote: &Tollhouse, statement: &str) -> String {
    // What a statement says of the present may change between two questions.
    eventually(statement, || match (ask(local, statement), ask(remote, statement)) {
        (Ok((here, _)), Ok((there, engine))) => {
            let (here, there) = (sorted(here), sorted(there));
            if here == there { Ok(engine) } else { Err(format!("here {here:#?}\nthere {there:#?}")) }
        }
        (here, there) => Err(format!("here {here:?}\nthere {there:?}")),
    })
}

#[test]
fn every_documented_query_has_the_same_answer_on_a_cluster() {
    let origin = Origin::start();
    let rows = Rows::new(&origin);
    let cluster = Cluster::start(&rows, 2, &json!({}));
    let (rows, local) = rows.analytics(&[]);
    let (rows, remote) = rows.analytics(&cluster.engine());
    let places = "SELECT place, kind, sum(rows) AS rows FROM system.files WHERE rows > 0 AND kind IN ('hot', 'parquet') \
                  GROUP BY 1, 2 ORDER BY 1";
    let expected = json!([{ "place": "both", "kind": "parquet", "rows": super::UPLOADED },
        { "place": "local", "kind": "hot", "rows": super::HOT }]);
    assert_eq!(Value::from(remote.sql(places)), expected);
    let documented = documented();
    assert!(documented.len() >= 20, "{documented:#?}");
    let mut remotely = 0;
    for statement in documented.iter().map(String::as_str).chain(HARD) {
        let engine = same(&local, &remote, statement);
        remotely += usize::from(engine == "ballista");
        if HARD.contains(&statement) {
            assert_eq!(engine, "ballista", "{statement}");
        } else if engine != "ballista" {
            eprintln!("run here: {statement}");
        }
    }
    assert!(
        remotely >= documented.len() * 3 / 4 + HARD.len(),
        "{remotely} of {} on the cluster",
        documented.len()
    );
    for statement in HERE {
        assert_eq!(same(&local, &remote, statement), "local", "{statement}");
    }
    assert_eq!(ask(&local, HARD[1]).unwrap().1, "local");
    // Small roll-ups are read where the question is asked, by default.
    let (_rows, usual) = rows.analytics(&[(&["analytics", "rollup_cache_bytes_max"], json!(1 << 28))]);
    let rolled =
        "SELECT service, count(*) AS n, latency_percentile(duration_us, 0.9) AS p90 FROM requests GROUP BY 1";
    assert_eq!(same(&local, &usual, rolled), "local");
    assert_eq!(same(&local, &remote, rolled), "ballista");
    // What fails for a row fails there as it does here.
    for (statement, said) in [
        ("SELECT 1 / (status - status) AS x FROM requests", "Divide by zero error"),
        ("SELECT CAST(path AS INT) FROM requests", "Cannot cast string '/"),
    ] {
        for house in [&local, &remote] {
            let refused = house.try_sql(statement).unwrap_err();
            assert!(refused.contains("400") && refused.contains("execution"), "{refused}");
            assert!(refused.contains(said), "{refused}");
        }
    }
}
