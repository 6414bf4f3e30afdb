//! One table with ratios, and the same as JSON.

use crate::arms::Arm;
use crate::measure::Sample;
use std::path::Path;

/// Pairs whose ratio is a claim, with its goal; of the last pair the ratio is the noise.
const RATIOS: &[Ratio] = &[
    Ratio { above: Arm::TollhouseOn, below: Arm::TollhouseOff, of: Of::All, goal: Some(1.10) },
    Ratio { above: Arm::TollhouseOn, below: Arm::TollhouseOff, of: Of::Hot, goal: Some(1.03) },
    Ratio { above: Arm::TollhouseOn, below: Arm::NginxLog, of: Of::All, goal: Some(1.30) },
    Ratio { above: Arm::TollhouseOff, below: Arm::Nginx, of: Of::All, goal: Some(1.00) },
    Ratio { above: Arm::TollhouseOff, below: Arm::Haproxy, of: Of::All, goal: Some(1.00) },
    Ratio { above: Arm::ManyRoutes, below: Arm::TenRoutes, of: Of::All, goal: Some(1.05) },
    Ratio { above: Arm::TollhouseAgain, below: Arm::TollhouseOn, of: Of::All, goal: None },
];

struct Ratio {
    above: Arm,
    below: Arm,
    of: Of,
    goal: Option<f64>,
}

/// Which CPU is compared.
#[derive(Clone, Copy)]
enum Of {
    All,
    /// The threads that carry requests.
    Hot,
}

impl Of {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "all threads",
            Self::Hot => "request threads",
        }
    }

    fn figure(self, sample: &Sample) -> f64 {
        match self {
            Self::All => sample.cpu_us_per_request(),
            Self::Hot => sample.hot_us_per_request(),
        }
    }
}

/// Prints the table and writes the JSON. `results` holds for each of [`Arm::ALL`] its samples, one for each round.
pub fn print(results: &[Vec<Sample>], json: Option<&Path>) -> Result<(), String> {
    println!(
        "| arm | CPU per request, us (median) | spread | of that request threads | requests/s | p99 | RSS, MiB |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut rows = Vec::new();
    for (arm, samples) in Arm::ALL.iter().zip(results).filter(|(_, samples)| !samples.is_empty()) {
        let all = sorted(samples.iter().map(|sample| Of::All.figure(sample)));
        let hot = sorted(samples.iter().map(|sample| Of::Hot.figure(sample)));
        let rate = sorted(samples.iter().map(|sample| sample.requests as f64 / sample.seconds));
        let last = samples.last().ok_or("no round was run")?;
        println!(
            "| {} | {:.2} | {:.2} - {:.2} | {:.2} | {:.0} | {} | {:.0} |",
            arm.name(),
            median(&all),
            all[0],
            all[all.len() - 1],
            median(&hot),
            median(&rate),
            last.p99,
            last.rss_kib as f64 / 1024.0
        );
        rows.push(serde_json::json!({
            "arm": arm.name(), "cpu_us_per_request": all, "hot_us_per_request": hot,
            "requests_per_second": rate, "p99": last.p99, "rss_kib": last.rss_kib,
        }));
    }
    println!("\n| ratio | of | median | spread | goal |\n| --- | --- | ---: | ---: | ---: |");
    let mut ratios = Vec::new();
    for ratio in RATIOS {
        let samples = |arm: Arm| {
            let index = Arm::ALL.iter().position(|other| *other == arm).expect("every arm is in ALL");
            results[index].iter().map(|sample| ratio.of.figure(sample))
        };
        let values =
            sorted(samples(ratio.above).zip(samples(ratio.below)).map(|(above, below)| above / below));
        if values.is_empty() {
            continue;
        }
        let goal = ratio.goal.map_or_else(|| "noise".to_owned(), |goal| format!("<= {goal:.2}"));
        println!(
            "| {} / {} | {} | {:.3} | {:.3} - {:.3} | {goal} |",
            ratio.above.name(),
            ratio.below.name(),
            ratio.of.name(),
            median(&values),
            values[0],
            values[values.len() - 1]
        );
        ratios.push(serde_json::json!({
            "above": ratio.above.name(), "below": ratio.below.name(), "of": ratio.of.name(),
            "values": values, "median": median(&values), "goal": ratio.goal,
        }));
    }
    if let Some(path) = json {
        let text = serde_json::json!({"arms": rows, "ratios": ratios}).to_string();
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}
