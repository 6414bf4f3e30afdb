//! What one event costs, from the gateway's hot path to its row in Parquet, beside the usual way: one JSON line each.
//!
//! The same generated traffic goes through a real spool, a real collector and, as the peer, through `serde_json` into a
//! buffered file, plain and compressed by zstd. Figures are CPU time, not wall time: of the one thread for the hot path
//! and the peer, of the whole process (kernel included) for the collector. Rounds repeat everything; the table shows
//! medians. A run in which an event was lost ends with an error.

mod traffic;

mod measure;

mod hot_path;

mod collect;

mod peer;

mod report;

use std::process::ExitCode;

/// What the product allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/pipeline: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = measure::Options::parse(std::env::args().skip(1))?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let figures = measure::Figures {
            json: peer::json(options.events)?,
            stored: collect::at_once(options.events, false)?,
            observed: collect::at_once(options.events, true)?,
            live: collect::live(options.rate, options.live_seconds)?,
        };
        eprintln!("round {round}: {}", figures.line());
        rounds.push(figures);
    }
    report::print(&options, &rounds)
}
