//! `tollhouse query` without a statement: a person at a terminal.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::eventually;
use support::origin::Origin;
use support::site::{Site, Tollhouse};
use support::terminal::Terminal;

#[test]
fn a_person_asks_in_the_shell() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    for _ in 0..3 {
        house.get("/open/echo", &[]);
    }
    house.rows(3);
    let state = tempfile::tempdir().unwrap();
    let mut terminal = shell(&house, state.path());
    let mut seen = 0;
    let mut says = |terminal: &Terminal, what: &str| seen = says_after(terminal, seen, what);
    says(&terminal, "tollhouse> ");
    // A statement of two lines.
    terminal.write("SELECT service, count(*) AS n\r");
    terminal.write("FROM requests GROUP BY 1;\r");
    says(&terminal, "(1 row)");
    terminal.write("\\d requests\r");
    says(&terminal, "upstream_span_id");
    terminal.write("\\chart\r");
    says(&terminal, "████");
    terminal.write("\\timing\r");
    says(&terminal, "timing is on");
    terminal.write("\\f json\r");
    terminal.write("SELECT 41 + 1 AS answer;\r");
    says(&terminal, "{\"answer\":42}");
    says(&terminal, " ms");
    terminal.write("SELECT * FROM nowhere;\r");
    says(&terminal, "nowhere' not found");
    terminal.write("\\nonsense\r");
    says(&terminal, "is no command");
    // Ctrl-C ends what runs, here and on the server, and not the shell.
    let endless = "SELECT count(*) FROM generate_series(1, 9000000000000000) WHERE value % 7 = 8";
    terminal.write(&format!("{endless};\r"));
    let running =
        "SELECT count(*) AS n FROM system.queries WHERE status = 'running' AND sql LIKE '%generate_series%'";
    let runs = |count: u64| {
        eventually("the question to run, or to end", || match house.number(running) {
            found if found == count => Ok(()),
            found => Err(format!("{found}")),
        });
    };
    runs(1);
    terminal.write("\u{3}");
    says(&terminal, "ended by Ctrl-C");
    runs(0);
    terminal.write("SELECT 6 * 7 AS again;\r\\watch 0.1\r");
    says(&terminal, "(every 0.1 s)");
    says(&terminal, "(every 0.1 s)");
    terminal.write("\u{3}");
    terminal.write("\\q\r");
    let (status, drawn) = terminal.end();
    assert!(status.success(), "{drawn}");
}

#[test]
fn a_person_need_not_type_it_all_and_not_twice() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let state = tempfile::tempdir().unwrap();
    let mut terminal = shell(&house, state.path());
    let seen = says_after(&terminal, 0, "tollhouse> ");
    // Tables, columns and words, each as soon as nothing else begins so.
    terminal.write("\\d call_g\t\r");
    let seen = says_after(&terminal, seen, "callee");
    terminal.write("sel\t 40 + 2 AS answer;\r");
    let seen = says_after(&terminal, seen, "(1 row)");
    // What may be a secret begins with a space.
    terminal.write(" SELECT 'hush' AS secret;\r");
    says_after(&terminal, seen, "(1 row)");
    terminal.write("\\q\r");
    let (status, drawn) = terminal.end();
    assert!(status.success(), "{drawn}");

    let history = state.path().join("tollhouse/history");
    let remembered = std::fs::read_to_string(&history).unwrap();
    assert!(remembered.contains("SELECT 40 + 2 AS answer;"), "{remembered}");
    assert!(!remembered.contains("hush"), "{remembered}");
    let mode = std::fs::metadata(&history).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}: nobody else reads what was asked");

    // Another day: found by a word of it.
    let mut terminal = shell(&house, state.path());
    let seen = says_after(&terminal, 0, "tollhouse> ");
    terminal.write("\u{12}answer");
    let seen = says_after(&terminal, seen, "40 + 2");
    terminal.write("\r");
    says_after(&terminal, seen, "(1 row)");
    terminal.write("\u{4}");
    let (status, drawn) = terminal.end();
    assert!(status.success(), "{drawn}");
}

/// A shell that keeps its history in a folder.
fn shell(house: &Tollhouse, state: &Path) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.args(["query", "--url", &format!("http://{}", house.addr("sql"))]);
    command.env("XDG_STATE_HOME", state);
    let mut terminal = Terminal::open(100, 40);
    terminal.start(command);
    terminal
}

/// Waits until something is drawn behind what was seen before; says where it ends.
fn says_after(terminal: &Terminal, seen: usize, what: &str) -> usize {
    seen + eventually(what, || {
        let drawn = terminal.drawn();
        drawn[seen..].find(what).map(|at| at + what.len()).ok_or_else(|| drawn[seen..].to_owned())
    })
}

/// One question: how it ends, and what stands on standard error.
fn asked(addr: SocketAddr, format: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args(["query", "--format", format, "--url", &format!("http://{addr}")])
        .arg("SELECT value FROM generate_series(1, 100000)")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_answer_that_breaks_off_has_its_reason() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["analytics", "rows_max"], 50_000.into());
    let house = site.run();
    for format in ["table", "json", "csv", "ndjson"] {
        let (code, said) = asked(house.addr("sql"), format);
        assert!(code == 1 && said.contains("more than 50000 rows"), "{format}: {code}, {said}");
    }
}

#[test]
fn what_answers_and_is_not_the_service_is_told_from_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"(1, 100000)") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&head));
            head.extend_from_slice(&piece[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let (code, said) = asked(addr, "table");
    other.join().unwrap();
    assert!(code == 3 && said.contains("is not its SQL"), "{code}, {said}");
}

#[test]
fn a_shell_without_a_server_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.args(["query", "--url", "http://127.0.0.1:1"]);
    let mut terminal = Terminal::open(100, 40);
    terminal.start(command);
    let (status, drawn) = terminal.end();
    assert_eq!(status.code(), Some(3), "{drawn}");
    assert!(drawn.contains("no Tollhouse answers at"), "{drawn}");
}
