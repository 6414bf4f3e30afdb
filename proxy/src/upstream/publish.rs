//! Leaves the picture of all upstreams' addresses, and the counts of client connections, in the data folder, again and
//! again, by a thread of its own: a disk that hangs holds nobody else up.

use super::{Upstreams, report};
use crate::accept::Doors;
use event::connections::ConnectionStates;
use event::layout::DataFolder;
use event::upstreams::UpstreamStates;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Publisher {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Starts the thread; the first picture is taken at once. Each is one of the plan that is in force then.
    pub fn start(
        newest: impl Fn() -> Arc<Upstreams> + Send + 'static,
        doors: Arc<Doors>,
        folder: DataFolder,
        node: String,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let body = move || run(&newest, &doors, &folder, &node, &stopped);
        let thread = std::thread::Builder::new().name("upstream-states".into()).spawn(body)?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread, after a last picture.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that shows the upstreams' state panicked");
        }
    }
}

fn run(
    newest: &dyn Fn() -> Arc<Upstreams>,
    doors: &Doors,
    folder: &DataFolder,
    node: &str,
    stopped: &Receiver<()>,
) {
    let mut failing = false;
    let mut ended = false;
    loop {
        let upstreams = newest();
        let plan = &upstreams.plan;
        let interval = Duration::from_millis(plan.states.interval_ms);
        let (targets, omitted) = report::rows(&upstreams, plan.states.rows_max);
        let circuits = report::circuits(&upstreams);
        // A plan of before is not held on to.
        drop(upstreams);
        let states = UpstreamStates {
            at_us: crate::clock::wall_us(),
            interval_us: i64::try_from(interval.as_micros()).unwrap_or(i64::MAX),
            node: node.to_owned(),
            targets,
            omitted,
            circuits,
        };
        let counts = doors.counts();
        let connections = ConnectionStates {
            at_us: states.at_us,
            interval_us: states.interval_us,
            node: node.to_owned(),
            open: counts.open,
            accepted: counts.accepted,
            overloaded: counts.overloaded,
            ended: counts.ended.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        };
        match states.store(folder).and_then(|()| connections.store(folder)) {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the state of upstreams and connections cannot be shown");
                }
            }
        }
        if ended {
            return;
        }
        ended = !matches!(stopped.recv_timeout(interval), Err(RecvTimeoutError::Timeout));
    }
}
