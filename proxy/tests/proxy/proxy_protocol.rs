//! The PROXY protocol, in and out.

use crate::support::*;
use serde_json::json;
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xcb\0\x71\x07\xc6\x33\x64\x01\x9c\x40\x01\xbb\x04\0\x04\0\0\0\0";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn gateway(mode: &str, trusted: &str, more: serde_json::Value) -> Gateway {
    let mut config = json!({
        "listen": [{"name": "http", "address": "127.0.0.1:0", "proxy_protocol": mode}],
        "trusted_ips": [trusted],
        "timeouts": {"sweep_interval_ms": 10, "header_timeout_ms": 300, "linger_timeout_ms": 200},
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    Gateway::start(everything_to(echo().await), config)
}

fn ended(gateway: &Gateway, reason: &str) -> u64 {
    let counts = gateway.running.as_ref().unwrap().connections();
    counts.ended.iter().find(|(name, _)| *name == reason).unwrap().1
}

fn ip(bytes: [u8; 16]) -> String {
    event::ip_from_bytes(bytes).map_or_else(String::new, |ip: IpAddr| ip.to_string())
}

#[test]
fn the_client_is_whom_a_trusted_balancer_names() {
    run(async {
        for mode in ["accept", "require"] {
            let gateway = gateway(mode, "127.0.0.1", json!({})).await;
            for header in [V1, V2] {
                let got = gateway.talk([header, GET].concat()).await;
                assert!(got.contains("x-forwarded-for: 203.0.113.7\r\n"), "{got}");
                assert!(
                    got.contains("x-real-ip: 203.0.113.7\r\n") && got.contains("x-forwarded-port: 443"),
                    "{got}"
                );
                assert!(!got.contains("PROXY"), "{got}");
            }
            // A check of the balancer's own, and bytes that come one by one.
            assert!(gateway.talk([LOCAL, GET].concat()).await.contains("x-real-ip: 127.0.0.1\r\n"));
            let mut slow = TcpStream::connect(gateway.addr).await.unwrap();
            slow.set_nodelay(true).unwrap();
            for byte in [V2, GET].concat() {
                slow.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            assert!(read_all(&mut slow).await.contains("x-real-ip: 203.0.113.7\r\n"));
            let events = gateway.events(4).await;
            let ends: Vec<_> =
                events.iter().map(|one| (ip(one.head.client_ip), ip(one.head.peer_ip))).collect();
            let proxied = ("203.0.113.7".to_owned(), "127.0.0.1".to_owned());
            let local = ("127.0.0.1".to_owned(), "127.0.0.1".to_owned());
            assert_eq!(ends, [proxied.clone(), proxied.clone(), local, proxied], "{mode}");
        }
    });
}

#[test]
fn what_a_client_claims_behind_a_trusted_balancer_is_not_believed() {
    run(async {
        let gateway = gateway("require", "127.0.0.1", json!({})).await;
        let claims = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\n\
            X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
        let got = gateway.talk([V1, claims].concat()).await;
        assert!(got.contains("x-forwarded-for: 9.9.9.9, 203.0.113.7\r\n"), "{got}");
        assert!(
            got.contains("x-real-ip: 203.0.113.7\r\n") && got.contains("x-forwarded-proto: http\r\n"),
            "{got}"
        );
        assert_eq!(ip(gateway.events(1).await[0].head.client_ip), "203.0.113.7");
    });
}

#[test]
fn nobody_else_may_name_a_client() {
    run(async {
        let accepts = gateway("accept", "10.0.0.0/8", json!({})).await;
        for header in [V1, V2] {
            let got = accepts.talk([header, GET].concat()).await;
            assert!(got.starts_with("HTTP/1.1 400 ") && !got.contains("203.0.113.7"), "{got}");
        }
        assert!(accepts.talk(GET).await.contains("x-real-ip: 127.0.0.1\r\n"), "others are not asked");
        let events = accepts.events(3).await;
        assert!(events.iter().all(|event| ip(event.head.client_ip) == "127.0.0.1"));
        let requires = gateway("require", "10.0.0.0/8", json!({})).await;
        for header in [V1, V2, b""] {
            assert!(!requires.talk([header, GET].concat()).await.contains("HTTP/1.1"));
        }
        assert_eq!(ended(&requires, "proxy_untrusted"), 3);
        let off = Gateway::before(echo().await);
        assert!(off.talk([V1, GET].concat()).await.starts_with("HTTP/1.1 400 "));
    });
}

#[test]
fn a_header_that_is_required_comes_whole_right_and_in_time() {
    run(async {
        let gateway =
            gateway("require", "127.0.0.1", json!({"limits": {"proxy_header_bytes_max": 232}})).await;
        let mut long = V2.to_vec();
        long[14] = 1;
        let bad: [&[u8]; 6] = [
            GET,
            b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\n",
            b"PROXY TCP4 203.0.113.7\r\n",
            &[b'P'; 200],
            &V2[..20],
            &long,
        ];
        for bytes in bad {
            let got = gateway.talk(bytes).await;
            assert!(!got.contains("HTTP"), "{got}");
        }
        let mut silent = TcpStream::connect(gateway.addr).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0, "closed after header_timeout_ms");
        assert_eq!(ended(&gateway, "proxy_header"), 7);
        assert!(gateway.talk([V2, GET].concat()).await.contains("x-real-ip: 203.0.113.7\r\n"));
        assert_eq!(gateway.events(1).await.len(), 1);
    });
}

#[test]
fn connections_are_counted_for_the_client_behind_the_balancer() {
    run(async {
        let limits = json!({"limits": {"connections_per_client_max": 1}});
        let gateway = gateway("require", "127.0.0.1", limits).await;
        let mut first = TcpStream::connect(gateway.addr).await.unwrap();
        first.write_all(&[V1, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await.unwrap();
        read_until(&mut first, "x-real-ip: 203.0.113.7\r\n").await;
        assert!(gateway.talk([V2, GET].concat()).await.starts_with("HTTP/1.1 429 "));
        let other = b"PROXY TCP4 203.0.113.8 198.51.100.1 40000 443\r\n";
        assert!(gateway.talk([other, GET].concat()).await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn it_stands_before_tls_too() {
    run(async {
        let signed = SelfSigned::new();
        let listen = json!([{"name": "tls", "address": "127.0.0.1:0", "proxy_protocol": "require",
            "tls": signed.tls()}]);
        let gateway = gateway("require", "127.0.0.1", json!({"listen": listen})).await;
        let config = signed.believed();
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(V2).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert!(String::from_utf8_lossy(&got).contains("x-real-ip: 203.0.113.7\r\n"));
    });
}

#[test]
fn it_needs_somebody_to_trust() {
    let config = json!({"listen": [{"address": "127.0.0.1:0", "proxy_protocol": "accept"}]});
    let config = serde_json::from_value(config).unwrap();
    let problems = proxy::validate(&config, &Default::default()).unwrap_err();
    assert_eq!(problems[0].path, "gateway.listen[0].proxy_protocol");
}

/// Each request to such an upstream has a connection of its own, whoever asks.
#[test]
fn upstreams_are_told_the_client_and_no_connection_serves_two() {
    run(async {
        let origin = origin(|number, mut stream| async move {
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let line = got.split(|byte| *byte == b'\n').next().unwrap();
            let line = String::from_utf8_lossy(line).trim().to_owned();
            let body = format!("{number}: {line}");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "nothing follows");
        })
        .await;
        let mut entities = everything_to(origin);
        entities["services"][0]["send_proxy_protocol"] = json!("v1");
        let listen = json!([{"name": "http", "address": "127.0.0.1:0", "proxy_protocol": "accept"}]);
        let config =
            json!({"listen": listen, "trusted_ips": ["127.0.0.1"], "timeouts": {"sweep_interval_ms": 10}});
        let gateway = Gateway::start(entities, config);
        for number in 0..2 {
            let got = gateway.talk([V2, GET].concat()).await;
            let line = format!("\r\n\r\n{number}: PROXY TCP4 203.0.113.7 198.51.100.1 40000 443");
            assert!(got.ends_with(&line), "{got}");
        }
        // What a trusted peer says by X-Forwarded-For counts as well.
        let claims = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n";
        assert!(gateway.talk(claims).await.contains("2: PROXY TCP4 192.0.2.1 127.0.0.1 0 "));
        let events = gateway.events(3).await;
        assert!(events.iter().all(|event| event.attempts.len() == 1 && !event.attempts[0].3));
    });
}

#[test]
fn health_checks_speak_it_where_services_do() {
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::channel(100);
        let origin = origin(move |_, mut stream| {
            let told = told.clone();
            async move {
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0)
                    && !got.ends_with(b"\r\n\r\n")
                {}
                // Nobody may listen any more.
                let _told = told.send(got).await;
                let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        })
        .await;
        let entities = json!({
            "services": [{"name": "s", "host": "pool", "send_proxy_protocol": "v1", "routes": [{"paths": ["/"]}]}],
            "upstreams": [{"name": "pool", "targets": [{"target": origin.to_string()}],
                "healthchecks": {"active": {"healthy": {"interval": 1, "successes": 1}}}}],
        });
        let _gateway = Gateway::start(entities, json!({"listen": [{"address": "127.0.0.1:0"}]}));
        let first = tokio::time::timeout(PATIENCE, tells.recv()).await.unwrap().unwrap();
        assert!(
            first.starts_with(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"),
            "{}",
            String::from_utf8_lossy(&first)
        );
    });
    let entities = json!({
        "services": [{"name": "a", "host": "pool", "send_proxy_protocol": "v1"}, {"name": "b", "host": "pool"}],
        "upstreams": [{"name": "pool", "healthchecks": {"active": {"healthy": {"interval": 1}}}}],
    });
    let entities = serde_json::from_value(entities).unwrap();
    let problems = proxy::validate(&Default::default(), &entities).unwrap_err();
    assert_eq!(problems[0].path, "upstreams[0].healthchecks.active");
}
