//! Puts a new plan in force while the threads serve: each takes it over between two requests, and requests under way end
//! with the plan that they began with. Nothing of it is on the way of a request.

use crate::core::{Phase, Sockets};
use crate::plan::Plan;
use crate::sockets::{OpenSocket, bind_all};
use crate::start::{Bound, StartError};
use crate::upstream::{self, Keeper, Upstreams};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Plans that may wait for a thread.
pub(crate) const TURNS_MAX: usize = 4;
/// Most listeners of a process, those that a reload took away included.
const LISTENERS_MAX: usize = 1024;
/// How long a thread may take to go over to a plan before the log says so.
const TURN_GRACE: Duration = Duration::from_secs(5);

/// Why a plan was not put in force. The one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A new listener cannot be had, or there is no background thread.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread has not even taken the plans before this one.
    #[error("a thread of the gateway does not answer")]
    Stuck,
    /// The proxy drains.
    #[error("the gateway is about to end")]
    Ending,
    /// Listeners came and went too often.
    #[error("more than {LISTENERS_MAX} listeners in the life of a process: restart it")]
    Listeners,
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Listeners that are open from now on.
    pub opened: Vec<Bound>,
    /// Names of listeners that take no more connections.
    pub closed: Vec<String>,
    /// Threads that had not gone over when the wait was over; they will before their next request.
    pub late: usize,
}

/// What is in force, and those who must hear of the next.
#[derive(Debug)]
pub(crate) struct InForce {
    pub plan: Arc<Plan>,
    pub upstreams: Arc<Upstreams>,
    /// The background thread of the upstreams, once there is a need of one.
    pub keeper: Option<Keeper>,
    pub turns: Vec<mpsc::Sender<Arc<Turn>>>,
    pub phase: watch::Sender<Phase>,
    /// A further descriptor of each socket that the threads listen on, with the number of its listener: for a process
    /// that takes over. They are closed before the threads close theirs, so that none is left open that nobody serves.
    pub open: Sockets,
    /// Plans of before, until the last request with one of them has ended: they are freed here rather than by the
    /// thread that serves it.
    pub past: Vec<(Arc<Plan>, Arc<Upstreams>)>,
}

/// A plan on its way to the threads.
#[derive(Debug)]
pub(crate) struct Turn {
    pub plan: Arc<Plan>,
    pub upstreams: Arc<Upstreams>,
    /// New sockets of each thread, with the number of their listener.
    sockets: Mutex<Vec<Sockets>>,
    left: Mutex<usize>,
    taken: Condvar,
}

impl Turn {
    /// What a thread has to listen on besides what it has.
    pub fn sockets(&self, thread: usize) -> Sockets {
        let mut all = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(thread).map(std::mem::take).unwrap_or_default()
    }

    /// A thread has gone over.
    pub fn done(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.taken.notify_all();
    }

    /// Waits until all threads have gone over; says how many have not.
    fn wait(&self) -> usize {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.taken.wait_timeout_while(left, TURN_GRACE, |left| *left > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Puts plans in force. It may outlive the proxy, and says so then.
#[derive(Debug, Clone)]
pub struct Reloader(pub(crate) Arc<Mutex<InForce>>);

impl Reloader {
    pub(crate) fn lock(&self) -> MutexGuard<'_, InForce> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a plan in force, and returns once every thread has gone over to it. It computes and waits: not to be called
    /// on a thread that serves.
    ///
    /// # Errors
    /// What of the plan cannot be had; the one before stays in force as a whole.
    pub fn reload(&self, mut plan: Plan) -> Result<Reloaded, ReloadError> {
        let mut now = self.lock();
        if *now.phase.borrow() != Phase::Serving {
            return Err(ReloadError::Ending);
        }
        if now.turns.iter().any(|turns| turns.capacity() == 0) {
            return Err(ReloadError::Stuck);
        }
        plan.succeed(&now.plan);
        if plan.listeners.len() > LISTENERS_MAX {
            return Err(ReloadError::Listeners);
        }
        let before = Arc::clone(&now.plan);
        let was_open = |at: usize| before.listeners.get(at).is_some_and(|listen| listen.open);
        let mut sockets: Vec<Vec<(usize, TcpListener)>> = now.turns.iter().map(|_| Vec::new()).collect();
        let (mut reloaded, mut open) = (Reloaded::default(), Sockets::new());
        for (at, listen) in plan.listeners.iter().enumerate() {
            if listen.open && !was_open(at) {
                reloaded.opened.push(bind_all(at, listen, Vec::new(), &mut sockets, &mut open)?);
            } else if !listen.open && was_open(at) {
                reloaded.closed.push(listen.name.clone());
            }
        }
        let plan = Arc::new(plan);
        let upstreams = now.upstreams.renew(Arc::clone(&plan));
        match &now.keeper {
            Some(keeper) => keeper.renew(&upstreams),
            None => {
                let started = upstream::start(&upstreams, now.phase.subscribe());
                now.keeper = started.map_err(StartError::Thread)?;
            }
        }
        now.open.retain(|(at, _)| plan.listeners[*at].open);
        now.open.append(&mut open);
        let turn = Arc::new(Turn {
            plan: Arc::clone(&plan),
            upstreams: Arc::clone(&upstreams),
            sockets: Mutex::new(sockets),
            left: Mutex::new(now.turns.len()),
            taken: Condvar::new(),
        });
        for turns in &now.turns {
            // There was room just above, and nobody else sends. A thread that has ended takes nothing more.
            if turns.try_send(Arc::clone(&turn)).is_err() {
                turn.done();
            }
        }
        let past = (std::mem::replace(&mut now.plan, plan), std::mem::replace(&mut now.upstreams, upstreams));
        now.past.push(past);
        reloaded.late = turn.wait();
        drop(turn);
        now.bury();
        Ok(reloaded)
    }

    /// Frees the plans of before that no request has any more. To be called now and then.
    pub fn tidy(&self) {
        self.lock().bury();
    }

    /// The sockets that the threads listen on, for another process to take over.
    ///
    /// # Errors
    /// When the system gives no further descriptors.
    pub fn sockets(&self) -> std::io::Result<Vec<OpenSocket>> {
        let now = self.lock();
        let sockets = now.open.iter().map(|(at, socket)| {
            let listen = &now.plan.listeners[*at];
            let socket = socket.try_clone()?;
            Ok(OpenSocket { name: listen.name.clone(), configured: listen.addr, socket })
        });
        sockets.collect()
    }

    /// How long requests may take to end when the proxy drains, as the plan in force has it.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.lock().plan.timeouts.drain_timeout_ms)
    }
}

impl InForce {
    /// Has the threads take no more connections in.
    pub fn close(&mut self, phase: Phase) -> watch::Sender<Phase> {
        self.open.clear();
        self.phase.send_replace(phase);
        self.phase.clone()
    }

    fn bury(&mut self) {
        // The upstreams hold their plan, too.
        self.past.retain(|(plan, upstreams)| Arc::strong_count(upstreams) > 1 || Arc::strong_count(plan) > 2);
    }
}
