//! One table with ratios, and the same as JSON.

use crate::measure::{Figures, Options, median};

/// One line of the table: ours, and the two peers in the same unit where they do the same.
struct Row {
    name: String,
    unit: &'static str,
    goal: Option<f64>,
    ours: fn(&Figures) -> f64,
    plain: Option<fn(&Figures) -> f64>,
    zstd: Option<fn(&Figures) -> f64>,
}

fn rows(options: &Options) -> Vec<Row> {
    let cpu = |name: &str, goal, ours| Row {
        name: name.to_owned(),
        unit: "ns",
        goal,
        ours,
        plain: Some(|round| round.json.plain_ns),
        zstd: Some(|round| round.json.zstd_ns),
    };
    let bytes = |name: &str, goal, ours, plain, zstd| Row {
        name: name.to_owned(),
        unit: "bytes",
        goal,
        ours,
        plain,
        zstd: Some(zstd),
    };
    let live = format!("collected live at {}/s, everything", options.rate);
    vec![
        cpu("hot path: fill and append", Some(60.0), |round| round.stored.hot_path_ns),
        cpu("collected, to hot files", None, |round| round.stored.hot_ns),
        cpu("collected, to Parquet", None, |round| round.stored.sealed_ns),
        cpu("collected, to Parquet and metrics", Some(1_000.0), |round| round.observed.sealed_ns),
        cpu(&live, None, |round| round.live.sealed_ns),
        Row {
            name: "live: from append to visible row, p99".to_owned(),
            unit: "ms",
            goal: Some(250.0),
            ours: |round| round.live.visible_ms.unwrap_or(f64::NAN),
            plain: None,
            zstd: None,
        },
        bytes(
            "hot file",
            None,
            |round| round.stored.hot_bytes,
            Some(|r| r.json.plain_bytes),
            |r| r.json.zstd_bytes,
        ),
        bytes(
            "Parquet",
            None,
            |round| round.stored.parquet_bytes,
            Some(|r| r.json.plain_bytes),
            |r| r.json.zstd_bytes,
        ),
        bytes(
            "Parquet without ids",
            Some(12.0),
            |round| round.stored.parquet_bytes_without_ids,
            None,
            |r| r.json.zstd_bytes_without_ids,
        ),
    ]
}

/// Prints the table and writes the JSON.
pub fn print(options: &Options, rounds: &[Figures]) -> Result<(), String> {
    println!("Per event, medians of {} rounds of {} events:\n", rounds.len(), options.events);
    println!("| what | unit | Tollhouse | goal | JSON line | ratio | JSON line, zstd | ratio |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut written = Vec::new();
    for row in rows(options) {
        let all: Vec<f64> = rounds.iter().map(row.ours).collect();
        let ours = median(all.clone());
        let peer = |of: Option<fn(&Figures) -> f64>| of.map(|of| median(rounds.iter().map(of).collect()));
        let (plain, zstd) = (peer(row.plain), peer(row.zstd));
        let shown = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
        let ratio = |peer: Option<f64>| peer.map_or(String::new(), |peer| format!("{:.2}", ours / peer));
        let goal = row.goal.map_or(String::new(), |goal| format!("<= {goal:.0}"));
        println!(
            "| {} | {} | {ours:.1} | {goal} | {} | {} | {} | {} |",
            row.name,
            row.unit,
            shown(plain),
            ratio(plain),
            shown(zstd),
            ratio(zstd)
        );
        written.push(serde_json::json!({
            "what": row.name, "unit": row.unit, "median": ours, "rounds": all, "goal": row.goal,
            "json_line": plain, "json_line_zstd": zstd,
        }));
    }
    if let Some(path) = &options.json {
        let text = serde_json::json!({"events": options.events, "rows": written}).to_string();
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
