//! Upstreams that fail in their several ways.

use crate::support::*;
use event::{AttemptError, Outcome};
use serde_json::json;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

async fn read_head(stream: &mut TcpStream) -> bool {
    let mut got = Vec::new();
    while !got.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

fn timed(origin: SocketAddr, field: &str, ms: u64) -> Gateway {
    let mut entities = everything_to(origin);
    entities["services"][0][field] = json!(ms);
    Gateway::start(entities, json!({"timeouts": {"sweep_interval_ms": 10}}))
}

#[test]
fn a_reset_in_the_body_is_a_truncation() {
    run(async {
        for framing in ["content-length: 10", "transfer-encoding: chunked"] {
            let origin = origin(move |_, mut stream| async move {
                read_head(&mut stream).await;
                let body = if framing.starts_with('c') { "hello" } else { "5\r\nhello\r\n" };
                let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let gateway = Gateway::before(origin);
            let got = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(got.starts_with("HTTP/1.1 200 ") && !got.contains("\r\n0\r\n\r\n"), "{got}");
            let event = gateway.events(1).await.remove(0);
            assert_eq!((event.outcome, event.head.status), (Outcome::UpstreamReset, 200));
            assert_eq!(event.head.response_bytes, 5);
        }
    });
}

#[test]
fn a_silent_upstream_is_given_up() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            read_head(&mut stream).await;
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = timed(origin, "read_timeout", 50);
        let got = gateway.talk(GET).await;
        assert!(
            got.starts_with("HTTP/1.1 504 ") && got.contains("The upstream server is timing out"),
            "{got}"
        );
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.outcome, Outcome::UpstreamTimeout);
        assert_eq!(event.attempts[0].2, AttemptError::ReadTimeout);
        assert!(event.head.duration_us >= 50_000);
    });
}

#[test]
fn an_upstream_that_stops_in_its_body_is_cut() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = timed(origin, "read_timeout", 50);
        let got = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(got.ends_with("hello"), "{got}");
        assert_eq!(gateway.events(1).await[0].outcome, Outcome::UpstreamTimeout);
    });
}

#[test]
fn an_upstream_that_takes_no_body_is_given_up() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            read_head(&mut stream).await;
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = timed(origin, "write_timeout", 50);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = client.split();
        let flood = async {
            let piece = vec![0; 1 << 16];
            while writer.write_all(&piece).await.is_ok() {}
        };
        let mut got = Vec::new();
        tokio::select! {
            () = flood => {}
            _ = reader.read_to_end(&mut got) => {}
        }
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::UpstreamTimeout, 504));
        assert_eq!(event.attempts[0].2, AttemptError::WriteTimeout);
        assert!(event.head.request_bytes > 0);
    });
}

#[test]
fn refused_connections_go_to_the_next_target() {
    run(async {
        let (bad, good) = (free_addr(), echo().await);
        let entities = json!({
            "services": [{"name": "s", "host": "group", "routes": [{"paths": ["/"]}]}],
            "upstreams": [{"name": "group", "targets": [{"target": bad.to_string()}, {"target": good.to_string()}]}],
        });
        let gateway = Gateway::start(entities, json!({}));
        let got = gateway.talk(GET).await;
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.text("upstream"), "group");
        let tries: Vec<_> = event.attempts.iter().map(|a| (a.0.clone(), a.2)).collect();
        let (failed, none) = (AttemptError::ConnectFailed, AttemptError::None);
        assert_eq!(tries, [(bad.to_string(), failed), (good.to_string(), none)]);
    });
}

#[test]
fn retries_are_bounded() {
    run(async {
        let bad = free_addr();
        let mut entities = everything_to(bad);
        entities["services"][0]["retries"] = json!(2);
        let gateway = Gateway::start(entities, json!({}));
        let got = gateway.talk(GET).await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.attempts.len()), (Outcome::ConnectFailed, 3));
        assert!(!got.contains(&bad.port().to_string()), "no address leaks: {got}");
    });
}

#[test]
fn a_kept_connection_that_breaks_is_replaced_once_and_only_when_safe() {
    run(async {
        for (method, again) in [("GET", true), ("POST", false)] {
            let heads = Rc::new(Cell::new(0));
            let seen = Rc::clone(&heads);
            // The first connection answers once and breaks at its second request.
            let origin = origin(move |number, mut stream| {
                let seen = Rc::clone(&seen);
                async move {
                    while read_head(&mut stream).await {
                        seen.set(seen.get() + 1);
                        if number == 0 && seen.get() == 2 {
                            return;
                        }
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                }
            })
            .await;
            let gateway = Gateway::before(origin);
            let first = format!("{method} /1 HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n");
            let second =
                format!("{method} /2 HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\nConnection: close\r\n\r\n");
            let got = gateway.talk(first + &second).await;
            assert_eq!(got.matches(" 200 OK").count(), if again { 2 } else { 1 }, "{got}");
            let event = gateway.events(2).await.remove(1);
            assert_eq!(event.attempts[0].2, AttemptError::Reset);
            assert!(event.attempts[0].3, "the first try was on the kept connection");
            assert_eq!(event.attempts.len(), if again { 2 } else { 1 });
            assert_eq!(heads.get(), if again { 3 } else { 2 });
        }
    });
}

#[test]
fn what_is_not_http_is_a_bad_gateway() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"SSH-2.0-x\r\n\r\n").await.unwrap();
        })
        .await;
        let gateway = Gateway::before(origin);
        let got = gateway.talk(GET).await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.attempts[0].2, AttemptError::Malformed);
    });
}

#[test]
fn names_are_looked_up() {
    run(async {
        let origin = echo().await;
        let mut entities = everything_to(origin);
        entities["services"][0]["url"] = json!(format!("http://localhost:{}", origin.port()));
        let gateway = Gateway::start(entities, json!({}));
        let got = gateway.talk(GET).await;
        assert!(got.contains(&format!("host: localhost:{}", origin.port())), "{got}");
    });
}
