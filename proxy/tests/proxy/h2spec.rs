//! The public conformance suite of HTTP/2 and HPACK against a listener.

use crate::support::*;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where `tests/run` has put it.
fn h2spec() -> PathBuf {
    match std::env::var_os("TESTS_H2SPEC") {
        Some(path) => path.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/tollhouse-tests/bin/h2spec"),
    }
}

/// Answers a request once it is whole. Frames that a test sends on a stream whose request it has not ended meet a stream
/// that is open, however busy the machine: with an answer at its head it might be over by then, and rightly reset.
async fn patient() -> SocketAddr {
    origin(|_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&got).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let whole = match length {
                Some(length) => body.len() >= length.parse().unwrap(),
                None if head.contains("transfer-encoding: chunked") => {
                    // With trailers, or without.
                    let last = body.starts_with("0\r\n") || body.contains("\r\n0\r\n");
                    last && body.ends_with("\r\n\r\n")
                }
                None => true,
            };
            if whole {
                got.clear();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn judge(gateway: &Gateway, options: &[&str]) -> String {
    let port = gateway.addr.port().to_string();
    let output = tokio::process::Command::new(h2spec())
        .args(["--host", "127.0.0.1", "--port", &port, "--timeout", "3"])
        .args(options)
        .args(["generic", "http2", "hpack"])
        .kill_on_drop(true)
        .output()
        .await
        .expect("tests/run installs h2spec");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn all_of_it_passes_after_alpn() {
    run(async {
        let signed = SelfSigned::new();
        let listen = serde_json::json!([{"name": "tls", "address": "127.0.0.1:0", "tls": signed.tls()}]);
        let gateway = Gateway::start(everything_to(patient().await), serde_json::json!({"listen": listen}));
        let said = judge(&gateway, &["--tls", "--insecure"]).await;
        assert!(said.contains("145 tests, 145 passed, 0 skipped, 0 failed"), "{said}");
    });
}

/// On a port that speaks HTTP/1.1 too, what does not begin with the preface is not HTTP/2 (RFC 9113, 3.4: no GOAWAY is
/// needed, "since an invalid preface indicates that the peer is not using HTTP/2"). It is answered as HTTP/1.1 has it,
/// 400, and closed; the suite takes that answer for a broken frame.
#[test]
fn by_prior_knowledge_only_the_answer_to_a_wrong_preface_differs() {
    run(async {
        let gateway = Gateway::before(patient().await);
        let said = judge(&gateway, &[]).await;
        assert!(said.contains("145 tests, 144 passed, 0 skipped, 1 failed"), "{said}");
        let failure = said.split("Failures:").nth(1).unwrap_or_default();
        assert!(failure.contains("Sends invalid connection preface"), "{said}");
        let got = gateway.talk("INVALID CONNECTION PREFACE\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("connection: close"), "{got}");
    });
}
