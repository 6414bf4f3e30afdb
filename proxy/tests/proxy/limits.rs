//! Bounds of connections and of requests under way: who is turned away, with which words, and who is served on.

use crate::support::*;
use event::Outcome;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn limited(limits: serde_json::Value) -> serde_json::Value {
    json!({"limits": limits, "timeouts": {"sweep_interval_ms": 10, "linger_timeout_ms": 200}})
}

/// A connection from an address of this machine.
async fn from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn served(client: &mut TcpStream) {
    client.write_all(GET).await.unwrap();
    answered(client).await;
}

/// Reads an answer of the echo, whose body ends as its head does.
async fn answered(client: &mut TcpStream) {
    let mut got = Vec::new();
    while String::from_utf8_lossy(&got).matches("\r\n\r\n").count() < 2 {
        assert!(client.read_buf(&mut got).await.unwrap() > 0, "closed: {}", String::from_utf8_lossy(&got));
    }
    assert!(got.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&got));
}

fn ended(gateway: &Gateway, reason: &str) -> u64 {
    let counts = gateway.running.as_ref().unwrap().connections();
    counts.ended.iter().find(|(name, _)| *name == reason).unwrap().1
}

/// Waits until so many connections are open.
async fn open(gateway: &Gateway, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while gateway.running.as_ref().unwrap().connections().open != count {
        assert!(Instant::now() < deadline, "{:?}", gateway.running.as_ref().unwrap().connections());
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[test]
fn connections_beyond_the_bound_are_told_so_at_once() {
    run(async {
        let limits = json!({"connections_max": 2, "retry_after_s": 7});
        let gateway = Gateway::start(everything_to(echo().await), limited(limits));
        let (mut one, mut two) =
            (from("127.0.0.1", gateway.addr).await, from("127.0.0.1", gateway.addr).await);
        served(&mut one).await;
        served(&mut two).await;
        for _ in 0..5 {
            let told = gateway.talk(GET).await;
            assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 7\r\n"), "{told}");
            assert!(
                told.contains("connection: close") && told.contains("The gateway is overloaded"),
                "{told}"
            );
        }
        // Those that are in are served on.
        served(&mut one).await;
        assert_eq!(ended(&gateway, "connections_max"), 5);
        drop(two);
        open(&gateway, 1).await;
        served(&mut from("127.0.0.1", gateway.addr).await).await;
        assert_eq!(gateway.events(4).await.len(), 4, "who was not let in has sent no request");
    });
}

#[test]
fn too_many_refusals_wait_or_are_reset() {
    run(async {
        let limits = json!({"connections_max": 1, "connections_refused_max": 0});
        let gateway = Gateway::start(everything_to(echo().await), limited(limits));
        let mut one = from("127.0.0.1", gateway.addr).await;
        served(&mut one).await;
        // It waits in the kernel's queue, and has its turn.
        let mut two = from("127.0.0.1", gateway.addr).await;
        two.write_all(GET).await.unwrap();
        served(&mut one).await;
        drop(one);
        answered(&mut two).await;
    });
}

#[test]
fn a_client_has_its_own_bound_and_trusted_peers_none() {
    run(async {
        let mut config = limited(json!({"connections_per_client_max": 2}));
        config["trusted_ips"] = json!(["127.0.0.9"]);
        let gateway = Gateway::start(everything_to(echo().await), config);
        let mut held = Vec::new();
        for ip in ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.9", "127.0.0.9", "127.0.0.9"] {
            let mut client = from(ip, gateway.addr).await;
            served(&mut client).await;
            held.push(client);
        }
        let mut third = from("127.0.0.2", gateway.addr).await;
        third.write_all(GET).await.unwrap();
        let told = read_all(&mut third).await;
        assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("retry-after: 1\r\n"), "{told}");
        assert_eq!(ended(&gateway, "connections_per_client_max"), 1);
        held.remove(0);
        open(&gateway, 5).await;
        served(&mut from("127.0.0.2", gateway.addr).await).await;
    });
}

#[test]
fn a_connection_ends_with_its_last_request() {
    run(async {
        let gateway =
            Gateway::start(everything_to(echo().await), limited(json!({"requests_per_connection_max": 2})));
        let got = gateway.talk([GET, GET, GET].concat()).await;
        assert_eq!(got.matches("HTTP/1.1 200 ").count(), 2, "{got}");
        let second = got.rsplit("HTTP/1.1 200 ").next().unwrap();
        assert!(second.contains("connection: close"), "{got}");
        assert!(!got.split("HTTP/1.1 200 ").nth(1).unwrap().contains("connection: close"), "{got}");
        assert_eq!((ended(&gateway, "requests_per_connection_max"), gateway.events(2).await.len()), (1, 2));
    });
}

#[test]
fn requests_beyond_the_bound_are_answered_fast_and_recorded() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
        })
        .await;
        let gateway =
            Gateway::start(everything_to(origin), limited(json!({"requests_max": 1, "retry_after_s": 3})));
        let mut waits = TcpStream::connect(gateway.addr).await.unwrap();
        waits.write_all(GET).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut client = loop {
            let mut client = TcpStream::connect(gateway.addr).await.unwrap();
            client.write_all(GET).await.unwrap();
            // It may have come before the one that is to wait.
            let mut byte = [0; 1];
            let answered = client.read(&mut byte);
            if tokio::time::timeout(std::time::Duration::from_secs(1), answered).await.is_ok() {
                break client;
            }
            assert!(Instant::now() < deadline);
        };
        let told = read_until(&mut client, "request_id").await;
        assert!(told.contains("TTP/1.1 503 ") && told.contains("retry-after: 3\r\n"), "{told}");
        assert!(!told.contains("connection: close"), "there was nothing left to read: {told}");
        // A body that would have to be waited for does not keep the answer.
        let slow = gateway.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
        assert!(slow.starts_with("HTTP/1.1 503 ") && slow.contains("connection: close"), "{slow}");
        assert!(gateway.running.as_ref().unwrap().connections().overloaded >= 2);
        drop(waits);
        let events = gateway.events(3).await;
        let overloaded = events.iter().filter(|event| event.outcome == Outcome::Overloaded);
        assert!(overloaded.clone().all(|event| event.head.status == 503) && overloaded.count() == 2);
    });
}

#[test]
fn the_counts_are_left_in_the_data_folder() {
    run(async {
        let mut config = limited(json!({"connections_max": 1}));
        config["upstream_states"] = json!({"interval_ms": 20});
        let mut gateway = Gateway::start(everything_to(echo().await), config);
        let root = tempfile::tempdir().unwrap();
        let folder = event::layout::DataFolder::open(root.path()).unwrap();
        gateway.running.as_mut().unwrap().show_upstreams(&folder, "node-1").unwrap();
        let mut held = from("127.0.0.1", gateway.addr).await;
        served(&mut held).await;
        assert!(gateway.talk(GET).await.starts_with("HTTP/1.1 503 "));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states = event::connections::ConnectionStates::load(&folder).unwrap();
            if states.ended.get("connections_max") == Some(&1) && states.open == 1 {
                assert_eq!((states.node.as_str(), states.accepted), ("node-1", 2));
                return;
            }
            assert!(Instant::now() < deadline, "{states:?}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}
