//! Clients that leave, dawdle, stream, and ask for more than is allowed.

use crate::support::*;
use event::Outcome;
use serde_json::json;
use std::cell::Cell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[test]
fn a_client_that_leaves_cancels_the_upstream_call() {
    run(async {
        let (arrived, gone) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (arrived_there, gone_there) = (Rc::clone(&arrived), Rc::clone(&gone));
        let origin = origin(move |_, mut stream| {
            let (arrived, gone) = (Rc::clone(&arrived_there), Rc::clone(&gone_there));
            async move {
                let mut buffer = [0; 4096];
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                arrived.notify_one();
                // The gateway closes: an end or a reset.
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
                gone.notify_one();
            }
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        arrived.notified().await;
        drop(client);
        tokio::time::timeout(PATIENCE, gone.notified()).await.unwrap();
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::ClientClosed, 499));
    });
}

#[test]
fn a_client_that_leaves_in_the_response_is_recorded_as_that() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
                .await
                .unwrap();
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut client, "hello").await;
        drop(client);
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::ClientClosed, 200));
        assert_eq!(event.head.response_bytes, 5);
    });
}

#[test]
fn bodies_stream_both_ways() {
    run(async {
        // Answers each piece as it comes: nothing may wait for an end.
        let origin = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while !got.ends_with(b"ping\r\n") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npong\r\n")
                .await
                .unwrap();
            while !got.ends_with(b"0\r\n\r\n") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            stream.write_all(b"3\r\nend\r\n0\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "pong").await;
        client.write_all(b"0\r\n\r\n").await.unwrap();
        read_until(&mut client, "end").await;
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.outcome, Outcome::Ok);
        assert_eq!((event.head.request_bytes, event.head.response_bytes), (4, 7));
        assert_ne!(event.head.request_body_us, event::ABSENT_U32);
    });
}

#[test]
fn large_bodies_arrive_whole() {
    run(async {
        const BYTES: usize = 8 << 20;
        let got = Rc::new(Cell::new(0));
        let count = Rc::clone(&got);
        let origin = origin(move |_, mut stream| {
            let count = Rc::clone(&count);
            async move {
                let mut buffer = vec![0; 1 << 16];
                while count.get() < BYTES {
                    let read = stream.read(&mut buffer).await.unwrap();
                    assert!(read > 0);
                    count.set(count.get() + buffer[..read].iter().filter(|byte| **byte == 0xee).count());
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&vec![0xdd; BYTES]).await.unwrap();
            }
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head =
            format!("PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {BYTES}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![0xee; BYTES]).await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back.iter().filter(|byte| **byte == 0xdd).count(), BYTES);
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.head.request_bytes, event.head.response_bytes), (BYTES as u64, BYTES as u64));
    });
}

#[test]
fn slow_heads_and_bodies_time_out() {
    run(async {
        let timeouts = json!({"timeouts": {"sweep_interval_ms": 10, "header_timeout_ms": 60, "body_idle_timeout_ms": 60, "idle_timeout_ms": 60}});
        let gateway = Gateway::start(everything_to(echo().await), timeouts);
        let head = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\nX-").await;
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        let idle = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(idle.starts_with("HTTP/1.1 200 "), "closed when idle: {idle}");
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
        })
        .await;
        let events = gateway.events(2).await;
        assert_eq!((events[0].outcome, events[0].head.status), (Outcome::RequestTimeout, 408));
        assert_eq!(events[1].outcome, Outcome::Ok);
        let gateway = Gateway::start(
            everything_to(origin),
            json!({"timeouts": {"sweep_interval_ms": 10, "body_idle_timeout_ms": 60}}),
        );
        let body = gateway.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
        assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.request_bytes), (Outcome::RequestTimeout, 5));
    });
}

#[test]
fn bodies_have_a_bound() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
        })
        .await;
        let gateway = Gateway::start(everything_to(origin), json!({"limits": {"body_bytes_max": 8}}));
        let declared = gateway
            .talk("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n123456789")
            .await;
        assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
        let chunked =
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
        let chunked = gateway.talk(chunked).await;
        assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
        assert!(gateway.events(2).await.iter().all(|event| event.outcome == Outcome::TooLarge));
    });
}

#[test]
fn a_refused_body_is_never_a_request() {
    run(async {
        let mut entities = everything_to(echo().await);
        entities["services"][0]["routes"][0]["paths"] = json!(["/only"]);
        let gateway = Gateway::start(entities, json!({}));
        let inner = "GET /only HTTP/1.1\r\nHost: a\r\n\r\n";
        let got = gateway
            .talk(format!(
                "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}GET /only/2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                inner.len()
            ))
            .await;
        assert_eq!(got.matches("HTTP/1.1 404 ").count(), 1, "{got}");
        assert_eq!(got.matches("HTTP/1.1 200 ").count(), 1, "drained, so the next request is served: {got}");
        assert_eq!(gateway.events(2).await[1].text("path"), "/only/2");
    });
}

#[test]
fn expectations_are_answered() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while !got.ends_with(b"body!") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            while stream.read_buf(&mut got).await.unwrap_or(0) > 0 {}
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "100 Continue\r\n\r\n").await;
        client.write_all(b"body!").await.unwrap();
        let got = read_until(&mut client, "\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 204 No Content") && !got.contains("content-length"), "{got}");
        assert_eq!(gateway.events(1).await[0].outcome, Outcome::Ok);
    });
}

#[test]
fn head_requests_have_no_body_and_keep_the_length() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let gateway = Gateway::before(origin);
        let got = gateway
            .talk("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(got.matches("content-length: 1234").count(), 2, "{got}");
        let events = gateway.events(2).await;
        assert!(events.iter().all(|event| event.outcome == Outcome::Ok && event.head.response_bytes == 0));
        assert!(events[1].attempts[0].3, "the connection was kept");
    });
}
