//! Answers that are being fetched, by the ids of their tickets, so that another call can cancel one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Those that run. Each waits for a turn or has one, so that there are few.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    id: Bytes,
    user: String,
    cancel: CancellationToken,
}

/// A place among them, until dropped.
pub(super) struct Place {
    running: Arc<Running>,
    id: Bytes,
    pub(super) cancel: CancellationToken,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a run.
    pub(super) fn add(self: &Arc<Self>, id: Bytes, user: &str) -> Place {
        let cancel = CancellationToken::new();
        self.lock().push(Entry { id: id.clone(), user: user.to_owned(), cancel: cancel.clone() });
        Place { running: Arc::clone(self), id, cancel }
    }

    /// Cancels all runs of a ticket that are a user's own; false when there is none.
    pub(super) fn cancel(&self, id: &[u8], user: &str) -> bool {
        let running = self.lock();
        let mut found = running.iter().filter(|entry| !id.is_empty() && entry.id == id && entry.user == user);
        let first = found.next();
        first.into_iter().chain(found).map(|entry| entry.cancel.cancel()).count() > 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // No other can have been told apart from it that is cancelled by the same id.
        self.cancel.cancel();
        self.running.lock().retain(|entry| entry.id != self.id || !entry.cancel.is_cancelled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_runs_are_cancelled_and_only_while_they_run() {
        let running = Arc::new(Running::default());
        let id = |text: &'static str| Bytes::from_static(text.as_bytes());
        let (one, again, other) =
            (running.add(id("a"), "x"), running.add(id("a"), "x"), running.add(id("b"), "x"));
        assert!(!running.cancel(b"a", "y") && !running.cancel(b"c", "x") && !running.cancel(b"", "x"));
        drop(one);
        assert!(!again.cancel.is_cancelled());
        assert!(running.cancel(b"a", "x"));
        assert!(again.cancel.is_cancelled() && !other.cancel.is_cancelled());
        drop((again, other));
        assert!(!running.cancel(b"b", "x") && running.lock().is_empty());
    }
}
