//! The one place where the parts are put together, and the one order in which they end.
//!
//! Up: crypto, log, data folder, spool, collector, analytics, gateway; a request is taken once all that stands behind
//! it does. Down, in the order of a request's journey: the gateway drains, the spool closes, the collector stores what
//! is left, the analytics stop; each hands over to the next before it goes.
//!
//! In between the process waits for a signal, or for a part that dies. Without its gateway a process has no use: it
//! drains and exits with 1, for a supervisor to start it anew, and so does a process that is only the part that died.
//! A collector or analytics that die beside a gateway change no request: it goes on, the events wait in the spool, the
//! log says so until the end, and the exit code is 1.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use event::layout::DataFolder;

use crate::cli::{PartArgs, RunArgs};
use crate::config::{self, Config, Loaded, LogConfig, LogFormat, Plans, Role, Sources};
use crate::descriptors;
use crate::failure::Failure;
use crate::handover::{self, Giver, Handed, Program};
use crate::notify;
use crate::parts::{self, Parts};
use crate::reload::{Again, Reloads};
use crate::signals::Signals;
use crate::sources;

/// How often the keeper of the spool is looked after.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the log repeats that a part has died.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// `run` and `proxy`.
pub fn gateway(args: &RunArgs, role: Role) -> Result<ExitCode, Failure> {
    if args.upstream.is_some() && args.config.is_some() {
        return Err(Failure::Usage("--upstream takes the place of a file: leave --config away".into()));
    }
    if args.kong.is_some() && (args.config.is_some() || args.upstream.is_some()) {
        let text =
            "--kong takes the place of a file: leave --config and --upstream away, or `tollhouse convert` it";
        return Err(Failure::Usage(text.into()));
    }
    let take_over = args.take_over;
    let args = args.clone();
    let again: Again = Box::new(move || {
        let (config, data, kong) = (args.config.as_deref(), args.data.as_deref(), args.kong.as_deref());
        sources::for_gateway(config, data, args.upstream.as_deref(), kong, sources::variables()?)
    });
    run(again()?, role, Start { again: Some(again), take_over })
}

/// `collector`, `analytics`, and the parts of a cluster.
pub fn part(args: &PartArgs, role: Role) -> Result<ExitCode, Failure> {
    let sources = sources::for_part(args.config.as_deref(), args.data.as_deref(), sources::variables()?)?;
    run(sources, role, Start { again: None, take_over: false })
}

/// What a gateway starts with besides its configuration.
struct Start {
    /// Finds out anew what the configuration is read from.
    again: Option<Again>,
    /// Whether it takes the place of a gateway that runs.
    take_over: bool,
}

fn run(sources: Sources, role: Role, start: Start) -> Result<ExitCode, Failure> {
    let loaded = config::load::<Config>(sources)?;
    let plans = config::validate(&loaded, role)?;
    // Every TLS use in the process takes this provider; a second install cannot happen, there is one `run`.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(Failure::part("cannot set up TLS", "a crypto provider is already installed"));
    }
    start_log(&loaded.value.log)?;
    for note in loaded.notes() {
        tracing::warn!("{note}");
    }
    if plans.proxy.is_some() {
        descriptors::raise(loaded.value.gateway.limits.connections_max as u64);
    }
    // This thread only waits for signals and drives the order; the parts have their own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tollhouse")
        .enable_all()
        .build()
        .map_err(|error| Failure::part("cannot start a runtime", error))?;
    runtime.block_on(live(&loaded, plans, role, start))
}

/// Starts the parts of the role, waits for a signal or for a process that takes over, and drains them.
async fn live(loaded: &Loaded<Config>, plans: Plans, role: Role, start: Start) -> Result<ExitCode, Failure> {
    let config = &loaded.value;
    // Before anything starts: a signal during the start must not kill half of it.
    let mut signals = Signals::new().map_err(|error| Failure::part("cannot listen for signals", error))?;
    let folder = DataFolder::open(&config.data).map_err(|error| {
        let reason = format!("{error}\nchoose a folder you may write with --data DIR or `data:`");
        Failure::part("cannot use the data folder", reason)
    })?;
    if let (Some(note), Some(_)) = (config.note(), &plans.proxy) {
        tracing::warn!("{note}");
    }
    let version = plans.proxy.as_ref().map_or(0, proxy::Plan::version);
    let Begun { mut parts, mut dead, ends } =
        begin(config, plans, &folder, start.take_over, &mut signals).await?;
    let (mut reloads, mut giver) = (None, None);
    if let (Some((running, _)), Some(again)) = (&parts.gateway, start.again) {
        let begun = Reloads::start(running.reloader(), loaded, role, again, &folder, version);
        reloads = Some(begun.map_err(|error| Failure::part("cannot start a thread", error))?);
        giver = offer(&parts, config, &folder);
    }
    parts::announce(&parts).map_err(|error| Failure::part("cannot write to standard output", error))?;
    notify::ready();

    let handed = match ends {
        true => None,
        false => stay(&mut parts, &mut dead, &mut signals, reloads.as_ref(), giver.as_mut()).await,
    };
    tokio::spawn(async move {
        let code = signals.second().await;
        tracing::warn!("second signal: leaving at once; what is in the spool is stored by the next start");
        std::process::exit(code);
    });
    if let Some(giver) = giver {
        giver.close().await;
    }
    // It writes to the folder, too.
    drop(reloads);
    match &handed {
        Some(handed) => notify::handed_over(handed.pid),
        None => notify::stopping(),
    }
    let told = match handed {
        Some(handed) => {
            let (pid, version) = (handed.pid, handed.version.clone());
            tracing::info!(
                pid,
                version,
                "another process has taken over: this one answers what is under way"
            );
            parts::retire(parts, handed, config.upgrade.idle_timeout()).await;
            parts::say(&format!("handed over to process {pid}"))
        }
        None => parts::account(&parts::drain(parts).await),
    };
    if let Err(error) = told {
        tracing::warn!(%error, "the last line was not printed");
    }
    Ok(if dead.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Parts that serve.
struct Begun {
    parts: Parts,
    /// Those that should be there and are not.
    dead: Vec<String>,
    /// Whether a signal came meanwhile.
    ends: bool,
}

/// Starts the parts, in the place of a process that serves if that is asked for.
async fn begin(
    config: &Config,
    plans: Plans,
    folder: &DataFolder,
    take_over: bool,
    signals: &mut Signals,
) -> Result<Begun, Failure> {
    let taking = if take_over { handover::take(folder, config.upgrade.timeout()).await? } else { None };
    let Some(taking) = taking else {
        if take_over {
            tracing::info!(
                "no gateway runs on the data folder, or none that hands over: this is a start like any other"
            );
        }
        let parts = parts::start(config, plans, folder)?;
        return Ok(Begun { parts, dead: Vec::new(), ends: false });
    };
    let (pid, version) = (taking.pid, taking.version.clone());
    tracing::info!(pid, version, sockets = taking.inherited.sockets.len(), "taking over");
    let mut half = parts::take_over(config, plans, folder, taking).await?;
    let completed = tokio::select! {
        completed = half.complete(config, folder) => Some(completed),
        () = signals.first(None, None) => None,
    };
    match completed {
        Some(Ok(dead)) => {
            tracing::info!(pid, version, "taken over");
            Ok(Begun { parts: half.parts, dead, ends: false })
        }
        Some(Err(failure)) => {
            parts::drain(half.parts).await;
            Err(failure)
        }
        None => Ok(Begun { parts: half.parts, dead: Vec::new(), ends: true }),
    }
}

/// Waits for a process that takes over, from here on. A gateway serves without it as well.
fn offer(parts: &Parts, config: &Config, folder: &DataFolder) -> Option<Giver> {
    let begin = || {
        let Some(goods) = parts::goods(parts, config)? else { return Ok(None) };
        Giver::start(folder, goods, config.upgrade.timeout(), Program::of_this_process()?).map(Some)
    };
    let begun: std::io::Result<_> = begin();
    begun.unwrap_or_else(|error| {
        tracing::warn!(%error, "there is no hand-over socket: an upgrade of this process needs a restart");
        None
    })
}

/// Waits for a signal, for the death of a part without which the process is of no use, or for a process that has taken
/// over, which is given then.
async fn stay(
    parts: &mut Parts,
    dead: &mut Vec<String>,
    signals: &mut Signals,
    reloads: Option<&Reloads>,
    mut giver: Option<&mut Giver>,
) -> Option<Handed> {
    let alone = parts.gateway.is_none();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut remind = tokio::time::interval(REMIND_INTERVAL);
    let launcher = giver.as_ref().map(|giver| giver.launcher());
    loop {
        let died = tokio::select! {
            () = signals.first(reloads, launcher.as_ref()) => return None,
            handed = taken_over(&mut giver) => return Some(handed),
            thread = parts::gateway_ended(&mut parts.gateway) => {
                tracing::error!(thread, "the gateway has lost a thread: draining the others, then exit with 1");
                dead.push(format!("gateway ({thread})"));
                return None;
            }
            thread = parts::collector_ended(&mut parts.collector) => format!("collector ({thread})"),
            () = parts::analytics_ended(&mut parts.analytics) => "analytics".to_owned(),
            role = parts::cluster_ended(&mut parts.cluster) => role.to_owned(),
            _ = look.tick() => match &parts.gateway {
                Some((_, spool)) if !spool.is_kept() && !dead.iter().any(|part| part == "spool keeper") => {
                    "spool keeper".to_owned()
                }
                _ => continue,
            },
            _ = remind.tick() => {
                if !dead.is_empty() {
                    tracing::error!(dead = dead.join(", "), "the gateway goes on without a part: restart it soon");
                }
                continue;
            }
        };
        tracing::error!(part = died, "a part has died; the cause stands above");
        dead.push(died);
        if alone {
            return None;
        }
        tracing::error!(
            "requests are served as before; what is recorded waits in the spool, which is bounded"
        );
    }
}

async fn taken_over(giver: &mut Option<&mut Giver>) -> Handed {
    match giver {
        Some(giver) => giver.handed().await,
        None => std::future::pending().await,
    }
}

fn start_log(config: &LogConfig) -> Result<(), Failure> {
    use tracing_subscriber::EnvFilter;
    let level = std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty());
    let level = match level.as_deref().unwrap_or(&config.level) {
        // The crate has a line for each try of a request; what comes of them is said by those who ask.
        "info" => "info,object_store=warn",
        level => level,
    };
    let filter = EnvFilter::try_new(level).map_err(|error| Failure::part("cannot read RUST_LOG", error))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let installed = match config.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    installed.map_err(|error| Failure::part("cannot start the log", error))
}
