//! gRPC end to end, in messages made by hand: HTTP/2 on both sides, trailers, streams both ways, errors as gRPC has them.

use crate::states::{Shown, of};
use crate::support::*;
use bytes::{Bytes, BytesMut};
use event::upstreams::TargetCondition;
use event::{Outcome, Protocol};
use futures::SinkExt;
use futures::channel::mpsc;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::TcpStream;

type Piece = Result<Frame<Bytes>, Infallible>;
type Pieces = StreamBody<mpsc::Receiver<Piece>>;

/// A message: not compressed, its length, itself.
fn message(text: &str) -> Bytes {
    let mut bytes = BytesMut::from(&[0][..]);
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.freeze()
}

fn trailers(pairs: &[(&'static str, &'static str)]) -> Frame<Bytes> {
    Frame::trailers(pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect())
}

/// A server of gRPC: it echoes each message as it comes, then ends with the status that the path names.
pub async fn server() -> (SocketAddr, Rc<Cell<usize>>) {
    let connections = Rc::new(Cell::new(0));
    let count = Rc::clone(&connections);
    let addr = origin(move |_, stream| {
        count.set(count.get() + 1);
        async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                let status = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let (mut sender, receiver) = mpsc::channel::<Piece>(1);
                let said = format!(
                    "{} {:?} {:?} {}",
                    request.uri().authority().map_or("-", |authority| authority.as_str()),
                    request.version(),
                    request.headers().get("te"),
                    request.headers().contains_key("connection"),
                );
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut ended = String::from("none");
                    while let Some(Ok(frame)) = body.frame().await {
                        match frame.into_data() {
                            Ok(data) => {
                                if sender.send(Ok(Frame::data(data))).await.is_err() {
                                    return;
                                }
                            }
                            Err(frame) => {
                                ended = frame.trailers_ref().unwrap()["x-sum"].to_str().unwrap().to_owned();
                            }
                        }
                    }
                    let mut map = HeaderMap::new();
                    map.insert("grpc-status", status.parse().unwrap());
                    map.insert("grpc-message", "as%20asked".parse().unwrap());
                    map.insert("x-client-sum", ended.parse().unwrap());
                    let _gone = sender.send(Ok(Frame::trailers(map))).await;
                });
                let response =
                    Response::builder().header("content-type", "application/grpc").header("x-said", said);
                Ok::<_, Infallible>(response.body(StreamBody::new(receiver)).unwrap())
            });
            let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
    (addr, connections)
}

async fn client(addr: SocketAddr) -> SendRequest<Pieces> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, conn) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ended = conn.await;
    });
    sender
}

fn call(path: &str) -> (mpsc::Sender<Piece>, Request<Pieces>) {
    let (sender, receiver) = mpsc::channel(1);
    let request = Request::post(format!("http://gateway.test{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(StreamBody::new(receiver))
        .unwrap();
    (sender, request)
}

fn service(addr: SocketAddr) -> serde_json::Value {
    json!({"services": [{"name": "greeter", "url": format!("grpc://{addr}"), "retries": 0,
        "routes": [{"name": "all", "paths": ["/"], "strip_path": false, "protocols": ["grpc", "grpcs"]}]}]})
}

/// The same with several targets.
fn group(algorithm: &str, targets: &[SocketAddr]) -> serde_json::Value {
    let targets: Vec<_> = targets.iter().map(|addr| json!({"target": addr.to_string()})).collect();
    json!({"services": [{"name": "greeter", "protocol": "grpc", "host": "group", "retries": 1,
        "routes": [{"name": "all", "paths": ["/"], "strip_path": false, "protocols": ["grpc"]}]}],
        "upstreams": [{"name": "group", "algorithm": algorithm, "targets": targets}]})
}

async fn next(body: &mut Incoming) -> Frame<Bytes> {
    tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap()
}

#[test]
fn streams_go_both_ways_with_their_trailers() {
    run(async {
        let (addr, connections) = server().await;
        let gateway = Gateway::start(service(addr), json!({}));
        let mut client = client(gateway.addr).await;
        for status in ["0", "5"] {
            let (mut sender, request) = call(&format!("/greeter/{status}"));
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let said = response.headers()["x-said"].to_str().unwrap();
            assert_eq!(said, format!("{addr} HTTP/2.0 Some(\"trailers\") false"));
            let mut body = response.into_body();
            // Each answer comes before the next question is asked.
            for text in ["one", "two", "three"] {
                sender.send(Ok(Frame::data(message(text)))).await.unwrap();
                assert_eq!(next(&mut body).await.into_data().unwrap(), message(text));
            }
            let ends = trailers(&[("x-sum", "11"), ("x-consumer-id", "admin")]);
            sender.send(Ok(ends)).await.unwrap();
            let last = next(&mut body).await.into_trailers().unwrap();
            assert_eq!(
                (&last["grpc-status"], &last["grpc-message"]),
                (&status.parse().unwrap(), &"as%20asked".parse().unwrap())
            );
            assert_eq!(last["x-client-sum"], "11");
        }
        assert_eq!(connections.get(), 1, "calls share a connection");
        let events = gateway.events(2).await;
        for (event, status) in events.iter().zip([0, 5]) {
            assert_eq!((event.outcome, event.head.protocol), (Outcome::Ok, Protocol::Grpc as u8));
            assert_eq!((event.head.status, event.head.grpc_status), (200, status));
            assert_eq!((event.head.request_bytes, event.head.response_bytes), (26, 26));
        }
        assert_eq!([events[0].attempts[0].3, events[1].attempts[0].3], [false, true]);
    });
}

#[test]
fn many_calls_at_once_are_spread_by_the_bound() {
    run(async {
        let (addr, connections) = server().await;
        let gateway = Gateway::start(service(addr), json!({"limits": {"upstream_streams_max": 4}}));
        let client = client(gateway.addr).await;
        let mut open = Vec::new();
        for _ in 0..10 {
            let (sender, request) = call("/greeter/0");
            open.push((sender, client.clone().send_request(request).await.unwrap()));
        }
        assert_eq!(connections.get(), 3);
        for (sender, response) in open {
            drop(sender);
            let end = next(&mut response.into_body()).await.into_trailers().unwrap();
            assert_eq!(end["grpc-status"], "0");
        }
        gateway.events(10).await;
    });
}

#[test]
fn open_calls_count_at_their_own_target() {
    run(async {
        let ((one, at_one), (other, at_other)) = (server().await, server().await);
        let gateway = Gateway::start(group("least-connections", &[one, other]), json!({}));
        let mut client = client(gateway.addr).await;
        let (held, request) = call("/greeter/0");
        let mut response = client.send_request(request).await.unwrap();
        let said = |response: &Response<Incoming>| response.headers()["x-said"].to_str().unwrap().to_owned();
        let busy = said(&response);
        for ended in 1..=4 {
            let (sender, request) = call("/greeter/0");
            drop(sender);
            let response = client.send_request(request).await.unwrap();
            assert_ne!(said(&response), busy, "the other has none");
            next(&mut response.into_body()).await;
            gateway.events(ended).await;
        }
        assert_eq!((at_one.get(), at_other.get()), (1, 1), "calls share the connection of their target");
        drop(held);
        next(response.body_mut()).await;
        gateway.events(5).await;
        // Free again, it has its turn.
        let mut seen = Vec::new();
        for _ in 0..4 {
            let (sender, request) = call("/greeter/0");
            drop(sender);
            let response = client.send_request(request).await.unwrap();
            seen.push(said(&response));
            next(&mut response.into_body()).await;
            gateway.events(5 + seen.len()).await;
        }
        assert!(seen.contains(&busy), "{seen:?}");
        assert_eq!((at_one.get(), at_other.get()), (1, 1));
    });
}

#[test]
fn calls_that_reach_nobody_go_to_the_next_target() {
    run(async {
        let free = free_addr();
        let (addr, connections) = server().await;
        let gateway = Gateway::start(group("round-robin", &[free, addr]), json!({}));
        let mut client = client(gateway.addr).await;
        for _ in 0..4 {
            let (mut sender, request) = call("/greeter/0");
            sender.send(Ok(Frame::data(message("one")))).await.unwrap();
            drop(sender);
            let response = client.send_request(request).await.unwrap();
            let mut body = response.into_body();
            assert_eq!(next(&mut body).await.into_data().unwrap(), message("one"));
            assert_eq!(next(&mut body).await.into_trailers().unwrap()["grpc-status"], "0");
        }
        assert_eq!(connections.get(), 1);
        let events = gateway.events(4).await;
        let tries: usize = events.iter().map(|event| event.attempts.len()).sum();
        assert!((5..=8).contains(&tries), "{tries}");
        assert!(events.iter().all(|event| event.outcome == Outcome::Ok && event.head.request_bytes == 8));
    });
}

/// A server whose calls end with these statuses, one after the other and then again; in trailers, or in a head that is
/// all there is.
async fn ending(statuses: &'static [&'static str], in_head: bool) -> SocketAddr {
    let turn = Rc::new(Cell::new(0));
    origin(move |_, stream| {
        let turn = Rc::clone(&turn);
        async move {
            let service = service_fn(move |_: Request<Incoming>| {
                let status = statuses[turn.replace(turn.get() + 1) % statuses.len()];
                async move {
                    let response = Response::builder().header("content-type", "application/grpc");
                    if in_head {
                        let response = response.header("grpc-status", status);
                        return Ok::<_, Infallible>(response.body(Either::Right(Empty::new())).unwrap());
                    }
                    let (mut sender, receiver) = mpsc::channel::<Piece>(2);
                    sender.send(Ok(Frame::data(message("some")))).await.unwrap();
                    if !status.is_empty() {
                        sender.send(Ok(trailers(&[("grpc-status", status)]))).await.unwrap();
                    }
                    Ok(response.body(Either::Left(StreamBody::new(receiver))).unwrap())
                }
            });
            let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

/// Calls so many times, one after the other, and says how many of the calls each of the two addresses had.
async fn spread(upstream: &serde_json::Value, targets: [SocketAddr; 2], calls: usize) -> [usize; 2] {
    let mut entities = group("round-robin", &targets);
    for (name, value) in upstream.as_object().unwrap() {
        entities["upstreams"][0][name] = value.clone();
    }
    let gateway = Gateway::start(entities, json!({}));
    let mut client = client(gateway.addr).await;
    for _ in 0..calls {
        let (sender, request) = call("/greeter/0");
        drop(sender);
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        tokio::time::timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    }
    let events = gateway.events(calls).await;
    assert!(events.iter().all(|event| event.outcome == Outcome::Ok && event.attempts.len() == 1));
    targets.map(|addr| events.iter().filter(|event| event.text("upstream_addr") == addr.to_string()).count())
}

#[test]
fn calls_that_fail_take_their_target_out_by_the_status_that_envoy_has_for_theirs() {
    run(async {
        let well = ending(&["0"], false).await;
        let upstream = json!({"outlier_detection": {"consecutive_5xx": 1}});
        for (statuses, fails) in [
            (&["0"], false),
            (&["1"], false),
            (&["2"], true),
            (&["3"], false),
            (&["4"], true),
            (&["5"], false),
            (&["6"], false),
            (&["7"], false),
            (&["8"], false),
            (&["9"], false),
            (&["10"], false),
            (&["11"], false),
            (&["12"], true),
            (&["13"], true),
            (&["14"], true),
            (&["15"], true),
            (&["16"], false),
            (&["17"], true),
            // No status at all, which gRPC's clients take for UNKNOWN.
            (&[""], true),
        ] {
            for in_head in [false, true] {
                let sick = ending(statuses, in_head && statuses != &[""]).await;
                let had = spread(&upstream, [sick, well], 6).await;
                assert_eq!(had, if fails { [1, 5] } else { [3, 3] }, "{statuses:?}, in the head: {in_head}");
            }
        }
    });
}

#[test]
fn calls_that_go_well_begin_the_row_anew_at_their_end() {
    run(async {
        let upstream = json!({"outlier_detection": {"consecutive_5xx": 3}});
        let well = ending(&["0"], false).await;
        for in_head in [false, true] {
            let moody = ending(&["14", "13", "0"], in_head).await;
            assert_eq!(spread(&upstream, [moody, well], 18).await, [9, 9]);
            let sick = ending(&["14", "13", "2", "0"], in_head).await;
            assert_eq!(spread(&upstream, [sick, well], 18).await, [3, 15]);
        }
    });
}

#[test]
fn passive_checks_see_the_status_of_a_call() {
    run(async {
        let well = ending(&["0"], false).await;
        let checks = json!({"healthchecks": {"passive": {"unhealthy": {"http_failures": 2}}}});
        for (statuses, had) in [(&["8"], [2, 8]), (&["14"], [2, 8]), (&["13"], [2, 8]), (&["5"], [5, 5])] {
            assert_eq!(spread(&checks, [ending(statuses, false).await, well], 10).await, had, "{statuses:?}");
        }
        let sick = ending(&["14"], false).await;
        let mut entities = group("round-robin", &[sick, well]);
        entities["upstreams"][0]["healthchecks"] = checks["healthchecks"].clone();
        let shown = Shown::start(entities, json!({}));
        let mut client = client(shown.gateway.addr).await;
        for _ in 0..6 {
            let (sender, request) = call("/greeter/0");
            drop(sender);
            client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        }
        let states =
            shown.once("all calls", |states| states.targets.iter().map(|row| row.requests).sum::<u64>() == 6);
        let states = states.await;
        let row = of(&states, sick);
        assert_eq!((row.state, row.requests, row.failures), (TargetCondition::Unhealthy, 2, 2));
        assert_eq!(row.last_failure.as_deref(), Some("grpc_14"));
        assert_eq!(of(&states, well).failures, 0);
    });
}

#[test]
fn a_client_that_leaves_ends_the_call() {
    run(async {
        let (addr, connections) = server().await;
        let gateway = Gateway::start(service(addr), json!({}));
        let mut client = client(gateway.addr).await;
        let (mut sender, request) = call("/greeter/0");
        let response = client.send_request(request).await.unwrap();
        sender.send(Ok(Frame::data(message("one")))).await.unwrap();
        let mut body = response.into_body();
        next(&mut body).await;
        drop((sender, body));
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.grpc_status), (Outcome::ClientClosed, event::ABSENT_U16));
        // The connection is still good for others.
        let (sender, request) = call("/greeter/7");
        drop(sender);
        let response = client.send_request(request).await.unwrap();
        let end = next(&mut response.into_body()).await.into_trailers().unwrap();
        assert_eq!((&end["grpc-status"], connections.get()), (&"7".parse().unwrap(), 1));
        gateway.events(2).await;
    });
}

#[test]
fn the_gateways_own_errors_are_trailers_alone() {
    run(async {
        let free = free_addr();
        let gateway = Gateway::start(service(free), json!({}));
        let mut client = client(gateway.addr).await;
        let (sender, request) = call("/greeter/0");
        drop(sender);
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(
            response.headers()["grpc-message"],
            "An invalid response was received from the upstream server"
        );
        assert!(response.body().is_end_stream(), "the head ends the stream");
        let (sender, mut request) = call("/greeter/0");
        drop(sender);
        request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        assert_eq!(client.send_request(request).await.unwrap().status(), 415);
        let old = gateway.talk("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(old.starts_with("HTTP/1.1 426 ") && old.contains("Please use HTTP2 protocol"), "{old}");
        assert!(old.contains("upgrade: HTTP/2"), "{old}");
        let events = gateway.events(3).await;
        assert_eq!((events[0].outcome, events[0].head.status), (Outcome::ConnectFailed, 502));
        assert_eq!(events[0].head.grpc_status, 14);
        let rest: Vec<_> = events[1..].iter().map(|event| (event.outcome, event.head.status)).collect();
        assert_eq!(rest, [(Outcome::BadRequest, 415), (Outcome::UpgradeRequired, 426)]);
    });
}

#[test]
fn an_upstream_that_reads_nothing_holds_its_client_back() {
    run(async {
        let addr = origin(|_, stream| async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                std::future::pending::<()>().await;
                drop(request);
                Ok::<_, Infallible>(Response::new(String::new()))
            });
            let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
        .await;
        let mut entities = service(addr);
        entities["services"][0]["write_timeout"] = json!(300);
        let gateway = Gateway::start(entities, json!({"timeouts": {"sweep_interval_ms": 10}}));
        let mut client = client(gateway.addr).await;
        let (mut sender, request) = call("/greeter/0");
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        tokio::task::spawn_local(async move {
            let piece = Bytes::from(vec![0; 16 << 10]);
            while sender.send(Ok(Frame::data(piece.clone()))).await.is_ok() {
                count.set(count.get() + piece.len());
            }
        });
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "4");
        // Windows and buffers of both connections, and no more.
        assert!((64 << 10..2 << 20).contains(&sent.get()), "{}", sent.get());
        assert_eq!(gateway.events(1).await[0].outcome, Outcome::UpstreamTimeout);
    });
}

#[test]
fn http1_clients_reach_http2_services() {
    run(async {
        let (addr, _) = server().await;
        let gateway = Gateway::start(
            json!({"services": [{"url": format!("http://{addr}"), "http2": true, "routes": [{"paths": ["/"], "strip_path": false}]}]}),
            json!({}),
        );
        let head = "POST /0 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 4\r\n\r\n";
        let one =
            gateway.talk(format!("{head}ping{}Connection: close\r\n\r\npong", &head[..head.len() - 2])).await;
        assert_eq!(one.matches("HTTP/1.1 200 OK").count(), 2, "{one}");
        assert!(one.contains("4\r\nping\r\n") && one.contains("4\r\npong\r\n"), "{one}");
        assert!(one.contains("grpc-message: as%20asked\r\n"), "{one}");
        let events = gateway.events(2).await;
        assert!(events.iter().all(|event| event.outcome == Outcome::Ok && event.head.request_bytes == 4));
    });
}
