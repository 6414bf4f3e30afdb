//! What clients that behave notice of those that do not: their latency beside thousands of slow connections and floods of
//! resets, against their latency alone, and what memory the gateway needs for it.
//!
//! The gateway runs on CPU 0 with one thread; clients and origin on CPU 1. Behaving clients send at a steady rate. Slow
//! ones come back as soon as they are closed, so that there are always as many. Phases of the table: alone, each kind of
//! attack, alone again; the ratio is against the mean of the two. `cargo bench --bench slow_clients -- --slow 5000`.

mod attack;

mod good;

mod house;

use attack::{Attack, Attackers};
use good::Latencies;
use house::House;
use std::process::ExitCode;
use std::time::Duration;

/// What the command line says.
struct Options {
    /// Slow connections at a time.
    slow: usize,
    /// Seconds of each phase.
    seconds: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { slow: 5000, seconds: 8 };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{arg}: {value:?} is not a number"));
            match arg.as_str() {
                "--slow" => options.slow = usize::try_from(number()?).unwrap_or(usize::MAX),
                "--seconds" => options.seconds = number()?.max(1),
                _ => return Err(format!("unknown argument {arg}: --slow, --seconds")),
            }
        }
        Ok(options)
    }
}

/// One phase.
struct Phase {
    name: &'static str,
    latencies: Latencies,
    rss_kib: u64,
    /// Connections that were closed by the gateway.
    closed: u64,
    /// The longest that one was open, of those that were closed.
    longest: Duration,
}

fn main() -> ExitCode {
    let run = || {
        let options = Options::parse(std::env::args().skip(1))?;
        let phases = measure(&options)?;
        print(&options, &phases);
        Ok::<(), String>(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/slow_clients: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<Vec<Phase>, String> {
    house::prepare(options.slow)?;
    let house = House::start()?;
    let mut phases = Vec::new();
    let order = [None].into_iter().chain(Attack::ALL.map(Some)).chain([None]);
    for attack in order {
        let attackers =
            attack.map(|attack| Attackers::start(attack, house.addr, options.slow)).transpose()?;
        let latencies = good::measure(house.addr, Duration::from_secs(options.seconds))?;
        let rss_kib = house.rss_kib()?;
        let (closed, longest) = attackers.map_or((0, Duration::ZERO), Attackers::end);
        house.settle()?;
        let name = attack.map_or("alone", Attack::name);
        eprintln!(
            "{name}: {} answers, p99 {:?}, {rss_kib} KiB, {closed} closed",
            latencies.count(),
            latencies.at(0.99)
        );
        phases.push(Phase { name, latencies, rss_kib, closed, longest });
    }
    Ok(phases)
}

fn print(options: &Options, phases: &[Phase]) {
    let alone: Vec<f64> = phases
        .iter()
        .filter(|phase| phase.name == "alone")
        .map(|phase| phase.latencies.at(0.99).as_secs_f64())
        .collect();
    let alone = alone.iter().sum::<f64>() / alone.len() as f64;
    println!(
        "{} slow connections; {} s each phase; time-outs {} ms",
        options.slow,
        options.seconds,
        house::TIMEOUT_MS
    );
    println!(
        "\n| phase | answers | failed | p50 ms | p99 ms | p99 / alone | gateway MiB | closed | longest open s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for phase in phases {
        let ms = |share| phase.latencies.at(share).as_secs_f64() * 1e3;
        println!(
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {} | {:.1} |",
            phase.name,
            phase.latencies.count(),
            phase.latencies.failed,
            ms(0.5),
            ms(0.99),
            ms(0.99) / 1e3 / alone,
            phase.rss_kib as f64 / 1024.0,
            phase.closed,
            phase.longest.as_secs_f64(),
        );
    }
}
