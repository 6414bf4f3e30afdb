//! Clients that stay with their target, targets that stand in for others, and hosts of SRV records.

use crate::support::*;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An origin that answers each request with its own name.
async fn named(name: &'static str) -> SocketAddr {
    origin(move |_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            if got.ends_with(b"\r\n\r\n") {
                got.clear();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn gateway(mut upstream: Value, threads: u16) -> Gateway {
    upstream["name"] = json!("group");
    let services = json!([{"name": "s", "host": "group", "routes": [{"paths": ["/"]}]}]);
    Gateway::start(json!({"services": services, "upstreams": [upstream]}), json!({"threads": threads}))
}

/// Who answered, and the cookie that came with it.
async fn ask(gateway: &Gateway, cookie: &str) -> (String, Option<String>) {
    let line = if cookie.is_empty() { String::new() } else { format!("Cookie: a=b; {cookie}\r\n") };
    let got = gateway.talk(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}Connection: close\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    let cookie = got.lines().find_map(|line| line.strip_prefix("set-cookie: ").map(str::to_owned));
    (got.rsplit("\r\n\r\n").next().unwrap().to_owned(), cookie)
}

#[test]
fn a_client_comes_back_to_its_target_until_that_is_out() {
    run(async {
        let (a, b, c) = (named("a").await, named("b").await, named("c").await);
        let target = |addr: SocketAddr| json!({"target": addr.to_string()});
        let sticky = json!({"algorithm": "sticky-sessions", "sticky_sessions_cookie": "gw",
            "sticky_sessions_cookie_path": "/in"});
        let mut upstream = sticky.clone();
        upstream["targets"] = json!([target(a), target(b), target(c)]);
        let gateway = gateway(upstream, 2);
        let mut names = HashSet::new();
        let mut kept = String::new();
        for _ in 0..9 {
            let (name, cookie) = ask(&gateway, "").await;
            let cookie = cookie.expect("a client without one is given one");
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            assert_eq!(attributes, "Path=/in; HttpOnly");
            assert_eq!((pair.len(), pair.starts_with("gw=")), (19, true), "{pair}");
            for _ in 0..4 {
                assert_eq!(
                    ask(&gateway, pair).await,
                    (name.clone(), None),
                    "it stays, and is not told again"
                );
            }
            if name == "a" {
                kept = pair.to_owned();
            }
            names.insert(name);
        }
        assert_eq!(names.len(), 3, "those without are spread");
        for nonsense in ["gw=", "gw=x", "gw=00000000000000zz", "gw=+000000000000001", "gw=0000000000000001"] {
            assert!(ask(&gateway, nonsense).await.1.is_some(), "{nonsense}");
        }
        // Another gateway knows the same names; one without that target gives another.
        let mut upstream = sticky.clone();
        upstream["targets"] = json!([target(b), target(a)]);
        let other = self::gateway(upstream, 1);
        for _ in 0..4 {
            assert_eq!(ask(&other, &kept).await, ("a".to_owned(), None));
        }
        let mut upstream = sticky;
        upstream["targets"] = json!([target(b)]);
        let (name, cookie) = ask(&self::gateway(upstream, 1), &kept).await;
        assert_eq!((name.as_str(), cookie.is_some()), ("b", true));
    });
}

#[test]
fn a_sticky_target_that_fails_is_left_for_another() {
    run(async {
        let addr = free_addr();
        let refusing = TcpListener::bind(addr).await.unwrap();
        let targets = json!([{"target": addr.to_string()}, {"target": named("well").await.to_string()}]);
        let gateway = gateway(
            json!({"algorithm": "sticky-sessions", "sticky_sessions_cookie": "gw", "targets": targets,
                "healthchecks": {"passive": {"unhealthy": {"tcp_failures": 1}}}}),
            1,
        );
        // Answers once, then is gone.
        tokio::task::spawn_local(async move {
            let (mut stream, _) = refusing.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut got).await.unwrap();
            }
            let answer = b"HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: 4\r\n\r\nsick";
            stream.write_all(answer).await.unwrap();
        });
        let cookie = loop {
            let (name, cookie) = ask(&gateway, "").await;
            if name == "sick" {
                break cookie.unwrap();
            }
        };
        let pair = cookie.split(';').next().unwrap();
        let (name, new) = ask(&gateway, pair).await;
        assert_eq!(name, "well");
        let new = new.expect("the cookie of who has answered");
        assert_ne!(new.split(';').next().unwrap(), pair);
        assert_eq!(ask(&gateway, new.split(';').next().unwrap()).await, ("well".to_owned(), None));
    });
}

#[test]
fn failover_targets_are_asked_when_no_other_is_fit() {
    run(async {
        for algorithm in ["round-robin", "least-connections", "latency", "random", "consistent-hashing"] {
            let addr = free_addr();
            let well = named("well").await;
            let spare = named("spare").await;
            let targets = |first: SocketAddr| json!([{"target": spare.to_string(), "failover": true}, {"target": first.to_string()}]);
            let checks = json!({"threshold": 50, "passive": {"unhealthy": {"tcp_failures": 1}}});
            let upstream =
                |first| json!({"algorithm": algorithm, "targets": targets(first), "healthchecks": checks});
            let fit = gateway(upstream(well), 1);
            for _ in 0..10 {
                assert_eq!(ask(&fit, "").await.0, "well", "{algorithm}");
            }
            let unfit = gateway(upstream(addr), 1);
            for _ in 0..5 {
                assert_eq!(ask(&unfit, "").await.0, "spare", "{algorithm}");
            }
            let events = unfit.events(5).await;
            let tries: Vec<_> = events.iter().map(|event| event.attempts.len()).collect();
            assert_eq!(tries, [2, 1, 1, 1, 1], "the unfit one is asked once");
        }
    });
}
