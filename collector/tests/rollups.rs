//! Roll-ups are what the rows are: whatever the traffic, whatever happens on the way.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use collector::{CollectorConfig, RebuildError, StartError};
use common::rollups::{
    Counted, HOURS, Key, MINUTES, assert_equal, assert_same, counted, fill, is_overflow, kinds, rolled, total,
};
use common::{assert_balanced, config, files_ending, hot_rows, open_spool, shutdown, start, table, wait};
use event::Draft;
use event::layout::{DataFolder, Manifest};
use event::rollup::{Grouping, Resolution};
use event::spool::Writer;

fn new_folder() -> (tempfile::TempDir, DataFolder) {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    (root, folder)
}

fn write(writers: &mut [Writer], seed: u64, numbers: std::ops::Range<u64>) {
    let (mut draft, lanes) = (Draft::new(), writers.len() as u64);
    for number in numbers {
        fill(&mut draft, number, seed);
        let writer = &mut writers[(number % lanes) as usize];
        wait("room in the spool", || writer.append(&draft).is_ok());
    }
}

/// A folder with the rows and roll-ups of some requests, by a collector that has ended.
fn stored(config: &CollectorConfig, seed: u64, rows: u64) -> (tempfile::TempDir, DataFolder) {
    let (root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    let running = start(config, &folder);
    write(&mut writers, seed, 0..rows);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert!(report.drained && report.hot_left == 0, "{report:?}");
    (root, folder)
}

fn rebuild(config: &CollectorConfig, folder: &DataFolder) -> Result<collector::Rebuilt, RebuildError> {
    collector::rebuild(&collector::validate(config).unwrap(), folder)
}

/// Each kind.
fn all_rolled(folder: &DataFolder) -> Vec<BTreeMap<Key, Counted>> {
    kinds().into_iter().map(|kind| rolled(folder, kind)).collect()
}

fn assert_as_before(folder: &DataFolder, before: &[BTreeMap<Key, Counted>]) {
    for (before, now) in before.iter().zip(&all_rolled(folder)) {
        assert_same(before, now);
    }
}

#[test]
fn roll_ups_of_random_traffic_are_its_rows() {
    for seed in 1..=4 {
        let mut config = config();
        // Files that begin and end anywhere, and batches of very few rows.
        config.seal.rows_max = [400, 5_000, 97, 1_000_000][seed as usize - 1];
        config.flush_interval_ms = [1, 20, 5, 250][seed as usize - 1];
        let (_root, folder) = stored(&config, seed, 4_000);
        assert_eq!(table(&folder).iter().map(|batch| batch.num_rows()).sum::<usize>(), 4_000);
        assert!(assert_equal(&folder) > 1_000);
        let hours = Manifest::load(&folder).unwrap().rollups;
        let hours: BTreeSet<i64> = hours
            .iter()
            .filter(|entry| entry.resolution == Resolution::Hour)
            .map(|entry| entry.partition())
            .collect();
        assert_eq!(hours.len(), 2, "of two days");
    }
}

#[test]
fn names_beyond_the_bound_fall_into_one_group_and_the_totals_hold() {
    let mut config = config();
    config.seal.rows_max = 300;
    let (_root, folder) = stored(&config, 7, 3_000);
    let whole = total(&rolled(&folder, MINUTES));
    config.rollup.groups_max = 3;
    let (_root, folder) = stored(&config, 7, 3_000);
    let entries = Manifest::load(&folder).unwrap().rollups;
    for (resolution, grouping) in kinds() {
        let groups = rolled(&folder, (resolution, grouping));
        if grouping != Grouping::All {
            assert_same(&counted(&folder, (resolution, grouping)), &groups);
            continue;
        }
        assert_eq!(total(&groups).numbers(), whole.numbers());
        let (many, named): (Vec<_>, Vec<_>) = groups.iter().partition(|(key, _)| is_overflow(key));
        let fallen: u64 = many.iter().map(|(_, group)| group.requests).sum();
        let entries = entries.iter().filter(|entry| entry.resolution == resolution && entry.is_original());
        // Each file says what fell of its own, also where one sealing made several.
        let (mut said, mut files) = (0, 0);
        for entry in entries {
            (said, files) = (said + entry.overflowed, files + 1);
            assert!(entry.overflowed > 0 || entry.requests < 30, "{entry:?}");
        }
        assert_eq!(said, fallen);
        assert!(files > 1, "{resolution:?}");
        assert!(fallen > 300 && !named.is_empty(), "{resolution:?}: {fallen}");
    }
    // Once there is one file of each hour and day, none of them has more.
    let running = start(&config, &folder);
    wait("one file each", || is_merged(&folder));
    drop(running);
    for kind in [MINUTES, HOURS] {
        let groups = rolled(&folder, kind);
        assert_eq!(total(&groups).numbers(), whole.numbers());
        let mut named: BTreeMap<i64, usize> = BTreeMap::new();
        groups.keys().filter(|key| !is_overflow(key)).for_each(|key| *named.entry(key.0).or_default() += 1);
        assert!(named.values().all(|count| *count <= 3), "{named:?}");
    }
}

/// Whether no hour and no day has two files, and no file waits to be unlinked.
fn is_merged(folder: &DataFolder) -> bool {
    let manifest = Manifest::load(folder).unwrap();
    let places: BTreeSet<_> =
        manifest.rollups.iter().map(|entry| (entry.resolution, entry.grouping, entry.partition())).collect();
    places.len() == manifest.rollups.len() && manifest.removed.is_empty()
}

#[test]
fn files_of_hours_that_are_over_become_one() {
    let mut config = config();
    (config.seal.rows_max, config.batch_rows_max) = (100, 100);
    // Nothing is unlinked while it is looked at.
    config.retention.grace_s = 3_600;
    let (_root, folder) = stored(&config, 3, 4_000);
    let before = all_rolled(&folder);
    assert!(Manifest::load(&folder).unwrap().rollups.len() > 18, "more than one for each hour and day");
    // Died while a merged file was written, and after it stood there but before the manifest.
    let some = Manifest::load(&folder).unwrap().rollups[0].file.path.clone();
    let stray = folder.root().join(&some).with_file_name("merged-0000000099.parquet");
    std::fs::copy(folder.root().join(&some), &stray).unwrap();
    std::fs::write(stray.with_extension("parquet.tmp"), b"PAR1").unwrap();
    let running = start(&config, &folder);
    assert_eq!(files_ending(&folder.rollups(), "tmp"), 0);
    let one_each = || {
        let manifest = Manifest::load(&folder).unwrap();
        let places: BTreeSet<_> = manifest
            .rollups
            .iter()
            .map(|entry| (entry.resolution, entry.grouping, entry.partition()))
            .collect();
        places.len() == manifest.rollups.len()
    };
    wait("one file each", one_each);
    drop(running);
    assert!(!stray.exists());
    assert_as_before(&folder, &before);
    assert_equal(&folder);
    let manifest = Manifest::load(&folder).unwrap();
    assert!(manifest.rollups.iter().all(|entry| entry.file.path.contains("/merged-")), "{manifest:?}");
    // The old ones go when their grace is over.
    config.retention.grace_s = 0;
    let running = start(&config, &folder);
    wait("the old files' end", || files_ending(&folder.rollups(), "parquet") == manifest.rollups.len());
    drop(running);
    assert_as_before(&folder, &before);
}

#[test]
fn what_an_interrupted_sealing_left_is_put_in_order() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let running = start(&config(), &folder);
    write(&mut writers, 5, 0..500);
    wait("rows in the hot file", || hot_rows(&folder) == 500);
    drop(running);
    let number = *folder.hot_numbers().unwrap().last().unwrap();
    let copies = [folder.hot_file(number), folder.hot_commits(number)]
        .map(|path| (std::fs::read(&path).unwrap(), path));
    // Died with roll-ups that no manifest names: of these rows, and of others.
    let (_other_root, other) = stored(&config(), 5, 500);
    let mut strays = Vec::new();
    for entry in &Manifest::load(&other).unwrap().rollups {
        let path = folder.root().join(&entry.file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(other.root().join(&entry.file.path), &path).unwrap();
        std::fs::write(path.with_extension("parquet.tmp"), b"PAR1").unwrap();
        let stray = path.with_file_name("node-a-9999999999.parquet");
        std::fs::copy(&path, &stray).unwrap();
        strays.push(stray);
    }
    assert!(rolled(&folder, MINUTES).is_empty(), "nothing counts that no manifest names");
    shutdown(start(&config(), &folder));
    assert!(strays.iter().all(|stray| !stray.exists()) && files_ending(&folder.rollups(), "tmp") == 0);
    assert_equal(&folder);
    assert_eq!(total(&rolled(&folder, HOURS)).requests, 500);
    // Died between the manifest and the unlinking of the hot file.
    for (bytes, path) in &copies {
        std::fs::write(path, bytes).unwrap();
    }
    write(&mut writers, 5, 500..700);
    drop(writers);
    spool.close();
    shutdown(start(&config(), &folder));
    assert_equal(&folder);
    assert_eq!(total(&rolled(&folder, HOURS)).requests, 700);
}

/// The child of the next test: a collector until it is killed.
#[test]
#[ignore = "runs only as the child process of another test"]
fn child_collector() {
    let Some(root) = std::env::var_os("TOLLHOUSE_TEST_DATA") else { return };
    let mut config = config();
    config.seal.rows_max = 300;
    config.flush_interval_ms = 1;
    let _running = start(&config, &DataFolder::open(&PathBuf::from(root)).unwrap());
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn collectors_killed_at_any_moment_leave_roll_ups_that_are_their_rows() {
    let (root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    for round in 0..12_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["child_collector", "--exact", "--ignored"])
            .env("TOLLHOUSE_TEST_DATA", root.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        write(&mut writers, 9, round * 1_000..(round + 1) * 1_000);
        let goal = round * 1_000 + common::mix(round) % 1_000;
        wait("some rows", || {
            let sealed: u64 = Manifest::load(&folder).unwrap().files.iter().map(|file| file.rows).sum();
            sealed + hot_rows(&folder) > goal
        });
        child.kill().unwrap();
        child.wait().unwrap();
        // The moment of the kill is one between any two steps, and the manifest is whole at each.
        assert_equal(&folder);
    }
    drop(writers);
    spool.close();
    let report = shutdown(start(&config(), &folder));
    assert!(report.drained);
    assert_balanced(&report);
    assert_equal(&folder);
    assert_eq!(total(&rolled(&folder, MINUTES)).requests, 12_000);
}

#[test]
fn roll_ups_made_anew_are_the_same() {
    let mut config = config();
    config.seal.rows_max = 700;
    let (_root, folder) = stored(&config, 11, 4_000);
    let before = all_rolled(&folder);
    let running = start(&config, &folder);
    let refused = rebuild(&config, &folder).unwrap_err();
    assert!(matches!(refused, RebuildError::Lock(StartError::InUse { .. })), "{refused}");
    drop(running);
    let rebuilt = rebuild(&config, &folder).unwrap();
    assert_eq!((rebuilt.requests, rebuilt.kept), (4_000, 0));
    assert_as_before(&folder, &before);
    assert_equal(&folder);
    assert!(
        Manifest::load(&folder).unwrap().rollups.iter().all(|entry| entry.file.path.contains("/rebuilt-"))
    );

    // As an older version leaves it: rows without roll-ups.
    let mut old = Manifest::load(&folder).unwrap();
    let forgotten = std::mem::take(&mut old.rollups);
    old.store(&folder).unwrap();
    shutdown(start(&config, &folder));
    assert!(forgotten.iter().all(|entry| !folder.root().join(&entry.file.path).exists()));
    let rebuilt = rebuild(&config, &folder).unwrap();
    assert_eq!((rebuilt.requests, rebuilt.kept), (4_000, 0));
    assert_as_before(&folder, &before);
    // And what a later collector makes of them.
    let running = start(&config, &folder);
    wait("one file each", || is_merged(&folder));
    drop(running);
    assert_as_before(&folder, &before);
}

#[test]
fn hours_whose_rows_are_not_all_there_keep_their_roll_ups() {
    let mut config = config();
    config.seal.rows_max = 700;
    let (_root, folder) = stored(&config, 12, 4_000);
    let running = start(&config, &folder);
    wait("one file each", || is_merged(&folder));
    drop(running);
    let before = all_rolled(&folder);
    let mut manifest = Manifest::load(&folder).unwrap();
    let hours: BTreeSet<i64> = manifest.files.iter().map(|file| file.time_min_us / 3_600_000_000).collect();
    // One file of one hour in the middle of a day, all files of another one.
    let (partly, wholly) = (*hours.iter().nth(1).unwrap(), *hours.iter().nth(2).unwrap());
    let first = manifest.files.iter().position(|file| file.time_min_us / 3_600_000_000 == partly).unwrap();
    manifest.files.remove(first);
    manifest.files.retain(|file| file.time_min_us / 3_600_000_000 != wholly);
    manifest.store(&folder).unwrap();
    let rebuilt = rebuild(&config, &folder).unwrap();
    assert_eq!((rebuilt.hours, rebuilt.kept), (hours.len() - 2, 2), "{rebuilt:?}");
    assert_as_before(&folder, &before);
    // By the minute they may have gone by their age already.
    let mut manifest = Manifest::load(&folder).unwrap();
    manifest.rollups.retain(|entry| entry.resolution == Resolution::Hour);
    manifest.store(&folder).unwrap();
    let rebuilt = rebuild(&config, &folder).unwrap();
    assert_eq!((rebuilt.hours, rebuilt.kept), (hours.len() - 2, 2), "{rebuilt:?}");
    assert_same(&before[1], &rolled(&folder, HOURS));
}

#[test]
fn each_resolution_goes_at_its_own_age() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut draft = Draft::new();
    // In the year 1970, and in 2100, which is kept.
    for time_us in [1_000_000, 4_102_444_800_000_000] {
        fill(&mut draft, 0, 0);
        draft.head.time_us = time_us;
        writers[0].append(&draft).unwrap();
    }
    drop(writers);
    spool.close();
    let mut config = config();
    shutdown(start(&config, &folder));
    assert_equal(&folder);
    config.retention.age_h = Some(24);
    let count = |resolution: Resolution| {
        let rollups = Manifest::load(&folder).unwrap().rollups;
        rollups.iter().filter(|entry| entry.resolution == resolution && entry.is_original()).count()
    };
    let running = start(&config, &folder);
    wait("the old rows' end", || Manifest::load(&folder).unwrap().files.len() == 1);
    assert_eq!(Resolution::ALL.map(count), [2, 2], "roll-ups outlive their rows");
    drop(running);
    config.retention.rollup_minute_age_h = Some(48);
    let running = start(&config, &folder);
    wait("the old minutes' end", || count(Resolution::Minute) == 1);
    assert_eq!(count(Resolution::Hour), 2);
    drop(running);
    config.retention.rollup_hour_age_h = Some(100_000);
    let running = start(&config, &folder);
    wait("the old hours' end", || count(Resolution::Hour) == 1);
    wait("the end of their files", || files_ending(&folder.rollups(), "parquet") == kinds().len());
    drop(running);
    assert_equal(&folder);
}
