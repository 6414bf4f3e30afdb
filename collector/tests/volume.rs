//! A million events: all stored, and what that costs (printed with `--nocapture`, release build).
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::File;

use common::*;
use event::Draft;
use event::layout::{DataFolder, Manifest};
use parquet::file::reader::{FileReader, SerializedFileReader};

/// CPU time of this process so far, in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[test]
fn a_million_rows() {
    const EVENTS: u64 = 1_000_000;
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (spool, mut writers) = open_spool(&folder, 2);
    write(&mut writers, &mut Draft::new(), 0, EVENTS);
    drop(writers);
    spool.close();

    let mut config = config();
    config.flush_interval_ms = 100;
    let begun = cpu_ns();
    let running = start(&config, &folder);
    wait("all rows in hot files", || {
        running.ledger().first().is_some_and(|row| row.stored == EVENTS && row.in_flight == 0)
    });
    let hot = cpu_ns();
    let report = shutdown(running);
    let done = cpu_ns();
    assert_eq!((report.rows, report.hot_left), (EVENTS, 0));
    assert_balanced(&report);

    let files = Manifest::load(&folder).unwrap().files;
    let (mut columns, mut ids, mut bytes) = (BTreeMap::new(), 0, 0);
    for file in &files {
        bytes += file.bytes;
        let reader = SerializedFileReader::new(File::open(folder.root().join(&file.path)).unwrap()).unwrap();
        for group in reader.metadata().row_groups() {
            for column in group.columns() {
                let name = column.column_path().string();
                let size = u64::try_from(column.compressed_size()).unwrap();
                ids += if name.ends_with("_id") && name != "credential_id" { size } else { 0 };
                ids += u64::try_from(column.bloom_filter_length().unwrap_or(0)).unwrap();
                *columns.entry(name).or_insert(0) += size;
            }
        }
    }
    println!(
        "CPU per event: {} ns to hot files, {} ns with Parquet",
        (hot - begun) / EVENTS,
        (done - begun) / EVENTS
    );
    println!(
        "Parquet: {:.1} bytes per row, {:.1} without ids and their bloom filters, {} files",
        bytes as f64 / EVENTS as f64,
        (bytes - ids) as f64 / EVENTS as f64,
        files.len()
    );
    let mut columns: Vec<_> = columns.into_iter().collect();
    columns.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    for (name, size) in columns.iter().take(25) {
        println!("{:>8.2} {name}", *size as f64 / EVENTS as f64);
    }
    assert_eq!(identities(&table(&folder)).len() as u64, EVENTS);
}
