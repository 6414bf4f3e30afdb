//! One table with ratios, and the same as JSON.

use crate::arms::Arm;
use crate::measure::Sample;
use std::path::Path;

/// Pairs whose ratio is the claim, with the goal of this stage.
const RATIOS: &[(Arm, Arm, f64)] = &[
    (Arm::TollhouseOn, Arm::TollhouseOff, 1.10),
    (Arm::TollhouseOn, Arm::NginxLog, 1.30),
    (Arm::TollhouseOff, Arm::Nginx, 1.30),
    (Arm::TollhouseOff, Arm::Haproxy, 1.30),
];

/// Prints the table and writes the JSON.
pub fn print(results: &[Vec<Sample>], json: Option<&Path>) -> Result<(), String> {
    let figures = |arm: Arm| {
        let index = Arm::ALL.iter().position(|other| *other == arm).expect("every arm is in ALL");
        let mut figures: Vec<f64> = results[index].iter().map(Sample::cpu_us_per_request).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    println!("| arm | CPU per request, us (median) | spread | requests/s | p99 | RSS, MiB |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut rows = Vec::new();
    for (arm, samples) in Arm::ALL.iter().zip(results) {
        let figures = figures(*arm);
        let (low, high) = (figures[0], figures[figures.len() - 1]);
        let rate = samples.iter().map(|s| s.requests as f64 / s.seconds).sum::<f64>() / samples.len() as f64;
        let last = samples.last().expect("at least one round");
        println!(
            "| {} | {:.2} | {low:.2} - {high:.2} | {rate:.0} | {} | {:.0} |",
            arm.name(),
            median(&figures),
            last.p99,
            last.rss_kib as f64 / 1024.0
        );
        rows.push(serde_json::json!({
            "arm": arm.name(), "cpu_us_per_request": figures, "requests_per_second": rate,
            "p99": last.p99, "rss_kib": last.rss_kib,
        }));
    }
    println!("\n| ratio | value | goal |\n| --- | ---: | ---: |");
    let mut ratios = Vec::new();
    for (above, below, goal) in RATIOS {
        let ratio = median(&figures(*above)) / median(&figures(*below));
        println!("| {} / {} | {ratio:.3} | <= {goal:.2} |", above.name(), below.name());
        ratios.push(
            serde_json::json!({"above": above.name(), "below": below.name(), "ratio": ratio, "goal": goal}),
        );
    }
    if let Some(path) = json {
        let text = serde_json::json!({"arms": rows, "ratios": ratios}).to_string();
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}
