//! A gateway that is full says so at once, while metrics and SQL answer as ever; streams beside requests, in one row each.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use support::client::{self, Connection};
use support::eventually;
use support::origin::Origin;
use support::site::Site;

#[test]
fn a_full_gateway_answers_503_and_is_still_watched() {
    let origin = Origin::start();
    let limits = json!({ "connections_max": 2, "requests_max": 1, "retry_after_s": 5 });
    let site =
        Site::new(origin.addr).set(&["gateway", "threads"], json!(1)).set(&["gateway", "limits"], limits);
    let house = site.run();
    // One request that never ends, and one connection beside it.
    let mut endless = Connection::open(house.gateway()).unwrap();
    endless.send_head("GET", "/open/endless", &[]).unwrap();
    let mut first = [0; 1];
    endless.stream.read_exact(&mut first).unwrap();
    let mut second = TcpStream::connect(house.gateway()).unwrap();
    second.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    second.write_all(b"GET /open/echo HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut told = [0; 2048];
    let length = second.read(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..length]).into_owned();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 5\r\n"), "{told}");
    let begun = Instant::now();
    for _ in 0..20 {
        let told = client::get(house.gateway(), "/open/echo", &[]).unwrap();
        assert_eq!((told.status, told.header("retry-after")), (503, Some("5")));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for 20 refusals", begun.elapsed());
    eventually("the counts in metrics", || {
        let ended = house.metric("tollhouse_connections_ended_total", &["reason=\"connections_max\""]);
        let overloaded = house.metric("tollhouse_requests_overloaded_total", &[]);
        if (ended, overloaded) == (20.0, 1.0) { Ok(()) } else { Err(format!("{ended} {overloaded}")) }
    });
    let ended = "SELECT count AS n FROM system.connections WHERE reason = 'connections_max'";
    assert_eq!(house.number(ended), 20);
    eventually("the row of the request that was refused", || {
        let rows =
            house.number("SELECT count(*) AS n FROM requests WHERE outcome = 'overloaded' AND status = 503");
        if rows == 1 { Ok(()) } else { Err(format!("{rows} rows")) }
    });
    drop((endless, second));
    eventually("room for the next", || match client::get(house.gateway(), "/open/echo", &[]) {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// More clients than the process may have files open: who is in is served, the others wait, no thread spins, and what was
/// answered is recorded to the row.
#[test]
fn a_gateway_without_descriptors_serves_who_is_in_and_loses_no_event() {
    use std::os::unix::process::CommandExt;
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["gateway", "threads"], json!(1));
    let mut command = site.command("run");
    let limit = libc::rlimit { rlim_cur: 100, rlim_max: 300 };
    // SAFETY: one call between fork and exec, which only reads a struct of its own.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let house = site.launch("run", command);
    let mut inside = Connection::open(house.gateway()).unwrap();
    let ask = |inside: &mut Connection| {
        assert_eq!(inside.exchange("GET", "/open/echo", &[], b"").unwrap().status, 200);
    };
    ask(&mut inside);
    let waiting: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(house.gateway()).unwrap()).collect();
    eventually("no descriptor to be left", || {
        let log = house.log();
        if log.contains("cannot take in connections") { Ok(()) } else { Err(log) }
    });
    let open = std::fs::read_dir(format!("/proc/{}/fd", house.pid())).unwrap().count();
    assert!((290..=300).contains(&open), "{open} are open: the soft limit is raised to the hard one");
    let (ran, _) = house.thread_times("proxy-0");
    let begun = Instant::now();
    let mut answered = 1;
    while begun.elapsed() < Duration::from_secs(2) {
        ask(&mut inside);
        answered += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = house.thread_times("proxy-0").0 - ran;
    assert!(ran < begun.elapsed() / 3, "the thread ran {ran:?} of {:?}", begun.elapsed());
    assert!(answered > 20, "{answered} answers");
    let told = house.log().lines().filter(|line| line.contains("cannot take in connections")).count();
    assert!(told <= 2, "said {told} times");
    drop(waiting);
    eventually("room for the next", || match client::get(house.gateway(), "/open/echo", &[]) {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    house.rows(answered + 1);
    assert_eq!(house.number("SELECT coalesce(sum(dropped), 0) AS n FROM system.ledger"), 0);
    assert!(house.terminate().success());
}

#[test]
fn streams_are_rows_beside_requests() {
    let origin = Origin::start();
    let everything = json!([{ "ip": "0.0.0.0/0" }]);
    let service = json!({ "name": "raw", "protocol": "tcp", "host": "127.0.0.1", "port": origin.addr.port(),
        "routes": [{ "name": "raw-route", "protocols": ["tcp"], "sources": everything }] });
    let site = Site::new(origin.addr)
        .set(&["gateway", "stream_listen"], json!([{ "name": "stream", "address": "127.0.0.1:0" }]))
        .set(&["services"], json!([service]));
    let house = site.run();
    let mut stream = TcpStream::connect(house.addr("stream")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.starts_with(b"HTTP/1.1 200 ") && got.len() > 1000);
    house.rows(1);
    let rows = house.sql(
        "SELECT protocol, scheme, method, status, route, service, listener, outcome, request_bytes, response_bytes, \
         duration_us > 0 AS lasted, cardinality(attempts) AS tries FROM requests",
    );
    let expected = json!({ "protocol": "tcp", "scheme": "tcp", "method": null, "status": null, "route": "raw-route",
        "service": "raw", "listener": "stream", "outcome": "ok", "request_bytes": 56, "response_bytes": got.len(),
        "lasted": true, "tries": 1 });
    assert_eq!(rows, [expected]);
    let requests =
        house.metric("tollhouse_http_requests_total", &["route=\"raw-route\"", "status_class=\"none\""]);
    assert_eq!(requests, 1.0, "the ledger of metrics and rows stays one");
}
