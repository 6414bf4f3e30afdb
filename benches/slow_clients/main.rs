//! What clients that behave notice of those that do not: their latency beside thousands of slow connections and floods of
//! resets, against their latency alone, and what memory the gateway needs for it. nginx bears the same in the same run.
//!
//! The gateway runs on CPU 0 with one thread; clients and origins on CPU 1. Behaving clients send at a steady rate. Slow
//! ones come back as soon as they are closed, so that there are always as many; they and what they talk to stand for
//! other machines, and run when nobody else on their CPU wants to. For what they cost the machine all the same, each
//! attack runs also against another gateway, which has what CPU 0 has left, while the good ones ask this one. A round of
//! the table is: Tollhouse and nginx alone, then each kind of attack elsewhere, against Tollhouse and against nginx;
//! figures are medians of the rounds. `cargo bench --bench slow_clients -- --slow 5000`, `--only 'slow heads'` for one kind.

mod attack;

mod good;

mod house;

use attack::{Attack, Attackers};
use house::{House, Origins};
use std::process::ExitCode;
use std::time::Duration;

/// What the command line says.
struct Options {
    /// Slow connections at a time.
    slow: usize,
    /// Seconds of each phase.
    seconds: u64,
    /// How often everything is measured.
    rounds: u64,
    /// The one attack that is run, if not all are.
    only: Option<Attack>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { slow: 5000, seconds: 8, rounds: 3, only: None };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{arg}: {value:?} is not a number"));
            match arg.as_str() {
                "--slow" => options.slow = usize::try_from(number()?).unwrap_or(usize::MAX),
                "--seconds" => options.seconds = number()?.max(1),
                "--rounds" => options.rounds = number()?.max(1),
                "--only" => {
                    let mut all = Attack::ALL.into_iter();
                    let only = all.find(|attack| attack.name() == value);
                    options.only = Some(only.ok_or_else(|| format!("there is no attack {value:?}"))?);
                }
                _ => return Err(format!("unknown argument {arg}: --slow, --seconds, --rounds, --only")),
            }
        }
        Ok(options)
    }
}

/// Whom the attack goes to, and whom the good ones ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Another gateway; the good ones ask Tollhouse.
    Elsewhere,
    Tollhouse,
    Nginx,
}

impl Place {
    const ALL: [Self; 3] = [Self::Elsewhere, Self::Tollhouse, Self::Nginx];

    const fn name(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Tollhouse => "tollhouse",
            Self::Nginx => "nginx",
        }
    }
}

/// What is measured, in each round.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Phase {
    attack: Option<Attack>,
    place: Place,
}

/// What one round found.
struct Sample {
    answers: usize,
    failed: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    own_mib: f64,
    /// Connections that were closed by the gateway.
    closed: u64,
    /// The longest that one was open, of those that were closed.
    longest_s: f64,
}

fn main() -> ExitCode {
    let run = || {
        let options = Options::parse(std::env::args().skip(1))?;
        let found = measure(&options)?;
        print(&options, &found);
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

/// The phases of a round, each with a sample of every round.
type Found = Vec<(Phase, Vec<Sample>)>;

fn measure(options: &Options) -> Result<Found, String> {
    house::prepare(options.slow)?;
    let origins = Origins::start()?;
    let houses = Houses {
        tollhouse: House::tollhouse(origins, false)?,
        other: House::tollhouse(origins, true)?,
        nginx: House::nginx(origins)?,
    };
    let attacks = Attack::ALL.into_iter().filter(|attack| options.only.is_none_or(|only| only == *attack));
    let attacks = attacks.flat_map(|attack| Place::ALL.map(|place| Phase { attack: Some(attack), place }));
    let alone = [Place::Tollhouse, Place::Nginx].map(|place| Phase { attack: None, place });
    let mut found: Found = alone.into_iter().chain(attacks).map(|phase| (phase, Vec::new())).collect();
    for round in 0..options.rounds {
        for (phase, samples) in &mut found {
            let sample = houses.sample(*phase, options)?;
            eprintln!("round {}, {}: p99 {:.2} ms", round + 1, phase.name(), sample.p99_ms);
            samples.push(sample);
        }
    }
    Ok(found)
}

/// The gateways of a run.
struct Houses {
    tollhouse: House,
    other: House,
    nginx: House,
}

impl Houses {
    fn sample(&self, phase: Phase, options: &Options) -> Result<Sample, String> {
        let (asked, attacked) = match phase.place {
            Place::Elsewhere => (&self.tollhouse, &self.other),
            Place::Tollhouse => (&self.tollhouse, &self.tollhouse),
            Place::Nginx => (&self.nginx, &self.nginx),
        };
        let start = |attack: Attack| {
            let addr = if attack.is_http2() { attacked.http2 } else { attacked.addr };
            Attackers::start(attack, addr, options.slow)
        };
        let attackers = phase.attack.map(start).transpose()?;
        let latencies = good::measure(asked.addr, Duration::from_secs(options.seconds))?;
        let own_kib = asked.own_kib()?;
        let (closed, longest) = attackers.map_or((0, Duration::ZERO), Attackers::end);
        attacked.settle()?;
        let ms = |share| latencies.at(share).as_secs_f64() * 1e3;
        Ok(Sample {
            answers: latencies.count(),
            failed: latencies.failed,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            own_mib: own_kib as f64 / 1024.0,
            closed,
            longest_s: longest.as_secs_f64(),
        })
    }
}

impl Phase {
    fn name(self) -> String {
        format!("{}, {}", self.attack.map_or("alone", Attack::name), self.place.name())
    }
}

/// The middle one of the rounds.
fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(options: &Options, found: &Found) {
    println!(
        "{} slow connections; {} rounds of {} s each phase; time-outs {} ms",
        options.slow,
        options.rounds,
        options.seconds,
        house::TIMEOUT_MS
    );
    println!(
        "\n| phase | answers | failed | p50 ms | p99 ms | p99.9 ms | p99 / alone | p99 / elsewhere | p99 / nginx | gateway MiB | closed | longest open s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (phase, samples) in found {
        let p99_ms = median(samples, |sample| sample.p99_ms);
        let against = |attack, place| {
            let (_, others) = found.iter().find(|(other, _)| *other == Phase { attack, place })?;
            Some(format!("{:.2}", p99_ms / median(others, |sample| sample.p99_ms)))
        };
        let alone = match phase.place {
            Place::Nginx => against(None, Place::Nginx),
            _ => against(None, Place::Tollhouse),
        };
        let compared = phase.place == Place::Tollhouse;
        let beside = |place| against(phase.attack, place).filter(|_| compared).unwrap_or_default();
        println!(
            "| {} | {} | {} | {:.2} | {p99_ms:.2} | {:.2} | {} | {} | {} | {:.0} | {} | {:.1} |",
            phase.name(),
            samples.iter().map(|sample| sample.answers).sum::<usize>(),
            samples.iter().map(|sample| sample.failed).sum::<u64>(),
            median(samples, |sample| sample.p50_ms),
            median(samples, |sample| sample.p999_ms),
            alone.unwrap_or_default(),
            beside(Place::Elsewhere),
            beside(Place::Nginx),
            median(samples, |sample| sample.own_mib),
            samples.iter().map(|sample| sample.closed).sum::<u64>(),
            samples.iter().map(|sample| sample.longest_s).fold(0.0, f64::max),
        );
    }
}
