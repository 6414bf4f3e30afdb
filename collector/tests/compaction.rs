//! Compaction beside everything else: whatever happens, every event is one row, at every moment that a query may look.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collector::CollectorConfig;
use common::*;
use event::Draft;
use event::layout::{DataFolder, Manifest};

/// Small files, merged two at a time as soon as they are there: hours of the past are closed.
fn eager() -> CollectorConfig {
    let mut config = config();
    config.flush_interval_ms = 1;
    config.batch_rows_max = 250;
    config.seal.rows_max = 500;
    config.compaction.delay_s = 0;
    config.compaction.files_min = 2;
    config.compaction.files_max = 3;
    config.compaction.zstd_level = 1;
    config
}

fn new_folder() -> (tempfile::TempDir, DataFolder) {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    (root, folder)
}

fn merged_rows(folder: &DataFolder) -> u64 {
    let files = Manifest::load(folder).unwrap().files;
    files.iter().filter(|file| file.level > 0).map(|file| file.rows).sum()
}

#[test]
fn small_files_become_few_and_every_look_at_the_table_finds_each_row_once() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    let mut config = eager();
    // Inputs stay for those who look at them.
    config.retention.grace_s = 300;
    let running = start(&config, &folder);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let (mut looks, mut least) = (0, 0);
            while !done.load(Ordering::Acquire) {
                // Asserts that no row is there twice, in files that are as the manifest says.
                let rows = identities(&table(&folder)).len();
                assert!(rows >= least, "{rows} rows after {least}");
                (looks, least) = (looks + 1, rows);
            }
            looks
        });
        write(&mut writers, &mut Draft::new(), 0, 40_000);
        wait("all rows in few files", || {
            let files = Manifest::load(&folder).unwrap().files;
            merged_rows(&folder) >= 39_000 && files.len() < 12
        });
        done.store(true, Ordering::Release);
        assert!(looks.join().unwrap() > 0);
    });
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert!(report.merges > 0, "{report:?}");
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len(), 40_000);
}

#[test]
fn merged_inputs_are_unlinked_after_their_grace() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    write(&mut writers, &mut Draft::new(), 0, 5_000);
    let running = start(&eager(), &folder);
    wait("only files of the table", || {
        let manifest = Manifest::load(&folder).unwrap();
        let there = files_ending(&folder.requests(), "parquet");
        merged_rows(&folder) >= 4_000 && manifest.removed.is_empty() && there == manifest.files.len()
    });
    drop(writers);
    spool.close();
    shutdown(running);
    assert_eq!(identities(&table(&folder)).len(), 5_000);
}

/// The child of the next test: a collector until it is killed.
#[test]
#[ignore = "runs only as the child process of another test"]
fn child_collector() {
    let Some(root) = std::env::var_os("TOLLHOUSE_TEST_DATA") else { return };
    let _running = start(&eager(), &DataFolder::open(&PathBuf::from(root)).unwrap());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn killed_at_any_moment_of_a_merge_nothing_is_lost_and_nothing_is_twice() {
    let (root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    let mut draft = Draft::new();
    let mut merged = 0;
    for round in 0..20_u64 {
        let version = Manifest::load(&folder).unwrap().version;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_collector", "--exact", "--ignored"])
            .env("TOLLHOUSE_TEST_DATA", root.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        write(&mut writers, &mut draft, round * 3_000, round * 3_000 + 3_000);
        // A few commits after the start, then a moment that is another one each time.
        wait("some commits", || Manifest::load(&folder).unwrap().version >= version + 1 + round % 5);
        std::thread::sleep(Duration::from_micros(mix(round) % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        merged = merged.max(merged_rows(&folder));
        // What counts is whole, also before anything was put in order.
        identities(&table(&folder));
    }
    assert!(merged > 0, "no merge was committed: the test shows nothing");
    drop(writers);
    spool.close();
    let report = shutdown(start(&config(), &folder));
    assert!(report.drained);
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len(), 60_000);
    assert_eq!(files_ending(&folder.requests(), "tmp"), 0);
}
