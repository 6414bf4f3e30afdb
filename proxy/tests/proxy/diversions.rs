//! Routes that change where a request goes or whether it does: rewrites, redirects, injected faults.

use crate::support::*;
use event::{Outcome, Source};
use serde_json::json;
use std::time::{Duration, Instant};

const CLOSE: &str = "Connection: close\r\n\r\n";

#[test]
fn paths_and_hosts_are_rewritten() {
    run(async {
        let origin = echo().await;
        let gateway = Gateway::start(
            json!({"services": [{"name": "s", "url": format!("http://{origin}/base"), "routes": [
                {"name": "prefix", "paths": ["/api"], "rewrite": {"prefix": "/v2"}},
                {"name": "whole", "paths": [r"~/users/(?<id>[^/]+)/(.*)"], "rewrite": {"path": "/u/$2/${id}"}},
                {"name": "regex", "paths": ["/r"], "rewrite": {"regex": {"pattern": "/v([0-9]+)", "substitution": "/$1"}}},
                {"name": "host", "paths": ["/h"], "rewrite": {"host": "inner.example:81"}, "strip_path": false},
                {"name": "dots", "paths": [r"~/d(\.)x(\.)"], "rewrite": {"path": "/a/$1$2/b"}},
            ]}]}),
            json!({}),
        );
        for (target, sent) in [
            ("/api/x?q=1", "GET /base/v2/x?q=1 HTTP/1.1\r\nhost: 127"),
            ("/api", "GET /base/v2 HTTP/1.1\r\n"),
            ("/users/a%2fb/c/d?x", "GET /base/u/c/d/a%2Fb?x HTTP/1.1\r\n"),
            ("/r/v1/x/v23", "GET /base/r/1/x/23 HTTP/1.1\r\n"),
            ("/h/y", "GET /base/h/y HTTP/1.1\r\nhost: inner.example:81\r\n"),
        ] {
            let got = gateway.talk(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
            assert!(got.contains(sent), "{target}: {got}");
            // What the client asked for is said all the same.
            assert!(got.contains("x-forwarded-host: a\r\n"), "{got}");
        }
        let got = gateway.talk(format!("GET /d.x. HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("malformed path"), "{got}");
        let events = gateway.events(6).await;
        assert_eq!(events[0].text("path"), "/api/x", "the event has what the client asked for");
        assert_eq!((events[5].outcome, events[5].text("route")), (Outcome::BadRequest, "dots"));
        assert!(events[5].attempts.is_empty());
    });
}

#[test]
fn clients_are_sent_elsewhere_and_nowhere_they_ask_for() {
    run(async {
        let gateway = Gateway::start(
            json!({"routes": [
                {"name": "host", "paths": ["/host"], "redirect": {"host": "new.example"}},
                {"name": "tls", "paths": ["/tls"], "redirect": {"scheme": "https", "status": 308}},
                {"name": "port", "paths": ["/port"], "redirect": {"port": 8443, "scheme": "https", "status": 302}},
                {"name": "path", "paths": ["~/old/(?<rest>.*)"], "redirect": {"path": "/$rest", "status": 303}},
                {"name": "prefix", "paths": ["/a"], "redirect": {"prefix": "/b", "status": 307}},
                {"name": "keyed", "paths": ["/keyed"], "redirect": {"prefix": "/k"},
                    "plugins": [{"name": "key-auth", "config": {"hide_credentials": true}}]},
            ], "consumers": [{"username": "alice", "keyauth_credentials": [{"key": "key-a"}]}]}),
            json!({}),
        );
        for (target, status, location) in [
            ("/host/x?q=1", 301, "http://new.example/host/x?q=1"),
            ("/tls/x", 308, "https://a.org/tls/x"),
            ("/port", 302, "https://a.org:8443/port"),
            ("/old/x/y?z", 303, "http://a.org:81/x/y?z"),
            ("/a/x", 307, "http://a.org:81/b/x"),
            // However it is written: another path of the same host, on one line.
            ("/old/%2F%2Fevil.example/", 303, "http://a.org:81/%2F%2Fevil.example/"),
            ("/old//evil.example/", 303, "http://a.org:81/evil.example/"),
            ("/old/@evil.example", 303, "http://a.org:81/@evil.example"),
            ("/old/%3cb%3E%22'", 303, "http://a.org:81/%3Cb%3E%22'"),
            ("/keyed/x?a=1&apikey=key-a", 301, "http://a.org:81/k/x?a=1"),
        ] {
            let got = gateway.talk(format!("GET {target} HTTP/1.1\r\nHost: a.org:81\r\n{CLOSE}")).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {got}");
            assert!(got.contains(&format!("\r\nlocation: {location}\r\n")), "{target}: {got}");
        }
        for (target, status) in [("/old/%0d%0aset-cookie:x", 400), ("/keyed/x", 401)] {
            let got = gateway.talk(format!("GET {target} HTTP/1.1\r\nHost: a.org\r\n{CLOSE}")).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")) && !got.contains("location"), "{got}");
        }
        let events = gateway.events(12).await;
        assert!(
            events[..10].iter().all(|e| e.outcome == Outcome::Ok && e.text("error").is_empty()),
            "{events:#?}"
        );
        assert_eq!((events[0].head.status, events[0].head.source), (301, Source::Gateway as u8));
        assert_eq!((events[0].text("route"), events[0].text("service")), ("host", ""));
    });
}

#[test]
fn faults_are_injected_and_said() {
    run(async {
        let delay = json!({"fixed_delay_ms": 120, "percentage": 100.0});
        let gateway = Gateway::start(
            json!({"services": [{"name": "s", "url": format!("http://{}", echo().await), "routes": [
                {"name": "late", "paths": ["/late"], "fault": {"delay": delay}},
                {"name": "gone", "paths": ["/gone"], "fault": {"abort": {"http_status": 503, "percentage": 100}}},
                {"name": "both", "paths": ["/both"], "fault": {"delay": delay, "abort": {"http_status": 418, "percentage": 100.0}}},
                {"name": "half", "paths": ["/half"], "fault": {"abort": {"http_status": 500, "percentage": 50}}},
                {"name": "never", "paths": ["/never"], "fault": {"abort": {"http_status": 500, "percentage": 0}}},
                {"name": "keyed", "paths": ["/keyed"], "fault": {"abort": {"http_status": 500, "percentage": 100}},
                    "plugins": [{"name": "key-auth"}]},
            ]}]}),
            json!({}),
        );
        for (target, status, waits) in [
            ("/late", 200, true),
            ("/gone", 503, false),
            ("/both", 418, true),
            ("/never", 200, false),
            ("/keyed", 401, false),
        ] {
            let begun = Instant::now();
            let got = gateway.talk(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {got}");
            assert_eq!(got.contains("fault filter abort"), [503, 418].contains(&status), "{got}");
            assert!(
                !waits || begun.elapsed() >= Duration::from_millis(120),
                "{target}: {:?}",
                begun.elapsed()
            );
        }
        let events = gateway.events(5).await;
        let said: Vec<_> = events.iter().map(|event| event.extra("fault")).collect();
        assert_eq!(said, [Some("delay"), Some("abort"), Some("delay,abort"), None, None]);
        assert_eq!((events[1].outcome, events[1].text("error")), (Outcome::GatewayError, "injected fault"));
        assert!(events[0].outcome == Outcome::Ok && events[0].head.duration_us >= 120_000);
        assert!(events[1].attempts.is_empty() && events[1].head.source == Source::Gateway as u8);
        let mut aborted = 0;
        for _ in 0..200 {
            let got = gateway.talk(format!("GET /half HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
            aborted += u32::from(got.starts_with("HTTP/1.1 500 "));
        }
        // Five standard deviations of a coin thrown 200 times.
        assert!((65..=135).contains(&aborted), "{aborted} of 200");
    });
}
