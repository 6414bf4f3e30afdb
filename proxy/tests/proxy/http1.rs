//! The letter of HTTP/1 towards clients and upstreams: versions, framing, interim responses, trailers.

use crate::support::*;
use event::Outcome;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An origin that answers every request head with these bytes and closes where they say so.
async fn answering(answer: &'static str) -> std::net::SocketAddr {
    origin(move |_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            while let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                got.drain(..end + 4);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                if answer.contains("close") || !answer.contains("ength") && !answer.contains("chunked") {
                    return;
                }
            }
        }
    })
    .await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn old_clients_are_kept_only_when_they_ask() {
    run(async {
        let gateway = Gateway::before(answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await);
        let once = gateway.talk("GET / HTTP/1.0\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        assert_eq!(once.matches("HTTP/1.1 200 OK").count(), 1, "{once}");
        assert!(once.contains("connection: close"), "{once}");
        let kept = "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n";
        let twice = gateway.talk(format!("{kept}GET / HTTP/1.0\r\nHost: a\r\n\r\n")).await;
        assert_eq!(twice.matches("HTTP/1.1 200 OK").count(), 2, "{twice}");
        assert!(twice.contains("connection: keep-alive"), "{twice}");
        gateway.events(3).await;
    });
}

#[test]
fn a_response_without_a_length_is_framed_as_the_client_can_read_it() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n",
        ] {
            let gateway = Gateway::before(answering(answer).await);
            let new = gateway.talk(format!("{GET}{LAST}")).await;
            assert_eq!(new.matches("transfer-encoding: chunked").count(), 2, "{new}");
            assert_eq!(new.matches("\r\n0\r\n\r\n").count(), 2, "{new}");
            let old = gateway.talk("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
            assert!(!old.contains("chunked") && old.ends_with("\r\n\r\nhello"), "{old}");
            let events = gateway.events(3).await;
            assert!(
                events.iter().all(|event| event.outcome == Outcome::Ok && event.head.response_bytes == 5)
            );
        }
    });
}

#[test]
fn a_cut_response_never_looks_whole() {
    run(async {
        // The chunked body breaks off; an old client's response ends with its connection, so that must not end well.
        let broken = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let gateway = Gateway::before(broken);
        let new = gateway.talk(GET).await;
        assert!(!new.contains("\r\n0\r\n"), "{new}");
        let old = gateway.talk("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        assert!(old.contains("reset"), "not a clean end: {old}");
        assert!(gateway.events(2).await.iter().all(|event| event.outcome == Outcome::UpstreamReset));
    });
}

#[test]
fn responses_that_have_no_body_have_none() {
    run(async {
        let gateway = Gateway::before(
            answering("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX-A: 1\r\n\r\n").await,
        );
        let got = gateway.talk(format!("{GET}{LAST}")).await;
        assert_eq!(got.matches("HTTP/1.1 204 No Content").count(), 2, "{got}");
        assert!(!got.contains("content-length") && !got.contains("chunked"), "RFC 9110, 8.6: {got}");
        assert_eq!(got.matches("\r\ndate: ").count(), 2, "a response without a date is given one: {got}");
        // An error page is not a HEAD's either.
        let mut entities = everything_to(echo().await);
        entities["services"][0]["routes"][0]["paths"] = json!(["/only"]);
        let gateway = Gateway::start(entities, json!({}));
        let got = gateway.talk(format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{LAST}")).await;
        assert_eq!(got.matches("HTTP/1.1 404 ").count(), 2, "{got}");
        assert_eq!(got.matches("no Route matched").count(), 1, "{got}");
    });
}

#[test]
fn interim_responses_are_not_the_answer() {
    run(async {
        let answer = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let gateway = Gateway::before(answering(answer).await);
        let got = gateway.talk(format!("{GET}{LAST}")).await;
        assert_eq!(got.matches("HTTP/1.1 ").count(), 2, "{got}");
        assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 2, "{got}");
        assert!(gateway.events(2).await[1].attempts[0].3, "the connection was kept");
    });
}

#[test]
fn an_unasked_upgrade_is_refused() {
    run(async {
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\nlength: 0\r\n\r\n";
        let gateway = Gateway::before(answering(answer).await);
        let got = gateway.talk(GET).await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
        assert_eq!(gateway.events(1).await[0].outcome, Outcome::UpstreamReset);
    });
}

#[test]
fn a_response_with_two_framings_is_refused() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nX-Length: 0\r\n\r\n0\r\n\r\n",
        ] {
            let gateway = Gateway::before(answering(answer).await);
            let got = gateway.talk(format!("{GET}{LAST}")).await;
            assert_eq!(got.matches("HTTP/1.1 502 ").count(), 2, "{got}");
        }
    });
}

#[test]
fn an_early_answer_is_passed_on_and_the_rest_of_the_body_is_no_request() {
    run(async {
        let early = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while !got.windows(4).any(|four| four == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let answer =
                b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let config =
            json!({"limits": {"request_buffer_bytes_max": 5}, "timeouts": {"sweep_interval_ms": 10}});
        let gateway = Gateway::start(everything_to(early), config);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegin";
        client.write_all(head.as_bytes()).await.unwrap();
        let got = read_until(&mut client, "big").await;
        assert!(got.starts_with("HTTP/1.1 413 "), "{got}");
        // What comes now belongs to the body that nobody wants: the connection ends instead of answering it.
        let _may_be_closed = client.write_all(GET.as_bytes()).await;
        let rest = read_all(&mut client).await;
        assert!(!rest.contains("HTTP/1.1"), "{rest}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::Ok, 413));
    });
}

#[test]
fn trailers_go_upstream_unless_they_claim_something() {
    run(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = std::cell::RefCell::new(Some(tell));
        let origin = origin(move |_, mut stream| {
            let tell = tell.borrow_mut().take();
            async move {
                let mut got = Vec::new();
                while !got.ends_with(b"\r\n\r\n") || !got.windows(5).any(|five| five == b"\r\n0\r\n") {
                    assert!(stream.read_buf(&mut got).await.unwrap() > 0);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                tell.unwrap().send(String::from_utf8(got).unwrap()).unwrap();
            }
        })
        .await;
        let gateway = Gateway::before(origin);
        let got = gateway
            .talk(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Consumer-Id: root\r\n\r\n",
            )
            .await;
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        let seen = told.await.unwrap();
        assert!(seen.ends_with("3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
    });
}

#[test]
fn a_client_that_reads_nothing_is_closed_in_time() {
    run(async {
        let origin = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").await.unwrap();
            let piece = vec![b'x'; 1 << 16];
            // Until the gateway gives up.
            while stream.write_all(&piece).await.is_ok() {}
        })
        .await;
        let timeouts = json!({"timeouts": {"sweep_interval_ms": 10, "body_idle_timeout_ms": 100}});
        let gateway = Gateway::start(everything_to(origin), timeouts);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(GET.as_bytes()).await.unwrap();
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::ClientClosed, 200));
        assert!(event.head.response_bytes < 100_000_000);
    });
}

#[test]
fn behind_a_last_response_nothing_is_a_request() {
    run(async {
        let gateway = Gateway::before(echo().await);
        for last in
            ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"]
        {
            for behind in ["\0", "GET / HTTP/1.1\r\n\r\n", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"] {
                let got = gateway.talk(format!("{last}{behind}")).await;
                assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 1, "{behind:?}: {got}");
                assert!(!got.contains("HTTP/1.1 4"), "{behind:?}: {got}");
            }
        }
        gateway.events(6).await;
    });
}

#[test]
fn a_refused_head_request_has_no_body_either() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let got = gateway.talk("HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 400 ") && got.ends_with("\r\n\r\n"), "{got}");
        let got = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        assert!(got.ends_with('}'), "{got}");
        gateway.events(2).await;
    });
}

#[test]
fn interim_responses_without_end_are_malformed() {
    run(async {
        let endless = origin(|_, mut stream| async move {
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(100);
            // Until the gateway has enough.
            while stream.write_all(hints.as_bytes()).await.is_ok() {}
        })
        .await;
        let gateway = Gateway::before(endless);
        let got = gateway.talk("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
        gateway.events(1).await;
    });
}

#[test]
fn a_body_that_breaks_behind_a_request_leaves_it_its_answer() {
    run(async {
        let Told { addr: slow, arrived, go } = Told::start().await;
        let gateway = Gateway::before(slow);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.set_nodelay(true).unwrap();
        let two = format!("{GET}POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.write_all(two.as_bytes()).await.unwrap();
        arrived.notified().await;
        client.write_all(b"x\r\n").await.unwrap();
        // Meanwhile the gateway may read on: in either order the answer is the same.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        go.notify_one();
        let got = read_all(&mut client).await;
        assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("\r\n\r\nok"), "{got}");
        gateway.events(2).await;
    });
}
