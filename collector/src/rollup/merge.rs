//! Many small files of one hour or day into one, once that hour or day is over.
//!
//! Groups of one key are added up, sketches included. The new file stands whole on disk before a manifest names it; the
//! same manifest names the old ones no more, and they stay for a grace for queries that have begun. What is in memory at
//! once are the groups of one minute or hour, and a piece of each file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use event::layout::{DataFolder, RollupEntry};

use super::file::{self, Contents, Reader};
use super::totals::{Groups, Key, Totals};
use super::{Kind, RollupError, entry, place};
use crate::config::CollectorConfig;
use crate::parquet::Written;

/// Most files that are merged at once; more are merged in several steps.
const FILES_MAX: usize = 64;
/// How long an hour or day has been over before its files are merged: most rows that come late have come.
const SLACK_US: i64 = 5 * 60 * 1_000_000;

fn kind(entry: &RollupEntry) -> Kind {
    (entry.resolution, entry.grouping)
}

/// Merges files, a few at each call.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    /// Hours and days of which a file cannot be read: they stay as they are until the next start.
    given_up: BTreeSet<(Kind, i64)>,
}

impl Merger {
    /// Merges the files of the oldest hour or day that is over and has several; none if there is nothing to do. The new
    /// file stands on disk then, and no manifest names it yet: `version` is that of the one in force.
    pub(crate) fn next(
        &mut self,
        folder: &DataFolder,
        config: &CollectorConfig,
        rollups: &[RollupEntry],
        version: u64,
        now_us: i64,
    ) -> Result<Option<Merge>, RollupError> {
        let mut several: BTreeMap<(Kind, i64), Vec<&RollupEntry>> = BTreeMap::new();
        for entry in rollups.iter().filter(|entry| entry.file.place.is_on_disk()) {
            several.entry((kind(entry), entry.partition())).or_default().push(entry);
        }
        let found = several.into_iter().find(|(partition, entries)| {
            let ((resolution, _), number) = partition;
            let over_us = (number + 1).saturating_mul(resolution.file_us()).saturating_add(SLACK_US);
            entries.len() > 1 && over_us <= now_us && !self.given_up.contains(partition)
        });
        let Some((partition, mut entries)) = found else { return Ok(None) };
        entries.truncate(FILES_MAX);
        match merged(folder, config, partition, &entries, version) {
            Err(error @ RollupError::Unreadable { .. }) => {
                tracing::error!(%error, "roll-ups stay in several files");
                self.given_up.insert(partition);
                Ok(None)
            }
            merged => merged.map(Some),
        }
    }
}

/// One file in the place of several.
pub(crate) struct Merge {
    /// Paths of those that go.
    pub(crate) going: BTreeSet<String>,
    pub(crate) made: RollupEntry,
}

fn merged(
    folder: &DataFolder,
    config: &CollectorConfig,
    (kind, number): (Kind, i64),
    entries: &[&RollupEntry],
    version: u64,
) -> Result<Merge, RollupError> {
    // No other merge begins at this version and is committed.
    let path = place(folder, kind, number).join(format!("merged-{:010}.parquet", version + 1));
    let paths = entries.iter().map(|entry| folder.root().join(&entry.file.path));
    let most = config.rollup.most(kind.1);
    let written = combine(&path, config, most, paths, |_| true)?;
    let made = entry(folder, kind, &path, written, 0);
    Ok(Merge { going: entries.iter().map(|entry| entry.file.path.clone()).collect(), made })
}

/// A file anew with those of its groups that stay; none if nothing is left of it.
pub(crate) fn without(
    folder: &DataFolder,
    config: &CollectorConfig,
    old: &RollupEntry,
    name: &str,
    stays: impl Fn(&Key) -> bool,
) -> Result<Option<RollupEntry>, RollupError> {
    let path = place(folder, kind(old), old.partition()).join(name);
    let from = [folder.root().join(&old.file.path)].into_iter();
    let most = config.rollup.most(old.grouping);
    let (written, contents) = combine(&path, config, most, from, stays)?;
    if contents.groups == 0 {
        // No manifest will name it; if it cannot be removed now, the next start of a collector does it.
        drop(std::fs::remove_file(&path));
        return Ok(None);
    }
    Ok(Some(entry(folder, kind(old), &path, (written, contents), 0)))
}

/// Writes the groups of some files as one; of those that are to stay.
fn combine(
    path: &Path,
    config: &CollectorConfig,
    groups_max: usize,
    paths: impl Iterator<Item = PathBuf>,
    keep: impl Fn(&Key) -> bool,
) -> Result<(Written, Contents), RollupError> {
    let mut merged = Merged {
        readers: paths.map(Reader::open).collect::<Result<_, _>>()?,
        groups_max,
        keep,
        ready: Vec::new().into_iter(),
    };
    file::write(path, config.parquet.zstd_level, &mut merged)
}

/// The groups of several files in the order of their keys, each key once.
struct Merged<K> {
    readers: Vec<Reader>,
    groups_max: usize,
    keep: K,
    /// Those of the minute or hour at hand.
    ready: IntoIter<(Key, Totals)>,
}

impl<K: Fn(&Key) -> bool> Merged<K> {
    /// Makes the groups of the next minute or hour ready; false at the end.
    fn advance(&mut self) -> Result<bool, RollupError> {
        let mut least = None;
        for reader in &mut self.readers {
            let time_us = reader.time_us()?;
            least = [least, time_us].into_iter().flatten().min();
        }
        let Some(least) = least else { return Ok(false) };
        let mut groups = Groups::new(self.groups_max);
        for reader in &mut self.readers {
            while reader.time_us()? == Some(least) {
                let (key, totals) = reader.take()?;
                if (self.keep)(&key) {
                    groups.add(key, &totals);
                }
            }
        }
        self.ready = groups.into_sorted().into_iter();
        Ok(true)
    }
}

impl<K: Fn(&Key) -> bool> Iterator for Merged<K> {
    type Item = Result<(Key, Totals), RollupError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(group) = self.ready.next() {
                return Some(Ok(group));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
