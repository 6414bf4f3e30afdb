//! What a client says of itself, of its place in the chain and of its path: who is believed, and that all see the same.

use crate::support::*;
use event::Outcome;
use serde_json::json;

const CLOSE: &str = "Connection: close\r\n\r\n";

/// Every line by which a client could pass for somebody else.
const CLAIMS: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
    X-Forwarded-Port: 1\r\nX-Forwarded-Path: /evil\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-User: root\r\n\
    Forwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nX-Request-Id: 11111111111111111111111111111111\r\n\
    X-Tollhouse-Source: payments\r\n";

/// The value of a line that the echoing origin has seen.
fn seen<'a>(got: &'a str, name: &str) -> Vec<&'a str> {
    got.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[test]
fn a_stranger_is_not_believed() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let got = gateway.talk(format!("GET /p HTTP/1.1\r\nHost: a.com\r\n{CLAIMS}{CLOSE}")).await;
        assert_eq!(seen(&got, "x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
        assert_eq!(seen(&got, "x-real-ip"), ["127.0.0.1"]);
        assert_eq!(seen(&got, "x-forwarded-proto"), ["http"]);
        assert_eq!(seen(&got, "x-forwarded-host"), ["a.com"]);
        assert_eq!(seen(&got, "x-forwarded-port"), [gateway.addr.port().to_string()]);
        assert_eq!(seen(&got, "x-forwarded-path"), ["/p"]);
        assert!(!got.contains("evil") && !got.contains("root") && !got.contains("forwarded: for"), "{got}");
        assert!(!got.contains("1111111111"), "{got}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.head.client_ip, event::ip_bytes([127, 0, 0, 1].into()));
        assert_eq!(event.text("source"), "");
    });
}

#[test]
fn a_trusted_peer_is_believed() {
    run(async {
        let trusting = json!({"trusted_ips": ["127.0.0.0/8"]});
        let gateway = Gateway::start(everything_to(echo().await), trusting);
        let got = gateway.talk(format!("GET /p HTTP/1.1\r\nHost: a.com\r\n{CLAIMS}{CLOSE}")).await;
        assert_eq!(seen(&got, "x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
        assert_eq!(seen(&got, "x-real-ip"), ["203.0.113.9"]);
        assert_eq!(seen(&got, "x-forwarded-proto"), ["https"]);
        assert_eq!(seen(&got, "x-forwarded-host"), ["evil"]);
        assert_eq!(seen(&got, "x-forwarded-prefix"), ["/evil"]);
        assert_eq!(seen(&got, "forwarded"), ["for=203.0.113.9"]);
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.head.request_id, [0x11; 16]);
        assert_eq!(event.head.client_ip, event::ip_bytes([203, 0, 113, 9].into()));
        assert_eq!(event.text("source"), "payments");
    });
}

#[test]
fn only_the_gateway_says_who_the_consumer_is() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let got = gateway
            .talk(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Consumer-Id: 1\r\nX_Consumer_Username: 1\r\nx-consumer_custom-id: 1\r\n\
                 X-Credential-Identifier: 1\r\nX-Anonymous-Consumer: 1\r\nX_Forwarded_For: 1\r\nX_Real_IP: 1\r\n\
                 Content_Length: 1\r\nTransfer_Encoding: 1\r\nProxy: http://evil\r\nX-Mine_Too: kept\r\n{CLOSE}"
            ))
            .await;
        let sent = got.split_once("\r\n\r\n").unwrap().1.to_lowercase();
        for gone in ["consumer", "credential", "forwarded_for", "real_ip", "content_l", "transfer_e", "evil"]
        {
            assert!(!sent.contains(gone), "{gone} in {sent}");
        }
        assert!(sent.contains("x-mine_too: kept"), "{sent}");
    });
}

#[test]
fn connection_takes_away_a_clients_own_lines_and_none_of_the_gateways() {
    run(async {
        let gateway = Gateway::before(echo().await);
        let got = gateway
            .talk(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nTE: trailers, gzip\r\n\
                 Connection: close, X-Own, X-Forwarded-For, X-Request-Id, Host, traceparent\r\n\r\n",
            )
            .await;
        let sent = got.split_once("\r\n\r\n").unwrap().1;
        for gone in ["x-own", "keep-alive", "proxy-authorization", "connection", "gzip"] {
            assert!(!sent.contains(gone), "{gone} in {sent}");
        }
        for kept in
            ["x-forwarded-for: 127.0.0.1", "x-request-id: ", "traceparent: 00-", "host: ", "te: trailers"]
        {
            assert!(sent.contains(kept), "{kept} not in {sent}");
        }
    });
}

#[test]
fn a_path_is_one_path_for_routing_record_and_service() {
    run(async {
        let mut entities = everything_to(echo().await);
        entities["services"][0]["routes"] = json!([
            {"name": "all", "paths": ["/"], "strip_path": false},
            {"name": "admin", "paths": ["/admin"], "strip_path": false},
        ]);
        let gateway = Gateway::start(entities, json!({}));
        let mut events = 0;
        for (path, sent, route) in [
            ("/a/%2e%2e/admin/x", "/admin/x", "admin"),
            ("//admin//x", "/admin/x", "admin"),
            ("/./admin", "/admin", "admin"),
            ("/%61dmin", "/admin", "admin"),
            ("/admin/../public", "/public", "all"),
            ("/public%2fadmin", "/public%2Fadmin", "all"),
            ("/%252e%252e/admin", "/%252e%252e/admin", "all"),
            ("/x;y=1/z", "/x;y=1/z", "all"),
        ] {
            let got = gateway.talk(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
            assert!(got.contains(&format!("\r\n\r\nGET {sent} HTTP/1.1\r\n")), "{path}: {got}");
            assert_eq!(seen(&got, "x-forwarded-path"), [sent], "{path}");
            events += 1;
            let event = gateway.events(events).await.remove(events - 1);
            assert_eq!((event.text("path"), event.text("route")), (sent, route), "{path}");
        }
        for path in
            ["/%00", "/a%0d%0aX:1", "/..%2fadmin", "/..;/admin", "/a\\..\\admin", "/%zz", "/.%2e%5cadmin"]
        {
            let got = gateway.talk(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
            assert!(got.starts_with("HTTP/1.1 400 "), "{path}: {got}");
            events += 1;
            let event = gateway.events(events).await.remove(events - 1);
            assert_eq!(event.outcome, Outcome::BadRequest, "{path}");
        }
    });
}

#[test]
fn a_prefix_that_is_taken_off_is_told() {
    run(async {
        let origin = echo().await;
        let gateway = Gateway::start(
            json!({"services": [{"name": "s", "url": format!("http://{origin}/base"), "routes": [
                {"name": "cut", "paths": ["/api"]}, {"name": "whole", "paths": ["/whole"], "strip_path": false},
                {"name": "host", "hosts": ["keep.com"], "preserve_host": true}]}]}),
            json!({}),
        );
        let cut = gateway.talk(format!("GET /api/x?q=%20 HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(cut.contains("\r\n\r\nGET /base/x?q=%20 HTTP/1.1\r\n"), "{cut}");
        assert_eq!(
            (seen(&cut, "x-forwarded-prefix"), seen(&cut, "x-forwarded-path")),
            (vec!["/api"], vec!["/api/x"])
        );
        assert_eq!(seen(&cut, "host"), [origin.to_string()]);
        let bare = gateway.talk(format!("GET /api HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(bare.contains("\r\n\r\nGET /base HTTP/1.1\r\n"), "{bare}");
        let whole = gateway.talk(format!("GET /whole HTTP/1.1\r\nHost: a\r\n{CLOSE}")).await;
        assert!(whole.contains("\r\n\r\nGET /base/whole HTTP/1.1\r\n"), "{whole}");
        assert!(seen(&whole, "x-forwarded-prefix").is_empty(), "{whole}");
        let kept = gateway.talk(format!("GET / HTTP/1.1\r\nHost: Keep.com:8000\r\n{CLOSE}")).await;
        assert_eq!(seen(&kept, "host"), ["keep.com:8000"]);
        gateway.events(4).await;
    });
}
