//! What clients notice of a merge: their latency while the compaction thread is at work, against their latency while it has
//! nothing to do, on one machine in one run.
//!
//! Rows of an hour that is over are sealed into many files once; each run gets a copy of that data folder. Tollhouse runs on
//! CPU 0, all its threads, with one thread for requests; clients that ask at a steady rate (2,000 a second) and the service
//! behind it on CPU 1. In one arm compaction is on and has those files to merge for as long as is measured, which is
//! asserted; in the other it is off. Arms run in the order A B B A; the figures are medians of the runs, and how far two runs
//! of the arm without a merge come apart is the noise. `cargo bench --bench compaction -- --rows 4000000 --seconds 6 --rounds 4`.

#[path = "../slow_clients/good.rs"]
mod good;

mod house;

#[path = "../../tests/support/port.rs"]
mod port;

#[path = "../pipeline/traffic.rs"]
#[allow(dead_code, reason = "another bench uses the rest")]
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use house::House;

/// Most that a merge may add to the 99th percentile.
const GOAL: f64 = 1.10;

/// What the command line says.
struct Options {
    /// Rows that are there to be merged.
    rows: u64,
    /// Seconds of each run.
    seconds: u64,
    /// Pairs of runs.
    rounds: usize,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { rows: 4_000_000, seconds: 6, rounds: 4 };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{arg}: {value:?} is not a number"));
            match arg.as_str() {
                "--rows" => options.rows = number()?.max(1),
                "--seconds" => options.seconds = number()?.max(1),
                "--rounds" => options.rounds = usize::try_from(number()?.max(1)).unwrap_or(1),
                _ => return Err(format!("unknown argument {arg}: --rows, --seconds, --rounds")),
            }
        }
        Ok(options)
    }
}

/// One run.
struct Sample {
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    answers: usize,
    /// CPU of the compaction thread, of one core.
    merging: f64,
}

fn main() -> ExitCode {
    let run = || {
        let options = Options::parse(std::env::args().skip(1))?;
        house::pin()?;
        let origin = house::origin()?;
        let root = tempfile::tempdir().map_err(|error| error.to_string())?;
        house::fill(root.path(), options.rows)?;
        let mut found = [Vec::new(), Vec::new()];
        for round in 0..options.rounds {
            let order = if round % 2 == 0 { [false, true] } else { [true, false] };
            for merges in order {
                let sample = measure(&options, root.path(), origin, merges)?;
                eprintln!(
                    "round {} {:<16} p50 {:.3} ms, p99 {:.3} ms; compaction {:.0} % of a core",
                    round + 1,
                    if merges { "during a merge" } else { "without one" },
                    sample.p50_ms,
                    sample.p99_ms,
                    sample.merging * 100.0
                );
                found[usize::from(merges)].push(sample);
            }
        }
        print(&found);
        Ok::<(), String>(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/compaction: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure(
    options: &Options,
    full: &Path,
    origin: std::net::SocketAddr,
    merges: bool,
) -> Result<Sample, String> {
    let house = House::start(full, origin, merges)?;
    // Past its start, and into the merge.
    good::measure(house.addr, Duration::from_secs(1))?;
    let time = Duration::from_secs(options.seconds);
    let before = house.compaction_cpu()?;
    let found = good::measure(house.addr, time)?;
    let merging = house.compaction_cpu()?.saturating_sub(before).as_secs_f64() / time.as_secs_f64();
    if found.failed > 0 {
        return Err(format!("{} requests failed", found.failed));
    }
    if merges && house.unmerged()? == 0 {
        return Err("the merge was over before the run was: give more --rows, or fewer --seconds".into());
    }
    let ms = |share| found.at(share).as_secs_f64() * 1e3;
    Ok(Sample { p50_ms: ms(0.5), p99_ms: ms(0.99), p999_ms: ms(0.999), answers: found.count(), merging })
}

/// Middle, least and most of some figures.
fn spread(figures: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    [f64::midpoint(low, high), sorted[0], sorted[sorted.len() - 1]]
}

fn print(found: &[Vec<Sample>; 2]) {
    println!("| | answers | p50, ms | p99, ms | spread | p99.9, ms | compaction, of a core |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, samples) in [("without a merge", &found[0]), ("during a merge", &found[1])] {
        let of = |figure: fn(&Sample) -> f64| spread(samples.iter().map(figure));
        let [p99, least, most] = of(|sample| sample.p99_ms);
        println!(
            "| {name} | {} | {:.3} | {p99:.3} | {least:.3} - {most:.3} | {:.3} | {:.0} % |",
            samples.iter().map(|sample| sample.answers).sum::<usize>(),
            of(|sample| sample.p50_ms)[0],
            of(|sample| sample.p999_ms)[0],
            of(|sample| sample.merging)[0] * 100.0
        );
    }
    let median = |arm: &[Sample]| spread(arm.iter().map(|sample| sample.p99_ms))[0];
    let pairs = found[1].iter().zip(&found[0]).map(|(with, without)| with.p99_ms / without.p99_ms);
    let [middle, least, most] = spread(pairs);
    println!("\n| p99 during a merge / without | by pairs | spread | goal |\n| ---: | ---: | ---: | ---: |");
    let ratio = median(&found[1]) / median(&found[0]);
    println!("| {ratio:.3} | {middle:.3} | {least:.3} - {most:.3} | <= {GOAL:.2} |");
}
