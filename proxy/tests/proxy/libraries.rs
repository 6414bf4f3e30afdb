//! Clients and servers of public libraries: WebSocket by `websockets`, gRPC by `grpcio`, both of Python.

use crate::support::*;
use event::{Outcome, Protocol};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Where `tests/run` has put it, with its libraries.
fn python() -> Command {
    let path = match std::env::var_os("TESTS_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => {
            PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/tollhouse-tests/python/bin/python")
        }
    };
    let mut command = Command::new(path);
    command
        .kill_on_drop(true)
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .env("GRPC_VERBOSITY", "NONE");
    command
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/python").join(name)
}

/// Runs a server until it says its port.
async fn server(name: &str) -> (Child, u16) {
    let mut child = python()
        .arg(script(name))
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/run installs Python's libraries");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await.unwrap().unwrap();
    (child, line.trim().parse().expect("the server says its port"))
}

async fn client(name: &str, port: u16) {
    let run = python().arg(script(name)).arg(port.to_string()).output();
    let output = tokio::time::timeout(PATIENCE * 2, run).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_websocket_is_pinged_and_closed_both_ways() {
    run(async {
        let (_origin, port) = server("websocket_origin.py").await;
        let gateway = Gateway::before(([127, 0, 0, 1], port).into());
        client("websocket_client.py", gateway.addr.port()).await;
        let events = gateway.events(2).await;
        for event in &events {
            assert_eq!((event.outcome, event.head.status), (Outcome::Ok, 101));
            assert_eq!((event.head.protocol, event.text("path")), (Protocol::Websocket as u8, "/chat"));
        }
        let least = 3_200_000;
        assert!(events[0].head.request_bytes > least && events[0].head.response_bytes > least);
        // A close frame each way, the client's masked.
        assert_eq!((events[1].head.request_bytes, events[1].head.response_bytes), (2 + 4 + 2 + 6, 2 + 2 + 6));
    });
}

#[test]
fn grpc_calls_of_all_kinds_pass_with_their_ends() {
    run(async {
        let (_origin, port) = server("grpc_origin.py").await;
        let dead = free_addr();
        let entities = json!({"services": [
            {"name": "calls", "protocol": "grpc", "host": "127.0.0.1", "port": port, "routes": [
                {"name": "calls", "protocols": ["grpc"], "paths": ["/test.Calls/"], "strip_path": false}]},
            {"name": "dead", "protocol": "grpc", "host": "127.0.0.1", "port": dead.port(), "retries": 0, "routes": [
                {"name": "dead", "protocols": ["grpc"], "paths": ["/dead.Service/"], "strip_path": false}]}]});
        let gateway = Gateway::start(entities, json!({"listen": [{"address": "127.0.0.1:0"}]}));
        client("grpc_client.py", gateway.addr.port()).await;
        let deadline = Instant::now() + PATIENCE;
        let events = gateway.events(11).await;
        assert!(Instant::now() < deadline);
        assert!(events.iter().all(|event| event.head.protocol == Protocol::Grpc as u8));
        let mut ends: Vec<_> = events.iter().map(|event| (event.outcome, event.head.grpc_status)).collect();
        // The origin knows the deadline too, and may be the first to say that it is over.
        if let Some(over) = ends.iter_mut().find(|end| **end == (Outcome::Ok, 4)) {
            *over = (Outcome::ClientClosed, event::ABSENT_U16);
        }
        ends.sort();
        let expected = [
            [(Outcome::Ok, 0)].repeat(5),
            vec![(Outcome::Ok, 9), (Outcome::Ok, 15)],
            [(Outcome::ClientClosed, event::ABSENT_U16)].repeat(2),
            vec![(Outcome::NoRoute, 12), (Outcome::ConnectFailed, 14)],
        ]
        .concat();
        assert_eq!(ends, expected);
    });
}
