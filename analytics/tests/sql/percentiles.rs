//! Percentiles in SQL: right within 1 %, alone and several at a time, over every kind of number.

use serde_json::Value;

use crate::support::{house, refusal, serve, sql};

/// Whether a percentile of 1..=n milliseconds is right, in the unit given.
fn close(found: &Value, exact: f64) -> bool {
    found.as_f64().is_some_and(|found| (found - exact).abs() <= exact * 0.01)
}

#[test]
fn several_percentiles_are_those_that_each_would_be() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let found = sql(
        running.addr,
        "SELECT consumer AS who, latency_percentile(duration_us, 0.5) AS p50, count(*) AS n, \
         latency_percentile(duration_us, 0.99), latency_percentile(duration_us, 0.5) FILTER (WHERE status = 500) AS e50, \
         latency_percentile(duration_us, 1) / 1000 AS most_ms FROM requests GROUP BY consumer \
         HAVING latency_percentile(duration_us, 0.1) > 0 ORDER BY latency_percentile(duration_us, 0.5) DESC, who",
    );
    // Even ones are 2, 4 .. 300 ms; the failed ones 10, 20 .. 300 ms.
    let (even, odd) = (&found[0], &found[1]);
    assert_eq!((&even["who"], &even["n"], &odd["who"]), (&"even".into(), &150.into(), &"odd".into()));
    assert!(close(&even["p50"], 150_000.0) && close(&odd["p50"], 149_000.0), "{found}");
    assert!(close(&even["latency_percentile(requests.duration_us,Float64(0.99))"], 296_000.0), "{found}");
    assert!(close(&even["e50"], 150_000.0) && close(&even["most_ms"], 300.0), "{found}");
    assert_eq!(odd["e50"], Value::Null);
    let alone = sql(running.addr, "SELECT latency_percentile(duration_us, 0.5) AS p50 FROM requests");
    assert!(close(&alone[0]["p50"], 150_000.0), "{alone}");
}

#[test]
fn a_percentile_of_a_window_is_of_all_rows_up_to_there() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    // Rows of the same place in the order are of one window: here ten milliseconds each.
    let found = sql(
        running.addr,
        "SELECT duration_us / 10000 AS step, latency_percentile(duration_us, 0) OVER (ORDER BY duration_us / 10000 DESC) AS least, \
         latency_percentile(duration_us, 1) OVER (ORDER BY duration_us / 10000 DESC) AS most, \
         sketch_percentile(latency_merge(one) OVER (ORDER BY duration_us / 10000 DESC), 1) AS merged \
         FROM (SELECT duration_us, latency_sketch(duration_us) AS one FROM requests GROUP BY duration_us) ORDER BY 1",
    );
    let rows = found.as_array().unwrap();
    assert_eq!(rows.len(), 300);
    for row in rows {
        let step = row["step"].as_f64().unwrap().floor();
        assert!(close(&row["least"], (step * 10_000.0).max(1_000.0)), "{row}");
        assert!(close(&row["most"], 300_000.0) && close(&row["merged"], 300_000.0), "{row}");
    }
}

#[test]
fn several_percentiles_share_one_sketch() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let of = |text: &str| sql(running.addr, &format!("EXPLAIN SELECT {text} FROM requests GROUP BY service"));
    let plan = of("latency_percentile(duration_us, 0.5), latency_percentile(duration_us, 0.99), count(*)")[0]
        ["plan"]
        .to_string();
    assert_eq!(plan.matches("aggr=[[latency_sketch").count(), 1, "{plan}");
    assert!(!plan.contains("aggr=[[latency_percentile"), "{plan}");
}

#[test]
fn every_kind_of_number_can_be_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for number in [
        "duration_us",
        "CAST(duration_us AS BIGINT)",
        "CAST(duration_us AS INT)",
        "CAST(duration_us AS BIGINT UNSIGNED)",
        "CAST(duration_us AS DOUBLE)",
        "CAST(duration_us AS REAL)",
        "CAST(duration_us AS DECIMAL(20, 2))",
        "duration_us / 1.0",
    ] {
        let found =
            sql(running.addr, &format!("SELECT latency_percentile({number}, 0.9) AS p FROM requests"));
        assert!(close(&found[0]["p"], 270_000.0), "{number}: {found}");
        let found = sql(
            running.addr,
            &format!("SELECT sketch_percentile(latency_sketch({number}), 0.9) AS p FROM requests"),
        );
        assert!(close(&found[0]["p"], 270_000.0), "{number}: {found}");
    }
    let both = "SELECT latency_percentile(duration_us, 0.5) AS a, \
                latency_percentile(CAST(duration_us AS DOUBLE), 0.9) AS b FROM requests";
    let both = sql(running.addr, both);
    assert!(close(&both[0]["a"], 150_000.0) && close(&both[0]["b"], 270_000.0), "{both}");
    let none = sql(
        running.addr,
        "SELECT latency_percentile(gateway_us, 0.9) AS p, latency_percentile(status, 0.9) AS s FROM requests",
    );
    assert_eq!(none[0]["p"], Value::Null);
    assert!(close(&none[0]["s"], 200.0) || close(&none[0]["s"], 500.0), "{none}");
}

#[test]
fn what_is_no_percentile_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    for text in [
        "SELECT latency_percentile(duration_us, 1.5) FROM requests",
        "SELECT latency_percentile(duration_us, status) FROM requests",
        "SELECT latency_percentile(duration_us, 50), latency_percentile(duration_us, 99) FROM requests",
        "SELECT latency_percentile(duration_us, 0.5), latency_percentile(duration_us, NULL) FROM requests",
        "SELECT latency_percentile(duration_us) FROM requests",
        "SELECT latency_percentile(DISTINCT duration_us, 0.5) FROM requests",
        "SELECT latency_percentile(trace_id, 0.5) FROM requests",
        "SELECT sketch_percentile('x', 0.5)",
    ] {
        let (status, error) = refusal(running.addr, text);
        assert_eq!(status, 400, "{text}: {error}");
    }
}
