//! Disks that fill up, fail and come back: nothing lost, nothing twice, nothing synced again after it failed.
#![allow(clippy::unwrap_used)]

mod common;
mod disk;

use std::time::Duration;

use common::*;
use disk::Disk;
use event::Draft;
use event::layout::{DataFolder, Manifest};

/// A folder, and the disk that its files are on.
fn new_folder() -> (tempfile::TempDir, DataFolder, Disk) {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let disk = Disk::under(folder.root());
    (root, folder, disk)
}

fn sealed_rows(folder: &DataFolder) -> u64 {
    Manifest::load(folder).unwrap().files.iter().map(|file| file.rows).sum()
}

fn stored(running: &collector::Running) -> u64 {
    running.ledger().first().map_or(0, |row| row.stored)
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_hot_file() {
    let (_root, folder, disk) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut draft = Draft::new();
    let mut config = config();
    config.retry_interval_ms = 20;
    let running = start(&config, &folder);
    write(&mut writers, &mut draft, 0, 2_000);
    wait("the first rows", || stored(&running) == 2_000);
    // Room for less than one batch: part of it is written, then nothing more.
    disk.leave("hot", 30_000);
    write(&mut writers, &mut draft, 2_000, 12_000);
    wait("refused writes", || disk.refusals() >= 3);
    assert_eq!(stored(&running), 2_000);
    wait("the first rows, hot or sealed", || hot_rows(&folder) + sealed_rows(&folder) == 2_000);
    disk.free();
    wait("all rows", || stored(&running) == 12_000 && running.ledger()[0].in_flight == 0);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert_eq!((report.rows, report.drained, report.hot_left), (12_000, true, 0));
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len(), 12_000);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_parquet_file() {
    let (_root, folder, disk) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut config = config();
    config.retry_interval_ms = 20;
    config.seal.rows_max = 1_000;
    disk.leave("requests", 5_000);
    let running = start(&config, &folder);
    write(&mut writers, &mut Draft::new(), 0, 5_000);
    wait("refused writes", || disk.refusals() >= 3);
    wait("all rows in hot files", || stored(&running) == 5_000);
    assert_eq!((hot_rows(&folder), sealed_rows(&folder)), (5_000, 0), "rows stay where they can be queried");
    disk.free();
    wait("sealed rows", || sealed_rows(&folder) >= 1_000);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert_eq!((report.rows, report.hot_left), (5_000, 0));
    assert_eq!(identities(&table(&folder)).len(), 5_000);
    assert_eq!(files_ending(&folder.requests(), "tmp"), 0, "what was begun is removed");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_merge() {
    let (_root, folder, disk) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut config = config();
    config.compaction.enabled = false;
    config.batch_rows_max = 500;
    config.seal.rows_max = 1_000;
    write(&mut writers, &mut Draft::new(), 0, 5_000);
    drop(writers);
    spool.close();
    shutdown(start(&config, &folder));
    let sealed = Manifest::load(&folder).unwrap().files;
    assert!(sealed.len() >= 5, "{sealed:?}");
    // Hours of the past are closed. There is room for less than the output.
    config.compaction.enabled = true;
    disk.leave("requests", 20_000);
    let running = start(&config, &folder);
    wait("a refused write", || disk.refusals() >= 1);
    wait("the end of what was begun", || files_ending(&folder.requests(), "tmp") == 0);
    assert_eq!(Manifest::load(&folder).unwrap().files, sealed, "the table is what it was");
    disk.free();
    wait("a merge", || Manifest::load(&folder).unwrap().files.iter().any(|file| file.level > 0));
    shutdown(running);
    assert!(Manifest::load(&folder).unwrap().files.len() < sealed.len());
    assert_eq!(identities(&table(&folder)).len(), 5_000);
}

#[test]
fn a_sync_that_fails_is_not_repeated_on_its_file() {
    let (_root, folder, disk) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut draft = Draft::new();
    let mut config = config();
    config.retry_interval_ms = 20;
    config.sync_interval_ms = 30;
    config.seal.rows_max = 4_000;
    let running = start(&config, &folder);
    let mut written = 0;
    for folder_name in ["hot", "requests", "hot"] {
        let refusals = disk.refusals();
        disk.fail_syncs(folder_name);
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while disk.refusals() < refusals + 2 {
            assert!(std::time::Instant::now() < deadline, "no sync of {folder_name}");
            write(&mut writers, &mut draft, written, written + 500);
            written += 500;
            std::thread::sleep(Duration::from_millis(5));
        }
        disk.free();
    }
    wait("all rows", || stored(&running) == written && running.ledger()[0].in_flight == 0);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert!(report.drained, "{report:?}");
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len() as u64, written);
    assert_eq!(disk.synced_after_a_failure(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_collector_that_ends_while_syncs_fail_leaves_its_events_in_the_spool() {
    let (_root, folder, disk) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut config = config();
    config.drain_timeout_ms = 300;
    config.retry_interval_ms = 20;
    disk.fail_syncs("hot");
    let running = start(&config, &folder);
    write(&mut writers, &mut Draft::new(), 0, 3_000);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert!(!report.drained, "{report:?}");
    disk.free();
    let report = shutdown(start(&config, &folder));
    assert!(report.drained, "{report:?}");
    assert_eq!(identities(&table(&folder)).len(), 3_000);
}

#[test]
fn a_second_collector_is_refused() {
    let (root, folder, _disk) = new_folder();
    let first = start(&config(), &folder);
    let second = collector::start(collector::validate(&config()).unwrap(), &folder);
    let error = second.unwrap_err().to_string();
    assert!(error.contains("has a collector already"), "{error}");
    assert!(error.contains(&root.path().display().to_string()), "{error}");
    drop(first);
    shutdown(start(&config(), &folder));
}
