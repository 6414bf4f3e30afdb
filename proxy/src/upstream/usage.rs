//! What an upstream is busy with, of all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Counts of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Requests under way; counted where something asks for it.
    pub requests: AtomicU32,
    /// Of them those that are tried again.
    pub retries: AtomicU32,
    /// Held by the thread that takes an address out.
    pub ejecting: AtomicBool,
}

/// A request under way.
pub(crate) struct Used(Arc<Usage>);

impl Used {
    pub fn new(usage: &Arc<Usage>) -> Self {
        usage.requests.fetch_add(1, Relaxed);
        Self(Arc::clone(usage))
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}
