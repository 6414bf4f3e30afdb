//! One core's lane of the spool, as intake reads it.

use std::collections::BTreeMap;
use std::path::Path;

use event::hot::Watermarks;
use event::spool::{Counters, LaneReader, Position, ReadError, place_of};

use crate::hosts::{Forwarder, is_foreign};

/// One core's lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) reader: LaneReader,
    /// What adapters see, where rows leave the host.
    pub(crate) observer: Option<Observer>,
    /// `node/core`, known from the first event.
    pub(crate) key: Option<String>,
    /// What is in the table.
    pub(crate) stored: Option<Position>,
    /// Rows of earlier lives of the gateway that this intake stored.
    pub(crate) recovered: u64,
    /// Whether reading fails at present.
    pub(crate) failing: bool,
}

/// Reads a lane for adapters only.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) reader: LaneReader,
    /// The last sequence that they have seen, in this life or the one before.
    pub(crate) through: Option<u64>,
}

impl Lane {
    /// Opens a lane behind what is stored of it, and, where rows go elsewhere, behind what adapters have seen.
    ///
    /// # Errors
    /// When its segments cannot be read.
    pub(crate) fn open(
        spool: &Path,
        core: u16,
        marks: &Watermarks,
        away: Option<&Forwarder>,
    ) -> Result<Self, ReadError> {
        // The spool has one node at a time, whatever its name was before: sequences only rise.
        let suffix = format!("/{core}");
        let known = marks.iter().filter(|(key, _)| !is_foreign(key) && key.ends_with(&suffix));
        let newest = known.max_by_key(|(_, position)| position.sequence);
        let (key, stored) = newest.map(|(key, position)| (key.clone(), *position)).unzip();
        let after = stored.map(|position| position.sequence);
        let observer = away.map(|forwarder| {
            // What was stored here before was seen then.
            let through = forwarder.observed(core).max(after);
            LaneReader::open(spool, core, through).map(|reader| Observer { reader, through })
        });
        let (reader, observer) = (LaneReader::open(spool, core, after)?, observer.transpose()?);
        Ok(Self { reader, observer, key, stored, recovered: 0, failing: false })
    }

    /// Up to where segments may be given back that are stored up to a position: adapters have seen them too.
    pub(crate) fn releasable(&self, stored: Option<Position>) -> Option<u64> {
        let stored = stored?.sequence;
        match &self.observer {
            None => Some(stored),
            Some(observer) => observer.through.map(|through| through.min(stored)),
        }
    }
}

/// How many of the last `read` events were left by an earlier life of the gateway.
pub(crate) fn recovered(
    reader: &LaneReader,
    read: usize,
    counters: &mut BTreeMap<u16, Counters>,
    spool: &Path,
) -> u64 {
    let Some(position) = reader.position().filter(|_| read > 0) else { return 0 };
    let (bank, _) = place_of(reader.core());
    if counters.get(&bank).is_none_or(|counters| counters.life_us() < position.life_us)
        && let Ok(newer) = Counters::open(spool, bank)
    {
        // A gateway has started since the last look.
        counters.insert(bank, newer);
    }
    match counters.get(&bank) {
        Some(counters) if counters.life_us() == position.life_us => {
            (read as u64).saturating_sub(position.ordinal)
        }
        _ => read as u64,
    }
}
