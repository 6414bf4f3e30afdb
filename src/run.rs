//! The one place where the parts are put together, and the one order in which they end.
//!
//! Up: crypto, log, data folder, spool, gateway, collector, analytics. Down: the gateway drains, the spool closes, the
//! collector stores what is left, the analytics stop; each hands over to the next before it goes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use event::layout::{DataFolder, LedgerRow};
use event::spool::Spool;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{PartArgs, RunArgs};
use crate::config::{self, Config, LogConfig, LogFormat, Plans, Role, Sources};
use crate::failure::Failure;
use crate::sources;

/// `run` and `proxy`.
pub fn gateway(args: &RunArgs, role: Role) -> Result<ExitCode, Failure> {
    if args.upstream.is_some() && args.config.is_some() {
        return Err(Failure::Usage("--upstream takes the place of a file: leave --config away".into()));
    }
    let (config, data) = (args.config.as_deref(), args.data.as_deref());
    run(sources::for_gateway(config, data, args.upstream.as_deref(), sources::variables())?, role)
}

/// `collector` and `analytics`.
pub fn part(args: &PartArgs, role: Role) -> Result<ExitCode, Failure> {
    run(sources::for_part(args.config.as_deref(), args.data.as_deref(), sources::variables())?, role)
}

fn run(sources: Sources, role: Role) -> Result<ExitCode, Failure> {
    let loaded = config::load::<Config>(sources)?;
    let plans = config::validate(&loaded, role)?;
    // Every TLS use in the process takes this provider; a second install cannot happen, there is one `run`.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(Failure::part("cannot set up TLS", "a crypto provider is already installed"));
    }
    start_log(&loaded.value.log)?;
    // This thread only waits for signals and drives the order; the parts have their own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tollhouse")
        .enable_all()
        .build()
        .map_err(|error| Failure::part("cannot start a runtime", error))?;
    runtime.block_on(live(&loaded.value, plans))
}

/// Starts the parts of the role, waits for a signal, and drains them.
async fn live(config: &Config, plans: Plans) -> Result<ExitCode, Failure> {
    // Before anything starts: a signal during the start must not kill half of it.
    let mut signals = Signals::new().map_err(|error| Failure::part("cannot listen for signals", error))?;
    let folder = DataFolder::open(&config.data).map_err(|error| {
        let reason = format!("{error}\nchoose a folder you may write with --data DIR or `data:`");
        Failure::part("cannot use the data folder", reason)
    })?;
    let parts = start(config, plans, &folder)?;
    announce(&parts).map_err(|error| Failure::part("cannot write to standard output", error))?;

    signals.first().await;
    tokio::spawn(async move {
        let code = signals.second().await;
        tracing::warn!("second signal: leaving at once; what is in the spool is stored by the next start");
        std::process::exit(code);
    });
    let books = drain(parts, config).await;
    for row in books {
        let balanced = row.produced + row.recovered == row.stored + row.dropped + row.in_flight;
        println!(
            "stopped: {} requests recorded, {} dropped, ledger {}",
            row.stored,
            row.dropped,
            if balanced && row.in_flight == 0 { "balanced" } else { "NOT balanced" }
        );
    }
    Ok(ExitCode::SUCCESS)
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

/// Starts the parts that have a plan, in the order of a request's journey. To be called on a runtime.
pub fn start(config: &Config, plans: Plans, folder: &DataFolder) -> Result<Parts, Failure> {
    let gateway = match plans.proxy {
        Some(plan) => {
            let opened = Spool::open(&config.spool, &folder.spool(), &config.node(), plan.threads());
            let (spool, writers) = opened.map_err(|error| Failure::part("cannot open the spool", error))?;
            let running = proxy::start(plan, writers)
                .map_err(|error| Failure::start("cannot start the gateway", &error))?;
            Some((running, spool))
        }
        None => None,
    };
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
    Ok(Parts { gateway, collector, analytics })
}

/// One line for each listener, for people and for scripts: a word, a blank, a URL. Those of the gateway
/// come in the order of `gateway.listen`; `ready` comes last.
fn announce(parts: &Parts) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for bound in parts.gateway.iter().flat_map(|(running, _)| &running.listeners) {
        let scheme = if bound.tls { "https" } else { "http" };
        writeln!(out, "gateway {scheme}://{}", bound.addr)?;
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
pub async fn drain(parts: Parts, config: &Config) -> Vec<LedgerRow> {
    if let Some((running, spool)) = parts.gateway {
        let report = running.drain(Duration::from_millis(config.gateway.timeouts.drain_timeout_ms)).await;
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

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The exit code that shells give a process killed by this signal.
    async fn second(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
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
