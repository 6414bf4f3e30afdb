//! Which hours roll-ups are whole for: those of which they count as many requests as there are rows.
//!
//! A roll-up is written with its rows, and erased with them, but either may be there without the other: rows are deleted
//! by age before their roll-ups, a folder of an older version has none, a damaged file is left out.

use std::collections::HashMap;

use event::rollup::{Grouping, Resolution};

use super::spans::Spans;
use crate::sealed::Sealed;

/// What there is of an hour or a day.
#[derive(Debug, Clone)]
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

/// A kind of groups.
pub(crate) type Kind = (Resolution, Grouping);

/// What the roll-ups of some files are whole for.
#[derive(Debug)]
pub(crate) struct Coverage(HashMap<Kind, Spans>);

impl Coverage {
    /// What those of sealed files answer for, where a group has at least so many requests.
    pub(super) fn of(sealed: &Sealed, group_requests_min: u64) -> Self {
        let mut kinds = HashMap::new();
        for resolution in Resolution::ALL {
            let rows = rows_by_part(sealed, resolution.file_us());
            for grouping in Grouping::ALL {
                let kind = (resolution, grouping);
                kinds.insert(kind, whole(sealed, kind, rows.clone(), group_requests_min));
            }
        }
        Self(kinds)
    }

    /// The time in which each row is in a group of a kind.
    pub(super) fn of_kind(&self, kind: Kind) -> Spans {
        self.0.get(&kind).cloned().unwrap_or_default()
    }
}

/// How many rows there are of each hour, or day.
fn rows_by_part(sealed: &Sealed, part_us: i64) -> HashMap<i64, Part> {
    let mut parts: HashMap<i64, Part> = HashMap::new();
    for (_, file) in &sealed.files {
        let (first, last) = (file.time_min_us.div_euclid(part_us), file.time_max_us.div_euclid(part_us));
        for part in first..=last {
            let part = parts.entry(part).or_default();
            part.rows += file.rows;
            // How many rows of a file each of several parts has is not known.
            part.is_told &= first == last;
        }
    }
    parts
}

/// The parts in which groups of a kind are of all rows.
fn whole(sealed: &Sealed, kind: Kind, mut parts: HashMap<i64, Part>, group_requests_min: u64) -> Spans {
    let part_us = kind.0.file_us();
    let of_kind = sealed.rollups.iter().filter(|(_, entry)| (entry.resolution, entry.grouping) == kind);
    for (_, entry) in of_kind {
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
pub(super) fn has_files_in(sealed: &Sealed, spans: &Spans) -> bool {
    sealed.files.iter().any(|(_, file)| spans.meets(file.time_min_us, file.time_max_us))
}
