//! One table with ratios, and the same as JSON.

use std::path::Path;
use std::time::Duration;

use crate::house::House;
use crate::questions::{Cost, Question};

/// The samples of one question.
pub struct Line {
    pub name: &'static str,
    /// Whether it is one of the six.
    pub counts: bool,
    pub tollhouse: Vec<Cost>,
    /// From roll-ups, if it can be answered so.
    pub rolled: Vec<Cost>,
    /// For each way in which DuckDB answered.
    pub duckdb: Vec<Vec<Cost>>,
}

impl Line {
    pub fn new(question: &Question) -> Self {
        let duckdb = vec![Vec::new(); question.duckdb.len()];
        Self {
            name: question.name,
            counts: question.counts,
            tollhouse: Vec::new(),
            rolled: Vec::new(),
            duckdb,
        }
    }

    fn by_rollups(&self, of: fn(&Cost) -> Duration) -> Option<f64> {
        (!self.rolled.is_empty()).then(|| median(&self.rolled, of))
    }

    fn ours(&self, of: fn(&Cost) -> Duration) -> f64 {
        median(&self.tollhouse, of)
    }

    /// The fastest way of DuckDB.
    fn theirs(&self, of: fn(&Cost) -> Duration) -> f64 {
        self.duckdb.iter().map(|way| median(way, of)).fold(f64::INFINITY, f64::min)
    }

    pub fn short(&self) -> String {
        format!("{:<26} {:.3} s against {:.3} s", self.name, self.ours(wall), self.theirs(wall))
    }
}

fn wall(cost: &Cost) -> Duration {
    cost.wall
}

fn cpu(cost: &Cost) -> Duration {
    cost.cpu
}

fn median(samples: &[Cost], of: fn(&Cost) -> Duration) -> f64 {
    let mut seconds: Vec<f64> = samples.iter().map(|sample| of(sample).as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    match seconds.len().is_multiple_of(2) {
        true => (seconds[middle - 1] + seconds[middle]) / 2.0,
        false => seconds[middle],
    }
}

fn geometric_mean(ratios: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = ratios.clone().count().max(1);
    (ratios.map(f64::ln).sum::<f64>() / count as f64).exp()
}

/// Prints the table and writes the JSON.
pub fn print(house: &House, duckdb: &str, lines: &[Line], json: Option<&Path>) -> Result<(), String> {
    println!(
        "{} rows in {} Parquet files of {:.1} bytes per row; DuckDB {duckdb}\n",
        house.rows,
        house.files.len(),
        house.bytes as f64 / house.rows as f64
    );
    println!(
        "| question | Tollhouse, s | DuckDB, s | ratio | Tollhouse, CPU s | DuckDB, CPU s | ratio | by roll-ups, s | ratio |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for line in lines {
        let (ours, theirs) = (line.ours(wall), line.theirs(wall));
        let (ours_cpu, theirs_cpu) = (line.ours(cpu), line.theirs(cpu));
        println!(
            "| {} | {ours:.3} | {theirs:.3} | {:.2} | {ours_cpu:.3} | {theirs_cpu:.3} | {:.2} | {} |",
            line.name,
            ours / theirs,
            ours_cpu / theirs_cpu,
            line.by_rollups(wall).map_or(" | ".to_owned(), |s| format!("{s:.4} | {:.4}", s / theirs)),
        );
    }
    let mean = |of: fn(&Cost) -> Duration| {
        let six = lines.iter().filter(|line| line.counts);
        geometric_mean(six.map(move |line| line.ours(of) / line.theirs(of)))
    };
    let rolled = lines.iter().filter_map(|line| Some(line.by_rollups(wall)? / line.theirs(wall)));
    let by_rollups = geometric_mean(rolled);
    println!(
        "| geometric mean of the six | | | {:.2} | | | {:.2} | | {by_rollups:.4} |",
        mean(wall),
        mean(cpu)
    );
    let Some(path) = json else { return Ok(()) };
    let seconds = |samples: &[Cost], of: fn(&Cost) -> Duration| -> Vec<f64> {
        samples.iter().map(|sample| of(sample).as_secs_f64()).collect()
    };
    let questions: Vec<_> = lines
        .iter()
        .map(|line| {
            let ways = |of: fn(&Cost) -> Duration| -> Vec<Vec<f64>> {
                line.duckdb.iter().map(|way| seconds(way, of)).collect()
            };
            serde_json::json!({
                "question": line.name,
                "tollhouse_wall_s": seconds(&line.tollhouse, wall),
                "tollhouse_cpu_s": seconds(&line.tollhouse, cpu),
                "by_rollups_wall_s": seconds(&line.rolled, wall),
                "duckdb_wall_s": ways(wall),
                "duckdb_cpu_s": ways(cpu),
                "ratio_wall": line.ours(wall) / line.theirs(wall),
                "ratio_cpu": line.ours(cpu) / line.theirs(cpu),
            })
        })
        .collect();
    let text = serde_json::json!({
        "rows": house.rows, "files": house.files.len(), "bytes": house.bytes, "duckdb": duckdb,
        "geometric_mean_wall": mean(wall), "geometric_mean_cpu": mean(cpu),
        "geometric_mean_by_rollups": by_rollups, "questions": questions,
    });
    std::fs::write(path, text.to_string())
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
