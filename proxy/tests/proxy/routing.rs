//! Which route takes a request, and what becomes of its path.

use crate::support::*;
use event::{Outcome, Source};
use serde_json::json;

const CLOSE: &str = "Connection: close\r\n\r\n";

#[test]
fn the_route_and_the_path_upstream_are_as_kong_has_them() {
    run(async {
        let origin = echo().await;
        let url = format!("http://{origin}/base/");
        let gateway = Gateway::start(
            json!({"services": [{"name": "s", "url": url, "routes": [
                {"name": "prefix", "paths": ["/users"]},
                {"name": "regex", "paths": [r"~/users/(?<id>\d+)"]},
                {"name": "kept", "paths": ["/kept"], "strip_path": false},
                {"name": "v1", "paths": ["/v1"], "path_handling": "v1"},
                {"name": "canary", "headers": {"x-version": ["~*^v2"]}, "paths": ["/users"]},
                {"name": "wild", "hosts": ["*.example.com:8000"]},
            ]}]}),
            json!({}),
        );
        for (target, lines, route, sent) in [
            ("/users/new?q=1", "Host: a\r\n", "prefix", "/base/new?q=1"),
            ("/users/42/x", "Host: a\r\n", "regex", "/base/x"),
            ("/users", "Host: a\r\n", "prefix", "/base"),
            ("/users/42", "Host: a\r\nX-Version: V2.1\r\n", "canary", "/base/42"),
            ("/kept/a", "Host: a\r\n", "kept", "/base/kept/a"),
            ("/v1abc", "Host: a\r\n", "v1", "/base/abc"),
            ("/any", "Host: X.Example.com:8000\r\n", "wild", "/base/any"),
        ] {
            let got = gateway.talk(format!("GET {target} HTTP/1.1\r\n{lines}{CLOSE}")).await;
            let line = format!("GET {sent} HTTP/1.1\r\n");
            assert!(got.contains(&line), "{target} {route}: {got}");
        }
        let events = gateway.events(7).await;
        let routes: Vec<_> = events.iter().map(|event| event.text("route").to_owned()).collect();
        assert_eq!(routes, ["prefix", "regex", "prefix", "canary", "kept", "v1", "wild"]);
    });
}

#[test]
fn cleartext_is_sent_to_tls_where_the_route_says_so() {
    run(async {
        let mut entities = everything_to(echo().await);
        entities["services"][0]["routes"] = json!([
            {"name": "refused", "paths": ["/426"], "protocols": ["https"]},
            {"name": "moved", "paths": ["/301"], "protocols": ["https"], "https_redirect_status_code": 301},
        ]);
        let gateway = Gateway::start(entities.clone(), json!({}));
        let refused = gateway.talk(format!("GET /426 HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(
            refused.starts_with("HTTP/1.1 426 ") && refused.contains("upgrade: TLS/1.2, HTTP/1.1"),
            "{refused}"
        );
        assert!(refused.contains("Please use HTTPS protocol"), "{refused}");
        let moved = gateway
            .talk(
                "POST /301/x?q=1 HTTP/1.1\r\nHost: A.com:80\r\nContent-Length: 2\r\n\r\nhi\
             GET /301 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            )
            .await;
        assert!(moved.starts_with("HTTP/1.1 301 "), "{moved}");
        assert!(moved.contains("\r\nlocation: https://a.com/301/x?q=1\r\n"), "{moved}");
        assert_eq!(
            moved.matches("HTTP/1.1 301 ").count(),
            2,
            "the body was read, the connection goes on: {moved}"
        );
        let events = gateway.events(3).await;
        assert!(events.iter().all(|event| event.outcome == Outcome::UpgradeRequired), "{events:#?}");
        assert_eq!((events[1].head.status, events[1].head.source), (301, Source::Gateway as u8));
        let trusting = Gateway::start(entities, json!({"trusted_ips": ["127.0.0.1"]}));
        let passed = trusting
            .talk(format!("GET /426 HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n{CLOSE}"))
            .await;
        assert!(passed.starts_with("HTTP/1.1 200 "), "{passed}");
    });
}
