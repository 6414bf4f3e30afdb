//! What clients that behave notice of those that do not: their latency beside thousands of slow connections and floods of
//! resets, against their latency alone, and what memory the gateway needs for it.
//!
//! The gateway runs on CPU 0 with one thread; clients and origins on CPU 1. Behaving clients send at a steady rate. Slow
//! ones come back as soon as they are closed, so that there are always as many; they and what they talk to stand for
//! other machines, and run when nobody else on their CPU wants to. For what they cost the machine all the same, each
//! attack runs twice: against another gateway, which has what CPU 0 has left, while the good ones ask this one; and
//! against this one. Phases of the table: alone, each kind of attack elsewhere and here, alone again. `cargo bench --bench
//! slow_clients -- --slow 5000`, `--only 'slow heads'` for one kind.

mod attack;

mod good;

mod house;

use attack::{Attack, Attackers};
use good::Latencies;
use house::{House, Origins};
use std::process::ExitCode;
use std::time::Duration;

/// What the command line says.
struct Options {
    /// Slow connections at a time.
    slow: usize,
    /// Seconds of each phase.
    seconds: u64,
    /// The one attack that is run, if not all are.
    only: Option<Attack>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { slow: 5000, seconds: 8, only: None };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{arg}: {value:?} is not a number"));
            match arg.as_str() {
                "--slow" => options.slow = usize::try_from(number()?).unwrap_or(usize::MAX),
                "--seconds" => options.seconds = number()?.max(1),
                "--only" => {
                    let mut all = Attack::ALL.into_iter();
                    let only = all.find(|attack| attack.name() == value);
                    options.only = Some(only.ok_or_else(|| format!("there is no attack {value:?}"))?);
                }
                _ => return Err(format!("unknown argument {arg}: --slow, --seconds, --only")),
            }
        }
        Ok(options)
    }
}

/// One phase.
struct Phase {
    attack: Option<Attack>,
    /// Whether the attack went to the other gateway.
    elsewhere: bool,
    latencies: Latencies,
    own_kib: u64,
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
    let origins = Origins::start()?;
    let (house, other) = (House::start(origins, false)?, House::start(origins, true)?);
    let mut phases = Vec::new();
    let attacks = Attack::ALL.into_iter().filter(|attack| options.only.is_none_or(|only| only == *attack));
    let attacks = attacks.flat_map(|attack| [(Some(attack), true), (Some(attack), false)]);
    for (attack, elsewhere) in [(None, false)].into_iter().chain(attacks).chain([(None, false)]) {
        let attacked = if elsewhere { &other } else { &house };
        let attackers =
            attack.map(|attack| Attackers::start(attack, attacked.addr, options.slow)).transpose()?;
        let latencies = good::measure(house.addr, Duration::from_secs(options.seconds))?;
        let own_kib = house.own_kib()?;
        let (closed, longest) = attackers.map_or((0, Duration::ZERO), Attackers::end);
        attacked.settle()?;
        let phase = Phase { attack, elsewhere, latencies, own_kib, closed, longest };
        eprintln!(
            "{}: {} answers, p99 {:?}, {own_kib} KiB, {closed} closed",
            phase.name(),
            phase.latencies.count(),
            phase.latencies.at(0.99)
        );
        phases.push(phase);
    }
    Ok(phases)
}

impl Phase {
    fn name(&self) -> String {
        let name = self.attack.map_or("alone", Attack::name);
        if self.elsewhere { format!("{name}, elsewhere") } else { name.to_owned() }
    }

    fn p99_ms(&self) -> f64 {
        self.latencies.at(0.99).as_secs_f64() * 1e3
    }
}

fn print(options: &Options, phases: &[Phase]) {
    let alone: Vec<f64> = phases.iter().filter(|phase| phase.attack.is_none()).map(Phase::p99_ms).collect();
    let alone = alone.iter().sum::<f64>() / alone.len() as f64;
    println!(
        "{} slow connections; {} s each phase; time-outs {} ms",
        options.slow,
        options.seconds,
        house::TIMEOUT_MS
    );
    println!(
        "\n| phase | answers | failed | p50 ms | p99 ms | p99.9 ms | p99 / alone | p99 / elsewhere | gateway MiB | closed | longest open s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for phase in phases {
        let ms = |share| phase.latencies.at(share).as_secs_f64() * 1e3;
        let elsewhere = phases.iter().find(|other| other.elsewhere && other.attack == phase.attack);
        let against = elsewhere.filter(|_| !phase.elsewhere).map(|other| phase.p99_ms() / other.p99_ms());
        println!(
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {:.0} | {} | {:.1} |",
            phase.name(),
            phase.latencies.count(),
            phase.latencies.failed,
            ms(0.5),
            ms(0.99),
            ms(0.999),
            phase.p99_ms() / alone,
            against.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            phase.own_kib as f64 / 1024.0,
            phase.closed,
            phase.longest.as_secs_f64(),
        );
    }
}
