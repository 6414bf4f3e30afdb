//! What is known of the names of targets. One book for all plans that are in use: a plan that comes finds in it what was
//! looked up for the one before, and a request that began with an earlier plan still hears of its addresses.

use super::Upstreams;
use super::dns::Found;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

/// The book. It is opened when a name's addresses change and when a plan comes, never by a request.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By the target's `host:port`.
    found: HashMap<String, Found>,
    /// Since when the name servers fail for it, microseconds since 1970; those they answer for are not here.
    failing_since_us: HashMap<String, i64>,
    readers: Vec<Weak<Upstreams>>,
}

impl Book {
    pub fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an answer down, and changes the groups of every plan that has such a target.
    pub fn note(&self, target: &str, found: Found) {
        let mut pages = self.open();
        if pages.of(target) == &found {
            return;
        }
        tracing::debug!(target, ?found, "addresses");
        pages.found.insert(target.to_owned(), found);
        for reader in pages.readers() {
            reader.found(target, &pages);
        }
    }

    /// Whether addresses of it are known.
    pub fn knows(&self, target: &str) -> bool {
        matches!(self.open().of(target), Found::Addresses(_))
    }

    /// Notes whether the name servers fail for a target.
    pub fn answered(&self, target: &str, failed: bool) {
        let failing = &mut self.open().failing_since_us;
        if !failed {
            failing.remove(target);
        } else if !failing.contains_key(target) {
            failing.insert(target.to_owned(), crate::clock::wall_us());
        }
    }

    /// Nobody looks it up any more.
    pub fn forget(&self, target: &str) {
        let mut pages = self.open();
        pages.found.remove(target);
        pages.failing_since_us.remove(target);
    }
}

impl Pages {
    /// What is known of a target's name.
    pub fn of(&self, target: &str) -> &Found {
        self.found.get(target).unwrap_or(&Found::Waiting)
    }

    /// Since when the name servers fail for a target, microseconds since 1970.
    pub fn failing_since_us(&self, target: &str) -> Option<i64> {
        self.failing_since_us.get(target).copied()
    }

    /// Tells this one too from now on.
    pub fn add(&mut self, reader: Weak<Upstreams>) {
        self.readers.retain(|reader| reader.strong_count() > 0);
        self.readers.push(reader);
    }

    fn readers(&self) -> Vec<std::sync::Arc<Upstreams>> {
        self.readers.iter().filter_map(Weak::upgrade).collect()
    }
}
