//! `tollhouse upgrade`: has the gateway of a data folder start its program anew, and waits until that one serves.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use event::configuration::Configuration;
use event::layout::DataFolder;

use super::door::{knock, visitor};
use super::wire::Wire;
use super::{Message, PROTOCOL, VERSION, Wants};
use crate::cli::PartArgs;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::sources;

/// How often it is looked whether the new process is there in whole.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Words that the answer has time for: those of the new process, and one more.
const WORDS: u32 = 4;

/// Exits 0 when another process serves.
pub fn ask(args: &PartArgs) -> Result<ExitCode, Failure> {
    let sources = sources::for_part(args.config.as_deref(), args.data.as_deref(), sources::variables()?)?;
    let config = config::load::<Config>(sources)?.value;
    // Opening it would make it.
    if !config.data.join("state").is_dir() {
        return Err(nobody(&config.data));
    }
    let folder =
        DataFolder::open(&config.data).map_err(|error| Failure::part("cannot use the data folder", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::part("cannot start a runtime", error))?;
    runtime.block_on(upgrade(&folder, config.upgrade.timeout() * WORDS))
}

fn nobody(data: &Path) -> Failure {
    Failure::Unreachable(format!(
        "no gateway that can be upgraded runs on the data folder {}",
        data.display()
    ))
}

async fn upgrade(folder: &DataFolder, patience: Duration) -> Result<ExitCode, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::part("not upgraded", error);
    let knocked = knock(folder).await.map_err(|error| failed(&error))?;
    let stream = knocked.ok_or_else(|| nobody(folder.root()))?;
    let old = visitor(&stream).map_err(|error| failed(&error))?;
    let mut wire = Wire::new(stream, patience);
    let hello = Message::Hello { protocol: PROTOCOL, version: VERSION.to_owned(), wants: Wants::Upgrade };
    wire.send(&hello).await.map_err(|error| failed(&error))?;
    let (pid, version) = match wire.receive().await.map_err(|error| failed(&error))? {
        Message::Upgraded { pid, version } => (pid, version),
        Message::Refused { reason } => return Err(failed(&format!("{reason}\nprocess {old} serves on"))),
        _ => return Err(failed(&"the gateway said something else than an answer")),
    };
    // Once it says so itself, it can be asked for more, such as a reload.
    let deadline = Instant::now() + patience;
    while Configuration::load(folder).ok().flatten().is_none_or(|state| state.pid != pid) {
        if Instant::now() > deadline {
            return Err(failed(&format!("process {pid} serves, but has not taken everything over yet")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    anstream::println!("upgraded: process {old} -> process {pid}, version {version}");
    Ok(ExitCode::SUCCESS)
}
