//! `tollhouse demo` as a newcomer runs it, with the real binary: it ends by itself, its report holds every kind of
//! traffic that it promises, and the books balance.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .arg("demo")
        .args(["--port", "0", "--metrics-port", "0", "--sql-port", "0"])
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_short_demo_reconciles_and_shows_every_kind_of_traffic() {
    let output = demo(&["--duration", "5s", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["reconciled"], true, "{}", said(&output));

    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    assert!(count("/client/sent") > count("/client/sent_by_traffic"), "services called one another");
    assert!(count("/client/sent_by_traffic") > 500);
    assert!(count("/client/aborted") > 0);
    assert!(count("/client/by_status/401") > 0 && count("/client/by_status/404") > 0);
    assert!(count("/sql/outcomes/client_closed") > 0, "{}", said(&output));
    assert!(count("/sql/outcomes/ok") > 0);
    assert!(count("/sql/slow") > 0);
    // The clients hung up exactly as often as the gateway says that clients did.
    assert_eq!(count("/sql/outcomes/client_closed"), count("/client/aborted"), "{}", said(&output));

    let services = report["sql"]["services"].as_array().unwrap();
    let failed: u64 = services.iter().filter_map(|line| line["errors"].as_u64()).sum();
    assert!(failed > 0, "{}", said(&output));
    let edges = report["sql"]["edges"].as_array().unwrap();
    for (caller, callee) in [
        ("shop", "catalog"),
        ("shop", "orders"),
        ("orders", "payments"),
        ("search", "catalog"),
        ("acme", "shop"),
    ] {
        assert!(
            edges.iter().any(|edge| edge["caller"] == caller && edge["callee"] == callee),
            "{caller} -> {callee}: {}",
            said(&output)
        );
    }
    let consumers = report["sql"]["consumers"].as_array().unwrap();
    for name in ["acme", "mobile-app", "globex", "initech", "anonymous"] {
        let line = consumers.iter().find(|line| line["name"] == name).unwrap();
        assert!(line["requests"].as_u64() > Some(0) && line["p99_us"].as_f64() > Some(0.0), "{line}");
    }
}

#[test]
fn the_text_report_is_plain_in_a_pipe_and_the_data_folder_stays() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let output = demo(&["--duration", "2s", "--rate", "50", "--data", data.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", said(&output));
    for part in ["tollhouse run --upstream", "Call graph", "└─▶ ", "The books balance, to the row."] {
        assert!(text.contains(part), "{part:?}: {}", said(&output));
    }
    assert!(!text.contains('\x1b'), "{}", said(&output));
    assert!(data.join("tollhouse.yaml").exists());
}

#[test]
fn wrong_times_and_taken_ports_are_refused_in_words() {
    let output = demo(&["--duration", "soon"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as 30, 30s, 5m"), "{}", said(&output));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args(["demo", "--duration", "1s", "--port", "0", "--metrics-port", "0", "--sql-port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!output.stderr.is_empty());
}
