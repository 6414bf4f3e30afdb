//! `tollhouse reload`: finds the gateway of a data folder, sends it SIGHUP, and says how the reload went.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use event::configuration::Configuration;
use event::layout::DataFolder;

use crate::cli::PartArgs;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::sources;

/// Longest wait for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Exits 0 when the configuration is in force.
pub fn ask(args: &PartArgs) -> Result<ExitCode, Failure> {
    let sources = sources::for_part(args.config.as_deref(), args.data.as_deref(), sources::variables()?)?;
    let data = config::load::<Config>(sources)?.value.data;
    let nobody = || Failure::Unreachable(format!("no gateway runs on the data folder {}", data.display()));
    // Opening it would make it.
    if !data.join("state").is_dir() {
        return Err(nobody());
    }
    let folder =
        DataFolder::open(&data).map_err(|error| Failure::part("cannot use the data folder", error))?;
    let read =
        || Configuration::load(&folder).map_err(|error| Failure::part("cannot ask the gateway", error));
    let before = read()?.filter(|state| holds(state.pid, &folder.spool())).ok_or_else(nobody)?;
    let pid = libc::pid_t::try_from(before.pid).map_err(|_| nobody())?;
    // SAFETY: no memory is involved. The process holds this folder's spool, as was looked up just above.
    if unsafe { libc::kill(pid, libc::SIGHUP) } != 0 {
        return Err(Failure::part("cannot signal the gateway", std::io::Error::last_os_error()));
    }
    let deadline = Instant::now() + ANSWER_MAX;
    while Instant::now() < deadline {
        let now = read()?.filter(|state| state.pid == before.pid).ok_or_else(nobody)?;
        if now.attempts > before.attempts {
            return said(&now);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Err(Failure::part("cannot reload", format!("process {pid} has not answered within {ANSWER_MAX:?}")))
}

fn said(state: &Configuration) -> Result<ExitCode, Failure> {
    if !state.successful {
        for problem in &state.problems {
            anstream::eprintln!("{problem}");
        }
        return Err(Failure::part("not reloaded", "the configuration of before stays in force"));
    }
    if !state.restart.is_empty() {
        anstream::eprintln!("in force only after a restart: {}", state.restart.join(", "));
    }
    anstream::println!("reloaded: version {:016x}", state.version);
    Ok(ExitCode::SUCCESS)
}

/// Whether a process has the lock of a spool open: a number alone may be another's by now.
fn holds(pid: u32, spool: &Path) -> bool {
    let Ok(lock) = spool.join("lock").canonicalize() else { return false };
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|one| std::fs::read_link(one.path()).is_ok_and(|target| target == lock))
}
