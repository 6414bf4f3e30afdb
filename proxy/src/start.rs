//! Starts the threads, and ends them: bind, run, drain, cut.

use crate::accept::{self, ConnectionCounts, Doors};
use crate::core::{Core, Phase, Sockets};
use crate::plan::Plan;
use crate::reload::{InForce, Reloader, TURNS_MAX, Turn};
use crate::sockets::{OpenSocket, bind_all};
use crate::upstream::{self, Publisher, Upstreams};
use event::layout::DataFolder;
use event::spool::Writer;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How long a thread may take to end once everything was cut.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// A listener, bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Its name in the configuration.
    pub name: String,
    /// The address, with the port that was taken for port 0.
    pub addr: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it takes streams rather than requests.
    pub stream: bool,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// Requests that were still under way when the grace was over. Their events say so.
    pub requests_cut: u64,
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("cannot listen on {addr} ({name}): {source}")]
    Bind {
        /// The listener.
        name: String,
        /// Its address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or its runtime cannot be had.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Nothing to record with.
    #[error("no spool writer: the proxy runs one thread for each")]
    NoWriters,
}

/// A running proxy. Dropped without a drain, it is cut.
#[derive(Debug)]
pub struct Running {
    /// The listeners.
    pub listeners: Vec<Bound>,
    in_force: Reloader,
    doors: Arc<Doors>,
    threads: Vec<Thread>,
    /// Shows the upstreams' state, once it was asked for.
    publisher: Option<Publisher>,
    /// Dropped without a drain, it is cut.
    _cut: CutOnDrop,
}

/// Tells the threads to end, and lets go of their sockets with them.
#[derive(Debug)]
struct CutOnDrop {
    phase: watch::Sender<Phase>,
    in_force: Option<Reloader>,
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.in_force.take().into_iter().for_each(|in_force| drop(in_force.lock().close(Phase::Cut)));
        self.phase.send_replace(Phase::Cut);
    }
}

#[derive(Debug)]
struct Thread {
    name: String,
    /// `None` once it has ended before its time.
    done: Option<oneshot::Receiver<u64>>,
    handle: std::thread::JoinHandle<()>,
}

/// Runs a plan, one thread per writer.
///
/// # Errors
/// An address that cannot be bound, or a thread that cannot be started; nothing runs then.
pub fn start(plan: Plan, writers: Vec<Writer>) -> Result<Running, StartError> {
    let running = take_over(plan, writers, Vec::new())?;
    running.open();
    Ok(running)
}

/// The same with the sockets that another process listens on: a listener of the plan takes those of its address, and
/// binds only what it needs besides. What no listener wants is closed here. No connection is taken in before
/// [`Running::open`].
///
/// # Errors
/// As of [`start`].
pub fn take_over(
    plan: Plan,
    writers: Vec<Writer>,
    mut inherited: Vec<OpenSocket>,
) -> Result<Running, StartError> {
    if writers.is_empty() {
        return Err(StartError::NoWriters);
    }
    if !plan.streams.routes.is_empty() && plan.listeners.iter().all(|listen| listen.streams.is_none()) {
        tracing::warn!("there are routes of streams, but no gateway.stream_listen to take any in");
    }
    let mut sockets: Vec<Sockets> = writers.iter().map(|_| Vec::new()).collect();
    let (mut listeners, mut open) = (Vec::new(), Vec::new());
    for (at, listen) in plan.listeners.iter().enumerate() {
        let own = inherited.extract_if(.., |socket| socket.serves(listen)).map(|own| own.socket);
        listeners.push(bind_all(at, listen, own.collect(), &mut sockets, &mut open)?);
    }
    for left in inherited {
        tracing::info!(name = left.name, "a listener of the process before is no more");
    }
    let plan = Arc::new(plan);
    let upstreams = Upstreams::new(Arc::clone(&plan));
    let doors = Arc::new(Doors::default());
    let (phase, _) = watch::channel(Phase::Opening);
    let mut cut = CutOnDrop { phase: phase.clone(), in_force: None };
    let keeper = upstream::start(&upstreams, phase.subscribe()).map_err(StartError::Thread)?;
    let (mut threads, mut all_turns) = (Vec::new(), Vec::new());
    for (index, (writer, sockets)) in writers.into_iter().zip(sockets).enumerate() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (plan, upstreams, phase) = (Arc::clone(&plan), Arc::clone(&upstreams), phase.subscribe());
        let doors = Arc::clone(&doors);
        let (report, done) = oneshot::channel();
        let (sender, turns) = mpsc::channel(TURNS_MAX);
        all_turns.push(sender);
        let name = format!("proxy-{}", writer.core());
        let handle = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                let core = Core::new(plan, upstreams, doors, writer);
                let cut = local.block_on(&runtime, run(core, sockets, phase, Turns { index, turns }));
                // What is left is dropped here, and recorded.
                drop(local);
                drop(runtime);
                // Nobody asks when the proxy was dropped without a drain.
                let _asked = report.send(cut);
            })
            .map_err(StartError::Thread)?;
        threads.push(Thread { name, done: Some(done), handle });
    }
    let in_force = InForce { plan, upstreams, keeper, turns: all_turns, phase, open, past: Vec::new() };
    let in_force = Reloader(Arc::new(Mutex::new(in_force)));
    cut.in_force = Some(in_force.clone());
    Ok(Running { listeners, in_force, doors, threads, publisher: None, _cut: cut })
}

/// Where a thread hears of new plans, and which one it is.
struct Turns {
    index: usize,
    turns: mpsc::Receiver<Arc<Turn>>,
}

/// Takes connections in. Says whether it can.
fn listen(core: &Rc<Core>, sockets: Sockets, tasks: &mut tokio::task::JoinSet<()>) -> bool {
    for (listener, socket) in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                tasks.spawn_local(accept::accept(Rc::clone(core), listener, socket));
            }
            Err(error) => {
                tracing::error!(%error, "cannot listen");
                return false;
            }
        }
    }
    true
}

/// The life of one thread. Says how many requests were cut.
async fn run(
    mut core: Rc<Core>,
    sockets: Sockets,
    mut phase: watch::Receiver<Phase>,
    mut turns: Turns,
) -> u64 {
    let mut tasks = tokio::task::JoinSet::new();
    let mut doors = tokio::task::JoinSet::new();
    tasks.spawn_local(Rc::clone(&core.clock).run());
    // Without a sender there is nobody to serve for.
    let opened = phase.wait_for(|phase| *phase != Phase::Opening).await.map_or(Phase::Cut, |phase| *phase);
    core.phase.set(opened);
    if opened == Phase::Cut || !listen(&core, sockets, &mut doors) {
        core.end();
        return 0;
    }
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    let mut cut = 0;
    loop {
        tokio::select! {
            changed = phase.changed() => {
                let next = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Cut };
                core.phase.set(next);
                if next == Phase::Cut {
                    cut = core.exchanges.get() as u64;
                }
                core.clock.wake_all();
                if next == Phase::Cut {
                    break;
                }
            }
            Some(turn) = turns.turns.recv() => {
                core = core.renew(Arc::clone(&turn.plan), Arc::clone(&turn.upstreams));
                // Who waits for long lets go of the plan of before.
                core.clock.wake_all();
                // A failure is in the log; the listeners of before go on.
                let _listening = listen(&core, turn.sockets(turns.index), &mut doors);
                turn.done();
            }
            // An accept loop ends by itself when a reload took its listener away.
            Some(Err(error)) = doors.join_next(), if core.phase.get() == Phase::Serving => {
                tracing::error!(%error, "a listener has ended");
                cut = core.exchanges.get() as u64;
                break;
            }
            ended = tasks.join_next(), if core.phase.get() == Phase::Serving => {
                // The clock does not end while the thread serves.
                let error = ended.and_then(Result::err);
                tracing::error!(?error, "a task that the thread cannot do without has ended");
                cut = core.exchanges.get() as u64;
                break;
            }
            _ = sweep.tick() => core.balance.sweep(&core),
            () = tokio::time::sleep(Duration::from_millis(5)), if core.phase.get() != Phase::Serving => {
                if core.connections.get() == 0 && core.exchanges.get() == 0 {
                    break;
                }
            }
        }
    }
    tasks.abort_all();
    doors.abort_all();
    core.end();
    for _ in 0..100 {
        if core.connections.get() == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    cut
}

impl Running {
    /// Takes connections in from now on.
    pub fn open(&self) {
        let phase = self.in_force.lock().phase.clone();
        phase.send_if_modified(|phase| {
            let opens = *phase == Phase::Opening;
            *phase = if opens { Phase::Serving } else { *phase };
            opens
        });
    }

    /// What became of client connections so far.
    pub fn connections(&self) -> ConnectionCounts {
        self.doors.counts()
    }

    /// What puts further plans in force.
    pub fn reloader(&self) -> Reloader {
        self.in_force.clone()
    }

    /// Leaves a picture of the upstreams' state and the counts of client connections in a data folder from now on, every
    /// `gateway.upstream_states.interval_ms`, under the node's name.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn show_upstreams(&mut self, folder: &DataFolder, node: &str) -> Result<(), StartError> {
        let (in_force, doors) = (self.in_force.clone(), Arc::clone(&self.doors));
        let newest = move || Arc::clone(&in_force.lock().upstreams);
        let publisher = Publisher::start(newest, doors, folder.clone(), node.to_owned());
        self.publisher = Some(publisher.map_err(StartError::Thread)?);
        Ok(())
    }

    /// Ready with a thread's name when that thread has ended before any drain: its connections are gone, and their
    /// share of new ones is not taken any more.
    pub async fn ended(&mut self) -> String {
        std::future::poll_fn(|cx| {
            for thread in &mut self.threads {
                if let Some(done) = &mut thread.done
                    && Pin::new(done).poll(cx).is_ready()
                {
                    thread.done = None;
                    return Poll::Ready(thread.name.clone());
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Ends the pictures of upstreams and connections, with a last one: another process shows its own.
    pub fn hide_upstreams(&mut self) {
        self.publisher.take().into_iter().for_each(Publisher::end);
    }

    /// Takes no more connections, lets requests finish for `grace`, then cuts what is left.
    pub async fn drain(self, grace: Duration) -> DrainReport {
        let phase = self.in_force.lock().close(Phase::Draining);
        self.end(&phase, tokio::time::Instant::now() + grace).await
    }

    /// Takes no more connections, since another process does on the same sockets. Those that are here may ask once more
    /// within `patience`, and are answered as the last time; what is under way may finish for `grace`, then it is cut.
    pub async fn hand_over(self, patience: Duration, grace: Duration) -> DrainReport {
        let phase = self.in_force.lock().close(Phase::HandedOver);
        let deadline = tokio::time::Instant::now() + grace;
        let late = phase.clone();
        let lose_patience = async {
            tokio::time::sleep(patience.min(grace)).await;
            late.send_if_modified(|phase| {
                let waits = *phase == Phase::HandedOver;
                *phase = if waits { Phase::Draining } else { *phase };
                waits
            });
            std::future::pending::<DrainReport>().await
        };
        tokio::select! {
            report = self.end(&phase, deadline) => report,
            report = lose_patience => report,
        }
    }

    async fn end(self, phase: &watch::Sender<Phase>, deadline: tokio::time::Instant) -> DrainReport {
        let mut report = DrainReport::default();
        let mut late = Vec::new();
        for thread in self.threads {
            let Some(mut done) = thread.done else {
                join(thread.handle);
                continue;
            };
            match tokio::time::timeout_at(deadline, &mut done).await {
                Ok(cut) => {
                    report.requests_cut += cut.unwrap_or(0);
                    join(thread.handle);
                }
                Err(_) => late.push((done, thread.handle)),
            }
        }
        phase.send_replace(Phase::Cut);
        for (done, handle) in late {
            if let Ok(cut) = tokio::time::timeout(CUT_GRACE, done).await {
                report.requests_cut += cut.unwrap_or(0);
                join(handle);
            }
        }
        let keeper = self.in_force.lock().keeper.take();
        keeper.into_iter().for_each(|keeper| join(keeper.into_thread()));
        self.publisher.into_iter().for_each(Publisher::end);
        report
    }
}

/// A thread that has reported ends at once.
fn join(handle: std::thread::JoinHandle<()>) {
    if handle.join().is_err() {
        tracing::error!("a proxy thread panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(bodies: Vec<fn(watch::Receiver<Phase>) -> u64>) -> Running {
        let (phase, _) = watch::channel(Phase::Serving);
        let threads = bodies.into_iter().enumerate().map(|(core, body)| {
            let (report, done) = oneshot::channel();
            let phase = phase.subscribe();
            let handle = std::thread::spawn(move || {
                let cut = body(phase);
                report.send(cut).unwrap();
            });
            Thread { name: format!("proxy-{core}"), done: Some(done), handle }
        });
        let threads = threads.collect();
        let plan = Arc::new(crate::validate(&Default::default(), &Default::default()).unwrap());
        let upstreams = Upstreams::new(Arc::clone(&plan));
        let cut = CutOnDrop { phase: phase.clone(), in_force: None };
        let (turns, open, past) = (Vec::new(), Vec::new(), Vec::new());
        let in_force = InForce { plan, upstreams, keeper: None, turns, phase, open, past };
        let in_force = Reloader(Arc::new(Mutex::new(in_force)));
        let doors = Arc::default();
        Running { listeners: Vec::new(), in_force, doors, threads, publisher: None, _cut: cut }
    }

    fn serve(mut phase: watch::Receiver<Phase>) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(phase.wait_for(|phase| *phase == Phase::Draining)).unwrap();
        2
    }

    #[tokio::test]
    async fn a_thread_that_dies_is_named_and_the_others_still_drain() {
        let mut running = running(vec![serve, |_| panic!("as a bug would")]);
        assert_eq!(running.ended().await, "proxy-1");
        let again = tokio::time::timeout(Duration::from_millis(20), running.ended()).await;
        assert!(again.is_err(), "a dead thread is named once, a living one never");
        assert_eq!(running.drain(Duration::from_secs(10)).await, DrainReport { requests_cut: 2 });
    }
}
