//! HTTP as other people's programs speak it: curl, h2load, nghttp's kin, and raw bytes where none of them would.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;
use support::DEADLINE;
use support::client::Connection;
use support::origin::Origin;
use support::site::Site;
use support::tool;

/// Runs curl without a progress display; it fails the test on a transport error, not on a status.
fn curl(args: &[&str]) -> String {
    tool::output(Command::new("curl").args(["-sS", "--max-time", "20"]).args(args))
}

#[test]
fn curl_speaks_http_1_in_all_its_forms() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let url = |path: &str| format!("http://{}{path}", house.gateway());
    let code = ["-o", "/dev/null", "-w", "%{http_version} %{http_code} %{num_connects}\n"];
    let ten = url("/open/bytes/10");

    let old = curl(&[&code[..], &["--http1.0", ten.as_str()]].concat());
    assert!(old.ends_with(" 200 1\n"), "{old}");
    // The second request of one curl finds the connection open.
    let kept = curl(&[&code[..], &code[..2], &[ten.as_str(), ten.as_str()]].concat());
    assert_eq!(kept, "1.1 200 1\n1.1 200 0\n");
    let head = curl(&["--head", &url("/open/bytes/1234")]).to_lowercase();
    assert!(head.contains("content-length: 1234"), "{head}");
    assert_eq!(curl(&[&url("/open/chunks/3")]), "chunkchunkchunk");
    let chunked = ["-H", "Transfer-Encoding: chunked", "-d", "chunked body", &url("/open/echo")];
    assert_eq!(curl(&chunked), "chunked body");
    let expecting = ["-H", "Expect: 100-continue", "-d", "after 100", &url("/open/echo")];
    assert_eq!(curl(&expecting), "after 100");
    let refused = url("/open/status/418");
    let teapot = curl(&[&code[..], &["-X", "DELETE", refused.as_str()]].concat());
    assert_eq!(teapot, "1.1 418 1\n");
    house.rows(8);
    assert_eq!(
        house.number("SELECT count(*) AS n FROM requests WHERE outcome = 'ok' AND protocol = 'h1'"),
        8
    );
}

#[test]
fn h2_by_prior_knowledge() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let url = format!("http://{}/open/bytes/1000", house.gateway());
    let answer =
        curl(&["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", &url]);
    assert_eq!(answer, "2 200");
    let report = tool::output(Command::new("h2load").args(["-n", "2000", "-c", "4", "-m", "20", &url]));
    assert!(report.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
    let frames = tool::output(Command::new("nghttp").args(["-nv", &url]));
    assert!(frames.contains(":status: 200"), "{frames}");
    house.rows(2002);
    assert_eq!(
        house.number("SELECT count(*) AS n FROM requests WHERE protocol = 'h2' AND status = 200"),
        2002
    );
}

#[test]
fn tls_with_alpn() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let (cert, key) = (site.folder().join("cert.pem"), site.folder().join("key.pem"));
    tool::output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&cert),
    );
    let site = site.set(
        &["gateway", "listen"],
        json!([{ "name": "gateway", "address": "127.0.0.1:0", "tls": { "certificate": cert, "key": key } }]),
    );
    let house = site.run();
    let url = format!("https://{}/open/bytes/10", house.gateway());
    let cert = cert.to_str().unwrap();
    for (flag, answer) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let text =
            curl(&[flag, "--cacert", cert, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", &url]);
        assert_eq!(text, answer);
    }
    house.rows(2);
    assert_eq!(house.number("SELECT count(*) AS n FROM requests WHERE scheme = 'https'"), 2);
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let mut connection = Connection::open(house.gateway()).unwrap();
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    connection.send_head("GET", "/open/upgrade", &headers).unwrap();
    assert_eq!(connection.read_head().unwrap().0, 101);
    for message in [&b"\x81\x85\0\0\0\0hello"[..], b"\x82\x80\0\0\0\0"] {
        connection.write(message).unwrap();
        let mut echo = vec![0; message.len()];
        connection.stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, message);
    }
    drop(connection);
    house.rows(1);
    let row = &house.sql("SELECT status, protocol FROM requests")[0];
    assert_eq!((&row["status"], &row["protocol"]), (&101.into(), &"websocket".into()));
}

#[test]
fn ambiguous_requests_are_refused_and_never_forwarded() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let bodies = [
        "POST /open/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /open/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        "POST /open/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET /open/echo HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /open/echo HTTP/1.1\r\n\r\n",
        "GET /open/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /open/echo HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
    ];
    for body in bodies {
        let mut stream = TcpStream::connect(house.gateway()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // To the end: the gateway must close, since nobody knows where the next request would begin.
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{body:?}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(origin.seen.requests.load(Relaxed), 0, "something was forwarded");
    house.rows(bodies.len() as u64);
}
