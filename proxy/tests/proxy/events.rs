//! Server-sent events arrive one by one: the origin sends the next only when the client has read the one before.

use crate::support::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const EVENTS: usize = 5;

/// Sends an event for each permit, by chunks or until the connection's end.
async fn source(chunked: bool, read: &Rc<Semaphore>) -> SocketAddr {
    let read = Rc::clone(read);
    origin(move |_, mut stream| {
        let read = Rc::clone(&read);
        async move {
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let framing = if chunked { "transfer-encoding: chunked" } else { "connection: close" };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for number in 0..EVENTS {
                read.acquire().await.unwrap().forget();
                let event = format!("data: {number}\n\n");
                let piece = if chunked { format!("{:x}\r\n{event}\r\n", event.len()) } else { event };
                stream.write_all(piece.as_bytes()).await.unwrap();
            }
            if chunked {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
                // Whoever keeps the connection ends it.
                let _ended = stream.read(&mut got).await;
            }
        }
    })
    .await
}

#[test]
fn each_event_arrives_before_the_next_is_sent_by_http_1() {
    run(async {
        for chunked in [true, false] {
            let read = Rc::new(Semaphore::new(0));
            let gateway = Gateway::before(source(chunked, &read).await);
            let mut client = TcpStream::connect(gateway.addr).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
            client.write_all(request).await.unwrap();
            let head = read_until(&mut client, "\r\n\r\n").await;
            assert!(
                head.contains("content-type: text/event-stream"),
                "the head comes before any event: {head}"
            );
            for number in 0..EVENTS {
                read.add_permits(1);
                read_until(&mut client, &format!("data: {number}\n\n")).await;
            }
            drop(client);
            let event = gateway.events(1).await.remove(0);
            assert_eq!(event.head.response_bytes, EVENTS as u64 * 9);
            assert_eq!(event.text("content_type"), "text/event-stream");
        }
    });
}

#[test]
fn each_event_arrives_before_the_next_is_sent_by_http_2() {
    run(async {
        let read = Rc::new(Semaphore::new(0));
        let gateway = Gateway::before(source(true, &read).await);
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (mut sender, conn) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let _driver = tokio::task::spawn_local(conn);
        let request = hyper::Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        for number in 0..EVENTS {
            read.add_permits(1);
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"));
        }
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    });
}

/// A version of before chunks: told of a length or by the connection's end, kept open only where it asks.
#[test]
fn clients_of_http_1_0_are_served() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let got = gateway.talk("GET /1 HTTP/1.0\r\nHost: a\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("connection: close\r\n"), "{got}");
        let kept = "GET /2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        let got = gateway.talk([kept, kept, "GET /3 HTTP/1.0\r\nHost: a\r\n\r\n"].concat()).await;
        assert_eq!(got.matches("HTTP/1.1 200 ").count(), 3, "{got}");
        assert_eq!(got.matches("connection: keep-alive\r\n").count(), 2, "{got}");
        let read = Rc::new(Semaphore::new(EVENTS));
        let streaming = Gateway::before(source(true, &read).await);
        let got = streaming.talk(kept).await;
        assert!(!got.to_lowercase().contains("transfer-encoding"), "it knows no chunks: {got}");
        assert!(
            got.contains("connection: close\r\n")
                && got.ends_with("\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"),
            "{got}"
        );
        assert_eq!(gateway.events(4).await.len(), 4);
    });
}
