//! From a real spool to real Parquet files: exact counts, no duplicates, whatever happens on the way.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use arrow::array::{Array, AsArray};
use common::*;
use event::layout::{DataFolder, Manifest};
use event::spool::{Spool, Writer};
use event::{Draft, Text};

fn new_folder() -> (tempfile::TempDir, DataFolder) {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    (root, folder)
}

#[test]
fn two_lanes_become_sorted_files_by_hour_and_the_ledger_balances() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    let running = start(&config(), &folder);
    // 200 µs apart: 20,000 rows are four seconds from the beginning of an hour, the first ones before it.
    write(&mut writers, &mut Draft::new(), 0, 20_000);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert!(report.drained, "{report:?}");
    assert_eq!((report.rows, report.hot_left), (20_000, 0));
    assert_balanced(&report);
    let parquet = report.ledger.iter().find(|row| row.sink == "parquet").unwrap();
    assert_eq!((parquet.produced, parquet.stored, parquet.in_flight), (20_000, 20_000, 0));
    assert_eq!(parquet.node, "node-a");
    let table = table(&folder);
    assert_eq!(identities(&table).len(), 20_000);
    assert!(Manifest::load(&folder).unwrap().files.len() >= 2, "rows of two hours are in two files");
    assert!(folder.hot_numbers().unwrap().is_empty());
    let consumers: usize = table
        .iter()
        .map(|batch| {
            batch["consumer"]
                .as_string::<i32>()
                .iter()
                .flatten()
                .filter(|name| *name == "consumer-number-7")
                .count()
        })
        .sum();
    let expected = (0..20_000).filter(|number| (mix(*number) >> 40) % 50 == 7).count();
    assert_eq!(consumers, expected);
}

#[test]
fn any_bytes_give_one_valid_row() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let hostile = b"/\r\n\0\x1b[2J\"'\\,\xff\xfe\xc3(";
    let mut draft = Draft::new();
    for number in 0..3 {
        fill(&mut draft, number);
        for text in [Text::Path, Text::UserAgent, Text::Host, Text::Method, Text::Consumer, Text::Error] {
            draft.text(text, hostile);
        }
        draft.extra(b"k\xff", b"v\0\xff");
        draft.extra(b"", b"");
        writers[0].append(&draft).unwrap();
    }
    let running = start(&config(), &folder);
    drop(writers);
    spool.close();
    assert_eq!(shutdown(running).rows, 3);
    let table = table(&folder);
    assert_eq!(identities(&table).len(), 3);
    for batch in &table {
        for name in ["path", "user_agent", "host", "method", "consumer", "error"] {
            let column = batch[name].as_string::<i32>();
            assert!(column.iter().all(|value| value == Some(&String::from_utf8_lossy(hostile))), "{name}");
        }
        let extra = batch["extra"].as_map();
        assert_eq!(extra.value_length(0), 2);
        assert_eq!(extra.keys().as_string::<i32>().value(0), "k\u{fffd}");
        assert_eq!(batch["request_id"].as_fixed_size_binary().value_length(), 16);
        assert!(batch["workspace"].is_null(0));
    }
}

#[test]
fn collectors_dropped_in_the_middle_lose_nothing_and_repeat_nothing() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    let mut draft = Draft::new();
    let mut config = config();
    config.seal.rows_max = 3_000;
    for round in 0..6 {
        let running = start(&config, &folder);
        write(&mut writers, &mut draft, round * 5_000, (round + 1) * 5_000);
        let goal = round * 5_000 + 1;
        wait("some rows", || {
            let sealed: u64 = Manifest::load(&folder).unwrap().files.iter().map(|file| file.rows).sum();
            sealed + hot_rows(&folder) >= goal
        });
        drop(running);
    }
    drop(writers);
    spool.close();
    let report = shutdown(start(&config, &folder));
    assert!(report.drained);
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len(), 30_000);
}

/// The child of the next test: a collector until it is killed.
#[test]
#[ignore = "runs only as the child process of another test"]
fn child_collector() {
    let Some(root) = std::env::var_os("TOLLHOUSE_TEST_DATA") else { return };
    let mut config = config();
    config.seal.rows_max = 2_000;
    config.flush_interval_ms = 1;
    let _running = start(&config, &DataFolder::open(&PathBuf::from(root)).unwrap());
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn collectors_killed_at_any_moment_lose_nothing_and_repeat_nothing() {
    let (root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 2);
    let mut draft = Draft::new();
    for round in 0..10_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_collector", "--exact", "--ignored"])
            .env("TOLLHOUSE_TEST_DATA", root.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        write(&mut writers, &mut draft, round * 5_000, round * 5_000 + 5_000);
        let goal = round * 5_000 + mix(round) % 5_000;
        wait("some rows", || {
            let sealed: u64 = Manifest::load(&folder).unwrap().files.iter().map(|file| file.rows).sum();
            sealed + hot_rows(&folder) > goal
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(writers);
    spool.close();
    let report = shutdown(start(&config(), &folder));
    assert!(report.drained);
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len(), 50_000);
}

#[test]
fn a_damaged_record_is_counted_and_the_others_are_stored() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    write(&mut writers, &mut Draft::new(), 0, 1_000);
    let lane = folder.spool().join("core-000");
    let needle = format!("consumer-number-{}", (mix(500) >> 40) % 50);
    let damaged = std::fs::read_dir(&lane).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
        let Some(place) = found else { return false };
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"X", place as u64).unwrap();
        true
    });
    assert!(damaged);
    let running = start(&config(), &folder);
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert_balanced(&report);
    let parquet = report.ledger.iter().find(|row| row.sink == "parquet").unwrap();
    assert_eq!(parquet.reasons.get("corrupt"), Some(&1), "{parquet:?}");
    assert_eq!((parquet.produced, parquet.stored, parquet.in_flight), (1_000, 999, 0));
    assert_eq!(identities(&table(&folder)).len(), 999);
}

/// What a collector leaves that ends without sealing; the gateway goes on.
fn stopped_with_500_hot_rows(folder: &DataFolder) -> (Spool, Vec<Writer>, Draft) {
    let (spool, mut writers) = open_spool(folder, 1);
    let mut draft = Draft::new();
    let running = start(&config(), folder);
    write(&mut writers, &mut draft, 0, 500);
    wait("rows in the hot file", || hot_rows(folder) == 500);
    drop(running);
    (spool, writers, draft)
}

#[test]
fn a_torn_tail_of_a_hot_file_is_read_again_from_the_spool() {
    let (_root, folder) = new_folder();
    let (spool, mut writers, mut draft) = stopped_with_500_hot_rows(&folder);
    // The process died while it wrote a batch: bytes without a commit, and half a commit.
    let number = *folder.hot_numbers().unwrap().last().unwrap();
    for (path, torn) in
        [(folder.hot_file(number), &b"half a batch"[..]), (folder.hot_commits(number), b"{\"end\":99")]
    {
        OpenOptions::new().append(true).open(path).unwrap().write_all(torn).unwrap();
    }
    write(&mut writers, &mut draft, 500, 900);
    drop(writers);
    spool.close();
    let report = shutdown(start(&config(), &folder));
    assert_eq!(report.rows, 400);
    assert_eq!(identities(&table(&folder)).len(), 900);
}

#[test]
fn what_an_interrupted_sealing_left_is_put_in_order() {
    let (_root, folder) = new_folder();
    let (spool, mut writers, mut draft) = stopped_with_500_hot_rows(&folder);
    let number = *folder.hot_numbers().unwrap().last().unwrap();
    let copies = [folder.hot_file(number), folder.hot_commits(number)]
        .map(|path| (std::fs::read(&path).unwrap(), path));
    let hour = folder.requests().join("date=2026-01-01/hour=00");
    std::fs::create_dir_all(&hour).unwrap();
    // Died while writing Parquet; died between the rename and the manifest.
    std::fs::write(hour.join(format!("node-a-{number:010}.parquet.tmp")), b"PAR1").unwrap();
    std::fs::write(hour.join(format!("node-a-{number:010}.parquet")), b"PAR1").unwrap();
    shutdown(start(&config(), &folder));
    assert_eq!(std::fs::read_dir(&hour).unwrap().count(), 0);
    assert_eq!(identities(&table(&folder)).len(), 500);
    // Died between the manifest and the unlinking of the hot file.
    for (bytes, path) in &copies {
        std::fs::write(path, bytes).unwrap();
    }
    write(&mut writers, &mut draft, 500, 700);
    drop(writers);
    spool.close();
    shutdown(start(&config(), &folder));
    assert!(folder.hot_numbers().unwrap().is_empty());
    assert_eq!(identities(&table(&folder)).len(), 700);
}

#[test]
fn while_the_disk_refuses_events_wait_and_then_all_are_stored() {
    let (root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut draft = Draft::new();
    let mut config = config();
    config.seal.rows_max = 100;
    config.retry_interval_ms = 50;
    let running = start(&config, &folder);
    write(&mut writers, &mut draft, 0, 300);
    wait("the first rows", || running.ledger().first().is_some_and(|row| row.stored == 300));
    // No hot file can be made, and no Parquet file, while a file stands where their folders were.
    for name in ["hot", "requests"] {
        std::fs::rename(root.path().join(name), root.path().join(format!("{name}.away"))).unwrap();
        std::fs::write(root.path().join(name), b"").unwrap();
    }
    write(&mut writers, &mut draft, 300, 20_000);
    wait("a ledger that shows what waits", || {
        let counters = spool.counters().core(0);
        counters.written == 20_000 && running.ledger().first().is_some_and(|row| row.stored < 20_000)
    });
    for name in ["hot", "requests"] {
        std::fs::remove_file(root.path().join(name)).unwrap();
        std::fs::rename(root.path().join(format!("{name}.away")), root.path().join(name)).unwrap();
    }
    wait("all rows", || {
        running.ledger().first().is_some_and(|row| row.stored == 20_000 && row.in_flight == 0)
    });
    drop(writers);
    spool.close();
    let report = shutdown(running);
    assert_eq!((report.rows, report.hot_left), (20_000, 0));
    assert_balanced(&report);
    assert_eq!(identities(&table(&folder)).len(), 20_000);
}

#[test]
fn beyond_the_bound_in_bytes_the_oldest_files_go() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut draft = Draft::new();
    // Four hours, and one file of more than a mebibyte for each.
    for hour in 0..4 {
        for number in hour * 20_000..(hour + 1) * 20_000 {
            fill(&mut draft, number);
            draft.head.time_us = HOUR_START_US + 3_600_000_000 * i64::try_from(hour).unwrap() + 1;
            wait("room in the spool", || writers[0].append(&draft).is_ok());
        }
    }
    drop(writers);
    spool.close();
    let mut config = config();
    shutdown(start(&config, &folder));
    let all = Manifest::load(&folder).unwrap().files;
    let bytes: Vec<u64> = all.iter().map(|file| file.bytes).collect();
    assert!(all.len() == 4 && bytes.iter().all(|bytes| *bytes > 1 << 20), "{bytes:?}");
    config.retention.bytes_max = Some(bytes[2] + bytes[3]);
    let running = start(&config, &folder);
    wait("the end of two files", || files_ending(&folder.requests(), "parquet") == 2);
    wait("the end of their names", || Manifest::load(&folder).unwrap().removed.is_empty());
    drop(running);
    let left = Manifest::load(&folder).unwrap().files;
    assert_eq!(left, all[2..]);
    assert_eq!(identities(&table(&folder)).len(), 40_000);
}

#[test]
fn expired_files_leave_the_manifest_and_then_the_disk() {
    let (_root, folder) = new_folder();
    let (spool, mut writers) = open_spool(&folder, 1);
    let mut draft = Draft::new();
    fill(&mut draft, 0);
    draft.head.time_us = 1_000_000;
    writers[0].append(&draft).unwrap();
    // In the year 2100: what is kept.
    draft.head.time_us = 4_102_444_800_000_000;
    writers[0].append(&draft).unwrap();
    drop(writers);
    spool.close();
    let mut config = config();
    shutdown(start(&config, &folder));
    assert_eq!(Manifest::load(&folder).unwrap().files.len(), 2);
    config.retention.age_h = Some(24);
    let running = start(&config, &folder);
    let old = folder.requests().join("date=1970-01-01");
    wait("the old file's end", || !old.exists());
    wait("its name's end", || Manifest::load(&folder).unwrap().removed.is_empty());
    drop(running);
    assert_eq!(identities(&table(&folder)).len(), 1);
}
