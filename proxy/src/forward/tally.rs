//! What one thread counts of an address. It is handed over to what all threads share once a second, so that no request
//! touches memory that another core writes.

use crate::upstream::Held;
use crate::upstream::Traffic;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::sync::Notify;

/// Counts of one thread and address.
#[derive(Default)]
pub(crate) struct Tally {
    requests: Cell<u64>,
    failures: Cell<u64>,
    under_way: Gauge,
    connections: Gauge,
    /// Requests that wait for a connection of this thread.
    waiting: Cell<u32>,
    freed: Notify,
}

/// What goes up and down, and what of it was handed over.
#[derive(Default)]
struct Gauge {
    now: Cell<u32>,
    given: Cell<u32>,
}

impl Gauge {
    fn add(&self, more: i32) {
        self.now.set(self.now.get().wrapping_add_signed(more));
    }

    fn hand_over(&self, to: &AtomicU32) {
        let difference = self.now.get().wrapping_sub(self.given.replace(self.now.get()));
        if difference != 0 {
            // Below zero it wraps, as the sum of all threads does again.
            to.fetch_add(difference, Relaxed);
        }
    }
}

impl Tally {
    /// A try was made.
    pub fn tried(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// A try has failed.
    pub fn fail(&self) {
        self.failures.set(self.failures.get() + 1);
    }

    /// Connections that are open or being opened.
    pub fn connections(&self) -> u32 {
        self.connections.now.get()
    }

    /// Ready when a connection, or a place for one, has become free since it was called.
    pub fn freed(&self) -> impl Future<Output = ()> {
        self.waiting.set(self.waiting.get() + 1);
        let place = Waits(self);
        let freed = self.freed.notified();
        async move {
            let _place = place;
            freed.await;
        }
    }

    /// Says that one has become free.
    pub fn free(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }

    /// Says that a connection is there that many may share.
    pub fn free_for_all(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Gives what was counted since the last time.
    pub fn hand_over(&self, to: &Traffic) {
        for (counted, total) in [(&self.requests, &to.requests), (&self.failures, &to.failures)] {
            if counted.get() > 0 {
                total.fetch_add(counted.take(), Relaxed);
            }
        }
        self.under_way.hand_over(&to.under_way);
        self.connections.hand_over(&to.connections);
    }
}

/// A request under way.
pub(crate) struct Trying(Rc<Tally>);

impl Trying {
    pub fn new(tally: &Rc<Tally>) -> Self {
        tally.under_way.add(1);
        Self(Rc::clone(tally))
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        self.0.under_way.add(-1);
    }
}

/// A place among those who wait.
struct Waits<'a>(&'a Tally);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// A connection, from when it is being opened.
pub(crate) struct Open {
    tally: Rc<Tally>,
    /// What counts it for all threads, where there is a bound.
    held: Option<Held>,
}

impl Open {
    pub fn new(tally: &Rc<Tally>, held: Option<Held>) -> Self {
        tally.connections.add(1);
        Self { tally: Rc::clone(tally), held }
    }

    /// Says that another request may use it.
    pub fn free(&self) {
        self.tally.free();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tally.connections.add(-1);
        self.held = None;
        self.tally.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_hand_over_what_was_counted_since_the_last_time() {
        let traffic = Traffic::default();
        let [one, other] = [Rc::new(Tally::default()), Rc::new(Tally::default())];
        let (trying, open) = (Trying::new(&one), Open::new(&one, None));
        let _held = Trying::new(&other);
        [&one, &other].into_iter().for_each(|tally| tally.tried());
        other.fail();
        let read = || {
            [&one, &other].into_iter().for_each(|tally| tally.hand_over(&traffic));
            let [requests, failures] =
                [&traffic.requests, &traffic.failures].map(|count| count.load(Relaxed));
            (requests, failures, traffic.under_way.load(Relaxed), traffic.connections.load(Relaxed))
        };
        assert_eq!(read(), (2, 1, 2, 1));
        assert_eq!(read(), (2, 1, 2, 1), "nothing twice");
        drop((trying, open));
        assert_eq!(read(), (2, 1, 1, 0));
    }
}
