//! What is beyond the bounds of an upstream is answered at once, and the bounds hold over threads.

use crate::states::Shown;
use crate::support::*;
use event::Outcome;
use event::upstreams::UpstreamStates;
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// An origin that answers each request when it is told to.
struct Held {
    addr: SocketAddr,
    connections: Rc<Cell<usize>>,
    requests: Rc<Cell<usize>>,
    go: Rc<Semaphore>,
}

impl Held {
    async fn start(status: u16) -> Self {
        let (connections, requests) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let go = Rc::new(Semaphore::new(0));
        let (opened, seen, told) = (Rc::clone(&connections), Rc::clone(&requests), Rc::clone(&go));
        let addr = origin(move |_, mut stream| {
            opened.set(opened.get() + 1);
            let (seen, told) = (Rc::clone(&seen), Rc::clone(&told));
            async move {
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                    if got.ends_with(b"\r\n\r\n") {
                        got.clear();
                        seen.set(seen.get() + 1);
                        told.acquire().await.unwrap().forget();
                        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        })
        .await;
        Self { addr, connections, requests, go }
    }

    async fn has_seen(&self, requests: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.requests.get() < requests {
            assert!(Instant::now() < deadline, "only {} of {requests}", self.requests.get());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn group(addr: SocketAddr, circuit: &Value, service: &Value, threads: u16) -> Shown {
    let upstreams =
        json!([{"name": "group", "targets": [{"target": addr.to_string()}], "circuit_breaker": circuit}]);
    let mut services = json!([{"name": "s", "host": "group", "routes": [{"paths": ["/"]}]}]);
    for (name, value) in service.as_object().unwrap() {
        services[0][name] = value.clone();
    }
    Shown::start(json!({"services": services, "upstreams": upstreams}), json!({"threads": threads}))
}

async fn begin(shown: &Shown) -> TcpStream {
    let mut client = TcpStream::connect(shown.gateway.addr).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    client
}

/// What the picture says of a bound: in use, and overflows.
fn bound(states: &UpstreamStates, resource: &str) -> (u64, u64) {
    let state = states.circuits.iter().find(|state| state.resource == resource).unwrap();
    assert_eq!(state.upstream, "group");
    (state.used, state.overflows)
}

#[test]
fn beyond_max_requests_the_answer_is_503_at_once() {
    run(async {
        let origin = Held::start(200).await;
        let shown = group(origin.addr, &json!({"max_requests": 2}), &json!({}), 1);
        let mut held = vec![begin(&shown).await, begin(&shown).await];
        origin.has_seen(2).await;
        let got = read_all(&mut begin(&shown).await).await;
        assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
        assert!(got.contains("The upstream server has no room for this request"), "{got}");
        let event = shown.gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.attempts.len()), (Outcome::CircuitOpen, 0));
        assert_eq!(event.text("error"), "circuit breaker: max_requests is reached");
        shown.once("counted", |states| bound(states, "max_requests") == (2, 1)).await;
        origin.go.add_permits(3);
        for client in &mut held {
            assert!(read_all(client).await.starts_with("HTTP/1.1 200 "));
        }
        assert!(read_all(&mut begin(&shown).await).await.starts_with("HTTP/1.1 200 "), "there is room again");
        shown.once("given back", |states| bound(states, "max_requests") == (0, 1)).await;
        assert_eq!(origin.requests.get(), 3, "the refused one was not sent");
    });
}

#[test]
fn the_bound_is_of_all_threads_together() {
    run(async {
        let origin = Held::start(200).await;
        let shown = group(origin.addr, &json!({"max_requests": 1}), &json!({}), 3);
        let mut held = begin(&shown).await;
        origin.has_seen(1).await;
        // The kernel deals connections out to the threads.
        for _ in 0..30 {
            let got = read_all(&mut begin(&shown).await).await;
            assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
        }
        origin.go.add_permits(1);
        assert!(read_all(&mut held).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(origin.requests.get(), 1);
    });
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    run(async {
        let origin = Held::start(200).await;
        let shown = group(origin.addr, &json!({"max_requests": 1, "max_connections": 1}), &json!({}), 1);
        let held = begin(&shown).await;
        origin.has_seen(1).await;
        drop(held);
        let free = |states: &UpstreamStates| {
            bound(states, "max_requests").0 + bound(states, "max_connections").0 == 0
        };
        shown.once("free", free).await;
        origin.go.add_permits(2);
        assert!(read_all(&mut begin(&shown).await).await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn at_max_connections_requests_wait_for_one_that_becomes_free() {
    run(async {
        let origin = Held::start(200).await;
        let circuit = json!({"max_connections": 1, "max_pending_requests": 2});
        let shown = group(origin.addr, &circuit, &json!({}), 1);
        let mut clients = vec![begin(&shown).await];
        origin.has_seen(1).await;
        for waiting in 1..=2 {
            clients.push(begin(&shown).await);
            shown.once("waits", |states| bound(states, "max_pending_requests").0 == waiting).await;
        }
        let got = read_all(&mut begin(&shown).await).await;
        assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
        let event = shown.gateway.events(1).await.remove(0);
        assert_eq!(event.text("error"), "circuit breaker: max_pending_requests is reached");
        origin.go.add_permits(3);
        for client in &mut clients {
            assert!(read_all(client).await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!((origin.connections.get(), origin.requests.get()), (1, 3), "one after the other");
        let states = shown.once("free", |states| bound(states, "max_pending_requests").0 == 0).await;
        assert_eq!(bound(&states, "max_pending_requests").1, 1);
        assert_eq!(bound(&states, "max_connections"), (1, 2), "the idle one stays; two had to wait");
    });
}

#[test]
fn nobody_waits_longer_for_a_connection_than_for_connecting() {
    run(async {
        let origin = Held::start(200).await;
        let shown = group(origin.addr, &json!({"max_connections": 1}), &json!({"connect_timeout": 100}), 1);
        let _held = begin(&shown).await;
        origin.has_seen(1).await;
        let begun = Instant::now();
        let got = read_all(&mut begin(&shown).await).await;
        assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
        assert!(begun.elapsed() >= Duration::from_millis(100));
        let event = shown.gateway.events(1).await.remove(0);
        assert_eq!(event.text("error"), "circuit breaker: max_connections is reached");
    });
}

#[test]
fn a_connection_that_breaks_makes_room_for_who_waits() {
    run(async {
        let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = refusing.local_addr().unwrap();
        // Takes the first connection and drops it when it is told to; the second is served.
        let go = Rc::new(Semaphore::new(0));
        let told = Rc::clone(&go);
        tokio::task::spawn_local(async move {
            let (first, _) = refusing.accept().await.unwrap();
            told.acquire().await.unwrap().forget();
            drop(first);
            let (mut second, _) = refusing.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                second.read_buf(&mut got).await.unwrap();
            }
            second.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        let shown = group(addr, &json!({"max_connections": 1}), &json!({"retries": 0}), 1);
        let mut first = begin(&shown).await;
        shown.once("connected", |states| bound(states, "max_connections").0 == 1).await;
        let mut second = begin(&shown).await;
        shown.once("waits", |states| bound(states, "max_pending_requests").0 == 1).await;
        go.add_permits(1);
        assert!(read_all(&mut first).await.starts_with("HTTP/1.1 502 "));
        assert!(read_all(&mut second).await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn beyond_max_retries_the_failure_is_the_answer() {
    run(async {
        let origin = Held::start(503).await;
        origin.go.add_permits(100);
        let retry = json!({"retries": 3, "retry": {"retry_on": ["5xx"]}});
        for (most, tries) in [(0, 1), (1, 4)] {
            let before = origin.requests.get();
            let shown = group(origin.addr, &json!({"max_retries": most}), &retry, 1);
            assert_eq!(shown.status().await, 503);
            assert_eq!(origin.requests.get() - before, tries, "{most}");
            let overflows = u64::from(most == 0);
            shown.once("counted", |states| bound(states, "max_retries") == (0, overflows)).await;
        }
    });
}
