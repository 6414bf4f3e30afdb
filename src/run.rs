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

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use event::layout::{DataFolder, LedgerRow};
use event::spool::{Spool, Writer};

use crate::cli::{PartArgs, RunArgs};
use crate::config::{self, Config, Loaded, LogConfig, LogFormat, Plans, Role, Sources};
use crate::failure::Failure;
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
    let args = args.clone();
    let again: Again = Box::new(move || {
        let (config, data, kong) = (args.config.as_deref(), args.data.as_deref(), args.kong.as_deref());
        sources::for_gateway(config, data, args.upstream.as_deref(), kong, sources::variables()?)
    });
    run(again()?, role, Some(again))
}

/// `collector` and `analytics`.
pub fn part(args: &PartArgs, role: Role) -> Result<ExitCode, Failure> {
    run(sources::for_part(args.config.as_deref(), args.data.as_deref(), sources::variables()?)?, role, None)
}

fn run(sources: Sources, role: Role, again: Option<Again>) -> Result<ExitCode, Failure> {
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
    // This thread only waits for signals and drives the order; the parts have their own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tollhouse")
        .enable_all()
        .build()
        .map_err(|error| Failure::part("cannot start a runtime", error))?;
    runtime.block_on(live(&loaded, plans, role, again))
}

/// Starts the parts of the role, waits for a signal, and drains them.
async fn live(
    loaded: &Loaded<Config>,
    plans: Plans,
    role: Role,
    again: Option<Again>,
) -> Result<ExitCode, Failure> {
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
    let mut parts = start(config, plans, &folder)?;
    let reloads = match (&parts.gateway, again) {
        (Some((running, _)), Some(again)) => {
            let reloads = Reloads::start(running.reloader(), loaded, role, again, &folder, version);
            Some(reloads.map_err(|error| Failure::part("cannot start a thread", error))?)
        }
        _ => None,
    };
    announce(&parts).map_err(|error| Failure::part("cannot write to standard output", error))?;

    let whole = stay(&mut parts, &mut signals, reloads.as_ref()).await;
    tokio::spawn(async move {
        let code = signals.second().await;
        tracing::warn!("second signal: leaving at once; what is in the spool is stored by the next start");
        std::process::exit(code);
    });
    let books = drain(parts).await;
    if let Err(error) = account(&books) {
        tracing::warn!(%error, "the last books were not printed");
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for a signal or for the death of a part without which the process is of no use. Says whether all parts live.
async fn stay(parts: &mut Parts, signals: &mut Signals, reloads: Option<&Reloads>) -> bool {
    let alone = parts.gateway.is_none();
    let mut dead: Vec<String> = Vec::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut remind = tokio::time::interval(REMIND_INTERVAL);
    loop {
        let died = tokio::select! {
            () = signals.first(reloads) => return dead.is_empty(),
            thread = gateway_ended(&mut parts.gateway) => {
                tracing::error!(thread, "the gateway has lost a thread: draining the others, then exit with 1");
                return false;
            }
            thread = collector_ended(&mut parts.collector) => format!("collector ({thread})"),
            () = analytics_ended(&mut parts.analytics) => "analytics".to_owned(),
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
        if alone {
            return false;
        }
        tracing::error!(
            "requests are served as before; what is recorded waits in the spool, which is bounded"
        );
        dead.push(died);
    }
}

/// Ready with the name of a thread of the gateway that has ended; never, when there is no gateway.
async fn gateway_ended(gateway: &mut Option<(proxy::Running, Spool)>) -> String {
    match gateway {
        Some((running, _)) => running.ended().await,
        None => std::future::pending().await,
    }
}

async fn collector_ended(collector: &mut Option<collector::Running>) -> &'static str {
    match collector {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

async fn analytics_ended(analytics: &mut Option<analytics::Running>) {
    match analytics {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

/// The last line of a process that ran a collector.
fn account(books: &[LedgerRow]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for row in books {
        writeln!(
            out,
            "stopped: {} requests recorded, {} dropped, ledger {}",
            row.stored,
            row.dropped,
            if row.balances() && row.in_flight == 0 { "balanced" } else { "NOT balanced" }
        )?;
    }
    out.flush()
}

/// The parts that run.
pub struct Parts {
    /// The gateway and the spool it records into.
    pub gateway: Option<(proxy::Running, Spool)>,
    /// The collector.
    pub collector: Option<collector::Running>,
    /// The analytics.
    pub analytics: Option<analytics::Running>,
}

/// Starts the parts that have a plan: the spool, which holds the folder's lock, then what reads it, then the gateway.
/// To be called on a runtime.
pub fn start(config: &Config, plans: Plans, folder: &DataFolder) -> Result<Parts, Failure> {
    let open = |plan: proxy::Plan| -> Result<(proxy::Plan, Spool, Vec<Writer>), Failure> {
        let opened = Spool::open(&config.spool, &folder.spool(), &config.node(), plan.threads());
        let (spool, writers) = opened.map_err(|error| Failure::part("cannot open the spool", error))?;
        Ok((plan, spool, writers))
    };
    let spool = plans.proxy.map(open).transpose()?;
    let collector = plans
        .collector
        .map(|plan| {
            collector::start(plan, folder)
                .map_err(|error| Failure::start("cannot start the collector", &error))
        })
        .transpose()?;
    let analytics = plans
        .analytics
        .map(|plan| {
            analytics::start(plan, folder)
                .map_err(|error| Failure::start("cannot start the analytics", &error))
        })
        .transpose()?;
    let gateway = spool
        .map(|(plan, spool, writers)| {
            let begin = || {
                let mut running = proxy::start(plan, writers)?;
                running.show_upstreams(folder, &config.node())?;
                Ok((running, spool))
            };
            begin().map_err(|error: proxy::StartError| Failure::start("cannot start the gateway", &error))
        })
        .transpose()?;
    Ok(Parts { gateway, collector, analytics })
}

/// One line for each listener, for people and for scripts: a word, a blank, a URL. Those of the gateway
/// come in the order of `gateway.listen`, those of streams (`stream`) in that of `gateway.stream_listen`; `ready` comes
/// last.
fn announce(parts: &Parts) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for bound in parts.gateway.iter().flat_map(|(running, _)| &running.listeners) {
        let (word, scheme) = match (bound.stream, bound.tls) {
            (false, false) => ("gateway", "http"),
            (false, true) => ("gateway", "https"),
            (true, false) => ("stream", "tcp"),
            (true, true) => ("stream", "tls"),
        };
        writeln!(out, "{word} {scheme}://{}", bound.addr)?;
    }
    if let Some(running) = &parts.collector {
        writeln!(out, "metrics http://{}/metrics", running.metrics_addr)?;
    }
    if let Some(running) = &parts.analytics {
        writeln!(out, "sql http://{}/sql", running.addr)?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

/// Ends the parts in the order of a request's journey; the books at the end come from the collector.
pub async fn drain(parts: Parts) -> Vec<LedgerRow> {
    if let Some((running, spool)) = parts.gateway {
        let grace = running.reloader().drain_timeout();
        let report = running.drain(grace).await;
        if report.requests_cut > 0 {
            tracing::warn!(
                requests = report.requests_cut,
                "cut: they did not end within gateway.timeouts.drain_timeout_ms"
            );
        }
        spool.close();
    }
    let mut books = Vec::new();
    if let Some(running) = parts.collector {
        let report = running.shutdown().await;
        if !report.drained {
            tracing::warn!("not all of the spool was stored in time; the next start stores the rest");
        }
        books = report.ledger.into_iter().filter(|row| row.sink == "parquet").collect();
    }
    if let Some(running) = parts.analytics {
        running.shutdown().await;
    }
    books
}

fn start_log(config: &LogConfig) -> Result<(), Failure> {
    use tracing_subscriber::EnvFilter;
    let level = std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty());
    let filter = EnvFilter::try_new(level.as_deref().unwrap_or(&config.level))
        .map_err(|error| Failure::part("cannot read RUST_LOG", error))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let installed = match config.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    installed.map_err(|error| Failure::part("cannot start the log", error))
}
