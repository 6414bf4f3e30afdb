//! Queries that run: how far each is, and what ends it before its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What a running query shows of itself.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) cancel: CancellationToken,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Live {
    /// So many rows were made, and bytes sent, since it began.
    pub(crate) fn note(&self, rows: u64, bytes: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Those that run, by their ids. There are as many as connections of clients, which are bounded.
#[derive(Debug, Default)]
pub(crate) struct Lives(Mutex<HashMap<u64, Arc<Live>>>);

impl Lives {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, id: u64) -> Arc<Live> {
        let live = Arc::<Live>::default();
        self.lock().insert(id, Arc::clone(&live));
        live
    }

    pub(crate) fn end(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Live>> {
        self.lock().get(&id).cloned()
    }
}
