//! The roll-ups of a day anew. Those of a consumer's rows are groups of their own, and are left out. Rows of a lane are
//! counted in groups with others, so the hours that had some are rolled up anew, from the rows that stay.

use std::collections::{BTreeMap, BTreeSet};

use event::layout::{FileEntry, RollupEntry};
use event::rollup::{HOUR_US, NAMES, Resolution};

use super::rewrite::{Change, Day};
use super::subjects::CONSUMER;
use super::{EraseError, Eraser, PREFIX, find};
use crate::rollup;

/// The hour that a file is of, since 1970 (UTC).
fn hour(file: &FileEntry) -> i64 {
    file.time_min_us.div_euclid(HOUR_US)
}

/// The hours that a file of roll-ups is of.
fn hours(entry: &RollupEntry) -> std::ops::RangeInclusive<i64> {
    hour(&entry.file)..=entry.file.time_max_us.div_euclid(HOUR_US)
}

impl Eraser {
    /// Writes the roll-ups of a day anew that count rows that go. Its files stand on disk by now.
    pub(super) fn write_groups(&self, day: &Day<'_>, change: &mut Change) -> Result<(), EraseError> {
        let anew = whole(day, &change.hours);
        for (hour_number, stays) in &anew {
            let old = stays.iter().copied().filter(|file| !change.going.contains(&file.path));
            let new = change.files.iter().filter(|file| hour(file) == *hour_number);
            let files: Vec<_> = old.chain(new).collect();
            let name = format!("{PREFIX}{:010}-hour-{hour_number}", day.version);
            change.rollups.extend(rollup::of_files(&self.folder, &self.config, &files, &name)?);
        }
        let subjects = day.subjects.of_groups();
        let consumer = NAMES.iter().position(|name| *name == CONSUMER);
        let mut touched: BTreeSet<i64> = change.hours.clone();
        for entry in day.rollups.iter().filter(|entry| entry.is_original()) {
            let is_anew = |hour: i64| anew.contains_key(&hour);
            let hours = hours(entry);
            let counts = find::count(&self.folder, &entry.file, &subjects)?;
            if counts.is_none() && !hours.clone().any(is_anew) {
                continue;
            }
            touched.extend(hours.clone());
            let name = format!("{PREFIX}{:010}-{:04}.parquet", day.version, change.going.len());
            // A file of one hour that is made anew has nothing that stays.
            if entry.resolution == Resolution::Hour || !hours.clone().all(is_anew) {
                let stays = |of: &rollup::Key| {
                    let name = consumer.and_then(|consumer| of.names[consumer].as_deref());
                    !subjects.has_consumer(name) && !is_anew(of.time_us.div_euclid(HOUR_US))
                };
                change.rollups.extend(rollup::without(&self.folder, &self.config, entry, &name, stays)?);
            }
            change.note(day.orders, &counts.unwrap_or_default(), &entry.file.path, false);
        }
        // Those by fewer names count what goes with what stays, and say nothing that others do not.
        for entry in day.rollups.iter().filter(|entry| !entry.is_original()) {
            if hours(entry).any(|hour| touched.contains(&hour)) {
                change.going.insert(entry.file.path.clone());
            }
        }
        Ok(())
    }
}

/// Of some hours those whose rows are all there, and their files: the others keep roll-ups of more rows than there are.
fn whole<'a>(day: &Day<'a>, hours: &BTreeSet<i64>) -> BTreeMap<i64, Vec<&'a FileEntry>> {
    let mut found = BTreeMap::new();
    for number in hours {
        let files: Vec<_> = day.files.iter().filter(|file| hour(file) == *number).collect();
        let of_hour = |entry: &&RollupEntry| {
            entry.is_original() && entry.resolution == Resolution::Minute && entry.partition() == *number
        };
        let counted: u64 = day.rollups.iter().filter(of_hour).map(|entry| entry.requests).sum();
        if files.iter().map(|file| file.rows).sum::<u64>() < counted {
            tracing::warn!(
                hour = number,
                "roll-ups go on counting rows that were erased: others are gone already"
            );
            continue;
        }
        found.insert(*number, files);
    }
    found
}
