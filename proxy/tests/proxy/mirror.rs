//! Copies of requests: what goes with them, what is dropped, and that nobody waits for them.

use crate::support::*;
use event::Outcome;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Heard = Rc<RefCell<Vec<String>>>;

/// An origin that notes each request with its body and answers it with so many bytes, or never.
async fn listener(answers: Option<usize>) -> (SocketAddr, Heard) {
    let heard = Heard::default();
    let notes = Rc::clone(&heard);
    let addr = origin(move |_, mut stream| {
        let notes = Rc::clone(&notes);
        async move {
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&got).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let ended = match length {
                    Some(length) => body.len() == length.parse::<usize>().unwrap(),
                    None => !head.contains("chunked") || body.ends_with("0\r\n\r\n"),
                };
                if !ended {
                    continue;
                }
                got.clear();
                notes.borrow_mut().push(text);
                let Some(bytes) = answers else { continue };
                let answer =
                    format!("HTTP/1.1 500 No\r\ncontent-length: {bytes}\r\n\r\n{}", "n".repeat(bytes));
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (addr, heard)
}

async fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A service whose requests are mirrored to another.
fn entities(origin: SocketAddr, to: SocketAddr, routes: Value) -> Value {
    json!({
        "services": [
            {"name": "s", "url": format!("http://{origin}/base"), "routes": routes},
            {"name": "copies", "url": format!("http://{to}/copy"), "retries": 0},
        ],
        "consumers": [{"username": "alice", "keyauth_credentials": [{"key": "key-a"}]}],
    })
}

fn mirrored() -> Value {
    json!([{"name": "r", "paths": ["/a"], "mirror": {"service": "copies"}}])
}

#[test]
fn a_copy_has_all_that_the_request_has() {
    run(async {
        let (copies, heard) = listener(Some(3)).await;
        let routes = json!([
            {"name": "keyed", "paths": ["/k"], "mirror": {"service": "copies"}, "preserve_host": true,
                "plugins": [{"name": "key-auth", "config": {"hide_credentials": true}}]},
            {"name": "half", "paths": ["/h"], "mirror": {"service": "copies", "percentage": 0}},
            {"name": "r", "paths": ["/a"], "rewrite": {"prefix": "/b"}, "mirror": {"service": "copies"}},
        ]);
        let gateway = Gateway::start(entities(echo().await, copies, routes), json!({}));
        let requests = [
            (
                "GET /k/x?q=1&apikey=key-a HTTP/1.1\r\nHost: Shop.example:81\r\nX-Y: z\r\nConnection: close\r\n\r\n",
                "sent",
            ),
            ("GET /h/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", ""),
            ("POST /a/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "sent"),
            (
                "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                "sent",
            ),
            ("GET /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", ""),
        ];
        for (request, _) in requests {
            let got = gateway.talk(request).await;
            assert!(got.starts_with("HTTP/1.1 200 ") || got.starts_with("HTTP/1.1 401 "), "{got}");
            assert!(!got.contains("-shadow"), "{got}");
        }
        until(|| heard.borrow().len() == 3).await;
        let mut heard = heard.borrow().clone();
        heard.sort();
        let port = copies.port();
        for (text, parts) in heard.iter().zip([
            vec![
                "GET /copy/x?q=1 HTTP/1.1\r\n",
                "host: shop.example-shadow:81\r\n",
                "x-y: z\r\n",
                "x-consumer-username: alice\r\n",
            ],
            vec!["POST /copy/b HTTP/1.1\r\n", "content-length: 5\r\n", "\r\n\r\nabcde"],
            vec![
                "POST /copy/b/x HTTP/1.1\r\n",
                &format!("host: 127.0.0.1-shadow:{port}\r\n"),
                "\r\n\r\nhello",
            ],
        ]) {
            assert!(parts.iter().all(|part| text.contains(part)), "{text} {parts:?}");
            assert!(!text.contains("key-a"), "{text}");
        }
        // One event each, of the request alone.
        let events = gateway.events(5).await;
        for (event, (_, said)) in events.iter().zip(requests) {
            assert_eq!(event.extra("mirror").unwrap_or_default(), said);
            assert!(event.attempts.len() <= 1 && event.text("service") == "s", "{event:#?}");
        }
        let id = heard[0].lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        let known: String = events[0].head.request_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(id, known);
    });
}

#[test]
fn nobody_waits_for_copies_and_they_are_bounded() {
    run(async {
        let (copies, heard) = listener(None).await;
        let limits = json!({"limits": {"mirror_requests_max": 2}, "timeouts": {"mirror_timeout_ms": 300, "sweep_interval_ms": 10}});
        let gateway = Gateway::start(entities(echo().await, copies, mirrored()), limits);
        let ask = || gateway.talk("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        for _ in 0..4 {
            assert!(ask().await.starts_with("HTTP/1.1 200 "));
        }
        until(|| heard.borrow().len() == 2).await;
        // Each gives its place back in its time.
        let deadline = Instant::now() + PATIENCE;
        let mut asked = 4;
        while heard.borrow().len() < 3 {
            assert!(Instant::now() < deadline && ask().await.starts_with("HTTP/1.1 200 "));
            asked += 1;
        }
        let events = gateway.events(asked).await;
        let said: Vec<_> = events[..4].iter().map(|event| event.extra("mirror").unwrap()).collect();
        assert_eq!(said, ["sent", "sent", "dropped_busy", "dropped_busy"]);
        assert!(events.iter().all(|event| event.outcome == Outcome::Ok));
    });
}

#[test]
fn nobody_notices_where_copies_cannot_go() {
    run(async {
        let nobody = free_addr();
        let (long, heard) = listener(Some(200_000)).await;
        for copies in [nobody, long] {
            let limits = json!({"limits": {"mirror_requests_max": 1, "mirror_body_bytes_max": 1000}});
            let gateway = Gateway::start(entities(echo().await, copies, mirrored()), limits);
            let mut sent = 0;
            // A place is free again soon after.
            while sent < 3 {
                let got = gateway.talk("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
                sent += 1;
            }
        }
        until(|| !heard.borrow().is_empty()).await;
    });
}

#[test]
fn what_is_too_long_or_cut_has_no_copy_and_goes_on_whole() {
    run(async {
        let ((main, whole), (copies, heard)) = (listener(Some(0)).await, listener(Some(0)).await);
        let limits = json!({"limits": {"mirror_body_bytes_max": 8}, "timeouts": {"sweep_interval_ms": 10}});
        let gateway = Gateway::start(entities(main, copies, mirrored()), limits);
        for request in [
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\n123456789",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nConnection: close\r\n\r\n12345678",
        ] {
            let got = gateway.talk(request).await;
            assert!(got.starts_with("HTTP/1.1 500 "), "{got}");
        }
        until(|| heard.borrow().len() == 1).await;
        assert_eq!(whole.borrow().len(), 3);
        let mut client = tokio::net::TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n1234").await.unwrap();
        drop(client);
        let events = gateway.events(4).await;
        let said: Vec<_> = events.iter().map(|event| event.extra("mirror").unwrap()).collect();
        assert_eq!(said, ["dropped_body", "dropped_body", "sent", "dropped_unfinished"]);
        assert_eq!((heard.borrow().len(), whole.borrow().len()), (1, 3));
    });
}

#[test]
fn requests_to_http2_services_are_copied_too() {
    run(async {
        let (copies, heard) = listener(Some(3)).await;
        let (addr, _) = crate::grpc::server().await;
        let gateway = Gateway::start(
            json!({"services": [
                {"name": "s", "url": format!("http://{addr}"), "http2": true, "routes": mirrored()},
                {"name": "copies", "url": format!("http://{copies}")}]}),
            json!({}),
        );
        let got = gateway
            .talk("POST /a/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nping")
            .await;
        assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("4\r\nping\r\n"), "{got}");
        until(|| heard.borrow().len() == 1).await;
        assert!(heard.borrow()[0].ends_with("\r\n\r\nping"), "{heard:?}");
        assert_eq!(gateway.events(1).await[0].extra("mirror"), Some("sent"));
    });
}
