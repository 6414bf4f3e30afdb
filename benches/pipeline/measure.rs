//! The command line, the clocks, and what a round found.

use std::path::PathBuf;

/// What the command line says.
pub struct Options {
    /// Events of one arm of one round.
    pub events: u64,
    /// How often everything is repeated.
    pub rounds: usize,
    /// Events per second of the live arm.
    pub rate: u64,
    /// Seconds of the live arm.
    pub live_seconds: u64,
    /// Where to write the figures as JSON.
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads `--events N --rounds N --rate N --live-seconds N --json FILE`.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { events: 1_000_000, rounds: 3, rate: 20_000, live_seconds: 5, json: None };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || match value.parse::<u64>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{arg}: {value:?} is not a positive number")),
            };
            match arg.as_str() {
                "--events" => options.events = number()?,
                "--rounds" => options.rounds = number()? as usize,
                "--rate" => options.rate = number()?,
                "--live-seconds" => options.live_seconds = number()?,
                "--json" => options.json = Some(value.into()),
                _ => {
                    return Err(format!(
                        "unknown argument {arg}: --events, --rounds, --rate, --live-seconds, --json"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// One round. All CPU figures are nanoseconds per event, all sizes bytes per event.
pub struct Figures {
    pub json: Json,
    /// Events older than the collector: rows, no metrics.
    pub stored: Collected,
    /// The same with metrics.
    pub observed: Collected,
    /// With metrics, at a steady rate.
    pub live: Collected,
}

/// The peer: one JSON line per event.
pub struct Json {
    pub plain_ns: f64,
    pub zstd_ns: f64,
    pub plain_bytes: f64,
    pub zstd_bytes: f64,
    /// Compressed, with every random id left out.
    pub zstd_bytes_without_ids: f64,
}

/// One run of spool and collector.
pub struct Collected {
    /// Filling the draft and appending it, on the gateway's thread.
    pub hot_path_ns: f64,
    /// Up to durable rows in hot files.
    pub hot_ns: f64,
    /// The same with the Parquet files.
    pub sealed_ns: f64,
    pub hot_bytes: f64,
    pub parquet_bytes: f64,
    /// Without the random ids and their bloom filters.
    pub parquet_bytes_without_ids: f64,
    /// From the append to a row in a hot file, in milliseconds: the 99th percentile. Of the live arm only.
    pub visible_ms: Option<f64>,
}

impl Figures {
    /// For the eye, while it runs.
    pub fn line(&self) -> String {
        format!(
            "hot path {:.0} ns, hot {:.0} ns, sealed {:.0} ns, with metrics {:.0} ns, live {:.0} ns; JSON {:.0} ns",
            self.stored.hot_path_ns,
            self.stored.hot_ns,
            self.stored.sealed_ns,
            self.observed.sealed_ns,
            self.live.sealed_ns,
            self.json.plain_ns
        )
    }
}

/// CPU time of this thread, in nanoseconds.
pub fn thread_ns() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process, in nanoseconds.
pub fn process_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let result = unsafe { libc::clock_gettime(which, &raw mut time) };
    assert_eq!(result, 0, "both clocks exist on Linux");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) {
        (figures[middle - 1] + figures[middle]) / 2.0
    } else {
        figures[middle]
    }
}
