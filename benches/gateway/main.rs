//! CPU per request of Tollhouse beside nginx and HAProxy, on one machine in one run.
//!
//! The proxy under test runs on CPU 0, all its threads; wrk and the origin (nginx) on CPU 1. The figure is user + system
//! CPU of all threads and child processes from the start of the load to the end of the process, the final Parquet flush
//! included, divided by the responses that wrk counted. Arms run in the order A B C, C B A and so on; the table shows
//! medians, their spread, and ratios within a round; the first arm runs twice, which shows the machine's noise. A run in
//! which an event was lost ends with an error.
//!
//! `cargo bench --bench gateway` measures the profile `release`; `cargo bench --profile dist --bench gateway` what ships.

mod arms;

mod measure;

#[path = "../../tests/support/port.rs"]
mod port;

mod report;

use arms::Arm;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/gateway: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = measure::Options::parse(std::env::args().skip(1))?;
    measure::require(&["nginx", "haproxy", "wrk", "taskset"])?;
    let origin = arms::Origin::start()?;
    let mut results: Vec<Vec<measure::Sample>> = vec![Vec::new(); Arm::ALL.len()];
    for round in 0..options.rounds {
        let mut order: Vec<usize> =
            (0..Arm::ALL.len()).filter(|index| options.arms.contains(&Arm::ALL[*index])).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let arm = Arm::ALL[index];
            let sample = arm.run(&origin, &options)?;
            eprintln!(
                "round {} {:<24} {:>9} requests {:>7.2} us CPU each",
                round + 1,
                arm.name(),
                sample.requests,
                sample.cpu_us_per_request()
            );
            results[index].push(sample);
        }
    }
    report::print(&results, options.json.as_deref())
}
