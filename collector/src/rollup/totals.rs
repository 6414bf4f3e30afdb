//! What is counted of a group, and groups by their keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::distinct::Distinct;
use event::rollup::{NAMES, OVERFLOW};
use event::sketch::Sketch;

/// What makes a group: when it begins, who and what it is of, and the class of its status. In this order a file has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) time_us: i64,
    pub(crate) names: [Option<Arc<str>>; NAMES.len()],
    /// Index into `event::rollup::CLASS_WORDS`.
    pub(crate) class: u8,
}

impl Key {
    /// Whether it stands for names that were too many.
    pub(super) fn is_overflow(&self) -> bool {
        self.names.iter().all(|name| name.as_deref() == Some(OVERFLOW))
    }
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) duration: Sketch,
    pub(super) gateway: Sketch,
    pub(super) clients: Distinct,
}

impl Totals {
    /// Adds what another group counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.duration.merge(&other.duration);
        self.gateway.merge(&other.gateway);
        self.clients.merge(&other.clients);
    }
}

/// Groups of which each minute or hour has a bounded number: what comes beyond goes, by its class of status, to groups
/// whose names are [`OVERFLOW`].
#[derive(Debug)]
pub(super) struct Groups {
    groups_max: usize,
    all: BTreeMap<Key, Totals>,
    /// How many there are by the time that they begin, without those for the overflow.
    named: BTreeMap<i64, usize>,
}

impl Groups {
    pub(super) fn new(groups_max: usize) -> Self {
        Self { groups_max, all: BTreeMap::new(), named: BTreeMap::new() }
    }

    /// Adds a group to that of the same key.
    pub(super) fn add(&mut self, key: Key, totals: &Totals) {
        if let Some(known) = self.all.get_mut(&key) {
            return known.merge(totals);
        }
        let named = self.named.entry(key.time_us).or_default();
        let is_overflow = key.is_overflow();
        if is_overflow || *named < self.groups_max {
            *named += usize::from(!is_overflow);
            self.all.insert(key, totals.clone());
            return;
        }
        let name: Arc<str> = OVERFLOW.into();
        let key = Key { names: std::array::from_fn(|_| Some(Arc::clone(&name))), ..key };
        self.all.entry(key).or_default().merge(totals);
    }

    /// The groups in the order of their keys.
    pub(super) fn into_sorted(self) -> Vec<(Key, Totals)> {
        self.all.into_iter().collect()
    }
}
