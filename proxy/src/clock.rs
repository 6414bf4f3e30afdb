//! Coarse time-outs of one thread. A deadline is a number in a table that one sweep looks through, so arming one costs
//! a store: no timer is made per request, and none is removed. It fires up to two sweep intervals late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const NEVER: u64 = u64::MAX;

pub(crate) struct Clock {
    interval_ms: u64,
    begun: Instant,
    now_ms: Cell<u64>,
    /// One instant, and the same moment in microseconds since 1970.
    anchor: Cell<(Instant, i64)>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
}

struct Slot {
    at_ms: u64,
    waker: Option<Waker>,
}

/// A place in the table, given back on drop.
pub(crate) struct Deadline {
    clock: Rc<Clock>,
    slot: usize,
}

impl Clock {
    pub fn new(interval_ms: u64) -> Rc<Self> {
        let begun = Instant::now();
        Rc::new(Self {
            interval_ms,
            begun,
            now_ms: Cell::new(0),
            anchor: Cell::new((begun, wall_us())),
            slots: RefCell::default(),
            free: RefCell::default(),
        })
    }

    /// Microseconds since 1970 (UTC) at an instant near now.
    pub fn wall_us(&self, at: Instant) -> i64 {
        let (instant, wall_us) = self.anchor.get();
        wall_us + i64::try_from(at.saturating_duration_since(instant).as_micros()).unwrap_or(i64::MAX / 2)
    }

    /// Milliseconds since this clock began, as of the last sweep.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut slots = self.slots.borrow_mut();
            slots.push(Slot { at_ms: NEVER, waker: None });
            slots.len() - 1
        });
        Deadline { clock: Rc::clone(self), slot }
    }

    /// Moves time on and wakes who waited for it.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.anchor.set((now, wall_us()));
        let now_ms = u64::try_from(now.duration_since(self.begun).as_millis()).unwrap_or(NEVER - 1);
        self.now_ms.set(now_ms);
        self.wake(|slot| slot.at_ms <= now_ms);
    }

    /// Wakes everyone that holds a deadline, so that they look at what has changed.
    pub fn wake_all(&self) {
        self.wake(|_| true);
    }

    fn wake(&self, which: impl Fn(&Slot) -> bool) {
        let mut slots = self.slots.borrow_mut();
        let due: Vec<Waker> =
            slots.iter_mut().filter(|slot| which(slot)).filter_map(|slot| slot.waker.take()).collect();
        drop(slots);
        due.into_iter().for_each(Waker::wake);
    }

    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.interval_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep();
        }
    }
}

fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0))
}

impl Deadline {
    /// Sets it `after_ms` from now; never earlier, up to two sweeps later.
    pub fn arm(&self, after_ms: u64) {
        let at_ms = self.clock.now_ms.get().saturating_add(after_ms).saturating_add(self.clock.interval_ms);
        self.clock.slots.borrow_mut()[self.slot].at_ms = at_ms.min(NEVER - 1);
    }

    pub fn disarm(&self) {
        self.clock.slots.borrow_mut()[self.slot].at_ms = NEVER;
    }

    /// Ready once it is over. The task is also woken by [`Clock::wake_all`], armed or not.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.clock.slots.borrow_mut();
        let slot = &mut slots[self.slot];
        if slot.at_ms <= self.clock.now_ms.get() {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A future with a bound: none when it took longer than `after_ms`.
    pub async fn within<F: Future>(&self, after_ms: u64, future: F) -> Option<F::Output> {
        self.arm(after_ms);
        let mut future = std::pin::pin!(future);
        let result = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await;
        self.disarm();
        result
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let waker = {
            let slot = &mut self.clock.slots.borrow_mut()[self.slot];
            slot.at_ms = NEVER;
            slot.waker.take()
        };
        drop(waker);
        self.clock.free.borrow_mut().push(self.slot);
    }
}
