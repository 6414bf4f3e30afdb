//! Which Parquet files go, by age and by size in all; and the same of each kind of roll-ups.
//!
//! A file first leaves the manifest, so that no new query reads it; after a grace for queries that have begun it is
//! unlinked. Both steps change a manifest that is about to come into force; sealing commits it.

use std::collections::BTreeSet;
use std::io;

use event::layout::{DataFolder, FileEntry, Manifest, Removed, RollupEntry};
use event::rollup::Resolution;

use crate::config::RetentionConfig;

const HOUR_US: i64 = 3_600_000_000;

/// Takes the files that are too old or too much out of a manifest; none if all may stay.
pub(crate) fn choose(config: &RetentionConfig, manifest: &mut Manifest, now_us: i64) -> Option<()> {
    let oldest_us = |age_h: Option<u32>| age_h.map(|age_h| now_us.saturating_sub(i64::from(age_h) * HOUR_US));
    let rows = manifest.files.iter().map(|file| (file, file.time_max_us));
    let mut going = surplus(rows.collect(), oldest_us(config.age_h), config.bytes_max);
    for (resolution, age_h, bytes_max) in [
        (Resolution::Minute, config.rollup_minute_age_h, config.rollup_minute_bytes_max),
        (Resolution::Hour, config.rollup_hour_age_h, config.rollup_hour_bytes_max),
    ] {
        let entries = manifest.rollups.iter().filter(|entry| entry.resolution == resolution);
        // The last microsecond that its last group is of.
        let last_us = |entry: &RollupEntry| entry.file.time_max_us.saturating_add(resolution.bucket_us() - 1);
        let groups = entries.map(|entry| (&entry.file, last_us(entry))).collect();
        going.extend(surplus(groups, oldest_us(age_h), bytes_max));
    }
    if going.is_empty() {
        return None;
    }
    remove(manifest, &going, now_us);
    Some(())
}

/// Of some files and their last times, those that end before a time, and the oldest of those that are too many bytes.
fn surplus(
    mut files: Vec<(&FileEntry, i64)>,
    oldest_us: Option<i64>,
    bytes_max: Option<u64>,
) -> BTreeSet<String> {
    // Newest first: the size is filled from there.
    files.sort_by_key(|(_, last_us)| std::cmp::Reverse(*last_us));
    let mut bytes = 0_u64;
    files.retain(|(file, last_us)| {
        bytes = bytes.saturating_add(file.bytes);
        let too_old = oldest_us.is_some_and(|oldest_us| *last_us < oldest_us);
        too_old || bytes_max.is_some_and(|bytes_max| bytes > bytes_max)
    });
    files.into_iter().map(|(file, _)| file.path.clone()).collect()
}

/// Takes files out of the table, and roll-ups; they are unlinked after their grace.
pub(crate) fn remove(manifest: &mut Manifest, going: &BTreeSet<String>, now_us: i64) {
    manifest.files.retain(|file| !going.contains(&file.path));
    manifest.rollups.retain(|entry| !going.contains(&entry.file.path));
    manifest.removed.extend(going.iter().map(|path| Removed { path: path.clone(), at_us: now_us }));
}

/// Unlinks removed files whose grace is over, and forgets them; none if there is nothing to forget.
pub(crate) fn unlink(folder: &DataFolder, manifest: &mut Manifest, now_us: i64, grace_us: i64) -> Option<()> {
    let before = manifest.removed.len();
    manifest.removed.retain(|removed| {
        if now_us.saturating_sub(removed.at_us) < grace_us {
            return true;
        }
        let path = folder.root().join(&removed.path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot unlink an expired file");
                return true;
            }
            _ => {}
        }
        // The folders of the hour and the day go with their last file; a folder that is not empty stays.
        for folder in path.ancestors().skip(1).take(2) {
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
        false
    });
    (manifest.removed.len() < before).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::layout::Place;

    fn file(path: &str, hour: i64, bytes: u64) -> FileEntry {
        let (path, checksum) = (path.to_owned(), String::new());
        let (time_min_us, time_max_us) = (hour * HOUR_US, hour * HOUR_US);
        FileEntry {
            path,
            rows: 1,
            bytes,
            checksum,
            time_min_us,
            time_max_us,
            hot: 1,
            level: 0,
            place: Place::Local,
        }
    }

    #[test]
    fn each_kind_of_files_has_bounds_of_its_own() {
        let rollup = |path: &str, hour, resolution| RollupEntry {
            file: file(path, hour, 10),
            resolution,
            grouping: event::rollup::Grouping::All,
            requests: 1,
            overflowed: 0,
        };
        let manifest = Manifest {
            files: vec![file("old", 0, 10), file("new", 9, 10), file("newest", 10, 10)],
            rollups: vec![
                rollup("old minutes", 0, Resolution::Minute),
                rollup("new minutes", 9, Resolution::Minute),
                rollup("old hours", 0, Resolution::Hour),
                rollup("new hours", 9, Resolution::Hour),
            ],
            ..Manifest::default()
        };
        let gone = |config: RetentionConfig, now_h: i64| {
            let mut next = manifest.clone();
            choose(&config, &mut next, now_h * HOUR_US);
            next.removed.into_iter().map(|removed| removed.path).collect::<Vec<_>>()
        };
        let unbounded = RetentionConfig::default;
        assert!(gone(unbounded(), 1_000_000).is_empty());
        assert_eq!(gone(RetentionConfig { age_h: Some(5), ..unbounded() }, 10), ["old"]);
        assert_eq!(gone(RetentionConfig { bytes_max: Some(19), ..unbounded() }, 10), ["new", "old"]);
        let config = RetentionConfig { rollup_minute_bytes_max: Some(10), ..unbounded() };
        assert_eq!(gone(config, 10), ["old minutes"]);
        let config = RetentionConfig { rollup_hour_bytes_max: Some(9), ..unbounded() };
        assert_eq!(gone(config, 10), ["new hours", "old hours"]);
        // An hour from its beginning on is over an hour later.
        let config = RetentionConfig { rollup_hour_age_h: Some(5), ..unbounded() };
        assert_eq!(gone(config.clone(), 5), Vec::<String>::new());
        assert_eq!(gone(config, 6), ["old hours"]);
    }
}
