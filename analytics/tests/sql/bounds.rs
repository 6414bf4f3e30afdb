//! Every bound of a query: time, rows, turns, memory, and a client that goes away.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::{ask, get, house, receive, refusal, send, serve, sql, wait_for};

/// Never ends by itself, and gives rows all the time.
const ENDLESS: &str = "SELECT value FROM generate_series(1, 9000000000000000)";
/// Never ends by itself, and gives nothing before.
const BUSY: &str = "SELECT count(*) FROM generate_series(1, 9000000000000000) WHERE value % 7 = 8";

fn statuses(addr: std::net::SocketAddr) -> String {
    sql(addr, "SELECT status FROM system.queries WHERE sql NOT LIKE '%system.queries%' ORDER BY id")
        .to_string()
}

#[test]
fn a_query_that_takes_too_long_is_ended() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.timeout_ms = 300);
    let begun = Instant::now();
    let (status, error) = refusal(running.addr, BUSY);
    assert_eq!((status, &error["code"]), (504, &"timeout".into()), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // After the first row the status is sent: the answer is cut, and NDJSON says why.
    let answer = ask(running.addr, "/sql?format=ndjson", &[], ENDLESS);
    assert_eq!((answer.status, answer.whole), (200, false));
    assert!(answer.text().lines().last().unwrap().contains("timeout"));
    let answer = ask(running.addr, "/sql?format=json", &[], ENDLESS);
    assert_eq!((answer.status, answer.whole), (200, false));
    assert_eq!(sql(running.addr, "SELECT 1 AS one")[0]["one"], 1);
}

#[test]
fn an_answer_with_too_many_rows_is_an_error_not_a_cut() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.rows_max = 299);
    assert_eq!(sql(running.addr, "SELECT sequence FROM requests LIMIT 299").as_array().unwrap().len(), 299);
    let all = "SELECT sequence FROM requests";
    let answer = ask(running.addr, "/sql?format=ndjson", &[], all);
    assert!(!answer.whole && answer.text().contains("too_many_rows"), "{}", answer.text());
    for format in ["json", "csv", "arrow", "parquet"] {
        assert!(!ask(running.addr, &format!("/sql?format={format}"), &[], all).whole, "{format}");
    }
}

#[test]
fn first_rows_come_before_the_last_are_computed() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.rows_max = u64::MAX);
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let mut socket = send(running.addr, "POST", &format!("/sql?format={format}"), &[], ENDLESS);
        let mut piece = vec![0; 100_000];
        socket.read_exact(&mut piece).unwrap();
    }
    wait_for("cancelled", || statuses(running.addr), |found| found.matches("cancelled").count() == 5);
}

#[test]
fn a_client_that_goes_away_ends_its_query() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.concurrency_max = 2);
    let socket = send(running.addr, "POST", "/sql", &[], BUSY);
    wait_for("running", || statuses(running.addr), |found| found.contains("running"));
    drop(socket);
    wait_for("cancelled", || statuses(running.addr), |found| found.contains("cancelled"));
    // Its turn is free again.
    let turns: Vec<_> =
        (0..2).map(|_| send(running.addr, "POST", "/sql?format=csv", &[], "SELECT 1")).collect();
    assert!(turns.into_iter().all(|socket| receive(socket).status == 200));
}

#[test]
fn one_query_too_many_is_told_to_come_again() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.concurrency_max, config.queue_max, config.queue_timeout_ms) = (1, 1, 60_000);
    });
    let addr = running.addr;
    let mut first = send(addr, "POST", "/sql?format=csv", &[], ENDLESS);
    // Its first rows are here, so the one turn is taken.
    first.read_exact(&mut [0; 1_000]).unwrap();
    let (sender, answers) = std::sync::mpsc::sync_channel(2);
    for _ in 0..2 {
        let sender = sender.clone();
        std::thread::spawn(move || sender.send(ask(addr, "/sql", &[], "SELECT 1 AS one")).unwrap());
    }
    // One of two waits, the other is refused at once.
    let refused = answers.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &"busy".into()));
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert_eq!(get(addr, "/healthz", &[]).status, 200);
    drop(first);
    assert_eq!(answers.recv_timeout(Duration::from_secs(30)).unwrap().status, 200);
}

#[test]
fn a_wait_for_a_turn_ends() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.concurrency_max, config.queue_timeout_ms) = (1, 50);
    });
    let first = send(running.addr, "POST", "/sql?format=csv", &[], ENDLESS);
    wait_for("busy", || ask(running.addr, "/sql", &[], "SELECT 1").status, |status| *status == 429);
    drop(first);
    wait_for("free", || ask(running.addr, "/sql", &[], "SELECT 1").status, |status| *status == 200);
}

#[test]
fn a_sort_beyond_the_memory_spills() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let running = serve(&folder, |config| config.memory_bytes_max = 32 << 20);
    let found = sql(
        running.addr,
        "SELECT max(r) AS last, count(*) AS n FROM (SELECT value, row_number() OVER (ORDER BY value % 1000003, value) \
         AS r FROM generate_series(1, 3000000))",
    );
    assert_eq!((&found[0]["last"], &found[0]["n"]), (&3_000_000.into(), &3_000_000.into()));
    let plan = sql(
        running.addr,
        "EXPLAIN ANALYZE SELECT * FROM (SELECT value, value % 1000003 AS k FROM generate_series(1, 3000000)) ORDER BY k, value",
    );
    let plan = plan.to_string();
    let spilled = plan.split("spill_count=").skip(1).any(|rest| !rest.starts_with('0'));
    assert!(spilled, "{plan}");
    // Nothing stays behind.
    let left = || {
        std::fs::read_dir(root.path().join("state/spill"))
            .unwrap()
            .flatten()
            .map(|entry| std::fs::read_dir(entry.path()).map_or(1, Iterator::count))
            .sum::<usize>()
    };
    wait_for("spill files", left, |left| *left == 0);
}

#[test]
fn a_query_beyond_all_memory_fails_alone() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.memory_bytes_max = 32 << 20);
    let addr = running.addr;
    let greedy = std::thread::spawn(move || {
        refusal(
            addr,
            "SELECT cardinality(array_agg(value || ' is a text of some length that is held')) FROM generate_series(1, 5000000)",
        )
    });
    while !greedy.is_finished() {
        assert_eq!(sql(addr, "SELECT sum(sequence) AS s FROM requests")[0]["s"], 45_150);
    }
    let (status, error) = greedy.join().unwrap();
    assert_eq!((status, &error["code"]), (507, &"out_of_memory".into()), "{error}");
}

#[test]
fn a_spill_beyond_its_folder_fails_alone() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.memory_bytes_max, config.spill_bytes_max) = (16 << 20, 1 << 20);
    });
    let (status, error) = refusal(
        running.addr,
        "SELECT * FROM (SELECT value, value % 1000003 AS k FROM generate_series(1, 5000000)) ORDER BY k",
    );
    assert_eq!((status, &error["code"]), (507, &"out_of_memory".into()), "{error}");
    assert_eq!(sql(running.addr, "SELECT sum(sequence) AS s FROM requests")[0]["s"], 45_150);
}

/// The engine would read the side that does not fit again, and panic.
#[test]
fn a_join_beyond_its_memory_fails_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.memory_bytes_max = 16 << 20);
    for join in ["", "LEFT", "RIGHT", "FULL"] {
        let statement = format!(
            "WITH n AS (SELECT value, sum(1) AS s FROM generate_series(1, 2000000) GROUP BY value), m AS (SELECT value * 2 AS value FROM n) \
             SELECT count(*) FROM n {join} JOIN m ON n.value + m.value < 3"
        );
        let (status, error) = refusal(running.addr, &statement);
        assert_eq!((status, &error["code"]), (507, &"out_of_memory".into()), "{statement}: {error}");
    }
    let few = "SELECT count(*) AS n FROM requests a LEFT JOIN requests b ON a.sequence < b.sequence AND b.sequence < 3";
    assert_eq!(sql(running.addr, few)[0]["n"], 300);
}

#[test]
fn connections_are_bounded_and_silent_ones_end() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.connections_max, config.timeout_ms) = (3, 500);
    });
    let silent: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(running.addr).unwrap()).collect();
    for mut half in &silent {
        std::io::Write::write_all(&mut half, b"POST /sql HTTP/1.1\r\nContent-Length: 9\r\n").unwrap();
    }
    // All places are taken: this one is served when the silent ones are shown out.
    let begun = Instant::now();
    assert_eq!(get(running.addr, "/healthz", &[]).status, 200);
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    for mut half in silent {
        half.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // The end, or a reset: not a wait.
        let said = half.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert_ne!(said, Err(std::io::ErrorKind::WouldBlock));
    }
    assert_eq!(get(running.addr, "/healthz", &[]).status, 200);
}

/// Whoever sends a request byte by byte is shown out like who says nothing, and another one gets the place.
#[test]
fn a_request_that_comes_byte_by_byte_keeps_no_place() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.connections_max, config.timeout_ms) = (1, 500);
    });
    let mut slow = std::net::TcpStream::connect(running.addr).unwrap();
    std::io::Write::write_all(&mut slow, b"POST /sql HTTP/1.1\r\nX: ").unwrap();
    let slow = std::thread::spawn(move || {
        // Until it is shown out; each pause is far shorter than what a silent one is allowed.
        let begun = Instant::now();
        while std::io::Write::write_all(&mut slow, b"x").is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is never shown out");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(get(running.addr, "/healthz", &[]).status, 200);
    slow.join().unwrap();
}

/// A join that no pair of rows meets computes for seconds.
const STUBBORN: &str = "SELECT count(*) FROM requests a, requests b, requests c, (SELECT path FROM requests LIMIT 2) d \
                        WHERE strpos(a.path || b.path || c.path || d.path, 'nowhere') > 0";

#[test]
fn a_query_that_cannot_be_stopped_is_answered_in_time_and_harms_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        (config.threads, config.concurrency_max, config.timeout_ms) = (1, 2, 300);
    });
    let stubborn = send(running.addr, "POST", "/sql", &[], STUBBORN);
    wait_for("it to run", || statuses(running.addr), |statuses| statuses.contains("running"));
    assert_eq!(sql(running.addr, "SELECT count(*) AS n FROM requests"), serde_json::json!([{"n": 300}]));
    let answer = receive(stubborn);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &"timeout".into()));
}
