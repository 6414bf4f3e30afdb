//! Many clients that are slow at every stage, some by a byte now and then: each is closed by its bound, none costs much
//! memory, and whoever is not slow is served on.

use crate::support::*;
use event::Outcome;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections of each kind, as many as the process may have open.
fn each() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain numbers, in a place of their own.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(1 << 16);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    // A client, the gateway's two sides, the origin; three kinds; room for the other tests.
    usize::try_from(limit.rlim_cur / 24).unwrap().min(300)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Answers `/big` without an end, and anything else by a word once it has come whole.
async fn service() -> SocketAddr {
    origin(|_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            if got.starts_with(b"GET /big") {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
                let piece = [7; 16 << 10];
                let mut sent = stream.write_all(head).await;
                while sent.is_ok() {
                    sent = stream.write_all(&piece).await;
                }
                return;
            }
            if got.starts_with(b"GET") && got.ends_with(b"\r\n\r\n") {
                got.clear();
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// Sends `first`, then `then` now and then, until the gateway has had enough; says what it was told.
async fn drip(at: SocketAddr, first: &'static str, then: &'static str) -> String {
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(first.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(100), client.read_buf(&mut got)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return String::from_utf8_lossy(&got).into_owned(),
            // It may have ended meanwhile.
            Err(_) => drop(client.write_all(then.as_bytes()).await),
        }
    }
}

/// Asks for much and reads a byte now and then; ends when the gateway does.
async fn sip(at: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(at).await.unwrap();
    client.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Data that had come may be read after the end of the connection, which a write shows.
        if client.read(&mut byte).await.unwrap_or(0) == 0 || client.write_all(b"\r\n").await.is_err() {
            return String::new();
        }
    }
}

/// One request of a client that is not slow.
async fn ask(good: &mut TcpStream) {
    good.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_until(good, "good").await.starts_with("HTTP/1.1 200 "));
}

#[test]
fn slow_clients_are_closed_by_their_bounds_while_others_are_served() {
    run(async {
        let each = each();
        let config = json!({
            "timeouts": {"sweep_interval_ms": 20, "header_timeout_ms": 1000, "body_idle_timeout_ms": 1000, "linger_timeout_ms": 200},
            "limits": {"body_bytes_per_second_min": 1000},
        });
        let gateway = Gateway::start(everything_to(service().await), config);
        let before = resident_kib();
        let mut good = TcpStream::connect(gateway.addr).await.unwrap();
        let (mut peak, mut served) = (0, 0);
        let mut slow = tokio::task::JoinSet::new();
        for number in 0..each {
            slow.spawn_local(drip(gateway.addr, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ", "a"));
            let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
            slow.spawn_local(drip(gateway.addr, post, "b"));
            slow.spawn_local(sip(gateway.addr));
            // The origin keeps up: connections beyond its backlog the kernel would reset.
            if number % 10 == 0 {
                ask(&mut good).await;
                served += 1;
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut told = Vec::new();
        while let Some(ended) = {
            ask(&mut good).await;
            served += 1;
            peak = peak.max(resident_kib());
            assert!(Instant::now() < deadline, "{} of {} are closed", told.len(), each * 3);
            slow.join_next().await
        } {
            told.push(ended.unwrap());
        }
        let refused = told.iter().filter(|said| said.starts_with("HTTP/1.1 408 ")).count();
        assert_eq!(
            (told.len(), refused),
            (each * 3, each * 2),
            "{:?}",
            told.iter().find(|said| !said.is_empty())
        );
        let events = gateway.events(each * 3 + served).await;
        let count = |outcome| events.iter().filter(|event| event.outcome == outcome).count();
        assert_eq!(count(Outcome::Ok), served);
        assert_eq!((count(Outcome::RequestTimeout), count(Outcome::ClientClosed)), (each * 2, each));
        // Both ends are in this process, and so are the buffers of the readers' responses.
        let grown = peak.saturating_sub(before);
        assert!(grown < 64 * 1024 + 256 * each as u64, "{grown} KiB for {} connections", each * 3);
        let after = gateway.running.as_ref().unwrap().connections();
        assert!(after.open <= 1, "{after:?}");
    });
}

/// Little of it is taken from the upstream, and an end in order would leave what it was sent with the kernel, for as long as the client likes.
#[test]
fn who_does_not_take_its_response_is_reset() {
    run(async {
        let config = json!({"timeouts": {"sweep_interval_ms": 10, "body_idle_timeout_ms": 200}});
        let gateway = Gateway::start(everything_to(service().await), config);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(gateway.addr).await.unwrap();
        client.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.outcome, Outcome::ClientClosed);
        // What the kernel takes for it beyond its own window, and what the gateway holds.
        let taken = event.head.response_bytes;
        assert!(taken < 512 << 10, "{taken} bytes of a response that nobody reads");
        let mut got = Vec::new();
        let error = tokio::time::timeout(PATIENCE, client.read_to_end(&mut got)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(got.starts_with(b"HTTP/1.1 200 "));
    });
}
