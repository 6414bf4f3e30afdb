//! `tollhouse demo`: a whole Tollhouse with sample services and traffic, to look at.
//!
//! ```text
//! traffic ──> gateway (the real one) ──> services ──> gateway ──> services
//!    │            └─> spool ─> collector ─> SQL, Prometheus, ledger ──> view, report
//!    └─> tally: what the clients themselves counted ─────────────────> audit: do the books balance?
//! ```
//!
//! `world` says who there is, `services` and `traffic` bring it to life through `client`, `house` starts Tollhouse,
//! `questions` asks it, `view` and `live` show the answers, `audit` and `report` judge at the end.

mod world;

mod body;

mod chance;

mod tally;

mod client;

mod services;

mod traffic;

mod house;

mod desk;

mod questions;

mod paint;

mod graph;

mod view;

mod live;

mod audit;

mod report;

mod stage;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::failure::Failure;

/// How the demo runs.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// End by itself after this time, with a report: seconds, or as 90s, 5m, 1h. Without it: until q or Ctrl-C.
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Requests per second from the consumers; the services add their own calls to one another.
    #[arg(long, short, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Keep what is recorded in this folder, which is to be new or empty. Without it: a temporary one, removed at
    /// the end.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Port of the gateway; 0 takes a free one [default: 8000, or a free one when that is taken].
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of the metrics [default: 8100, or a free one].
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
    /// Port of SQL over HTTP [default: 8200, or a free one].
    #[arg(long, value_name = "PORT")]
    pub sql_port: Option<u16>,
    /// Port of SQL for clients of PostgreSQL, such as Grafana [default: 8432, or a free one].
    #[arg(long, value_name = "PORT")]
    pub postgres_port: Option<u16>,
    /// Print the report as JSON on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something of the machine: a runtime, a port, a folder, the terminal.
    #[error("the demo cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Tollhouse did not start.
    #[error("the demo cannot start Tollhouse: {0}")]
    House(#[source] Box<Failure>),
    /// Tollhouse did not answer.
    #[error("the demo cannot ask Tollhouse: {0}")]
    Desk(#[from] desk::DeskError),
    /// What it would add to is not of this run.
    #[error("{0} is not empty: the demo wants a folder of its own, so that its books hold this run alone")]
    NotEmpty(PathBuf),
    /// It ran, and the counts do not agree: the report says which.
    #[error("the clients' counts and the books of Tollhouse differ, see the report")]
    NotReconciled,
}

/// Runs the demo to its end and prints the report.
pub fn run(args: DemoArgs) -> Result<(), DemoError> {
    stage::play(&args)
}

/// `30`, `30s`, `5m` or `1h`, above zero and up to a day.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3_600.0),
        _ => (text, 1.0),
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * factor);
    match seconds {
        Some(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a time is wanted, such as 30, 30s, 5m or 1h, of at most a day".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_unit() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["", "0", "-3", "s", "25h", "inf", "NaN", "5 minutes", "5ä"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
