//! What one thread counts of an address. It is handed over to what all threads share once a second, so that no request
//! touches memory that another core writes.

use crate::upstream::Traffic;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Counts of one thread and address.
#[derive(Default)]
pub(crate) struct Tally {
    requests: Cell<u64>,
    failures: Cell<u64>,
    under_way: Gauge,
    connections: Gauge,
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
    /// A try has failed.
    pub fn fail(&self) {
        self.failures.set(self.failures.get() + 1);
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
        tally.requests.set(tally.requests.get() + 1);
        tally.under_way.add(1);
        Self(Rc::clone(tally))
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        self.0.under_way.add(-1);
    }
}

/// An open connection.
pub(crate) struct Open(Rc<Tally>);

impl Open {
    pub fn new(tally: &Rc<Tally>) -> Self {
        tally.connections.add(1);
        Self(Rc::clone(tally))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_hand_over_what_was_counted_since_the_last_time() {
        let traffic = Traffic::default();
        let [one, other] = [Rc::new(Tally::default()), Rc::new(Tally::default())];
        let (trying, open) = (Trying::new(&one), Open::new(&one));
        let _held = Trying::new(&other);
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
