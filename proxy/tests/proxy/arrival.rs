//! Bodies that come slowly: the upstream is asked once their begin is there.

use crate::support::*;
use event::Outcome;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HEAD: &str = "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";

/// A client that has sent so much.
async fn client(gateway: &Gateway, sent: &str) -> TcpStream {
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    client.write_all(sent.as_bytes()).await.unwrap();
    client
}

/// The upstream is asked for what came later first.
#[test]
fn an_upstream_does_not_wait_for_a_slow_client() {
    run(async {
        let origin = Told::start().await;
        let gateway = Gateway::before(origin.addr);
        let mut slow = client(&gateway, &format!("{HEAD}hello")).await;
        let mut quick = client(&gateway, "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n").await;
        origin.arrived.notified().await;
        origin.go.notify_one();
        assert!(read_until(&mut quick, "ok").await.starts_with("HTTP/1.1 200 "));
        slow.write_all(b"world").await.unwrap();
        origin.arrived.notified().await;
        origin.go.notify_one();
        assert!(read_until(&mut slow, "ok").await.starts_with("HTTP/1.1 200 "));
        let events = gateway.events(2).await;
        assert_eq!([events[0].text("path"), events[1].text("path")], ["/quick", "/slow"]);
        assert_eq!((events[1].outcome, events[1].head.request_bytes), (Outcome::Ok, 10));
        // It began before the other, and its upstream was asked after that.
        assert!(events[1].head.request_body_us > 0);
    });
}

/// By the bound, by the route, and where the body's length or its begin is not known.
#[test]
fn what_is_not_waited_for_goes_on_at_once() {
    run(async {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let expects = HEAD.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        let sized = format!("{HEAD}hello");
        let (length, chunks) = ("world", "5\r\nworld\r\n0\r\n\r\n");
        let all: [(&str, u64, Option<bool>, &str); 6] = [
            (&sized, 5, None, length),
            (&sized, 0, None, length),
            (&sized, 5, Some(true), length),
            (&sized, 8192, Some(false), length),
            (chunked, 8192, None, chunks),
            (&expects, 8192, None, "helloworld"),
        ];
        for (first, bytes, buffers, rest) in all {
            let origin = Told::start().await;
            let mut entities = everything_to(origin.addr);
            if let Some(buffers) = buffers {
                entities["services"][0]["routes"][0]["request_buffering"] = buffers.into();
            }
            let gateway = Gateway::start(entities, json!({"limits": {"request_buffer_bytes_max": bytes}}));
            let mut client = client(&gateway, first).await;
            tokio::time::timeout(PATIENCE, origin.arrived.notified())
                .await
                .unwrap_or_else(|_| panic!("{first:?} is held back with {bytes} and {buffers:?}"));
            client.write_all(rest.as_bytes()).await.unwrap();
            origin.go.notify_one();
            assert!(read_until(&mut client, "ok").await.contains("HTTP/1.1 200 "), "{first:?}");
            assert_eq!(gateway.events(1).await[0].head.request_bytes, 10, "{first:?}");
        }
    });
}

#[test]
fn who_leaves_or_is_too_slow_was_no_upstreams_business() {
    run(async {
        let timeouts = json!({"timeouts": {"sweep_interval_ms": 10, "body_idle_timeout_ms": 60}});
        let gateway = Gateway::start(everything_to(echo().await), timeouts);
        let told = gateway.talk(format!("{HEAD}hello")).await;
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        let mut leaves = client(&gateway, HEAD).await;
        leaves.write_all(b"hel").await.unwrap();
        drop(leaves);
        let events = gateway.events(2).await;
        let seen: Vec<_> =
            events.iter().map(|event| (event.outcome, event.head.status, event.attempts.len())).collect();
        assert_eq!(seen, [(Outcome::RequestTimeout, 408, 0), (Outcome::ClientClosed, 499, 0)]);
        assert_eq!([events[0].head.request_bytes, events[1].head.request_bytes], [5, 3]);
    });
}
