//! Which hours roll-ups are whole for: those of which they count as many requests as there are rows.
//!
//! A roll-up is written with its rows, and erased with them, but either may be there without the other: rows are deleted
//! by age before their roll-ups, a folder of an older version has none, a damaged file is left out.

use std::collections::HashMap;

use event::layout::RollupEntry;
use event::rollup::{Grouping, Resolution};

use super::spans::Spans;
use crate::catalog::Snapshot;

/// What there is of an hour or a day.
#[derive(Debug)]
struct Part {
    rows: u64,
    requests: u64,
    groups: u64,
    /// Whether rows and groups can be held against one another.
    is_told: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { rows: 0, requests: 0, groups: 0, is_told: true }
    }
}

/// What a snapshot's roll-ups are whole for.
pub(super) struct Coverage<'a> {
    snapshot: &'a Snapshot,
}

impl<'a> Coverage<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot }
    }

    /// The time in which each row is in a group of a kind, and a group has so many of them.
    pub(super) fn of_kind(
        &self,
        (resolution, grouping): (Resolution, Grouping),
        group_requests_min: u64,
    ) -> Spans {
        let part_us = resolution.file_us();
        let mut parts: HashMap<i64, Part> = HashMap::new();
        for (_, file) in &self.snapshot.files {
            let (first, last) = (file.time_min_us.div_euclid(part_us), file.time_max_us.div_euclid(part_us));
            for part in first..=last {
                let part = parts.entry(part).or_default();
                part.rows += file.rows;
                // How many rows of a file each of several parts has is not known.
                part.is_told &= first == last;
            }
        }
        let is_of_kind = |entry: &RollupEntry| entry.resolution == resolution && entry.grouping == grouping;
        for (_, entry) in self.snapshot.rollups.iter().filter(|(_, entry)| is_of_kind(entry)) {
            let part = parts.entry(entry.partition()).or_default();
            part.requests += entry.requests;
            part.groups += entry.file.rows;
            // Groups of names that were too many are not those of the rows.
            part.is_told &= entry.overflowed == 0;
        }
        let whole = parts.into_iter().filter(|(_, part)| {
            part.is_told && part.rows == part.requests && part.groups * group_requests_min <= part.requests
        });
        Spans::of(whole.map(|(part, _)| (part * part_us, (part + 1) * part_us)).collect())
    }

    /// Whether sealed rows may be in a set of time.
    pub(super) fn has_files_in(&self, spans: &Spans) -> bool {
        self.snapshot.files.iter().any(|(_, file)| spans.meets(file.time_min_us, file.time_max_us))
    }
}
