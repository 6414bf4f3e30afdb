//! A request's plain journey: there, back, recorded.

use crate::support::*;
use event::{AttemptError, Outcome, Source};
use serde_json::json;

const CLOSE: &str = "Connection: close\r\n\r\n";

#[test]
fn one_request_is_one_event() {
    run(async {
        let origin = echo().await;
        let gateway = Gateway::before(origin);
        let got = gateway
            .talk(format!(
                "GET /a/./b?q=1 HTTP/1.1\r\nHost: Example.COM:80\r\nUser-Agent: t\r\nX-Consumer-Id: root\r\n\
                 traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n{CLOSE}"
            ))
            .await;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
        assert!(
            got.contains("\r\nx-request-id: ") && got.contains("\r\nserver-timing: gateway;dur="),
            "{got}"
        );
        let sent = got.split("\r\n\r\n").nth(1).unwrap();
        assert!(sent.starts_with("GET /a/b?q=1 HTTP/1.1\r\n"), "{sent}");
        assert!(
            sent.contains("x-forwarded-for: 127.0.0.1") && sent.contains("x-real-ip: 127.0.0.1"),
            "{sent}"
        );
        assert!(sent.contains("x-forwarded-host: example.com") && sent.contains("x-forwarded-proto: http"));
        assert!(!sent.contains("x-consumer-id") && !sent.to_lowercase().contains("connection:"), "{sent}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.outcome, Outcome::Ok);
        assert_eq!((event.head.status, event.head.upstream_status), (200, 200));
        assert_eq!(event.head.source, Source::Upstream as u8);
        assert_eq!(
            (event.text("method"), event.text("host"), event.text("path")),
            ("GET", "example.com", "/a/b")
        );
        assert_eq!(
            (event.text("route"), event.text("service"), event.text("content_type")),
            ("all", "origin", "text/x")
        );
        assert_eq!(event.text("upstream_addr"), origin.to_string());
        assert_eq!(event.attempts.len(), 1);
        assert_eq!(event.attempts[0].2, AttemptError::None);
        assert_eq!(event.head.upstream_span_id, event.attempts[0].4);
        let hex = |id: &[u8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&event.head.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&event.head.parent_span_id), "00f067aa0ba902b7");
        let parent =
            format!("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex(&event.attempts[0].4));
        assert!(sent.contains(&parent), "{sent}");
        let body = got.split_once("\r\n\r\n").unwrap().1.len() as u64;
        assert_eq!(event.head.response_bytes, body);
    });
}

#[test]
fn connections_are_kept_on_both_sides() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let head = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let got = gateway.talk(format!("{head}{head}GET /2 HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 3, "{got}");
        let events = gateway.events(3).await;
        assert_eq!(events.iter().map(|e| e.attempts[0].3).collect::<Vec<_>>(), [false, true, true]);
    });
}

#[test]
fn key_auth_lets_in_who_has_a_key() {
    run(async {
        let mut entities = everything_to(echo().await);
        entities["plugins"] = json!([{"name": "key-auth", "config": {"hide_credentials": true}}]);
        entities["consumers"] =
            json!([{"username": "alice", "keyauth_credentials": [{"id": "c1", "key": "s3cret"}]}]);
        let gateway = Gateway::start(entities, json!({}));
        let none = gateway.talk(format!("GET / HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(none.starts_with("HTTP/1.1 401 ") && none.contains("www-authenticate: Key"), "{none}");
        assert!(none.contains("\"message\":\"No API key found in request\""), "{none}");
        let wrong = gateway.talk(format!("GET / HTTP/1.1\r\nHost: a\r\napikey: no\r\n{CLOSE}")).await;
        assert!(wrong.contains("\"message\":\"Unauthorized\""), "{wrong}");
        let right = gateway.talk(format!("GET /?apikey=s3cret&x=1 HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(
            right.contains("GET /?x=1 HTTP/1.1") && right.contains("x-consumer-username: alice"),
            "{right}"
        );
        let events = gateway.events(3).await;
        assert_eq!(events[0].outcome, Outcome::Unauthenticated);
        assert_eq!((events[2].text("consumer"), events[2].text("credential")), ("alice", "c1"));
        assert!(events.iter().all(|event| !event.raw.contains("s3cret")));
    });
}

#[test]
fn what_has_no_route_or_is_malformed_is_recorded_too() {
    run(async {
        let mut entities = everything_to(echo().await);
        entities["services"][0]["routes"][0]["paths"] = json!(["/only"]);
        let gateway = Gateway::start(entities, json!({}));
        let lost = gateway.talk(format!("GET /x HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(
            lost.starts_with("HTTP/1.1 404 ") && lost.contains("no Route matched with those values"),
            "{lost}"
        );
        let bad = gateway
            .talk("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n")
            .await;
        assert!(bad.starts_with("HTTP/1.1 400 ") && bad.contains("more than one Content-Length"), "{bad}");
        let events = gateway.events(2).await;
        assert_eq!(events[0].outcome, Outcome::NoRoute);
        assert_eq!((events[1].outcome, events[1].head.status), (Outcome::BadRequest, 400));
        assert_eq!((events[1].text("method"), events[1].text("path")), ("GET", "/x"));
    });
}

#[test]
fn without_recording_there_is_no_event_and_the_rest_stays() {
    run(async {
        let gateway = Gateway::start(everything_to(echo().await), json!({"recording": false}));
        let got = gateway.talk(format!("GET / HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("\r\nx-request-id: "), "{got}");
        assert!(got.contains("\r\ntraceparent: 00-") && got.contains("server-timing: "), "{got}");
        let refused = gateway.talk("GET / HTTP/1.1\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("\r\nx-request-id: "), "{refused}");
        gateway.events(0).await;
    });
}
