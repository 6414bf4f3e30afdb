//! Which files are merged next.
//!
//! Of an hour that is over, all files that were not merged at its close become one set of large files: a row of an
//! ordinary hour is rewritten once. While an hour goes on, `files_min` files of one level become one file of the next
//! level, so that a queue of small files grows with the logarithm of their number, and so does the number of times that
//! a row is rewritten. Rows that come late to a closed hour are merged among each other first.

use std::collections::BTreeMap;

use event::layout::{FileEntry, Manifest};

use crate::config::CompactionConfig;
use crate::parquet::HOUR_US;

/// Level of the files that the close of an hour makes.
pub(crate) const LEVEL_CLOSED: u8 = 10;
/// Files of this level stay as they are.
const LEVEL_MAX: u8 = 20;
/// A file that is alone in its hour is rewritten from this size on, for its order and its compression.
const ALONE_BYTES_MIN: u64 = 4 << 20;
/// Most files that have rows of one moment: each costs its own buffers.
const OPEN_MAX: usize = 16;

/// Files of one hour that become one set of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Hours since 1970 (UTC).
    pub(crate) hour: i64,
    /// By their first time.
    pub(crate) inputs: Vec<FileEntry>,
    /// Level of the outputs.
    pub(crate) level: u8,
}

impl Job {
    pub(crate) fn rows(&self) -> u64 {
        self.inputs.iter().map(|file| file.rows).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.inputs.iter().map(|file| file.bytes).sum()
    }
}

/// Hours before this one are closed.
pub(crate) fn closed_until(config: &CompactionConfig, now_us: i64) -> i64 {
    now_us.saturating_sub(i64::from(config.delay_s) * 1_000_000).div_euclid(HOUR_US)
}

/// The next merge of files that are usable, of the newest hour first: that is what people look at. None if there is not
/// enough to do.
pub(crate) fn choose(
    config: &CompactionConfig,
    manifest: &Manifest,
    usable: impl Fn(&FileEntry) -> bool,
    now_us: i64,
) -> Option<Job> {
    let mut hours: BTreeMap<i64, Vec<&FileEntry>> = BTreeMap::new();
    for file in manifest.files.iter().filter(|file| usable(file)) {
        hours.entry(file.time_min_us.div_euclid(HOUR_US)).or_default().push(file);
    }
    let closed = closed_until(config, now_us);
    hours.into_iter().rev().find_map(|(hour, files)| {
        let of = |keep: &dyn Fn(&FileEntry) -> bool| -> Vec<FileEntry> {
            files.iter().filter(|file| keep(file)).map(|file| (*file).clone()).collect()
        };
        if hour < closed {
            let rest = of(&|file| file.level < LEVEL_CLOSED);
            if rest.len() > 1 || rest.iter().any(|file| file.bytes >= ALONE_BYTES_MIN) {
                return Some(job(config, hour, rest, LEVEL_CLOSED));
            }
        }
        let range = if hour < closed { LEVEL_CLOSED..LEVEL_MAX } else { 0..LEVEL_CLOSED - 1 };
        range.into_iter().find_map(|level| {
            // A file that is half as large as may be is large.
            let same = of(&|file| file.level == level && file.bytes < config.bytes_max / 2);
            let enough = same.len() >= config.files_min as usize;
            enough.then(|| job(config, hour, same, level + 1))
        })
    })
}

/// The first of some files by time, as many as one merge may take.
fn job(config: &CompactionConfig, hour: i64, mut files: Vec<FileEntry>, level: u8) -> Job {
    files.sort_by_key(|file| file.time_min_us);
    let mut inputs: Vec<FileEntry> = Vec::new();
    for file in files.into_iter().take(config.files_max as usize) {
        let beside = inputs.iter().filter(|other| other.time_max_us >= file.time_min_us).count();
        if beside >= OPEN_MAX {
            break;
        }
        inputs.push(file);
    }
    Job { hour, inputs, level }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use event::layout::Place;

    use super::*;

    fn file(hour: i64, minute: i64, level: u8) -> FileEntry {
        let time_min_us = hour * HOUR_US + minute * 60_000_000;
        FileEntry {
            path: format!("requests/{hour}/{minute}-{level}.parquet"),
            rows: 10,
            bytes: 1_000,
            checksum: String::new(),
            time_min_us,
            time_max_us: time_min_us + 59_999_999,
            hot: 1,
            level,
            place: Place::Local,
        }
    }

    fn chosen(files: Vec<FileEntry>, now_us: i64) -> Option<(i64, usize, u8)> {
        let manifest = Manifest { files, ..Manifest::default() };
        let config =
            CompactionConfig { delay_s: 600, files_min: 4, files_max: 10, ..CompactionConfig::default() };
        let job = choose(&config, &manifest, |_| true, now_us)?;
        assert!(job.inputs.is_sorted_by_key(|file| file.time_min_us));
        Some((job.hour, job.inputs.len(), job.level))
    }

    #[test]
    fn an_open_hour_waits_for_enough_files_of_one_level() {
        let now_us = 5 * HOUR_US + 1;
        let minutes = |count: i64, level| (0..count).map(move |minute| file(5, minute, level));
        assert_eq!(chosen(minutes(3, 0).collect(), now_us), None);
        assert_eq!(chosen(minutes(4, 0).rev().collect(), now_us), Some((5, 4, 1)));
        assert_eq!(chosen(minutes(3, 0).chain(minutes(3, 1)).collect(), now_us), None);
        assert_eq!(chosen(minutes(3, 0).chain(minutes(4, 1)).collect(), now_us), Some((5, 4, 2)));
    }

    #[test]
    fn a_closed_hour_is_merged_once_and_what_comes_late_among_itself() {
        let closes_us = 6 * HOUR_US + 600_000_000;
        let two = || vec![file(5, 3, 0), file(5, 1, 2)];
        assert_eq!(chosen(two(), closes_us - 1), None);
        assert_eq!(chosen(two(), closes_us), Some((5, 2, LEVEL_CLOSED)));
        assert_eq!(chosen(vec![file(5, 0, LEVEL_CLOSED), file(5, 1, 0)], closes_us), None);
        assert_eq!(
            chosen(vec![file(5, 0, LEVEL_CLOSED), file(5, 1, 0), file(5, 2, 0)], closes_us).unwrap().1,
            2
        );
        let late = |count: i64| (0..count).map(|minute| file(5, minute, LEVEL_CLOSED)).collect();
        assert_eq!(chosen(late(3), closes_us), None);
        assert_eq!(chosen(late(4), closes_us), Some((5, 4, LEVEL_CLOSED + 1)));
        let alone = FileEntry { bytes: ALONE_BYTES_MIN, ..file(5, 0, 0) };
        assert_eq!(chosen(vec![file(5, 0, 0)], closes_us), None);
        assert_eq!(chosen(vec![alone], closes_us), Some((5, 1, LEVEL_CLOSED)));
    }

    #[test]
    fn a_merge_is_bounded_and_ends() {
        // A thousand files of one moment, as of very many gateways: few at a time, and in the end few are left.
        let mut files: Vec<_> =
            (0..1_000).map(|number| FileEntry { path: number.to_string(), ..file(5, 7, 0) }).collect();
        let mut merges = 0;
        let config = CompactionConfig::default();
        let manifest = |files: &[FileEntry]| Manifest { files: files.to_vec(), ..Manifest::default() };
        while let Some(job) = choose(&config, &manifest(&files), |_| true, 9 * HOUR_US) {
            assert!(job.inputs.len() <= OPEN_MAX);
            let going: BTreeSet<_> = job.inputs.iter().map(|file| file.path.clone()).collect();
            files.retain(|file| !going.contains(&file.path));
            files.push(FileEntry { path: format!("m{merges}"), rows: job.rows(), ..file(5, 7, job.level) });
            merges += 1;
            assert!(merges < 1_000, "it does not end");
        }
        assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 10_000);
        assert!(files.len() < config.files_min as usize, "{} are left", files.len());
    }

    #[test]
    fn the_newest_hour_comes_first_and_what_is_left_out_stays() {
        let files = vec![file(3, 0, 0), file(3, 1, 0), file(4, 0, 0), file(4, 1, 0)];
        assert_eq!(chosen(files.clone(), 99 * HOUR_US).unwrap().0, 4);
        let manifest = Manifest { files: files.clone(), ..Manifest::default() };
        let left = files[2].path.clone();
        let job =
            choose(&CompactionConfig::default(), &manifest, |file| file.path != left, 99 * HOUR_US).unwrap();
        assert_eq!((job.hour, job.inputs), (3, files[..2].to_vec()));
    }
}
