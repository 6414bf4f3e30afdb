//! `tollhouse storage`: whether what is on disk is whole, what it is made of, and what to do about damage. Exit codes: 0
//! fine, 1 problems found (or the command failed), 2 wrong usage.

mod say;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use collector::storage::{self, StorageError};
use event::layout::DataFolder;

use crate::cli::{StorageArgs, StorageCommand};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::sources;

/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the subcommand.
pub fn storage(command: &StorageCommand) -> Result<ExitCode, Failure> {
    match command {
        StorageCommand::Check { storage, deep } => check(storage, *deep),
        StorageCommand::Repair { storage } => repair(storage),
        StorageCommand::Inspect { storage, what } => inspect(storage, what.as_deref()),
    }
}

fn check(args: &StorageArgs, deep: bool) -> Result<ExitCode, Failure> {
    let folder = folder(args)?;
    let checked = watched(|progress| storage::check(&folder, deep, progress))?;
    if args.json {
        say::json(&checked)?;
    } else {
        say::checked(&folder, &checked);
    }
    Ok(exit(checked.problems.is_empty()))
}

fn repair(args: &StorageArgs) -> Result<ExitCode, Failure> {
    let folder = folder(args)?;
    let repaired = watched(|progress| storage::repair(&folder, progress))?;
    if args.json {
        say::json(&repaired)?;
    } else {
        say::repaired(&folder, &repaired);
    }
    Ok(exit(repaired.left.is_empty()))
}

fn inspect(args: &StorageArgs, what: Option<&str>) -> Result<ExitCode, Failure> {
    let folder = folder(args)?;
    match what {
        None => {
            let view = storage::inspect_table(&folder).map_err(failed)?;
            if args.json { say::json(&view)? } else { say::table(&folder, &view) }
        }
        Some(what) => {
            let view = storage::inspect_files(&folder, what).map_err(failed)?;
            if args.json { say::json(&view)? } else { say::files(&view) }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The data folder, which must be there: looking is not making.
fn folder(args: &StorageArgs) -> Result<DataFolder, Failure> {
    let (config, data) = (args.part.config.as_deref(), args.part.data.as_deref());
    let sources = sources::for_part(config, data, sources::variables()?)?;
    let data = config::load::<Config>(sources)?.value.data;
    DataFolder::existing(&data).map_err(|error| {
        let reason = format!("{error}\nname the folder with --data DIR or `data:` of the configuration");
        Failure::part("there is no data folder", reason)
    })
}

/// Shows how far a long look is, on a terminal only.
fn watched<T>(look: impl FnOnce(storage::Progress<'_>) -> Result<T, StorageError>) -> Result<T, Failure> {
    let shown = std::io::stderr().is_terminal();
    let mut last = Instant::now();
    let mut progress = |done: u64, all: u64| {
        if shown && last.elapsed() >= PROGRESS_INTERVAL {
            last = Instant::now();
            let share = done as f64 * 100.0 / all.max(1) as f64;
            anstream::eprint!("\r{share:5.1} % of {}\x1b[K", say::bytes(all));
        }
    };
    let looked = look(&mut progress);
    if shown {
        anstream::eprint!("\r\x1b[K");
    }
    looked.map_err(failed)
}

fn failed(error: StorageError) -> Failure {
    match error {
        StorageError::Unknown(_) => Failure::Usage(error.to_string()),
        error => Failure::part("cannot look at the data folder", error),
    }
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
