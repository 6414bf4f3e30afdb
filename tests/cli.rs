//! The command line from outside: exit codes, what stands on which stream, messages that help.
#![allow(clippy::unwrap_used)]

#[path = "support/port.rs"]
mod port;

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
            "error: the configuration has 4 problems",
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
    let empty = tempfile::tempdir().unwrap();
    let url = format!("http://{}", port::free_addr());
    let (code, out, errors) = tollhouse(empty.path(), &["query", "SELECT 1", "--url", &url], &[]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(errors.contains("tollhouse run"), "{errors}");
    assert_eq!(tollhouse(empty.path(), &["query", "SELECT 1", "--url", "ftp://x"], &[]).0, 2);
}

#[test]
fn a_url_whose_port_is_none_or_that_holds_a_password_is_refused() {
    for (url, word) in [
        ("http://127.0.0.1:99999/", "a port that is none"),
        ("http://127.0.0.1:0/", "a port that is none"),
        ("http://127.0.0.1:/", "a port that is none"),
        ("http://user:hunter2@127.0.0.1:9000/", "a user or a password"),
    ] {
        let folder = folder_with(&GOOD.replace("http://127.0.0.1:9000", url));
        let (code, _, errors) = tollhouse(folder.path(), &["check"], &[]);
        assert!(code == 1 && errors.contains("services[0].url") && errors.contains(word), "{url}: {errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn odd_files_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder.yaml")).unwrap();
    fs::write(folder.path().join("bytes.yaml"), b"node: a\nlog: \xff\n").unwrap();
    fs::write(folder.path().join("list.yaml"), "- a\n").unwrap();
    fs::write(folder.path().join("nul.yaml"), "node: \"a\0b\"\n").unwrap();
    fs::write(folder.path().join("tab.yaml"), "spool:\n\tbytes_max: 1\n").unwrap();
    fs::write(folder.path().join("two.yaml"), "node: a\n---\nnode: b\n").unwrap();
    fs::write(folder.path().join("twice.yaml"), "node: a\nlog:\n  level: info\n  level: warn\nnode: b\n")
        .unwrap();
    fs::write(folder.path().join("types.yaml"), "node: [a]\nspool: 3\ngateway:\nservices: {}\n").unwrap();
    for (file, words) in [
        ("folder.yaml", "folder.yaml is a folder: name the file in it, such as folder.yaml/tollhouse.yaml"),
        ("bytes.yaml", "bytes.yaml:2: not UTF-8 text: byte 0xff"),
        ("/dev/zero", "/dev/zero is larger than 16777216 bytes"),
        ("list.yaml", "list.yaml:1:1: expected a map of keys, found a list"),
        ("nul.yaml", "nul.yaml:1:9: not YAML: "),
        ("tab.yaml", "tab.yaml:2:2: not YAML: tabs"),
        ("two.yaml", "two.yaml:2:1: a second YAML document"),
        (
            "twice.yaml",
            "twice.yaml:4:3: log.level: `level` is given twice (the first is in line 3; keep one)",
        ),
        ("twice.yaml", "twice.yaml:5:1: node: `node` is given twice (the first is in line 1; keep one)"),
        ("types.yaml", "types.yaml:1:7: node: expected text, found a list"),
        ("types.yaml", "types.yaml:2:8: spool: expected a map of keys, found the number `3`"),
        ("types.yaml", "types.yaml:3:8: gateway: expected a map of keys, found nothing (write something"),
        ("types.yaml", "types.yaml:4:11: services: expected a list, found a map of keys"),
    ] {
        let (code, out, errors) = tollhouse(folder.path(), &["check", "--config", file], &[]);
        assert_eq!((code, out.as_str()), (1, ""), "{file}: {errors}");
        assert!(errors.contains(words), "{file}: {words:?} is not in: {errors}");
        let (code, out, errors) = tollhouse(folder.path(), &["check", "--json", "--config", file], &[]);
        assert_eq!((code, errors.as_str()), (1, ""), "{file}");
        let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(answer["ok"] == false && answer["problems"][0]["message"].is_string(), "{file}: {out}");
    }
}

#[test]
fn an_empty_file_is_taken_with_a_word_about_it() {
    for text in ["", "# nothing yet\n", "\u{feff}\n"] {
        let (code, out, errors) = tollhouse(folder_with(text).path(), &["check"], &[]);
        assert_eq!((code, errors.as_str()), (0, ""), "{text:?}");
        assert_eq!(out, "tollhouse.yaml: ok, but there is no route: every request is answered 404\n");
    }
}

#[test]
fn values_that_would_fail_at_the_start_fail_the_check() {
    for (text, words) in [
        (
            "spool: {bytes_max: 99999999999999999999}\n",
            "spool.bytes_max: `99999999999999999999` must be at most 18446744073709551615",
        ),
        ("analytics: {threads: 70000000000}\n", "analytics.threads: "),
        ("node: ''\n", "node: empty"),
        ("node: \"a\\nb\"\n", "node: holds control characters"),
        ("data: ''\n", "data: empty"),
        ("log: {level: loud}\n", "log.level: `loud` is neither a level nor a directive"),
        ("log: {level: 'info,proxy=noise'}\n", "log.level: not a log filter"),
        (
            "analytics: {listen: '127.0.0.1:8100'}\n",
            "analytics.listen: 127.0.0.1:8100 is taken by `collector.metrics.listen`",
        ),
        (
            "gateway: {listen: [{address: '0.0.0.0:9'}, {name: b, address: '127.0.0.1:9'}]}\n",
            "gateway.listen[1].address: 127.0.0.1:9 is taken by `gateway.listen[0].address`",
        ),
    ] {
        let (code, _, errors) = tollhouse(folder_with(&format!("{GOOD}{text}")).path(), &["check"], &[]);
        assert_eq!(code, 1, "{text}{errors}");
        assert!(errors.contains(words), "{text}: {words:?} is not in: {errors}");
    }
}

#[test]
fn ten_thousand_routes_are_read_and_ten_thousand_mistakes_are_summed_up() {
    use std::fmt::Write;
    let mut good = "services:\n  - name: a\n    url: http://127.0.0.1:9000\n    routes:\n".to_owned();
    for number in 0..10_000 {
        writeln!(good, "      - {{ name: r{number}, paths: [/p/{number}] }}").unwrap();
    }
    let (code, out, errors) = tollhouse(folder_with(&good).path(), &["check"], &[]);
    assert_eq!((code, out.as_str()), (0, "tollhouse.yaml: ok\n"), "{errors}");
    let bad = folder_with(&good.replace("paths", "pahts"));
    let (code, _, errors) = tollhouse(bad.path(), &["check"], &[]);
    assert_eq!((code, errors.lines().count()), (1, 102), "{errors}");
    assert!(errors.contains("... and 9900 more: `tollhouse check --json` lists all"), "{errors}");
    let (_, out, _) = tollhouse(bad.path(), &["check", "--json"], &[]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["problems"].as_array().unwrap().len(), 10_000);
}

#[test]
fn an_override_that_is_no_text_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder_with(GOOD);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    let output =
        command.arg("check").current_dir(folder.path()).env_clear().env("TOLLHOUSE_NODE", odd).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("TOLLHOUSE_NODE is not UTF-8"));
}

#[test]
fn only_the_gateway_listens_to_the_world_by_default() {
    let empty = tempfile::tempdir().unwrap();
    let (_, out, _) = tollhouse(empty.path(), &["config", "reference"], &[]);
    let listeners: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("| `listen`") || line.starts_with("| `address`"))
        .filter(|line| !line.contains("required"))
        .collect();
    assert!(listeners.len() >= 3, "{listeners:?}");
    let open: Vec<_> =
        listeners.iter().filter(|line| line.contains("0.0.0.0") || line.contains("[::]")).collect();
    assert!(open.iter().all(|line| line.contains("Where clients connect")), "{open:?}");
    assert!(listeners.iter().any(|line| line.contains("127.0.0.1:8100")), "{listeners:?}");
    assert!(listeners.iter().any(|line| line.contains("127.0.0.1:8200")), "{listeners:?}");
}
