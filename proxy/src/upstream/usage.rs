//! What an upstream is busy with, of all threads, and the bounds of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What there is a bound of, as Envoy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Connections,
    PendingRequests,
    Requests,
    Retries,
}

impl Resource {
    pub const ALL: [Self; 4] = [Self::Connections, Self::PendingRequests, Self::Requests, Self::Retries];

    /// The name of its bound.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::PendingRequests => "max_pending_requests",
            Self::Requests => "max_requests",
            Self::Retries => "max_retries",
        }
    }
}

/// The bounds of an upstream, by [`Resource`].
#[derive(Debug)]
pub(crate) struct CircuitPlan {
    pub most: [u32; 4],
}

impl CircuitPlan {
    pub fn most(&self, resource: Resource) -> u32 {
        self.most[resource as usize]
    }
}

/// Counts of one upstream, where something asks for them.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    counts: [AtomicU32; 4],
    overflows: [AtomicU64; 4],
    /// Held by the thread that takes an address out.
    pub ejecting: AtomicBool,
}

impl Usage {
    /// How much of it is in use.
    pub fn of(&self, resource: Resource) -> u32 {
        self.counts[resource as usize].load(Relaxed)
    }

    /// Notes that a bound was reached by one more.
    pub fn overflow(&self, resource: Resource) {
        self.overflows[resource as usize].fetch_add(1, Relaxed);
    }

    /// How often that was.
    pub fn overflows(&self, resource: Resource) -> u64 {
        self.overflows[resource as usize].load(Relaxed)
    }
}

/// One of what is counted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    usage: Arc<Usage>,
    resource: Resource,
}

impl Held {
    /// One more, whatever the bound.
    pub fn new(usage: &Arc<Usage>, resource: Resource) -> Self {
        usage.counts[resource as usize].fetch_add(1, Relaxed);
        Self { usage: Arc::clone(usage), resource }
    }

    /// One more, unless that would be beyond the bound.
    pub fn take(usage: &Arc<Usage>, resource: Resource, most: u32) -> Option<Self> {
        let more = |count: u32| (count < most).then_some(count + 1);
        usage.counts[resource as usize].fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Self { usage: Arc::clone(usage), resource })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.usage.counts[self.resource as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_over_threads_and_is_given_back() {
        let usage = Arc::new(Usage::default());
        let held: Vec<_> = std::thread::scope(|scope| {
            let take =
                || (0..10).filter_map(|_| Held::take(&usage, Resource::Requests, 7)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((held.len(), usage.of(Resource::Requests), usage.of(Resource::Retries)), (7, 7, 0));
        let beyond = Held::new(&usage, Resource::Requests);
        assert_eq!(usage.of(Resource::Requests), 8);
        drop((held, beyond));
        assert_eq!(usage.of(Resource::Requests), 0);
        assert!(Held::take(&usage, Resource::Requests, 0).is_none(), "a bound of 0 lets nothing pass");
    }
}
