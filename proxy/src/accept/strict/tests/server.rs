//! A real hyper server behind the guard, driven as a connection's owner does.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::{Exchange, Rule, StrictIo, StrictLimits, Violation};
use super::rules::accepted;

/// A response body that keeps its exchange open.
struct Answer(Full<Bytes>, #[expect(dead_code, reason = "held for its drop")] Exchange);

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

struct Served {
    violation: Option<Violation>,
    read_ahead: Vec<u8>,
}

/// Serves one connection: echoes path and body, slowly; 101 for `/tunnel`; 400 when the body fails.
async fn serve(io: DuplexStream) -> Served {
    let (guarded, handle) = StrictIo::new(TokioIo::new(io), StrictLimits::default());
    let of_service = handle.clone();
    let tunnel = Rc::new(Cell::new(false));
    let switched = Rc::clone(&tunnel);
    let service = service_fn(move |request: Request<Incoming>| {
        let exchange = of_service.exchange();
        let (handle, tunnel) = (of_service.clone(), Rc::clone(&tunnel));
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            // Let the connection look for a client that left.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let mut status = StatusCode::OK;
            let mut text = path.clone();
            match body {
                Ok(body) => text.push_str(&String::from_utf8_lossy(&body.to_bytes())),
                Err(_) => {
                    status =
                        StatusCode::from_u16(handle.violation().map_or(500, |seen| seen.status())).unwrap();
                    text = "body refused".into();
                }
            }
            let mut response = Response::builder().status(status);
            if path == "/tunnel" {
                tunnel.set(true);
                response =
                    Response::builder().status(101).header("upgrade", "x").header("connection", "upgrade");
                text.clear();
            }
            Ok::<_, Infallible>(response.body(Answer(Full::from(text), exchange)).unwrap())
        })
    });
    let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(guarded, service);
    let _ = poll_fn(|cx| Poll::Ready(ready!(connection.poll_without_shutdown(cx)))).await;
    let parts = connection.into_parts();
    assert!(parts.read_buf.is_empty(), "hyper was given nothing that it did not need");
    if switched.get() {
        handle.tunnel();
    }
    let (io, read_ahead) = parts.io.into_inner();
    let mut io = io.into_inner();
    let violation = handle.violation();
    if let Some(violation) = violation.as_ref().filter(|violation| !violation.in_body) {
        io.write_all(format!("REFUSED {}", violation.status()).as_bytes()).await.unwrap();
    }
    Served { violation, read_ahead }
}

/// Sends the pieces one after the other, each after the server had time for the one before, then reads until `until`
/// has come or the server closes. Says all that came back and how it ended.
async fn talk(pieces: &[&[u8]], until: &str) -> (String, Served) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let conversation = async {
        for piece in pieces {
            // A server that has refused and left takes no more.
            if client.write_all(piece).await.is_err() {
                break;
            }
            // All runs on this one thread, so this is enough for an answer, however slow the machine.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        let mut got = Vec::new();
        let mut text = String::new();
        while !text.contains(until) && client.read_buf(&mut got).await.unwrap() > 0 {
            text = String::from_utf8_lossy(&got).into_owned();
        }
        drop(client);
        text
    };
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(conversation, serve(server)) })
        .await
        .unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn earlier_pipelined_answers_go_out_before_the_refusal() {
    let requests = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\nHost: a\r\n\r\n";
    for at in 1..requests.len() {
        let (got, served) = run(talk(&[&requests[..at], &requests[at..]], "REFUSED 400"));
        assert_eq!(served.violation.map(|seen| seen.rule), Some(Rule::BareLf));
        assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 2, "{at}: {got}");
        assert!(got.contains("\r\n\r\n/1") && got.contains("\r\n\r\n/2"), "{at}: {got}");
        assert!(got.ends_with("REFUSED 400"), "{at}: {got}");
    }
}

#[test]
fn a_broken_body_fails_its_request() {
    let head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    // In one piece no service sees it.
    let (got, served) = run(talk(&[[&head[..], b"2\r\nhi\n0\r\n\r\n"].concat().as_slice()], "REFUSED 400"));
    assert_eq!((got.as_str(), served.violation.unwrap().in_body), ("REFUSED 400", false));
    // After its head was taken, the service sees the body fail.
    let (got, served) = run(talk(&[head, b"2\r\nhi\n0\r\n\r\n"], "body refused"));
    assert!(got.starts_with("HTTP/1.1 400 ") && got.ends_with("body refused"), "{got}");
    assert!(served.violation.unwrap().in_body);
}

#[test]
fn expect_continue_and_keep_alive_work() {
    let head = b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (got, served) =
        run(talk(&[head, b"abc", b"GET /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"], "/y"));
    assert_eq!(served.violation, None);
    assert!(got.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{got}");
    assert!(got.contains("/xabc") && got.ends_with("/y"), "{got}");
}

#[test]
fn premature_tunnel_bytes_reach_the_tunnel_and_nobody_else() {
    let upgrade = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{more}")
            .into_bytes()
    };
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let (got, served) = run(talk(&[&upgrade("/tunnel", smuggled)], "no more"));
    assert!(got.starts_with("HTTP/1.1 101 ") && !got.contains("smuggled"), "{got}");
    assert_eq!(served.read_ahead, smuggled.as_bytes());
    // Without a tunnel the connection goes on, by the usual rules.
    let (got, served) = run(talk(&[&upgrade("/no", "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")], "/next"));
    assert_eq!(served.violation, None);
    assert!(got.contains("\r\n\r\n/no") && got.ends_with("/next"), "{got}");
    let (got, served) = run(talk(&[&upgrade("/no", "\u{1}\u{2}")], "REFUSED 400"));
    assert_eq!(served.violation.map(|seen| seen.rule), Some(Rule::Method));
    assert!(got.contains("\r\n\r\n/no") && got.ends_with("REFUSED 400"), "{got}");
}

#[test]
fn hyper_takes_all_that_passes() {
    for (input, _) in accepted().into_iter().filter(|(_, heads)| *heads == 1) {
        let (got, served) = run(talk(&[&input], " 200 OK\r\n"));
        assert_eq!(served.violation, None);
        assert_eq!(got.matches(" 200 OK\r\n").count(), 1, "{:?}: {got}", String::from_utf8_lossy(&input));
    }
}
