//! `tollhouse demo` as a newcomer runs it, with the real binary, in a pipe and on a terminal: it ends by itself, its
//! report holds every kind of traffic that it promises, the books balance, and nothing is left behind.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use event::configuration::Configuration;
use event::in_force::InForce;
use event::layout::DataFolder;
use serde_json::Value;
use support::eventually;
use support::terminal::Terminal;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command
        .arg("demo")
        .args(["--port", "0", "--metrics-port", "0", "--sql-port", "0", "--postgres-port", "0"])
        .args(arguments);
    command
}

fn demo(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
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
    // Every request is on one edge: the edges of a caller add up to what it asked, those of a callee to what it got.
    for (kind, lines, end) in [("consumer", consumers, "caller"), ("service", services, "callee")] {
        let mut sums = BTreeMap::new();
        for edge in edges {
            *sums.entry(edge[end].as_str().unwrap()).or_insert(0) += edge["requests"].as_u64().unwrap();
        }
        let expected: BTreeMap<_, _> = lines
            .iter()
            .map(|line| (line["name"].as_str().unwrap(), line["requests"].as_u64().unwrap()))
            .collect();
        assert_eq!(sums, expected, "by {kind}: {}", said(&output));
    }
    for name in ["acme", "mobile-app", "globex", "initech", "shop", "anonymous"] {
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
    for part in [
        "tollhouse run --upstream",
        "requests/s  errors ",
        " in parquet + 0 dropped + ",
        "Call graph",
        "───▶ payments",
        "The books balance, to the row.",
    ] {
        assert!(text.contains(part), "{part:?}: {}", said(&output));
    }
    assert!(!text.contains('\x1b'), "{}", said(&output));
    // The configuration that it ran is one that anybody may run.
    let file = data.join("tollhouse.yaml");
    let checked = Command::new(env!("CARGO_BIN_EXE_tollhouse")).arg("check").arg("-c").arg(file).output();
    assert!(checked.as_ref().unwrap().status.success(), "{}", said(&checked.unwrap()));

    // The console shows it, too.
    let in_force = InForce::load(&DataFolder::existing(&data).unwrap()).unwrap();
    let state = Configuration::load(&DataFolder::existing(&data).unwrap()).unwrap().unwrap();
    assert_eq!((state.successful, state.version), (true, in_force.versions[0].version));
    let counts = &in_force.versions[0].entities;
    assert_eq!((in_force.versions.len(), counts["services"], counts["routes"]), (1, 5, 5), "{counts:?}");

    let again = demo(&["--duration", "2s", "--data", data.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"), "{}", said(&again));
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The addresses of the URLs with a path on the screen; the last one may be half drawn.
fn addresses(screen: &str) -> BTreeSet<SocketAddr> {
    let urls = screen.split("http://").skip(1).filter_map(|rest| rest.split_once('/'));
    urls.filter_map(|(address, _)| address.parse().ok()).collect()
}

#[test]
fn on_a_terminal_it_draws_and_leaves_nothing_behind() {
    // Ctrl-C as a key, q, and a signal from outside; in a usual, a tiny and a resized terminal.
    for (columns, rows, key) in [(80, 24, Some("\u{3}")), (12, 4, Some("q")), (120, 40, None)] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = command(&["--rate", "100"]);
        run.env("TMPDIR", folder.path()).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let mut terminal = Terminal::open(columns, rows);
        let before = terminal.settings();
        terminal.start(run);
        // The tiny one has no room for the ledger.
        let wanted = if rows > 4 { "✔" } else { " ms" };
        let screen = eventually("numbers on the screen", || match terminal.drawn() {
            text if text.contains(wanted) => Ok(text),
            text => Err(text),
        });
        assert!(screen.contains("\u{1b}[?1049h") && screen.contains("\u{1b}[?25l"), "{screen:?}");
        assert_ne!(terminal.settings(), before, "keys are read as they are pressed");
        assert_eq!(entries(folder.path()).len(), 1, "a temporary data folder");
        let listeners = addresses(&screen);
        match key {
            Some(key) => terminal.write(key),
            None => {
                terminal.resize(60, 15);
                terminal.signal(libc::SIGTERM);
            }
        }
        let (status, text) = terminal.end();
        assert!(status.success(), "{status}\n{text}");
        let (_, after) = text.rsplit_once("\u{1b}[?1049l").expect("the first screen comes back");
        assert!(text.contains("\u{1b}[?25h"), "the cursor comes back: {text:?}");
        assert!(after.contains("The books balance, to the row."), "{after}");
        assert_eq!(terminal.settings(), before, "the terminal is as it was");
        assert_eq!(entries(folder.path()), Vec::<std::path::PathBuf>::new());
        assert!(rows < 24 || listeners.len() == 3, "{listeners:?}");
        for address in listeners {
            assert!(TcpStream::connect(address).is_err(), "{address} still listens");
        }
    }
}

#[test]
fn no_color_and_a_dumb_terminal_are_kept_to() {
    for (name, value, draws) in [("NO_COLOR", "1", true), ("TERM", "dumb", false)] {
        let mut run = command(&["--duration", "3s", "--rate", "100"]);
        run.env_remove("NO_COLOR").env("TERM", "xterm-256color").env(name, value);
        let mut terminal = Terminal::open(100, 30);
        terminal.start(run);
        let (status, text) = terminal.end();
        assert!(status.success(), "{text}");
        let colours = text.split("\u{1b}[").skip(1).filter(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        });
        assert_eq!(colours.count(), 0, "{name}: {text:?}");
        assert_eq!(text.contains('\u{1b}'), draws, "{name}: {text:?}");
        assert_eq!(text.contains("requests/s  errors"), !draws, "{name}: {text:?}");
    }
}

#[test]
fn wrong_times_and_taken_ports_are_refused_in_words() {
    let output = demo(&["--duration", "soon"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as 30, 30s, 5m"), "{}", said(&output));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args([
            "demo",
            "--duration",
            "1s",
            "--port",
            "0",
            "--metrics-port",
            "0",
            "--postgres-port",
            "0",
            "--sql-port",
            &port,
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!output.stderr.is_empty());
}
