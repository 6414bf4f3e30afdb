//! A spool that goes from one process to the next while both write: lanes of their own, and each put in order once its
//! writer is gone.
#![allow(clippy::unwrap_used, missing_docs)]

use event::Draft;
use event::spool::{
    BANKS_MAX, CORES_MAX, Counters, LaneReader, Spool, SpoolConfig, SpoolError, Writer, place_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CORES: u16 = 2;

fn small() -> SpoolConfig {
    SpoolConfig { segment_bytes: 64 << 10, bytes_max: 1 << 30, sync_interval_ms: 5 }
}

fn append(writer: &mut Writer, n: i64) {
    let mut draft = Draft::new();
    draft.reset(n);
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(reason) = writer.append(&draft) {
        assert!(Instant::now() < deadline, "still {reason:?}");
        std::thread::yield_now();
    }
}

fn append_all(writers: &mut [Writer], next: &mut i64, count: usize) {
    for turn in 0..count {
        let at = turn % writers.len();
        append(&mut writers[at], *next);
        *next += 1;
    }
}

/// Reads each lane on from where it was, as a collector does.
#[derive(Default)]
struct Collector {
    lanes: BTreeMap<u16, LaneReader>,
    seen: Vec<i64>,
    names: BTreeSet<(u16, u64)>,
}

impl Collector {
    fn read(&mut self, folder: &Path) {
        for lane in LaneReader::lanes(folder).unwrap() {
            let reader =
                self.lanes.entry(lane).or_insert_with(|| LaneReader::open(folder, lane, None).unwrap());
            let (seen, names) = (&mut self.seen, &mut self.names);
            while reader
                .read(1000, |event| {
                    assert_eq!(event.core, lane);
                    assert!(names.insert((lane, event.sequence)), "a name is given once");
                    seen.push(event.head.time_us);
                })
                .unwrap()
                > 0
            {}
            if let Some(position) = reader.position() {
                reader.release(position.sequence).unwrap();
            }
            assert_eq!(reader.corrupt_records(), 0);
        }
    }

    fn assert_whole(&mut self, end: i64) {
        self.seen.sort_unstable();
        assert_eq!(self.seen, (0..end).collect::<Vec<_>>());
    }
}

fn files(folder: &Path, lane: u16) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join(format!("core-{lane:03}"))).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_processes_write_side_by_side_and_the_folder_has_one_owner_all_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let in_use = || matches!(Spool::open(&small(), path, "node", CORES), Err(SpoolError::InUse { .. }));
    let (mut old, mut old_writers) = Spool::open(&small(), path, "node", CORES).unwrap();
    let mut next = 0;
    append_all(&mut old_writers, &mut next, 900);
    let lock = old.lock().unwrap().unwrap();
    let (new, mut new_writers) = Spool::take_over(&small(), path, "node", CORES, lock).unwrap();
    assert_eq!((new.counters().bank(), Counters::banks(path).unwrap()), (1, vec![0, 1]));
    assert!(in_use());
    // The segments of the old one, which lives, were not ended.
    for _ in 0..20 {
        append_all(&mut old_writers, &mut next, 100);
        append_all(&mut new_writers, &mut next, 100);
    }
    old.hand_over();
    assert!(in_use() && old.lock().unwrap().is_none());
    append_all(&mut old_writers, &mut next, 100);
    let mut collector = Collector::default();
    collector.read(path);
    collector.assert_whole(next);
    let counts = |bank: u16| {
        let counters = Counters::open(path, bank).unwrap();
        (0..counters.cores()).map(|core| counters.core(core).written).sum::<u64>()
    };
    assert_eq!((counts(0), counts(1)), (3_000, 2_000));
    drop(old_writers);
    old.close();
    assert!(in_use());
    drop(new_writers);
    new.close();
    // Whoever starts now closes the books of all that ended.
    let (last, _writers) = Spool::open(&small(), path, "node", CORES).unwrap();
    assert_eq!((last.counters().bank(), Counters::banks(path).unwrap()), (0, vec![0]));
}

#[test]
fn a_new_process_that_dies_leaves_the_old_one_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (old, mut writers) = Spool::open(&small(), path, "node", CORES).unwrap();
    let (mut next, mut collector) = (0, Collector::default());
    for _ in 0..5 {
        append_all(&mut writers, &mut next, 300);
        let lock = old.lock().unwrap().unwrap();
        let (new, mut new_writers) = Spool::take_over(&small(), path, "node", CORES, lock).unwrap();
        assert_eq!(new.counters().bank(), 1, "the same place each time");
        append_all(&mut new_writers, &mut next, 300);
        // As after a kill: no end mark.
        std::mem::forget(new_writers);
        drop(new);
        append_all(&mut writers, &mut next, 300);
        collector.read(path);
        assert!(matches!(Spool::open(&small(), path, "node", CORES), Err(SpoolError::InUse { .. })));
    }
    collector.assert_whole(next);
}

#[test]
fn what_an_old_process_leaves_is_put_in_order_by_the_one_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (mut old, mut old_writers) = Spool::open(&small(), path, "node", CORES).unwrap();
    let mut next = 0;
    append_all(&mut old_writers, &mut next, 1_000);
    let lock = old.lock().unwrap().unwrap();
    let (_new, mut new_writers) = Spool::take_over(&small(), path, "node", CORES, lock).unwrap();
    old.hand_over();
    append_all(&mut new_writers, &mut next, 10);
    append_all(&mut old_writers, &mut next, 10);
    let before = files(path, 0);
    std::thread::sleep(Duration::from_millis(1_500));
    // Its own keeper may have laid more ready meanwhile; in putting a lane in order those at hand are removed.
    let after = files(path, 0);
    let kept = before.iter().all(|file| after.contains(file));
    assert!(kept, "nobody touches the lanes of a process that lives: {before:?}, {after:?}");
    append_all(&mut old_writers, &mut next, 500);
    // As after a kill.
    std::mem::forget(old_writers);
    drop(old);
    let mut collector = Collector::default();
    eventually("of each lane only the place that was reached stays", || {
        collector.read(path);
        (0..CORES).all(|lane| files(path, lane).len() == 1)
    });
    collector.assert_whole(next);
    assert_eq!(Counters::banks(path).unwrap(), [0, 1], "its books stay until the next start");
}

#[test]
fn many_hand_overs_lose_nothing_and_leave_no_more_lanes_than_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut collector = Collector::default();
    let mut next = 0;
    let (mut spool, mut writers) = Spool::open(&small(), path, "node", CORES).unwrap();
    for round in 0..20 {
        append_all(&mut writers, &mut next, 200);
        let lock = spool.lock().unwrap().unwrap();
        let (newer, newer_writers) = Spool::take_over(&small(), path, "node", CORES, lock).unwrap();
        let mut old_writers = std::mem::replace(&mut writers, newer_writers);
        let mut old = std::mem::replace(&mut spool, newer);
        old.hand_over();
        append_all(&mut writers, &mut next, 200);
        append_all(&mut old_writers, &mut next, 200);
        collector.read(path);
        // Some end in order, some are killed.
        match round % 3 {
            0 => std::mem::forget(old_writers),
            _ => drop(old_writers),
        }
        old.close();
    }
    collector.read(path);
    collector.assert_whole(next);
    let banks: BTreeSet<u16> = collector.lanes.keys().map(|lane| place_of(*lane).0).collect();
    assert_eq!((banks, collector.lanes.len()), ([0, 1].into(), 4));
}

#[test]
fn processes_that_do_not_end_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut all = vec![Spool::open(&small(), path, "node", 1).unwrap()];
    let again = |spool: &Spool| {
        let lock = spool.lock().unwrap().unwrap();
        Spool::take_over(&small(), path, "node", 1, lock)
    };
    for bank in 1..BANKS_MAX {
        let next = again(&all.last().unwrap().0).unwrap();
        assert_eq!(next.0.counters().bank(), bank);
        all.push(next);
    }
    let refused = again(&all.last().unwrap().0).unwrap_err();
    assert!(matches!(refused, SpoolError::Banks { .. }), "{refused}");
    // One that ends makes room, whichever it is.
    drop(all.remove(3));
    assert_eq!(again(&all.last().unwrap().0).unwrap().0.counters().bank(), 3);
    let too_many = Spool::open(&small(), &path.join("other"), "node", CORES_MAX + 1).unwrap_err();
    assert!(matches!(too_many, SpoolError::Cores { .. }), "{too_many}");
}

#[test]
fn what_others_hold_counts_for_the_share_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = SpoolConfig { bytes_max: 10 * (64 << 10), ..small() };
    let (mut old, mut old_writers) = Spool::open(&config, path, "node", 1).unwrap();
    let fill = |writer: &mut Writer| {
        let mut draft = Draft::new();
        draft.reset(1);
        let mut refused = None;
        eventually("a full spool", || {
            while writer.append(&draft).is_ok() {
                refused = None;
            }
            refused.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(100)
        });
    };
    fill(&mut old_writers[0]);
    assert_eq!(files(path, 0).len(), 10);
    let lock = old.lock().unwrap().unwrap();
    let (_new, mut new_writers) = Spool::take_over(&config, path, "node", 1, lock).unwrap();
    old.hand_over();
    fill(&mut new_writers[0]);
    assert_eq!(files(path, CORES_MAX).len(), 2, "the least that a core has");
    // Once a collector gives back what the old one holds, there is room again.
    let mut collector = Collector::default();
    eventually("room for the new one", || {
        collector.lanes.entry(0).or_insert_with(|| LaneReader::open(path, 0, None).unwrap());
        let reader = collector.lanes.get_mut(&0).unwrap();
        while reader.read(1000, |_| ()).unwrap() > 0 {}
        reader.release(reader.position().unwrap().sequence).unwrap();
        let mut draft = Draft::new();
        draft.reset(1);
        while new_writers[0].append(&draft).is_ok() {}
        files(path, CORES_MAX).len() > 4
    });
}
