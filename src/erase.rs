//! `tollhouse erase`: orders that what was recorded of a consumer is erased, and waits until it is. The collector does it.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::erasure::{Erasure, Order, Subject};
use event::layout::{DataFolder, Manifest};
use serde_json::json;

use crate::cli::EraseArgs;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::sources;

const DOING: &str = "cannot erase";
/// How often it is looked whether the order was carried out.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Exits 0 when the rows are gone, or when the order stands and nobody is to wait for it.
pub fn erase(args: &EraseArgs) -> Result<ExitCode, Failure> {
    let (config, data) = (args.part.config.as_deref(), args.part.data.as_deref());
    let sources = sources::for_part(config, data, sources::variables()?)?;
    let data = config::load::<Config>(sources)?.value.data;
    let folder = DataFolder::existing(&data).map_err(failed)?;
    if args.consumer.is_empty() {
        return Err(Failure::Usage("--consumer is empty: name the consumer whose rows are to go".into()));
    }
    if !args.yes && !agreed(&args.consumer, &folder)? {
        anstream::eprintln!("nothing was erased");
        return Ok(ExitCode::from(1));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let order = Order::new(Subject::Consumer(args.consumer.clone()), now_us);
    order.give(&folder).map_err(failed)?;
    let at_work = collector::storage::is_at_work(&folder).map_err(failed)?;
    if args.no_wait || !at_work {
        said(args, &Erasure { id: order.id.clone(), at_us: order.at_us, ..Erasure::default() })?;
        if !at_work {
            anstream::eprintln!(
                "no collector is at work on the data folder: the next one carries the order out"
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let shown = std::io::stderr().is_terminal();
    loop {
        let outcome = look(&folder, &order)?;
        if let Some(done) = outcome.as_ref().filter(|outcome| outcome.done_at_us.is_some()) {
            if shown {
                anstream::eprint!("\r\x1b[K");
            }
            said(args, done)?;
            return Ok(ExitCode::SUCCESS);
        }
        if shown {
            anstream::eprint!("\r{}\x1b[K", stage(outcome.as_ref()));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Asks, where there is someone to ask.
fn agreed(consumer: &str, folder: &DataFolder) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("what is erased does not come back: say --yes to do it unasked".into()));
    }
    let name = consumer.escape_debug();
    anstream::eprint!("Erase all rows of the consumer \"{name}\" in {}? [y/N] ", folder.root().display());
    let mut answer = String::new();
    std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer)).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn look(folder: &DataFolder, order: &Order) -> Result<Option<Erasure>, Failure> {
    let manifest = Manifest::load(folder).map_err(failed)?;
    Ok(manifest.erasures.into_iter().find(|one| one.id == order.id))
}

/// What is being done, for who waits at a terminal.
fn stage(outcome: Option<&Erasure>) -> String {
    match outcome {
        None => "the order waits".to_owned(),
        Some(Erasure { files: 0, .. }) => {
            "the newest rows are being sealed, and files looked through".to_owned()
        }
        Some(Erasure { rows, files, .. }) => {
            format!(
                "{rows} rows of {files} files are out of the table; the files are kept until queries have ended"
            )
        }
    }
}

/// The outcome, or the order as it stands.
fn said(args: &EraseArgs, outcome: &Erasure) -> Result<(), Failure> {
    let Erasure { id, rows, files, set_aside, done_at_us, .. } = outcome;
    if args.json {
        let value = json!({
            "order": id,
            "done": done_at_us.is_some(),
            "rows": rows,
            "files": files,
            "set_aside": set_aside,
        });
        anstream::println!("{value}");
        return Ok(());
    }
    match done_at_us {
        None => anstream::println!("order {id}: its outcome will be in system.erasures"),
        Some(_) => anstream::println!("erased: {rows} rows; {files} files were written anew (order {id})"),
    }
    if *set_aside > 0 {
        anstream::println!("not looked into: {set_aside} damaged files in quarantine/; delete them by hand");
    }
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::part(DOING, error)
}
