//! What one thread has. Its clock, its lane of the spool and its counts last as long as the thread; the plan, and what
//! goes by the plan's numbers, is a [`Core`], which a reload replaces between two requests.

use crate::accept::Doors;
use crate::clock::Clock;
use crate::forward::Balance;
use crate::plan::Plan;
use crate::route::Caches;
use crate::upstream::Upstreams;
use event::Draft;
use event::spool::Writer;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Most drafts kept for reuse.
const FREE_DRAFTS_MAX: usize = 1024;

/// Bytes that a connection reads at a time while it waits for a request.
const SCRATCH_BYTES: usize = 16 << 10;

/// Where a thread is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything is there, but no connection is taken in yet.
    Opening,
    Serving,
    /// Another process takes the new connections; each one here ends with its next request, which may still come.
    HandedOver,
    /// No new connections; each connection ends with its current request.
    Draining,
    /// Everything ends now.
    Cut,
}

/// Sockets of one thread, each with the number of its listener.
pub(crate) type Sockets = Vec<(usize, std::net::TcpListener)>;

/// One plan on one thread. A request has the core that it began with until its end; whoever outlives a request asks for
/// the [`latest`] before the next. What belongs to the thread is reached through it.
pub(crate) struct Core {
    pub plan: Arc<Plan>,
    pub balance: Balance,
    /// What the regular expressions of this plan's routes work in.
    pub caches: Caches,
    pub upstreams: Arc<Upstreams>,
    /// Another core has taken its place.
    replaced: Cell<bool>,
    #[expect(clippy::vec_box, reason = "a draft moves with its request; its box is what is recycled")]
    free: RefCell<Vec<Box<Draft>>>,
    pub thread: Rc<Thread>,
}

/// What a thread has whatever its plan.
pub(crate) struct Thread {
    pub clock: Rc<Clock>,
    /// Counts of client connections, of all threads.
    pub doors: Arc<Doors>,
    pub phase: Cell<Phase>,
    /// Client connections that are open.
    pub connections: Cell<usize>,
    /// Of these, such as are being told that there is no place for them.
    pub refusing: Cell<usize>,
    /// Requests under way.
    pub exchanges: Cell<usize>,
    /// Copies of mirrored requests that are kept or under way.
    pub mirrors: Cell<usize>,
    /// Where reads go whose length nobody knows; nothing in it outlives a poll.
    pub scratch: RefCell<Box<[u8]>>,
    writer: RefCell<Writer>,
    random: RefCell<StdRng>,
    /// What new requests go by. None once the thread has ended, so that the two do not keep each other alive.
    latest: RefCell<Option<Rc<Core>>>,
}

impl Deref for Core {
    type Target = Thread;

    fn deref(&self) -> &Thread {
        &self.thread
    }
}

/// Goes over to the newest plan of the thread.
pub(crate) fn latest(core: &mut Rc<Core>) {
    if core.replaced.get() {
        let latest = core.thread.latest.borrow().clone();
        *core = latest.unwrap_or_else(|| Rc::clone(core));
    }
}

impl Core {
    /// The first of a thread.
    pub fn new(plan: Arc<Plan>, upstreams: Arc<Upstreams>, doors: Arc<Doors>, writer: Writer) -> Rc<Self> {
        let thread = Rc::new(Thread {
            clock: Clock::new(plan.timeouts.sweep_interval_ms),
            doors,
            phase: Cell::new(Phase::Serving),
            connections: Cell::new(0),
            refusing: Cell::new(0),
            exchanges: Cell::new(0),
            mirrors: Cell::new(0),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            writer: RefCell::new(writer),
            random: RefCell::new(StdRng::from_os_rng()),
            latest: RefCell::default(),
        });
        let balance = Balance::new(&plan, &upstreams);
        Self::begin(plan, upstreams, balance, thread)
    }

    /// The next of the same thread, in force at once.
    pub fn renew(&self, plan: Arc<Plan>, upstreams: Arc<Upstreams>) -> Rc<Self> {
        let balance = self.balance.renew(&self.plan, &plan, &upstreams);
        self.replaced.set(true);
        Self::begin(plan, upstreams, balance, Rc::clone(&self.thread))
    }

    fn begin(plan: Arc<Plan>, upstreams: Arc<Upstreams>, balance: Balance, thread: Rc<Thread>) -> Rc<Self> {
        let (caches, replaced, free) = (Caches::default(), Cell::new(false), RefCell::default());
        let core = Rc::new(Self { plan, balance, caches, upstreams, replaced, free, thread });
        *core.thread.latest.borrow_mut() = Some(Rc::clone(&core));
        core
    }

    /// Nothing new begins on this thread.
    pub fn end(&self) {
        self.thread.latest.borrow_mut().take();
    }

    /// Whether more requests are under way than this thread's share of them all.
    pub fn is_overloaded(&self) -> bool {
        self.exchanges.get() > self.plan.requests_share
    }

    /// A fresh draft of a request that began at an instant.
    pub fn draft(&self, started: Instant) -> Box<Draft> {
        let fresh = || Box::new(if self.plan.recording { Draft::new() } else { Draft::muted() });
        let mut draft = self.free.borrow_mut().pop().unwrap_or_else(fresh);
        draft.reset(self.clock.wall_us(started));
        draft.head.config_version = self.plan.version;
        draft
    }

    /// Writes an event. A full spool counts its drops itself: the request is not touched.
    pub fn emit(&self, draft: Box<Draft>) {
        if self.plan.recording {
            let _counted = self.writer.borrow_mut().append(&draft);
        }
        self.recycle(draft);
    }

    /// Keeps a draft for another request.
    pub fn recycle(&self, draft: Box<Draft>) {
        let mut free = self.free.borrow_mut();
        if free.len() < FREE_DRAFTS_MAX {
            free.push(draft);
        }
    }

    /// Random bytes, never all zeros (which means absent).
    pub fn random_id<const N: usize>(&self) -> [u8; N] {
        let mut id = [0; N];
        while id == [0; N] {
            self.random.borrow_mut().fill_bytes(&mut id);
        }
        id
    }

    /// Identities of a request, of its trace and of its span; none is all zeros.
    pub fn random_ids(&self) -> ([u8; 16], [u8; 16], [u8; 8]) {
        let bytes: [u8; 40] = self.random_id();
        let (mut request_id, mut trace_id, mut span_id) = ([0; 16], [0; 16], [0; 8]);
        request_id.copy_from_slice(&bytes[..16]);
        trace_id.copy_from_slice(&bytes[16..32]);
        span_id.copy_from_slice(&bytes[32..]);
        // One in 2^64, yet zeros would mean that there is none.
        for id in [&mut request_id[..], &mut trace_id, &mut span_id] {
            id[0] |= u8::from(id.iter().all(|byte| *byte == 0));
        }
        (request_id, trace_id, span_id)
    }

    /// A number below `end`, which is not 0, by chance.
    pub fn random_below(&self, end: u64) -> u64 {
        // The bias is one in 2^32 for the weights of a group.
        ((u128::from(self.random.borrow_mut().next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Whether a new trace is sampled.
    pub fn samples(&self) -> bool {
        let below = self.plan.sample_below;
        below > u64::from(u32::MAX) || u64::from(self.random.borrow_mut().next_u32()) < below
    }
}
