//! Reads the configuration again when a file of it changes or SIGHUP asks for it, and puts it in force if it is right.
//!
//! A thread of its own, at low priority: what a large file costs is not taken from requests. How it went stands in the
//! log, in the state of the data folder, and from there in the metrics.

mod watch;

mod differ;

pub mod in_force;

mod ask;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event::configuration::Configuration;
use event::layout::DataFolder;
use proxy::{Reloaded, Reloader};
use serde_json::Value;

use crate::config::{self, Config, Loaded, Role, Sources};
use crate::failure::Failure;
pub use ask::ask;
use watch::Watch;

/// What the system says of names, which counts for the gateway as if it named them.
const SYSTEM_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];
/// A file that has changed is read once it stays the same for so long: whoever writes it may not be done.
const SETTLE: Duration = Duration::from_millis(50);
/// Longest wait for that.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// How often plans of before are freed where no file is watched.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Niceness of the thread: beside a thread of requests that never rests it still gets a quarter of a processor, so that a
/// large file is in force within a second on a gateway that is at its limit too.
const NICENESS: libc::c_int = 5;

/// Finds out anew what the configuration is read from.
pub type Again = Box<dyn Fn() -> Result<Sources, Failure> + Send>;

/// The thread. It ends when this is dropped.
pub struct Reloads {
    asks: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reloads {
    /// Starts to watch the configuration that a gateway runs with.
    pub fn start(
        reloader: Reloader,
        loaded: &Loaded<Config>,
        role: Role,
        again: Again,
        folder: &DataFolder,
        version: u64,
    ) -> std::io::Result<Self> {
        let (asks, asked) = sync_channel(1);
        let mut watch = Watch::default();
        watch.set(files(loaded));
        let state = Configuration {
            pid: std::process::id(),
            successful: true,
            at_us: now_us(),
            success_at_us: now_us(),
            version,
            ..Configuration::default()
        };
        let mut work = Work {
            reloader,
            role,
            again,
            folder: folder.clone(),
            watch,
            interval: interval(&loaded.value),
            fixed: differ::fixed(&loaded.value),
            state,
        };
        work.store();
        in_force::note(folder, loaded, version, work.state.success_at_us);
        let body = move || {
            // SAFETY: setpriority takes plain numbers; on Linux, PRIO_PROCESS with 0 means the calling thread.
            if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
                tracing::warn!("the thread that reloads keeps its priority");
            }
            work.run(&asked);
        };
        let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(body)?;
        Ok(Self { asks: Some(asks), thread: Some(thread) })
    }

    /// Asks for a reload. One that is asked for already will do.
    pub fn ask(&self) {
        if let Some(asks) = &self.asks {
            let _asked_already = asks.try_send(());
        }
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that reloads panicked");
        }
    }
}

struct Work {
    reloader: Reloader,
    role: Role,
    again: Again,
    folder: DataFolder,
    watch: Watch,
    /// None when only SIGHUP reloads.
    interval: Option<Duration>,
    /// The settings of the start that no reload changes.
    fixed: Value,
    state: Configuration,
}

impl Work {
    fn run(&mut self, asked: &Receiver<()>) {
        loop {
            match asked.recv_timeout(self.interval.unwrap_or(TIDY_INTERVAL)) {
                Ok(()) => self.reload("SIGHUP"),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.reloader.tidy();
                    if self.interval.is_some() && self.watch.look() {
                        self.reload("a file has changed");
                    }
                }
            }
        }
    }

    /// Reads and checks the configuration, and puts it in force or leaves the one of before.
    fn reload(&mut self, why: &str) {
        let begun = Instant::now();
        loop {
            std::thread::sleep(SETTLE);
            if !self.watch.look() || begun.elapsed() > SETTLE_MAX {
                break;
            }
        }
        self.state.attempts += 1;
        self.state.at_us = now_us();
        match self.attempt() {
            Ok((version, reloaded)) => {
                let version_text = format!("{version:016x}");
                let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(why, version = version_text, took_ms, "the configuration was reloaded");
                for bound in reloaded.opened {
                    tracing::info!(name = bound.name, addr = %bound.addr, tls = bound.tls, "listening");
                }
                for name in reloaded.closed {
                    tracing::info!(name, "no longer listening");
                }
                if reloaded.late > 0 {
                    tracing::error!(
                        threads = reloaded.late,
                        "threads have not taken the configuration over yet"
                    );
                }
                self.state.successful = true;
                self.state.problems.clear();
            }
            Err(failure) => {
                self.state.successful = false;
                self.state.problems = problems(&failure);
                for problem in &self.state.problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(why, "the configuration was not reloaded: the one of before stays in force");
            }
        }
        self.store();
    }

    fn attempt(&mut self) -> Result<(u64, Reloaded), Failure> {
        let loaded = config::load::<Config>((self.again)()?)?;
        // Also when it is wrong: what makes it right may be in a file that it names.
        self.watch.set(files(&loaded));
        if loaded.is_blank() {
            let reason = "the file is empty: whoever writes it is not done yet, or `{}` is missing to say that nothing is meant";
            return Err(Failure::part("cannot reload", reason));
        }
        let plans = config::validate(&loaded, self.role)?;
        for note in loaded.notes() {
            tracing::warn!("{note}");
        }
        self.interval = interval(&loaded.value);
        let plan = plans.proxy.ok_or_else(|| Failure::part("cannot reload", "this part has no gateway"))?;
        let version = plan.version();
        let reloaded = self.reloader.reload(plan).map_err(|error| Failure::start("cannot reload", &error))?;
        let needs = differ::paths(&self.fixed, &differ::fixed(&loaded.value));
        if !needs.is_empty() {
            tracing::warn!(settings = needs.join(", "), "changed, but in force only after a restart");
        }
        self.state.restart = needs;
        (self.state.success_at_us, self.state.version) = (self.state.at_us, version);
        in_force::note(&self.folder, &loaded, version, self.state.at_us);
        Ok((version, reloaded))
    }

    fn store(&self) {
        if let Err(error) = self.state.store(&self.folder) {
            tracing::warn!(%error, "the state of the configuration cannot be written");
        }
    }
}

/// What `check` would print.
fn problems(failure: &Failure) -> Vec<String> {
    match failure {
        Failure::Configuration(report) => report.lines().lines().map(str::to_owned).collect(),
        other => vec![other.to_string()],
    }
}

/// All that the configuration was read from, and what else the gateway reads because of it.
fn files(loaded: &Loaded<Config>) -> Vec<PathBuf> {
    let mut files = proxy::config::files(&loaded.value.gateway, &loaded.value.entities());
    files.extend(loaded.file().map(PathBuf::from));
    files.extend(SYSTEM_FILES.map(PathBuf::from));
    files
}

fn interval(config: &Config) -> Option<Duration> {
    Some(Duration::from_millis(config.reload.watch_interval_ms)).filter(|interval| !interval.is_zero())
}

/// The time, in microseconds since 1970 (UTC).
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
