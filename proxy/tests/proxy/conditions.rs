//! Routes that ask for more than Kong's do: who calls, with nobody let in by it.

use crate::support::*;
use event::Outcome;
use serde_json::{Value, json};

const CLOSE: &str = "Connection: close\r\n\r\n";

/// A route for alice, then one for everybody else, over the same path.
fn two(plain_guard: Value, guard: Value, origin: std::net::SocketAddr) -> Value {
    json!({
        "services": [{"name": "s", "url": format!("http://{origin}"), "routes": [
            {"name": "rest", "paths": ["/"], "plugins": plain_guard, "created_at": 1},
            {"name": "alice", "paths": ["/"], "consumers": ["alice"], "plugins": guard},
        ]}],
        "consumers": [
            {"username": "alice", "keyauth_credentials": [{"key": "key-a"}]},
            {"username": "bob", "keyauth_credentials": [{"key": "key-b"}]},
        ],
    })
}

#[test]
fn callers_are_told_apart_and_each_passes_the_guard_of_their_route() {
    run(async {
        let origin = echo().await;
        let hides =
            json!([{"name": "key-auth", "config": {"hide_credentials": true, "run_on_preflight": false}}]);
        let gateway = Gateway::start(two(json!([{"name": "key-auth"}]), hides, origin), json!({}));
        for (request, status, sent, hidden) in [
            ("GET / HTTP/1.1\r\nHost: a\r\napikey: key-a\r\n", 200, "x-consumer-username: alice", "key-a"),
            ("GET /?apikey=key-a HTTP/1.1\r\nHost: a\r\n", 200, "x-consumer-username: alice", "key-a"),
            ("GET / HTTP/1.1\r\nHost: a\r\napikey: key-b\r\n", 200, "x-consumer-username: bob", "nothing"),
            ("GET / HTTP/1.1\r\nHost: a\r\napikey: wrong\r\n", 401, "Unauthorized", "nothing"),
            ("GET / HTTP/1.1\r\nHost: a\r\n", 401, "No API key", "nothing"),
            // Preflights are nobody's to the first route, and the second asks for a key.
            ("OPTIONS / HTTP/1.1\r\nHost: a\r\n", 401, "No API key", "nothing"),
            ("GET / HTTP/1.1\r\nHost: a\r\nx-consumer-username: alice\r\n", 401, "No API key", "nothing"),
        ] {
            let got = gateway.talk(format!("{request}{CLOSE}")).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {got}");
            assert!(got.contains(sent) && !got.contains(hidden), "{request}: {got}");
        }
        let events = gateway.events(7).await;
        let routes: Vec<_> = events.iter().map(|event| event.text("route")).collect();
        assert_eq!(routes, ["alice", "alice", "rest", "rest", "rest", "rest", "rest"]);
        assert!(events[3..].iter().all(|event| event.outcome == Outcome::Unauthenticated));
    });
}

#[test]
fn a_public_route_behind_it_stays_public_and_no_more() {
    run(async {
        let entities = two(json!([]), json!([{"name": "key-auth"}]), echo().await);
        let gateway = Gateway::start(entities, json!({}));
        for (key, route) in [("key-a", "alice"), ("key-b", "rest"), ("wrong", "rest")] {
            let got = gateway.talk(format!("GET / HTTP/1.1\r\nHost: a\r\napikey: {key}\r\n{CLOSE}")).await;
            assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
            assert_eq!(got.contains("x-consumer-"), route == "alice", "{got}");
        }
        let events = gateway.events(3).await;
        assert_eq!(events.iter().map(|e| e.text("route")).collect::<Vec<_>>(), ["alice", "rest", "rest"]);
    });
}
