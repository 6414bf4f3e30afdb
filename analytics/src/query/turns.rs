//! Turns: how many queries run at one time, and how many wait for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::access::Caller;
use crate::config::AnalyticsConfig;
use crate::error::QueryError;

/// The turns of all roles together.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_max: usize,
    queue_timeout: Duration,
}

/// The right to run, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _role: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// One more in the queue, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    pub(super) fn new(config: &AnalyticsConfig) -> Self {
        Self {
            all: Arc::new(Semaphore::new(config.concurrency_max.into())),
            waiting: AtomicUsize::new(0),
            queue_max: config.queue_max.into(),
            queue_timeout: Duration::from_millis(config.queue_timeout_ms),
        }
    }

    /// A turn of the caller's role, and one of all.
    pub(super) async fn take(&self, caller: &Caller) -> Result<Arc<Turn>, QueryError> {
        let (role, all) = (Arc::clone(&caller.role.turns), Arc::clone(&self.all));
        if let Ok(role) = Arc::clone(&role).try_acquire_owned()
            && let Ok(all) = Arc::clone(&all).try_acquire_owned()
        {
            return Ok(Arc::new(Turn { _role: role, _all: all }));
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.queue_max {
            return Err(QueryError::Busy);
        }
        // Who waits for its role takes nothing from others meanwhile.
        let both = async {
            Ok::<_, AcquireError>(Turn {
                _role: role.acquire_owned().await?,
                _all: all.acquire_owned().await?,
            })
        };
        match tokio::time::timeout(self.queue_timeout, both).await {
            Ok(Ok(turn)) => Ok(Arc::new(turn)),
            _ => Err(QueryError::Busy),
        }
    }
}
