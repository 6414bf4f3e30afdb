//! Which hours roll-ups are whole for: those of which they count as many requests as there are rows.
//!
//! A roll-up is written with its rows, and erased with them, but either may be there without the other: rows are deleted
//! by age before their roll-ups, a folder of an older version has none, a damaged file is left out.

use std::collections::HashMap;

use event::rollup::Resolution;

use super::spans::Spans;
use crate::catalog::Snapshot;

/// What a snapshot's roll-ups are whole for.
pub(super) struct Coverage<'a> {
    snapshot: &'a Snapshot,
}

impl<'a> Coverage<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot }
    }

    /// The time in which each row is in a group of a resolution.
    pub(super) fn of_resolution(&self, resolution: Resolution) -> Spans {
        let part_us = resolution.file_us();
        // Rows less requests of each part; none where they cannot be told apart.
        let mut parts: HashMap<i64, (Option<u64>, u64)> = HashMap::new();
        for (_, file) in &self.snapshot.files {
            let (first, last) = (file.time_min_us.div_euclid(part_us), file.time_max_us.div_euclid(part_us));
            for part in first..=last {
                let (rows, _) = parts.entry(part).or_insert((Some(0), 0));
                *rows = rows.filter(|_| first == last).map(|rows| rows + file.rows);
            }
        }
        for (_, entry) in self.snapshot.rollups.iter().filter(|(_, entry)| entry.resolution == resolution) {
            let (rows, requests) = parts.entry(entry.partition()).or_insert((Some(0), 0));
            *requests += entry.requests;
            // Groups of names that were too many are not those of the rows.
            *rows = rows.filter(|_| entry.overflowed == 0);
        }
        let whole = parts.into_iter().filter(|(_, (rows, requests))| *rows == Some(*requests));
        Spans::of(whole.map(|(part, _)| (part * part_us, (part + 1) * part_us)).collect())
    }

    /// Whether sealed rows may be in a set of time.
    pub(super) fn has_files_in(&self, spans: &Spans) -> bool {
        self.snapshot.files.iter().any(|(_, file)| spans.meets(file.time_min_us, file.time_max_us))
    }
}
