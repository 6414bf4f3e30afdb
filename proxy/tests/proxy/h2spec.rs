//! The public conformance suite of HTTP/2 and HPACK against a listener.

use crate::support::*;
use std::path::PathBuf;

/// Where `tests/run` has put it.
fn h2spec() -> PathBuf {
    match std::env::var_os("TESTS_H2SPEC") {
        Some(path) => path.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/tollhouse-tests/bin/h2spec"),
    }
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
        let gateway = Gateway::start(everything_to(echo().await), serde_json::json!({"listen": listen}));
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
        let gateway = Gateway::before(echo().await);
        let said = judge(&gateway, &[]).await;
        assert!(said.contains("145 tests, 144 passed, 0 skipped, 1 failed"), "{said}");
        let failure = said.split("Failures:").nth(1).unwrap_or_default();
        assert!(failure.contains("Sends invalid connection preface"), "{said}");
        let got = gateway.talk("INVALID CONNECTION PREFACE\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("connection: close"), "{got}");
    });
}
