//! Which target a request goes to, seen from the targets.

use crate::support::*;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// An origin that answers each request with its own name.
pub async fn named(name: &'static str) -> SocketAddr {
    origin(move |_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            while let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                got.drain(..end + 4);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn group(upstream: Value, targets: &[(SocketAddr, u32)]) -> Gateway {
    let mut upstream = upstream;
    upstream["name"] = json!("group");
    upstream["targets"] =
        targets.iter().map(|(addr, weight)| json!({"target": addr.to_string(), "weight": weight})).collect();
    let paths = json!(["/", "~/u/(?<id>[0-9]+)"]);
    let services = json!([{"name": "s", "host": "group", "routes": [{"paths": paths, "strip_path": false}]}]);
    Gateway::start(json!({"services": services, "upstreams": [upstream]}), json!({}))
}

/// Sends a request with these header lines; returns the response and the name in it.
async fn ask(gateway: &Gateway, target: &str, lines: &str) -> (String, String) {
    let got =
        gateway.talk(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}Connection: close\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    let name = got.rsplit("\r\n\r\n").next().unwrap().to_owned();
    (got, name)
}

#[test]
fn shares_follow_the_weights() {
    run(async {
        let targets = [(named("a").await, 300), (named("b").await, 100), (named("c").await, 0)];
        for (algorithm, exact) in [("round-robin", true), ("random", false)] {
            let gateway = group(json!({"algorithm": algorithm}), &targets);
            let mut counts = HashMap::<String, i32>::new();
            for _ in 0..200 {
                *counts.entry(ask(&gateway, "/", "").await.1).or_default() += 1;
            }
            let off = (counts["a"] - 150).abs();
            assert!(
                !counts.contains_key("c") && off <= if exact { 0 } else { 30 },
                "{algorithm}: {counts:?}"
            );
        }
    });
}

#[test]
fn requests_under_way_are_counted_until_their_last_byte() {
    run(async {
        for algorithm in ["least-connections", "latency"] {
            let release = Rc::new(Notify::new());
            let slow_seen = Rc::new(Cell::new(0));
            let (hold, seen) = (Rc::clone(&release), Rc::clone(&slow_seen));
            // Sends its head at once, and its body when it is told to.
            let slow = origin(move |_, mut stream| {
                let (hold, seen) = (Rc::clone(&hold), Rc::clone(&seen));
                async move {
                    let mut got = Vec::new();
                    while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                        if got.ends_with(b"\r\n\r\n") {
                            got.clear();
                            seen.set(seen.get() + 1);
                            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
                            hold.notified().await;
                            stream.write_all(b"slow").await.unwrap();
                        }
                    }
                }
            })
            .await;
            let gateway = group(json!({"algorithm": algorithm}), &[(slow, 100), (named("fast").await, 100)]);
            // Until the slow one has one that does not end.
            let mut held = None;
            for _ in 0..100 {
                let mut client = TcpStream::connect(gateway.addr).await.unwrap();
                client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
                let head = read_until(&mut client, "\r\n\r\n").await;
                if slow_seen.get() == 1 {
                    held = Some((client, head));
                    break;
                }
            }
            let (mut client, _) = held.expect("two targets take turns as long as both are idle");
            if algorithm == "least-connections" {
                for _ in 0..20 {
                    assert_eq!(ask(&gateway, "/", "").await.1, "fast", "{algorithm}");
                }
                assert_eq!(slow_seen.get(), 1);
            }
            release.notify_one();
            assert!(read_all(&mut client).await.ends_with("slow"));
            // Free again, it has its turn, if only when a first answer that a busy machine has slowed down is forgotten.
            let deadline = Instant::now() + PATIENCE;
            while slow_seen.get() == 1 && Instant::now() < deadline {
                release.notify_one();
                ask(&gateway, "/", "").await;
            }
            assert!(slow_seen.get() > 1, "{algorithm}");
        }
    });
}

#[test]
fn the_slower_target_gets_less() {
    run(async {
        let delayed = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                if got.ends_with(b"\r\n\r\n") {
                    got.clear();
                    // What makes it slow is the subject of the test.
                    tokio::time::sleep(std::time::Duration::from_millis(40)).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow").await.unwrap();
                }
            }
        })
        .await;
        let gateway = group(json!({"algorithm": "latency"}), &[(delayed, 100), (named("fast").await, 100)]);
        let mut slow = 0;
        for _ in 0..60 {
            slow += u32::from(ask(&gateway, "/", "").await.1 == "slow");
        }
        assert!((1..10).contains(&slow), "{slow} of 60");
    });
}

#[test]
fn equal_requests_go_to_the_same_target() {
    run(async {
        let targets = [(named("a").await, 100), (named("b").await, 100), (named("c").await, 100)];
        let cases = [
            (json!({"hash_on": "header", "hash_on_header": "X-Key"}), "/", "X-Key: #\r\n"),
            (json!({"hash_on": "query_arg", "hash_on_query_arg": "q"}), "/?a=1&q=%#", ""),
            (json!({"algorithm": "consistent-hashing", "hash_on": "path"}), "/p/#", ""),
            (json!({"hash_on": "cookie", "hash_on_cookie": "sid"}), "/", "Cookie: x=1; sid=#\r\n"),
            (json!({"hash_on": "uri_capture", "hash_on_uri_capture": "id"}), "/u/#/any", ""),
            (
                json!({"hash_on": "uri_capture", "hash_on_uri_capture": "none", "hash_fallback": "uri_capture",
                    "hash_fallback_uri_capture": "1"}),
                "/u/#",
                "",
            ),
            (
                json!({"hash_on": "uri_capture", "hash_on_uri_capture": "id", "hash_fallback": "path"}),
                "/f/#",
                "",
            ),
            (
                json!({"hash_on": "header", "hash_on_header": "x-none", "hash_fallback": "path", "slots": 1000}),
                "/f/#",
                "",
            ),
        ];
        for (upstream, target, lines) in cases {
            let gateway = group(upstream.clone(), &targets);
            let mut names = HashSet::new();
            for key in 30..60 {
                let (target, lines) =
                    (target.replace('#', &key.to_string()), lines.replace('#', &key.to_string()));
                let first = ask(&gateway, &target, &lines).await.1;
                let second = ask(&gateway, &target, &lines).await.1;
                assert_eq!(first, second, "{upstream} {key}");
                names.insert(first);
            }
            assert_eq!(names.len(), 3, "{upstream}: all targets have a share");
        }
        let gateway = group(json!({"hash_on": "ip"}), &targets);
        let first = ask(&gateway, "/", "").await.1;
        for _ in 0..10 {
            assert_eq!(ask(&gateway, "/", "").await.1, first);
        }
        let gateway = group(json!({"algorithm": "consistent-hashing"}), &targets);
        let mut names = HashSet::new();
        for _ in 0..9 {
            names.insert(ask(&gateway, "/", "").await.1);
        }
        assert_eq!(names.len(), 3, "without anything to hash it is round-robin");
    });
}

#[test]
fn a_client_without_the_cookie_is_given_one_and_comes_back() {
    run(async {
        let targets = [(named("a").await, 100), (named("b").await, 100), (named("c").await, 100)];
        let upstream = json!({"hash_on": "cookie", "hash_on_cookie": "sid", "hash_on_cookie_path": "/in"});
        let gateway = group(upstream, &targets);
        let mut names = HashSet::new();
        for _ in 0..30 {
            let (response, first) = ask(&gateway, "/", "Cookie: sid=; other=1\r\n").await;
            let line = response.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
            let (cookie, path) = line.split_once("; ").unwrap();
            assert!(cookie.starts_with("sid=") && cookie.len() == 36 && path == "Path=/in", "{line}");
            let (response, second) = ask(&gateway, "/", &format!("Cookie: {cookie}\r\n")).await;
            assert!(!response.contains("set-cookie"), "{response}");
            assert_eq!(first, second);
            names.insert(first);
        }
        assert_eq!(names.len(), 3);
    });
}

#[test]
fn a_target_that_refuses_is_stood_in_for_by_the_next_on_the_ring() {
    run(async {
        let bad = free_addr();
        let upstream = json!({"hash_on": "header", "hash_on_header": "x-key"});
        let gateway = group(upstream, &[(bad, 100), (named("good").await, 100)]);
        let failed = RefCell::new(0);
        for key in 0..40 {
            assert_eq!(ask(&gateway, "/", &format!("x-key: {key}\r\n")).await.1, "good");
        }
        for event in gateway.events(40).await {
            assert!(event.attempts.len() <= 2, "the bad one is not asked twice: {event:#?}");
            *failed.borrow_mut() += event.attempts.len() - 1;
        }
        assert!((5..35).contains(&failed.take()));
    });
}
