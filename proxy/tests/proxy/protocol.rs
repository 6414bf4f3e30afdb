//! HTTP/2, TLS and upgrades.

use crate::support::*;
use bytes::Bytes;
use event::{Outcome, Protocol, Scheme, TlsVersion};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn h2_get<S>(stream: S, uri: &str, count: usize) -> Vec<(u16, String)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, conn) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ended = conn.await;
    });
    let calls = (0..count).map(|_| {
        let mut sender = sender.clone();
        let request = hyper::Request::post(uri)
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::new(Bytes::new()))
            .unwrap();
        async move {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        }
    });
    futures::future::join_all(calls).await
}

#[test]
fn http2_by_prior_knowledge() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let answers = h2_get(stream, "http://Example.com/x", 5).await;
        for (status, body) in &answers {
            assert_eq!(*status, 200);
            assert!(body.starts_with("POST /x HTTP/1.1\r\n") && body.contains("cookie: a=1; b=2"), "{body}");
            assert!(body.contains("x-forwarded-host: example.com"), "{body}");
        }
        let events = gateway.events(5).await;
        assert!(events.iter().all(|event| event.outcome == Outcome::Ok));
        assert!(events.iter().all(|event| event.head.protocol == Protocol::H2 as u8));
    });
}

#[test]
fn a_reset_stream_is_recorded_as_closed_by_the_client() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
        })
        .await;
        let gateway = Gateway::before(origin);
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (mut sender, conn) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(async move {
            let _ended = conn.await;
        });
        let request = hyper::Request::get("http://a/x").body(Full::new(Bytes::new())).unwrap();
        let call = sender.send_request(request);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(100), call).await.is_err());
        assert_eq!(gateway.events(1).await[0].outcome, Outcome::ClientClosed);
    });
}

#[test]
fn tls_speaks_both_versions() {
    run(async {
        let signed = SelfSigned::new();
        let listen = json!([{"name": "tls", "address": "127.0.0.1:0", "tls": signed.tls()}]);
        let gateway = Gateway::start(everything_to(echo().await), json!({"listen": listen}));
        let mut config = signed.believed();
        for alpn in ["http/1.1", "h2"] {
            config.alpn_protocols = vec![alpn.into()];
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
            let stream = TcpStream::connect(gateway.addr).await.unwrap();
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
            let got = if alpn == "h2" {
                h2_get(stream, "https://localhost/x", 1).await.remove(0).1
            } else {
                stream
                    .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .await
                    .unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                String::from_utf8_lossy(&got).into_owned()
            };
            assert!(got.contains("x-forwarded-proto: https"), "{got}");
        }
        let events = gateway.events(2).await;
        for event in &events {
            assert_eq!((event.outcome, event.head.scheme), (Outcome::Ok, Scheme::Https as u8));
            assert_eq!(event.head.tls_version, TlsVersion::Tls13 as u8);
            assert_eq!((event.text("sni"), event.text("listener")), ("localhost", "tls"));
        }
    });
}

#[test]
fn upgrades_become_tunnels_after_101_and_only_then() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let head = String::from_utf8_lossy(&got).to_lowercase();
            assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
            assert!(head.contains("sec-websocket-key: k"), "{head}");
            let answer =
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\nhello";
            stream.write_all(answer).await.unwrap();
            let mut buffer = [0; 100];
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                if read == 0 {
                    return;
                }
                stream.write_all(&buffer[..read]).await.unwrap();
            }
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\n\r\nearly";
        client.write_all(head.as_bytes()).await.unwrap();
        let got = read_until(&mut client, "early").await;
        assert!(got.starts_with("HTTP/1.1 101 ") && got.contains("hello"), "{got}");
        client.write_all(b"more").await.unwrap();
        read_until(&mut client, "more").await;
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, "");
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::Ok, 101));
        assert_eq!(event.head.protocol, Protocol::Websocket as u8);
        assert_eq!((event.head.request_bytes, event.head.response_bytes), (9, 14));
    });
}

#[test]
fn the_body_of_a_request_that_becomes_a_tunnel_is_counted_with_it() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while !got.ends_with(b"BODYX") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let mut tunnelled = [0; 3];
            stream.read_exact(&mut tunnelled).await.unwrap();
            stream.write_all(&tunnelled).await.unwrap();
        })
        .await;
        let gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nBODYX";
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
        client.write_all(b"abc").await.unwrap();
        assert_eq!(read_until(&mut client, "abc").await, "abc");
        drop(client);
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.head.request_bytes, event.head.response_bytes), (8, 3));
    });
}

#[test]
fn a_refused_upgrade_stays_http() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let got = gateway
            .talk("GET /1 HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(got.matches("HTTP/1.1 200 ").count(), 2, "{got}");
        assert_eq!(gateway.events(2).await[1].text("path"), "/2");
    });
}
