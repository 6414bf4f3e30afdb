//! HTTP/2 from clients that mean it and from those that do not.

use crate::support::*;
use bytes::Bytes;
use event::{Outcome, Protocol};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::cell::Cell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame: length, type, flags, stream, payload (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// `GET /` for the authority `a`, by the static table (RFC 7541, A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// The types of the frames in a stream of bytes.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        kinds.push(bytes[3]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

#[test]
fn the_preface_is_known_however_it_comes() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.set_nodelay(true).unwrap();
        for byte in PREFACE {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        client.write_all(&frame(HEADERS, 5, 1, GET)).await.unwrap();
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.protocol), (Outcome::Ok, Protocol::H2 as u8));
        // What only begins like it is a malformed request.
        let got = gateway.talk("PRI * HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
        gateway.events(2).await;
    });
}

#[test]
fn streams_are_bounded() {
    run(async {
        let (open, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (open_there, most_there) = (Rc::clone(&open), Rc::clone(&most));
        let origin = origin(move |_, mut stream| {
            let (open, most) = (Rc::clone(&open_there), Rc::clone(&most_there));
            async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    open.set(open.get() + 1);
                    most.set(most.get().max(open.get()));
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    open.set(open.get() - 1);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                }
            }
        })
        .await;
        let gateway = Gateway::start(everything_to(origin), json!({"limits": {"h2_streams_max": 4}}));
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (sender, conn) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(async move {
            let _ended = conn.await;
        });
        let get = || {
            let mut sender = sender.clone();
            async move {
                let request = hyper::Request::get("http://a/").body(Full::new(Bytes::new())).unwrap();
                sender.send_request(request).await.unwrap().status().as_u16()
            }
        };
        // From its answer on the client knows the bound.
        assert_eq!(get().await, 200);
        let statuses = futures::future::join_all((0..60).map(|_| get())).await;
        assert!(statuses.iter().all(|status| *status == 200));
        assert!((1..=4).contains(&most.get()), "{} at once", most.get());
        gateway.events(61).await;
    });
}

#[test]
fn rapid_resets_end_the_connection_and_nobody_else() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        for stream in (1..20_001).step_by(2) {
            bytes.extend(frame(HEADERS, 5, stream, GET));
            bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        let (mut reader, mut writer) = client.split();
        let mut got = Vec::new();
        // The gateway may have closed before all is written.
        let (_written, ended) = tokio::join!(writer.write_all(&bytes), async {
            tokio::time::timeout(PATIENCE, reader.read_to_end(&mut got)).await
        });
        // A reset instead of an end is an end as well.
        let _end = ended.expect("the connection is ended");
        assert!(kinds(&got).contains(&GOAWAY), "{:?}", kinds(&got));
        let other = gateway.talk("GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    });
}

#[test]
fn a_client_that_opens_no_window_is_closed_in_time() {
    run(async {
        const BYTES: usize = 1 << 20;
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
                // The gateway leaves before all is written.
                let _head = stream.write_all(head.as_bytes()).await;
                let _body = stream.write_all(&vec![b'x'; BYTES]).await;
            }
        })
        .await;
        let timeouts = json!({"timeouts": {"sweep_interval_ms": 10, "body_idle_timeout_ms": 100}});
        let gateway = Gateway::start(everything_to(origin), timeouts);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        for stream in [1, 3, 5] {
            client.write_all(&frame(HEADERS, 5, stream, GET)).await.unwrap();
        }
        // It reads all that comes and never opens a window again.
        read_all(&mut client).await;
        for event in gateway.events(3).await {
            assert_eq!((event.outcome, event.head.status), (Outcome::ClientClosed, 200));
            assert!(event.head.response_bytes < BYTES as u64);
        }
    });
}

#[test]
fn a_silent_service_does_not_close_its_clients() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab";
            stream.write_all(head).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            stream.write_all(b"cd").await.unwrap();
        })
        .await;
        let timeouts = json!({"timeouts": {"sweep_interval_ms": 10, "body_idle_timeout_ms": 100}});
        let gateway = Gateway::start(everything_to(origin), timeouts);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        client.write_all(&frame(HEADERS, 5, 1, GET)).await.unwrap();
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.response_bytes), (Outcome::Ok, 4));
    });
}

#[test]
fn what_http2_forbids_never_reaches_a_service() {
    run(async {
        let gateway = Gateway::before(echo().await);
        // Each a literal field without indexing, after the pseudo-headers (RFC 9113, 8.2).
        for (name, value) in [
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("content-length", "5"),
            ("X-Upper", "1"),
            ("x-a", "b\r\nx-c: d"),
            ("x a", "b"),
        ] {
            let mut block = GET.to_vec();
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
            let mut client = TcpStream::connect(gateway.addr).await.unwrap();
            client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
            client.write_all(&frame(HEADERS, 5, 1, &block)).await.unwrap();
            let mut got = Vec::new();
            tokio::time::timeout(PATIENCE, async {
                while !kinds(&got).iter().any(|kind| [RST_STREAM, GOAWAY].contains(kind)) {
                    assert!(client.read_buf(&mut got).await.unwrap() > 0, "{name}: closed {:?}", kinds(&got));
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{name}: {:?}", kinds(&got)));
        }
        gateway.events(0).await;
    });
}
