//! Which uploaded files leave the local disk, by size in all and by age.

use std::collections::BTreeSet;

use event::bucket::BucketConfig;
use event::layout::{FileEntry, Manifest, Place, Removed};

use crate::compact::{LEVEL_CLOSED, closed_until};
use crate::config::CompactionConfig;
use crate::parquet::HOUR_US;

/// A file that is on the disk, and whether it is still to be merged with others.
struct Candidate<'a> {
    file: &'a FileEntry,
    is_unmerged: bool,
}

/// The files that go. Those that are still to be merged go last, since what is in the bucket only stays as it is.
pub(super) fn choose(
    config: &BucketConfig,
    compaction: &CompactionConfig,
    manifest: &Manifest,
    now_us: i64,
) -> BTreeSet<String> {
    let closed = closed_until(compaction, now_us);
    // An hour that has just been closed is about to be merged.
    let due = |file: &FileEntry| {
        let hour = file.time_max_us.div_euclid(HOUR_US);
        compaction.enabled && (hour >= closed || (hour + 1 == closed && file.level < LEVEL_CLOSED))
    };
    let rows = manifest.files.iter().map(|file| Candidate { file, is_unmerged: due(file) });
    let rollups = manifest.rollups.iter().map(|entry| {
        let end_us = (entry.partition() + 1).saturating_mul(entry.resolution.file_us());
        Candidate { file: &entry.file, is_unmerged: end_us.saturating_add(HOUR_US) > now_us }
    });
    let mut there: Vec<Candidate<'_>> =
        rows.chain(rollups).filter(|candidate| candidate.file.place.is_on_disk()).collect();
    there.sort_by_key(|candidate| (candidate.is_unmerged, candidate.file.time_max_us));
    let mut bytes: u64 = there.iter().map(|candidate| candidate.file.bytes).sum();
    let oldest_us = config.local_age_h.map(|age_h| now_us.saturating_sub(i64::from(age_h) * HOUR_US));
    let mut going = BTreeSet::new();
    for Candidate { file, is_unmerged } in
        there.iter().filter(|candidate| candidate.file.place == Place::Both)
    {
        let too_old = !is_unmerged && oldest_us.is_some_and(|oldest_us| file.time_max_us < oldest_us);
        let too_much = config.local_bytes_max.is_some_and(|bytes_max| bytes > bytes_max);
        if too_old || too_much {
            bytes -= file.bytes;
            going.insert(file.path.clone());
        }
    }
    going
}

/// Says that they are in the bucket only; they are unlinked after the grace of retention.
pub(super) fn leave(manifest: &mut Manifest, going: &BTreeSet<String>, now_us: i64) -> Option<()> {
    let mut left = false;
    for file in all(manifest).filter(|file| going.contains(&file.path) && file.place == Place::Both) {
        file.place = Place::Bucket;
        left = true;
    }
    let there: BTreeSet<&String> = manifest.removed.iter().map(|removed| &removed.path).collect();
    let new: Vec<Removed> = going
        .iter()
        .filter(|path| !there.contains(path))
        .map(|path| Removed { path: path.clone(), at_us: now_us })
        .collect();
    manifest.removed.extend(new);
    left.then_some(())
}

/// All files of a manifest, of rows and of roll-ups.
pub(super) fn all(manifest: &mut Manifest) -> impl Iterator<Item = &mut FileEntry> {
    manifest.files.iter_mut().chain(manifest.rollups.iter_mut().map(|entry| &mut entry.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(hour: i64, place: Place, level: u8) -> FileEntry {
        FileEntry {
            path: format!("{hour}-{level}-{}", place.as_str()),
            rows: 1,
            bytes: 100,
            checksum: String::new(),
            time_min_us: hour * HOUR_US,
            time_max_us: hour * HOUR_US + 1,
            hot: 1,
            level,
            place,
        }
    }

    fn chosen(config: &BucketConfig, files: &[FileEntry]) -> Vec<String> {
        let mut manifest = Manifest { files: files.to_vec(), ..Manifest::default() };
        let now_us = 10 * HOUR_US + HOUR_US / 2;
        let going = choose(config, &CompactionConfig::default(), &manifest, now_us);
        let left = leave(&mut manifest, &going, now_us);
        assert_eq!(left.is_some(), !going.is_empty());
        assert_eq!(manifest.removed.len(), going.len());
        let only = manifest.files.iter().filter(|file| going.contains(&file.path));
        assert!(only.clone().all(|file| file.place == Place::Bucket), "{manifest:?}");
        going.into_iter().collect()
    }

    #[test]
    fn the_oldest_leave_first_and_those_that_are_to_be_merged_last() {
        let files = [
            file(10, Place::Both, 0),
            file(3, Place::Local, 10),
            file(9, Place::Both, 0),
            file(5, Place::Both, 10),
            file(4, Place::Both, 10),
            file(2, Place::Bucket, 10),
        ];
        let most = |bytes| BucketConfig { local_bytes_max: Some(bytes), ..BucketConfig::default() };
        assert_eq!(chosen(&most(500), &files), Vec::<String>::new());
        assert_eq!(chosen(&most(499), &files), ["4-10-both"]);
        assert_eq!(chosen(&most(300), &files), ["4-10-both", "5-10-both"]);
        assert_eq!(chosen(&most(200), &files), ["4-10-both", "5-10-both", "9-0-both"]);
        // What is nowhere else stays whatever the bound.
        assert_eq!(chosen(&most(0), &files), ["10-0-both", "4-10-both", "5-10-both", "9-0-both"]);
        let age = BucketConfig { local_age_h: Some(6), ..BucketConfig::default() };
        assert_eq!(chosen(&age, &files), ["4-10-both"]);
    }
}
