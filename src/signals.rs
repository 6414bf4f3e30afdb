//! The signals that a process takes: which one ends it, and which does not wait for that end.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::handover::Launcher;
use crate::reload::Reloads;

/// A signal that comes again so soon is one that was sent twice, as `timeout` does: to a process and to its group.
const ECHO: Duration = Duration::from_secs(1);

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Interrupt,
    Terminate,
}

/// The signals.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    upgrade: Signal,
    reopen: Signal,
    /// The first that ended it, and when that was.
    first: Option<(End, Instant)>,
}

impl Signals {
    /// Takes them from here on.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            reopen: signal(SignalKind::user_defined1())?,
            first: None,
        })
    }

    /// Ready with the first that ends the process. A terminal that closes, or an operator who expects a reload, does not
    /// end a gateway.
    pub async fn first(&mut self, reloads: Option<&Reloads>, launcher: Option<&Launcher>) {
        let end = loop {
            tokio::select! {
                _ = self.interrupt.recv() => break End::Interrupt,
                _ = self.terminate.recv() => break End::Terminate,
                _ = self.hangup.recv() => match reloads {
                    Some(reloads) => reloads.ask(),
                    None => tracing::warn!("SIGHUP changes nothing: this part reads its configuration at start"),
                },
                _ = self.upgrade.recv() => match launcher {
                    Some(launcher) => launcher.upgrade(),
                    None => tracing::warn!("SIGUSR2 changes nothing: this process hands nothing over"),
                },
                // Of other gateways it has log files opened anew.
                _ = self.reopen.recv() => tracing::warn!("SIGUSR1 changes nothing: the log goes to standard error"),
            }
        };
        self.first = Some((end, Instant::now()));
    }

    /// Ready with the one that cuts the end short: the exit code that shells give a process killed by it.
    pub async fn second(&mut self) -> i32 {
        loop {
            let (end, code) = tokio::select! {
                _ = self.interrupt.recv() => (End::Interrupt, 130),
                _ = self.terminate.recv() => (End::Terminate, 143),
            };
            if !self.is_echo(end) {
                return code;
            }
            tracing::info!("the same signal within a second is taken for one: a later one ends at once");
        }
    }

    /// Whether it is the first once more. Who presses Ctrl-C twice means it.
    fn is_echo(&self, end: End) -> bool {
        let pressed = end == End::Interrupt && std::io::stdin().is_terminal();
        !pressed && self.first.is_some_and(|(first, at)| first == end && at.elapsed() < ECHO)
    }
}
