//! The command line from outside: exit codes, what stands on which stream, messages that help.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn tollhouse(folder: &Path, args: &[&str], vars: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    let command = command.args(args).current_dir(folder).env_clear().envs(vars.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn folder_with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tollhouse.yaml"), text).unwrap();
    folder
}

const GOOD: &str = "services:\n  - name: a\n    url: http://127.0.0.1:9000\n    routes:\n      - name: r\n        paths: [/]\n";

#[test]
fn without_a_configuration_five_lines_are_shown() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["run", "proxy", "collector", "analytics", "check"] {
        let (code, out, errors) = tollhouse(empty.path(), &[command], &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{command}");
        let example = errors.split("\n\n").nth(2).unwrap();
        assert_eq!(example.lines().count(), 5, "{errors}");
        // The example is not only shown, it works.
        let (code, _, errors) = tollhouse(folder_with(example).path(), &["check"], &[]);
        assert_eq!(code, 0, "{errors}");
    }
}

#[test]
fn a_good_file_passes_and_says_so() {
    let (code, out, errors) = tollhouse(folder_with(GOOD).path(), &["check"], &[]);
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "tollhouse.yaml: ok\n", ""));
}

#[test]
fn all_problems_come_at_once_with_file_line_column_and_the_nearest_key() {
    let bad =
        "servces: []\nspool:\n  bytes_max: '12'\nanalytics:\n  listn: 127.0.0.1:0\nlog: {format: jsonn}\n";
    let (code, out, errors) = tollhouse(folder_with(bad).path(), &["check"], &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(
        lines,
        [
            "tollhouse.yaml:1:1: servces: unknown key `servces` (did you mean `services`?)",
            "tollhouse.yaml:3:14: spool.bytes_max: expected a whole number, found the text `12` (leave the quotes away: 12)",
            "tollhouse.yaml:5:3: analytics.listn: unknown key `listn` (did you mean `listen`?)",
            "tollhouse.yaml:6:15: log.format: unknown value `jsonn` (did you mean `json`? known: `text`, `json`)",
            "error: the configuration has 4 problem(s)",
        ]
    );
}

#[test]
fn problems_that_a_part_finds_have_their_line_too() {
    let bad =
        format!("{GOOD}analytics:\n  timeout_ms: 1000\n  listen: nowhere\nspool: {{sync_interval_ms: 0}}\n");
    let (code, _, errors) = tollhouse(folder_with(&bad).path(), &["check"], &[]);
    assert_eq!(code, 1);
    assert!(errors.contains("tollhouse.yaml:9:11: analytics.listen: "), "{errors}");
    assert!(errors.contains("tollhouse.yaml:10:27: spool.sync_interval_ms: "), "{errors}");
}

#[test]
fn check_speaks_json() {
    let folder = folder_with("log:\n  levl: info\n");
    let (code, out, errors) = tollhouse(folder.path(), &["check", "--json"], &[]);
    assert_eq!((code, errors.as_str()), (1, ""));
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["ok"], false);
    let problem = &answer["problems"][0];
    assert_eq!(problem["file"], "tollhouse.yaml");
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(2), Some(3)));
    assert_eq!(problem["path"], "log.levl");
    assert_eq!(problem["hint"], "did you mean `level`?");
    let (code, out, _) = tollhouse(folder_with(GOOD).path(), &["check", "--json"], &[]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["ok"]), (0, &serde_json::Value::Bool(true)));
}

#[test]
fn variables_win_over_the_file_and_errors_name_them() {
    let folder = folder_with(&format!("{GOOD}analytics: {{listen: nowhere}}\n"));
    let right = [("TOLLHOUSE_ANALYTICS__LISTEN", "127.0.0.1:0")];
    assert_eq!(tollhouse(folder.path(), &["check"], &right).0, 0);
    let (code, _, errors) = tollhouse(folder.path(), &["check"], &[("TOLLHOUSE_SPOOL__BYTES_MAX", "plenty")]);
    assert_eq!(code, 1);
    assert!(
        errors.contains("environment variable TOLLHOUSE_SPOOL__BYTES_MAX: spool.bytes_max: "),
        "{errors}"
    );
    assert!(!errors.contains("plenty"), "a variable may hold a secret: {errors}");
    let (_, _, errors) = tollhouse(folder.path(), &["check"], &[("TOLLHOUSE_SPOL__BYTES_MAX", "1")]);
    assert!(errors.contains("did you mean TOLLHOUSE_SPOOL__BYTES_MAX?"), "{errors}");
}

#[test]
fn references_in_the_file_are_filled_in() {
    let folder = folder_with(&GOOD.replace("http://127.0.0.1:9000", "${UPSTREAM}"));
    assert_eq!(tollhouse(folder.path(), &["check"], &[("UPSTREAM", "http://127.0.0.1:9000")]).0, 0);
    let (code, _, errors) = tollhouse(folder.path(), &["check"], &[]);
    assert_eq!(code, 1);
    assert!(
        errors.contains("tollhouse.yaml:3:10: services[0].url: the environment variable UPSTREAM"),
        "{errors}"
    );
}

#[test]
fn wrong_usage_exits_2_and_version_and_help_exit_0() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(tollhouse(empty.path(), &["rnu"], &[]).0, 2);
    assert_eq!(tollhouse(empty.path(), &["run", "--upstream", "http://x", "--config", "y"], &[]).0, 2);
    assert_eq!(tollhouse(empty.path(), &["run", "--config", "missing.yaml"], &[]).0, 1);
    let (code, out, _) = tollhouse(empty.path(), &["--version"], &[]);
    assert_eq!((code, out.trim()), (0, concat!("tollhouse ", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = tollhouse(empty.path(), &["run", "--help"], &[]);
    assert_eq!(code, 0);
    assert!(out.contains("Examples:") && !out.contains('\u{1b}'), "{out}");
}

#[test]
fn completions_are_printed_for_each_shell() {
    let empty = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = tollhouse(empty.path(), &["completions", shell], &[]);
        assert!(code == 0 && out.contains("tollhouse"), "{shell}");
    }
}

#[test]
fn a_query_without_a_server_exits_3_and_says_what_to_do() {
    // Bound and never accepting is no help here: a port that was free a moment ago refuses.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let empty = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let (code, out, errors) = tollhouse(empty.path(), &["query", "SELECT 1", "--url", &url], &[]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(errors.contains("tollhouse run"), "{errors}");
    assert_eq!(tollhouse(empty.path(), &["query", "SELECT 1", "--url", "ftp://x"], &[]).0, 2);
}
