//! Texts and lists that a query makes grow without end: it is ended before they are there. A process of its own, so that
//! nothing else is measured.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, reason = "shared with the tests in the folder `sql`")]
#[path = "sql/support.rs"]
mod support;

use support::{house, refusal, serve, sql};

/// Each of these would be far more than a machine has.
#[test]
fn what_grows_is_ended_before_it_is_there() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |config| config.text_bytes_max = 4 << 20);
    let doubled = |begin: &str, more: &str, end: &str| {
        let steps: Vec<String> = (1..40)
            .map(|step| format!("t{step} AS (SELECT {} AS x FROM t{})", more.replace("$", "x"), step - 1))
            .collect();
        format!("WITH t0 AS ({begin}), {} SELECT {end} FROM t39", steps.join(", "))
    };
    let rows = "SELECT consumer AS x FROM requests";
    let list = "SELECT [sequence] AS x FROM requests";
    for query in [
        doubled(rows, "$ || $", "max(length(x))"),
        doubled("SELECT 'ab' AS x", "$ || $", "length(x)"),
        doubled(rows, "concat($, '-', $)", "max(length(x))"),
        doubled(rows, "concat_ws($, $, $)", "max(length(x))"),
        doubled(rows, "replace($, 'd', $)", "max(length(x))"),
        doubled(rows, "replace($, 'd', 'dddddddddd')", "max(length(x))"),
        doubled(rows, "regexp_replace($, '.', '\\0\\0', 'g')", "max(length(x))"),
        doubled("SELECT 'ab' AS x", "encode($, 'hex')", "length(x)"),
        doubled(list, "array_concat($, $)", "max(cardinality(x))"),
        doubled(list, "$ || $", "max(cardinality(x))"),
        doubled(rows, "array_to_string([$, $], $)", "max(length(x))"),
        doubled(rows, "overlay($ placing $ from 1 for 0)", "max(length(x))"),
        doubled(rows, "named_struct('a', $, 'b', $)['a'] || $", "max(length(x))"),
    ] {
        let before = peak_bytes();
        let (status, error) = refusal(running.addr, &query);
        let shown = &query[..query.len().min(200)];
        assert_eq!((status, &error["code"]), (507, &"out_of_memory".into()), "{shown}: {error}");
        assert!(error["message"].as_str().unwrap().contains("text_bytes_max"), "{shown}: {error}");
        let grown = peak_bytes() - before;
        assert!(grown < 256 << 20, "{shown}: {grown} bytes");
    }
    // What is as long as its rows is none of this.
    let rows = sql(
        running.addr,
        "SELECT method || ' ' || path AS a, concat(method, '-', consumer) AS b, replace(path, '/', '::') AS c FROM requests LIMIT 3",
    );
    assert_eq!(rows.as_array().unwrap().len(), 3, "{rows}");
    let folded =
        sql(running.addr, "SELECT 'a' || 'b' || NULL AS n, 'a' || 1 AS t, concat('a', NULL, 'b') AS c");
    assert_eq!(
        (&folded[0]["n"], &folded[0]["t"], &folded[0]["c"]),
        (&serde_json::Value::Null, &"a1".into(), &"ab".into())
    );
    let named = sql(running.addr, "SELECT method || path, concat(method, path) FROM requests LIMIT 1");
    let names: Vec<&String> = named[0].as_object().unwrap().keys().collect();
    assert!(names[0].contains("||") && names[1].starts_with("concat("), "{names:?}");
}

/// Most memory that this process has had, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
