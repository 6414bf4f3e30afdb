//! Tokens, roles, and rows that are not the caller's.

use std::net::SocketAddr;

use analytics::{AnalyticsConfig, RoleConfig, Running, TokenConfig};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::{Answer, ask, encoded, get, house, receive, send, serve, wait_for};

const ADMIN: &str = "admin-0123456789abcdef";
const EVEN: &str = "even-0123456789abcdef";
const SMALL: &str = "small-0123456789abcdef";

fn tokens(config: &mut AnalyticsConfig) {
    let token = |name: &str, secret: &str| TokenConfig {
        name: name.into(),
        secret: secret.into(),
        ..TokenConfig::default()
    };
    config.tokens = vec![
        token("admin", ADMIN),
        TokenConfig { consumer: Some("even".into()), ..token("even-portal", EVEN) },
        TokenConfig { role: Some("small".into()), ..token("small", SMALL) },
    ];
    let small = RoleConfig {
        system: false,
        rows_max: Some(10),
        timeout_ms: Some(2_000),
        concurrency_max: Some(1),
        ..RoleConfig::default()
    };
    config.roles = [("small".to_owned(), small)].into();
}

fn with(addr: SocketAddr, token: &str, sql: &str) -> Answer {
    ask(addr, "/sql", &[("authorization", &format!("Bearer {token}"))], sql)
}

fn rows(running: &Running, token: &str, sql: &str) -> Value {
    let answer = with(running.addr, token, sql);
    assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
    assert!(answer.whole, "{sql}: cut");
    answer.json()
}

fn refused(running: &Running, token: &str, sql: &str) -> (u16, String) {
    let answer = with(running.addr, token, sql);
    (answer.status, answer.json()["error"]["code"].as_str().unwrap().to_owned())
}

#[test]
fn whoever_has_no_token_learns_nothing() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), tokens);
    let sql = "SELECT count(*) AS n FROM requests";
    for given in
        [None, Some("Bearer "), Some("Bearer admin-0123456789abcdeF"), Some("Bearer admin"), Some(ADMIN)]
    {
        let headers: Vec<_> = given.iter().map(|given| ("authorization", *given)).collect();
        for answer in [
            ask(running.addr, "/sql", &headers, sql),
            get(running.addr, &format!("/sql?q={}", encoded(sql)), &headers),
        ] {
            assert_eq!(
                (answer.status, &answer.json()["error"]["code"]),
                (401, &json!("unauthenticated")),
                "{given:?}"
            );
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(running.addr, path, &[]).status, 200, "{path}");
    }
    let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
    for good in [format!("bearer {ADMIN}"), basic(&format!("anybody:{ADMIN}"))] {
        assert_eq!(ask(running.addr, "/sql", &[("authorization", &good)], sql).json(), json!([{"n": 300}]));
    }
    assert_eq!(ask(running.addr, "/sql", &[("authorization", &basic(ADMIN))], sql).status, 401);
    let asked =
        rows(&running, ADMIN, "SELECT user, protocol, count(*) AS n FROM system.queries GROUP BY ALL");
    assert_eq!(asked, json!([{"user": "admin", "protocol": "http", "n": 3}]));
    let settings = rows(&running, ADMIN, "SELECT * FROM system.settings").to_string();
    assert!(settings.contains("rows_max") && !settings.contains("0123456789"), "{settings}");
}

#[test]
fn a_portal_shows_the_rows_of_its_consumer() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), tokens);
    for (sql, expected) in [
        ("SELECT count(*) AS n FROM requests", json!([{"n": 150}])),
        ("SELECT count(*) AS n FROM requests WHERE consumer = 'odd'", json!([{"n": 0}])),
        ("SELECT count(*) AS n FROM requests WHERE consumer <> 'even' OR true", json!([{"n": 150}])),
        (
            "SELECT min(sequence) AS low, max(sequence) AS high FROM requests",
            json!([{"low": 2, "high": 300}]),
        ),
        (
            "SELECT CAST(min(time) AS BIGINT) AS low, count(time) AS n FROM requests WHERE time < '1970-01-01T00:00:00.004'",
            json!([{"low": 2_000, "n": 1}]),
        ),
        (
            "SELECT sequence FROM requests ORDER BY duration_us DESC LIMIT 2",
            json!([{"sequence": 300}, {"sequence": 298}]),
        ),
        (
            "SELECT r.sequence FROM requests r JOIN (VALUES (7), (8)) v (s) ON r.sequence = v.s",
            json!([{"sequence": 8}]),
        ),
        (
            "WITH all_of_them AS (SELECT * FROM requests UNION ALL SELECT * FROM requests) \
             SELECT DISTINCT consumer FROM all_of_them",
            json!([{"consumer": "even"}]),
        ),
        ("SELECT (SELECT count(*) FROM requests WHERE status = 500) AS n", json!([{"n": 30}])),
        ("SELECT consumer, requests FROM consumers", json!([{"consumer": "even", "requests": 150}])),
        ("SELECT CAST(sum(requests) AS BIGINT) AS n FROM services", json!([{"n": 150}])),
        ("SELECT CAST(sum(requests) AS BIGINT) AS n FROM call_graph", json!([{"n": 150}])),
        // The sealed files of this folder have no roll-ups: these are the live rows.
        ("SELECT CAST(sum(requests) AS BIGINT) AS n FROM traffic_1m", json!([{"n": 50}])),
        ("SELECT DISTINCT consumer FROM traffic_1h", json!([{"consumer": "even"}])),
    ] {
        assert_eq!(rows(&running, EVEN, sql), expected, "{sql}");
        let everything = rows(&running, ADMIN, sql);
        assert_eq!(everything != expected, !sql.contains("status = 500"), "{sql}: {everything}");
    }
}

/// Conditions that fail for rows of others, or take long for them, would tell of them.
#[test]
fn no_condition_sees_a_row_of_others() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), tokens);
    for trap in [
        "1 / (CASE WHEN consumer = 'odd' THEN 0 ELSE 1 END) = 1",
        "1 / (sequence % 2 - 1) = -1",
        "CAST(CASE WHEN consumer = 'odd' THEN path ELSE '1' END AS INT) = 1",
        "100 / (CASE WHEN sequence = 7 THEN 0 ELSE 1 END) = 100",
    ] {
        for sql in [
            format!("SELECT count(*) AS n FROM requests WHERE {trap}"),
            format!("SELECT count(*) AS n FROM (SELECT * FROM requests WHERE {trap}) q"),
            format!("SELECT count(*) FILTER (WHERE {trap}) AS n FROM requests"),
            format!(
                "SELECT count(*) AS n FROM requests a JOIN requests b ON a.sequence = b.sequence AND {}",
                trap.replace("consumer", "a.consumer")
                    .replace("sequence", "a.sequence")
                    .replace("path", "a.path")
            ),
        ] {
            assert_eq!(rows(&running, EVEN, &sql), json!([{"n": 150}]), "{sql}");
            let (status, code) = refused(&running, ADMIN, &sql);
            assert_eq!(
                (status, code.as_str()),
                (400, "execution"),
                "{sql}: it fails where the rows are seen"
            );
        }
    }
}

#[test]
fn what_is_not_the_callers_is_not_shown() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), tokens);
    rows(&running, ADMIN, "SELECT 'of the admin'");
    for token in [EVEN, SMALL] {
        for table in ["files", "ledger", "settings", "upstreams", "circuits", "connections", "erasures"] {
            let sql = format!("SELECT count(*) FROM system.{table}");
            assert_eq!(refused(&running, token, &sql), (403, "forbidden".into()), "{sql}");
        }
        for table in ["services", "routes", "consumers", "credentials", "targets", "changes", "status"] {
            let sql = format!("SELECT count(*) FROM config.{table}");
            assert_eq!(refused(&running, token, &sql), (403, "forbidden".into()), "{sql}");
        }
        let tables = "SELECT table_schema || '.' || table_name AS t FROM information_schema.tables \
                      WHERE table_schema NOT IN ('information_schema', 'public') ORDER BY 1";
        assert_eq!(rows(&running, token, tables), json!([{"t": "config.plans"}, {"t": "system.queries"}]));
        let users = rows(&running, token, "SELECT DISTINCT user FROM system.queries");
        assert_eq!(users.as_array().unwrap().len(), 1, "{users}");
    }
    for explain in ["EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT * FROM requests", "EXPLAIN VERBOSE SELECT 1"]
    {
        assert_eq!(refused(&running, EVEN, explain), (403, "forbidden".into()), "{explain}");
        assert_eq!(with(running.addr, ADMIN, explain).status, 200);
    }
}

#[test]
fn a_role_has_limits_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| {
        tokens(config);
        // A turn comes back a moment after its answer: who comes next waits for it, and not until the endless one is over.
        config.queue_timeout_ms = 300;
    });
    assert_eq!(rows(&running, SMALL, "SELECT 1 FROM requests LIMIT 10").as_array().unwrap().len(), 10);
    let header = format!("Bearer {SMALL}");
    let all =
        ask(running.addr, "/sql?format=ndjson", &[("authorization", &header)], "SELECT 1 FROM requests");
    assert!(!all.whole && all.text().contains("too_many_rows"), "{}", all.text());
    assert_eq!(rows(&running, ADMIN, "SELECT 1 FROM requests").as_array().unwrap().len(), 300);
    let endless = "SELECT count(*) FROM requests a, requests b, requests c, requests d WHERE a.path <> b.path || c.path || d.path";
    let first = send(running.addr, "POST", "/sql", &[("authorization", &header)], endless);
    // While it runs nobody else of its role does, and all others do. Asked too early, others would keep it out.
    let runs =
        "SELECT count(*) AS n FROM system.queries WHERE status = 'running' AND sql LIKE '%requests d%'";
    wait_for("it to run", || rows(&running, ADMIN, runs), |found| *found == json!([{"n": 1}]));
    assert_eq!(refused_or_ok(&running), "busy");
    assert_eq!(rows(&running, ADMIN, "SELECT 1 AS one"), json!([{"one": 1}]));
    let first = receive(first);
    assert_eq!((first.status, &first.json()["error"]["code"]), (504, &json!("timeout")));
}

fn refused_or_ok(running: &Running) -> String {
    let answer = with(running.addr, SMALL, "SELECT 1 AS one");
    answer.json()["error"]["code"].as_str().unwrap_or("ok").to_owned()
}

#[test]
fn a_service_that_others_reach_wants_tokens() {
    let open = AnalyticsConfig { listen: "0.0.0.0:8200".into(), ..AnalyticsConfig::default() };
    let problems = analytics::validate(&open).unwrap_err();
    assert_eq!(problems[0].path, "analytics.listen");
    assert!(problems[0].to_string().contains("analytics.tokens"), "{}", problems[0]);
    assert!(analytics::validate(&AnalyticsConfig { allow_anonymous: true, ..open.clone() }).is_ok());
    let mut guarded = open;
    tokens(&mut guarded);
    assert!(analytics::validate(&guarded).is_ok());
}

/// A page of another site, whose name leads here the second time (DNS rebinding), is told nothing; where there are tokens it has
/// none, and names do not matter.
#[test]
fn without_tokens_nobody_asks_by_a_public_name() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let (open, guarded) = (serve(&folder, |_| ()), serve(&folder, tokens));
    let by_name = |running: &Running, name: &str, target: &str, token: &str| {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(running.addr).unwrap();
        write!(
            socket,
            "GET {target} HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        said
    };
    for target in ["/sql?q=SELECT+1+AS+one", "/", "/session", "/graph"] {
        for name in ["evil.example.com", "evil.example.com:8200"] {
            let said = by_name(&open, name, target, "none");
            assert!(said.starts_with("HTTP/1.1 421 ") && said.contains("misdirected"), "{said}");
            assert!(!said.contains("\"one\""), "{said}");
        }
        for name in ["127.0.0.1", "localhost:8200", "[::1]:8200", "analytics"] {
            assert!(by_name(&open, name, target, "none").starts_with("HTTP/1.1 200 "), "{name} {target}");
        }
        assert!(by_name(&guarded, "sql.example.com", target, ADMIN).starts_with("HTTP/1.1 200 "), "{target}");
    }
}

/// A page of another site can have a browser ask what it needs no leave for, though it is not told the answer.
#[test]
fn without_tokens_no_page_of_another_site_has_anything_asked() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let (open, guarded) = (serve(&folder, |_| ()), serve(&folder, tokens));
    let bearer = format!("Bearer {ADMIN}");
    let ask = |running: &Running, headers: &[(&str, &str)]| {
        let headers =
            [headers, &[("Content-Type", "text/plain"), ("Authorization", bearer.as_str())]].concat();
        receive(send(running.addr, "POST", "/sql", &headers, "SELECT 1 AS one")).status
    };
    // As `send` calls the service.
    let own = "http://x".to_owned();
    for (headers, status) in [
        (vec![("Origin", "https://evil.example.com"), ("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Origin", "http://127.0.0.1:1")], 403),
        (vec![("Sec-Fetch-Site", "same-site")], 403),
        (vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")], 200),
        (vec![("Origin", own.as_str())], 200),
        (vec![("Sec-Fetch-Site", "none")], 200),
        (vec![], 200),
    ] {
        assert_eq!(ask(&open, &headers), status, "{headers:?}");
        assert_eq!(ask(&guarded, &headers), 200, "{headers:?}");
    }
    // A link leads to the console, and not to a statement.
    let followed = [("Sec-Fetch-Site", "cross-site")];
    assert_eq!(get(open.addr, "/", &followed).status, 200);
    assert_eq!(get(open.addr, "/sql?q=SELECT+1", &followed).status, 403);
}
