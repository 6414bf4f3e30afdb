//! The parts of a process: what is started in which order, alone or in the place of another process, and in which order
//! it ends.
//!
//! Up: spool, collector, analytics, gateway; a request is taken once all that stands behind it does. Down, in the order of
//! a request's journey: the gateway drains, the spool closes, the collector stores what is left, the analytics stop; each
//! hands over to the next before it goes. Where another process goes on, its gateway takes connections in first, then
//! its collector follows ours.

use std::io::Write;
use std::time::Duration;

use event::layout::{DataFolder, LedgerRow};
use event::spool::{Spool, Writer};

use crate::config::{ClusterRole, Config, Plans};
use crate::failure::Failure;
use crate::handover::{Goods, Handed, Inherited, TakeError, Taking};

/// The last line of a process.
pub fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
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
    /// A part of a cluster.
    pub cluster: Option<analytics::cluster::Member>,
}

/// Starts the parts that have a plan: the spool, which holds the folder's lock, then what reads it, then the gateway.
/// To be called on a runtime.
pub fn start(config: &Config, plans: Plans, folder: &DataFolder) -> Result<Parts, Failure> {
    let spool =
        plans.proxy.map(|plan| open_spool(config, plan, folder, &mut Inherited::default())).transpose()?;
    let start = |plan| start_collector(plan, folder, &mut Inherited::default());
    let collector = plans.collector.map(start).transpose()?;
    let start = |plan| start_analytics(plan, folder, &mut Inherited::default());
    let analytics = plans.analytics.map(start).transpose()?;
    let mut gateway = spool.map(|opened| start_gateway(opened, Vec::new())).transpose()?;
    if let Some((running, _)) = &mut gateway {
        running.open();
        show(running, config, folder)?;
    }
    let cluster = plans.cluster.map(|role| start_cluster(&role, folder)).transpose()?;
    Ok(Parts { gateway, collector, analytics, cluster })
}

/// Parts that serve in the place of another process, which still has what is to be taken over last.
pub struct Half {
    /// All but the collector, if that process collects.
    pub parts: Parts,
    collector: Option<collector::Plan>,
    taking: Taking,
}

/// The first half of a start in the place of a process that serves: all but what only one process may do. Connections are
/// taken in from here on.
pub async fn take_over(
    config: &Config,
    plans: Plans,
    folder: &DataFolder,
    mut taking: Taking,
) -> Result<Half, Failure> {
    let started = start_half(config, plans, folder, &mut taking.inherited);
    let (parts, collector) = match started {
        Ok(started) => started,
        Err(failure) => {
            taking.failed(&failure).await;
            return Err(failure);
        }
    };
    if let Err(error) = taking.ready().await {
        // No connection was taken in: what was begun can simply go.
        let failure = Failure::part("cannot take over", format!("process {}: {error}", taking.pid));
        taking.failed(&failure).await;
        end(parts).await;
        return Err(failure);
    }
    if let Some((running, _)) = &parts.gateway {
        running.open();
    }
    Ok(Half { parts, collector, taking })
}

fn start_half(
    config: &Config,
    mut plans: Plans,
    folder: &DataFolder,
    inherited: &mut Inherited,
) -> Result<(Parts, Option<collector::Plan>), Failure> {
    let spool = plans.proxy.map(|plan| open_spool(config, plan, folder, inherited)).transpose()?;
    // Where the other process does not collect, there is nothing to wait for.
    let now = if inherited.collector_lock.is_none() { plans.collector.take() } else { None };
    let collector = now.map(|plan| start_collector(plan, folder, inherited)).transpose()?;
    let analytics = plans.analytics.map(|plan| start_analytics(plan, folder, inherited)).transpose()?;
    let sockets = std::mem::take(&mut inherited.sockets);
    let gateway = spool.map(|opened| start_gateway(opened, sockets)).transpose()?;
    Ok((Parts { gateway, collector, analytics, cluster: None }, plans.collector))
}

impl Half {
    /// The second half: waits until the other process has let go, and starts what it did so far. Says which parts did not
    /// start: the gateway serves without them.
    ///
    /// # Errors
    /// When the other process serves on: this one is to end.
    pub async fn complete(&mut self, config: &Config, folder: &DataFolder) -> Result<Vec<String>, Failure> {
        let most = Duration::from_millis(config.collector.drain_timeout_ms.into()) + config.upgrade.timeout();
        let mut failed = Vec::new();
        let released = match self.taking.serving(most).await {
            Ok(()) => true,
            Err(error @ TakeError::ServesOn) => {
                let reason = format!("process {}: {error}", self.taking.pid);
                return Err(Failure::part("cannot take over", reason));
            }
            Err(error) => {
                tracing::error!(pid = self.taking.pid, %error, "the process before has not let go");
                false
            }
        };
        if let Some(plan) = self.collector.take() {
            let start = || start_collector(plan, folder, &mut self.taking.inherited);
            match released.then(start).transpose() {
                Ok(collector) => self.parts.collector = collector,
                Err(failure) => tracing::error!("{failure}"),
            }
            if self.parts.collector.is_none() {
                failed.push("collector".to_owned());
            }
        }
        if let Some((running, _)) = &mut self.parts.gateway {
            show(running, config, folder)?;
        }
        Ok(failed)
    }
}

fn open_spool(
    config: &Config,
    plan: proxy::Plan,
    folder: &DataFolder,
    inherited: &mut Inherited,
) -> Result<(proxy::Plan, Spool, Vec<Writer>), Failure> {
    let (path, node, threads) = (folder.spool(), config.node(), plan.threads());
    let opened = match inherited.spool_lock.take() {
        Some(lock) => Spool::take_over(&config.spool, &path, &node, threads, lock),
        None => Spool::open(&config.spool, &path, &node, threads),
    };
    let (spool, writers) = opened.map_err(|error| Failure::part("cannot open the spool", error))?;
    Ok((plan, spool, writers))
}

fn start_collector(
    plan: collector::Plan,
    folder: &DataFolder,
    inherited: &mut Inherited,
) -> Result<collector::Running, Failure> {
    let listener = inherited.metrics(plan.listen());
    let from = collector::Handover { lock: inherited.collector_lock.take(), listener };
    let started = collector::take_over(plan, folder, from);
    started.map_err(|error| Failure::start("cannot start the collector", &error))
}

fn start_analytics(
    plan: analytics::Plan,
    folder: &DataFolder,
    inherited: &mut Inherited,
) -> Result<analytics::Running, Failure> {
    let listeners = analytics::Listeners {
        http: inherited.sql(plan.listen()),
        postgres: plan.listen_postgres().and_then(|wanted| inherited.postgres(wanted)),
        flight: plan.listen_flight().and_then(|wanted| inherited.flight(wanted)),
    };
    let started = analytics::start_on(listeners, plan, folder);
    started.map_err(|error| Failure::start("cannot start the analytics", &error))
}

fn start_cluster(role: &ClusterRole, folder: &DataFolder) -> Result<analytics::cluster::Member, Failure> {
    let (doing, started) = match role {
        ClusterRole::Scheduler(plan) => {
            ("cannot start the scheduler", analytics::cluster::start_scheduler(plan))
        }
        ClusterRole::Executor(plan, bucket) => {
            ("cannot start the executor", analytics::cluster::start_executor(plan, bucket, folder))
        }
    };
    started.map_err(|error| Failure::start(doing, &error))
}

/// Starts the gateway, without a connection yet.
fn start_gateway(
    (plan, spool, writers): (proxy::Plan, Spool, Vec<Writer>),
    sockets: Vec<proxy::OpenSocket>,
) -> Result<(proxy::Running, Spool), Failure> {
    let running = proxy::take_over(plan, writers, sockets);
    let running = running.map_err(|error| Failure::start("cannot start the gateway", &error))?;
    Ok((running, spool))
}

/// From now on the state of this gateway is what the folder shows.
fn show(running: &mut proxy::Running, config: &Config, folder: &DataFolder) -> Result<(), Failure> {
    let shown = running.show_upstreams(folder, &config.node());
    shown.map_err(|error| Failure::start("cannot start the gateway", &error))
}

/// Ends parts that have not served.
async fn end(parts: Parts) {
    drop(parts.gateway);
    drop(parts.collector);
    drop(parts.analytics);
}

/// What another process needs to go on in the place of these parts.
///
/// # Errors
/// When the system gives no further descriptors.
pub fn goods(parts: &Parts, config: &Config) -> std::io::Result<Option<Goods>> {
    let Some((running, spool)) = &parts.gateway else { return Ok(None) };
    let mut goods = Goods::new(running.reloader());
    if let Some(lock) = spool.lock()? {
        goods.add_spool_lock(lock);
    }
    if let Some(collector) = &parts.collector {
        goods.add_collector(collector.handover()?, config.collector.metrics.listen);
    }
    if let (Some(analytics), Ok(address)) = (&parts.analytics, config.analytics.listen.parse()) {
        goods.add_sql(analytics.listener()?, address);
        if let (Some(listener), Some(address)) =
            (analytics.postgres_listener()?, config.analytics.postgres.listen)
        {
            goods.add_postgres(listener, address);
        }
        if let (Some(listener), Some(address)) =
            (analytics.flight_listener()?, config.analytics.flight.listen)
        {
            goods.add_flight(listener, address);
        }
    }
    Ok(Some(goods))
}

/// Ends the parts behind another process that serves: it takes the connections, and what is here may end.
pub async fn retire(parts: Parts, handed: Handed, patience: Duration) {
    let Parts { gateway, collector, analytics, .. } = parts;
    let Some((mut running, mut spool)) = gateway else { return };
    running.hide_upstreams();
    spool.hand_over();
    let grace = running.reloader().drain_timeout();
    let answering = running.hand_over(patience, grace);
    let behind = async {
        if let Some(running) = collector {
            running.leave().await;
        }
        handed.released().await;
        if let Some(running) = analytics {
            running.shutdown().await;
        }
    };
    let (report, ()) = tokio::join!(answering, behind);
    warn_of_cut(report);
    spool.close();
}

fn warn_of_cut(report: proxy::DrainReport) {
    if report.requests_cut > 0 {
        tracing::warn!(
            requests = report.requests_cut,
            "cut: they did not end within gateway.timeouts.drain_timeout_ms"
        );
    }
}

/// Ready with the name of a thread of the gateway that has ended; never, when there is no gateway.
pub async fn gateway_ended(gateway: &mut Option<(proxy::Running, Spool)>) -> String {
    match gateway {
        Some((running, _)) => running.ended().await,
        None => std::future::pending().await,
    }
}

pub async fn collector_ended(collector: &mut Option<collector::Running>) -> &'static str {
    match collector {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

pub async fn analytics_ended(analytics: &mut Option<analytics::Running>) {
    match analytics {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

pub async fn cluster_ended(cluster: &mut Option<analytics::cluster::Member>) -> &'static str {
    match cluster {
        Some(running) => {
            running.ended().await;
            running.role
        }
        None => std::future::pending().await,
    }
}

/// One line for each listener, for people and for scripts: a word, a blank, a URL. Those of the gateway
/// come in the order of `gateway.listen`, those of streams (`stream`) in that of `gateway.stream_listen`; `ready` comes
/// last.
pub fn announce(parts: &Parts) -> std::io::Result<()> {
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
        if let Some(addr) = running.receive_addr {
            writeln!(out, "receive grpc://{addr}")?;
        }
    }
    if let Some(running) = &parts.analytics {
        writeln!(out, "console http://{}/", running.addr)?;
        writeln!(out, "sql http://{}/sql", running.addr)?;
        if let Some(addr) = running.postgres_addr {
            writeln!(out, "postgres postgresql://{addr}/tollhouse")?;
        }
        if let Some(addr) = running.flight_addr {
            writeln!(out, "flight grpc://{addr}")?;
        }
    }
    if let Some(running) = &parts.cluster {
        writeln!(out, "{} grpc://{}", running.role, running.addr)?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

/// Ends the parts in the order of a request's journey; the books at the end come from the collector.
pub async fn drain(parts: Parts) -> Vec<LedgerRow> {
    if let Some((running, spool)) = parts.gateway {
        let grace = running.reloader().drain_timeout();
        warn_of_cut(running.drain(grace).await);
        spool.close();
    }
    let mut books = Vec::new();
    if let Some(running) = parts.collector {
        let report = running.shutdown().await;
        if !report.drained {
            tracing::warn!("not all of the spool was stored in time; the next start stores the rest");
        }
        books =
            report.ledger.into_iter().filter(|row| ["parquet", "forward"].contains(&&*row.sink)).collect();
    }
    if let Some(running) = parts.analytics {
        running.shutdown().await;
    }
    if let Some(running) = parts.cluster {
        running.shutdown().await;
    }
    books
}

/// The last line of a process that ran a collector.
pub fn account(books: &[LedgerRow]) -> std::io::Result<()> {
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
