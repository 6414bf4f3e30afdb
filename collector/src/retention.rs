//! Which Parquet files go, by age and by size in all; which roll-ups go, by age.
//!
//! A file first leaves the manifest, so that no new query reads it; after a grace for queries that have begun it is
//! unlinked. Both steps change a manifest that is about to come into force; sealing commits it.

use std::collections::BTreeSet;
use std::io;

use event::layout::{DataFolder, Manifest, Removed, RollupEntry};
use event::rollup::Resolution;

use crate::config::RetentionConfig;

const HOUR_US: i64 = 3_600_000_000;

/// Takes the files that are too old or too much out of a manifest; none if all may stay.
pub(crate) fn choose(config: &RetentionConfig, manifest: &mut Manifest, now_us: i64) -> Option<()> {
    let age = |age_h: Option<u32>| age_h.map(|age_h| now_us.saturating_sub(i64::from(age_h) * HOUR_US));
    let oldest_us = age(config.age_h);
    let mut by_age: Vec<_> = manifest.files.iter().collect();
    // Newest first: the size is filled from there.
    by_age.sort_by_key(|file| std::cmp::Reverse(file.time_max_us));
    let mut bytes = 0_u64;
    let mut going = BTreeSet::new();
    for file in by_age {
        bytes = bytes.saturating_add(file.bytes);
        let too_old = oldest_us.is_some_and(|oldest_us| file.time_max_us < oldest_us);
        let too_much = config.bytes_max.is_some_and(|bytes_max| bytes > bytes_max);
        if too_old || too_much {
            going.insert(file.path.clone());
        }
    }
    let (oldest_minute_us, oldest_hour_us) = (age(config.rollup_minute_age_h), age(config.rollup_hour_age_h));
    let is_old = |entry: &&RollupEntry| {
        let oldest_us = match entry.resolution {
            Resolution::Minute => oldest_minute_us,
            Resolution::Hour => oldest_hour_us,
        };
        let end_us = entry.file.time_max_us.saturating_add(entry.resolution.bucket_us());
        oldest_us.is_some_and(|oldest_us| end_us <= oldest_us)
    };
    going.extend(manifest.rollups.iter().filter(is_old).map(|entry| entry.file.path.clone()));
    if going.is_empty() {
        return None;
    }
    remove(manifest, &going, now_us);
    Some(())
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
