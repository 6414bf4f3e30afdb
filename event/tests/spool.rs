//! The spool over its life: hand-over, restart, torn tails, damage, a full disk share.
#![allow(clippy::unwrap_used)]

use event::spool::{Counters, DropReason, LaneReader, Spool, SpoolConfig, SpoolError, Writer};
use event::{Draft, Text};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn small() -> SpoolConfig {
    SpoolConfig { segment_bytes: 64 << 10, bytes_max: 1 << 30, sync_interval_ms: 5 }
}

fn draft(n: u64) -> Draft {
    let mut draft = Draft::new();
    draft.reset(i64::try_from(n).unwrap());
    draft.text(Text::Path, format!("/{n}").as_bytes());
    draft
}

/// Appends one event, waiting for the keeper where the last segment was just filled.
fn append(writer: &mut Writer, n: u64) -> u64 {
    append_draft(writer, &draft(n))
}

fn append_draft(writer: &mut Writer, draft: &Draft) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match writer.append(draft) {
            Ok(sequence) => return sequence,
            Err(reason) => assert!(Instant::now() < deadline, "still {reason:?}"),
        }
        std::thread::yield_now();
    }
}

fn read_all(reader: &mut LaneReader) -> Vec<(u64, i64)> {
    let mut events = Vec::new();
    while reader
        .read(100, |event| {
            assert_eq!(event.str(Text::Path).unwrap(), format!("/{}", event.head.time_us));
            assert_eq!((event.node, event.core), ("node", reader_core()));
            events.push((event.sequence, event.head.time_us));
        })
        .unwrap()
        > 0
    {}
    events
}

const fn reader_core() -> u16 {
    0
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let lane = std::fs::read_dir(folder.join("core-000")).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = lane.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    found.sort();
    found
}

#[test]
fn events_come_out_in_order_across_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    let mut last = None;
    for life in 0..3u64 {
        let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
        let written: Vec<u64> = (0..1000).map(|n| append(&mut writers[0], life * 1000 + n)).collect();
        assert!(written.is_sorted() && written.first() > last.as_ref(), "sequences rise for ever");
        last = written.last().copied();
        let mut reader =
            LaneReader::open(folder.path(), 0, all.last().map(|(sequence, _)| *sequence)).unwrap();
        let read = read_all(&mut reader);
        assert_eq!(read.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), written);
        assert_eq!(reader.position().unwrap().ordinal, 1000);
        all.extend(read);
        if life == 1 {
            let before = segments(folder.path()).len();
            assert!(reader.release(last.unwrap()).unwrap() > 0);
            assert!(segments(folder.path()).len() < before);
        }
        drop(writers);
        spool.close();
    }
    assert_eq!(all.iter().map(|(_, n)| *n).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_writer_that_died_loses_nothing_and_one_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    assert!(matches!(Spool::open(&small(), folder.path(), "node", 1), Err(SpoolError::InUse { .. })));
    for n in 0..10 {
        append(&mut writers[0], n);
    }
    // As after a kill: the writer never marks the end of its segment.
    std::mem::forget(writers);
    spool.close();
    let (_spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    append(&mut writers[0], 10);
    let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
    assert_eq!(
        read_all(&mut reader).iter().map(|(_, n)| *n).collect::<Vec<_>>(),
        (0..=10).collect::<Vec<_>>()
    );
    assert_eq!(reader.corrupt_records(), 0);
}

/// Segments that are stored are written to again. Whatever they held before, of whatever length, and wherever the
/// gateway dies: each event is read once, and nothing else is.
#[test]
fn segments_are_used_again_and_never_give_what_they_held_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut next, mut expected, mut after) = (0, 0, None);
    for life in 0..4_u64 {
        let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
        let mut reader = LaneReader::open(folder.path(), 0, after).unwrap();
        let (mut files, mut names) = (BTreeSet::new(), BTreeSet::new());
        for round in 0..80 {
            let mut draft = Draft::new();
            for _ in 0..200 {
                draft.reset(next);
                draft.text(Text::Path, &vec![b'a' + life as u8; (next * 7 % 61) as usize]);
                append_draft(&mut writers[0], &draft);
                next += 1;
            }
            for path in segments(folder.path()) {
                files.insert(std::fs::metadata(&path).unwrap().ino());
                names.insert(path);
            }
            // The last ones wait in the spool when the gateway dies.
            if round < 77 {
                let read = reader.read(usize::MAX, |event| {
                    assert_eq!(event.head.time_us, expected);
                    assert_eq!(event.text(Text::Path).unwrap().len(), (expected * 7 % 61) as usize);
                    expected += 1;
                });
                assert!(read.unwrap() > 0);
                after = reader.position().map(|position| position.sequence);
                reader.release(after.unwrap()).unwrap();
            }
            assert_eq!(reader.corrupt_records(), 0);
        }
        assert!(names.len() > files.len() + 10, "{} segments in {} files", names.len(), files.len());
        // As after a kill: the writer never marks the end of its segment.
        std::mem::forget(writers);
        spool.close();
    }
    let (_spool, _writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    let mut reader = LaneReader::open(folder.path(), 0, after).unwrap();
    while reader
        .read(100, |event| {
            assert_eq!(event.head.time_us, expected);
            expected += 1;
        })
        .unwrap()
        > 0
    {}
    assert_eq!((expected, reader.corrupt_records()), (next, 0));
}

#[test]
fn damage_costs_the_damaged_record_only_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (_spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    for n in 0..20 {
        append(&mut writers[0], n);
    }
    let path = segments(folder.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let record = 24 + size_of::<event::Head>() + 8;
    // Every byte of the third record, one flip at a time.
    for at in 128 + 2 * record..128 + 3 * record {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("core-000")).unwrap();
        std::fs::write(copy.path().join("core-000").join(path.file_name().unwrap()), bytes).unwrap();
        let mut reader = LaneReader::open(copy.path(), 0, None).unwrap();
        let mut read = Vec::new();
        reader.read(100, |event| read.push(event.head.time_us)).unwrap();
        let padding = read.len() == 20;
        if !padding {
            assert_eq!(read, (0..20).filter(|n| *n != 2).collect::<Vec<_>>(), "flip at {at}");
            assert_eq!(reader.corrupt_records(), 1, "flip at {at}");
        }
    }
}

#[test]
fn a_tail_that_is_torn_at_any_byte_leaves_what_is_before_it() {
    const EVENTS: u64 = 6;
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    let path = segments(folder.path()).remove(0);
    // Where each record ends, with the zeros behind it that are its own.
    let mut ends = Vec::new();
    for n in 0..EVENTS {
        append(&mut writers[0], n);
        let bytes = std::fs::read(&path).unwrap();
        ends.push(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    }
    // As after a power loss: the writer never marks the end of its segment.
    std::mem::forget(writers);
    spool.close();
    let whole = std::fs::read(&path).unwrap();
    let used = *ends.last().unwrap();
    let copy = tempfile::tempdir().unwrap();
    for cut in 0..=used {
        // Pages that did not reach the disk are zeros; a file system may also have lost the length.
        for truncated in [false, true] {
            let lane = copy.path().join("core-000");
            std::fs::create_dir(&lane).unwrap();
            let mut bytes = whole.clone();
            bytes[cut..].fill(0);
            if truncated {
                bytes.truncate(cut);
            }
            std::fs::write(lane.join(path.file_name().unwrap()), bytes).unwrap();
            // The next life writes behind it, and both are read.
            let (spool, mut writers) = Spool::open(&small(), copy.path(), "node", 1).unwrap();
            let next = append(&mut writers[0], 1_000);
            let mut reader = LaneReader::open(copy.path(), 0, None).unwrap();
            let mut read = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(10);
            while read.last() != Some(&(next, 1_000)) {
                assert!(Instant::now() < deadline, "cut at {cut}: only {read:?}");
                read.extend(read_all(&mut reader));
            }
            let times: Vec<_> = read.iter().map(|(_, time_us)| *time_us).collect();
            // Behind each record a segment has room for the mark of its end; of a file without it the last one is given up.
            let takes = |end: usize| if truncated { end.next_multiple_of(8) + 24 } else { end };
            let there = ends.iter().filter(|end| takes(**end) <= cut).count();
            let expected: Vec<_> = (0..there as i64).chain([1_000]).collect();
            assert_eq!(times, expected, "cut at {cut}, truncated: {truncated}");
            drop(writers);
            spool.close();
            std::fs::remove_dir_all(copy.path()).unwrap();
            std::fs::create_dir(copy.path()).unwrap();
        }
    }
}

#[test]
fn a_full_spool_drops_and_counts_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let config = SpoolConfig { bytes_max: 128 << 10, ..small() };
    let (spool, mut writers) = Spool::open(&config, folder.path(), "node", 1).unwrap();
    let writer = &mut writers[0];
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut n = 0;
    // Two segments hold about 560 records; the keeper must refuse a third.
    while spool.counters().core(0).written < 500 || writer.append(&draft(n)).is_ok() {
        n += 1;
        assert!(Instant::now() < deadline);
        if spool.counters().core(0).written < 500 {
            append(writer, n);
        }
    }
    assert_eq!(writer.append(&draft(n)), Err(DropReason::SpoolFull));
    let counts = Counters::open(folder.path(), 0).unwrap().core(0);
    assert!(counts.dropped[DropReason::SpoolFull as usize] >= 2);
    assert_eq!(counts.produced, counts.written + counts.dropped.iter().sum::<u64>());

    let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
    let mut read = 0;
    while reader.read(1000, |_| read += 1).unwrap() > 0 {}
    assert_eq!(read, counts.written);
    reader.release(reader.position().unwrap().sequence).unwrap();
    append(writer, n);
    let mut more = 0;
    while more == 0 {
        more = reader.read(1000, |_| ()).unwrap();
        assert!(Instant::now() < deadline);
    }
}

/// A gateway that is started again and again while the collector is away: what a life leaves takes the room of its
/// events, not of the segments that were laid ready for more.
#[test]
fn lives_that_are_short_leave_no_more_than_they_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (segment_bytes, lives) = (1 << 20, 40);
    let config = SpoolConfig { segment_bytes, bytes_max: 8 * segment_bytes, ..small() };
    for life in 0..lives {
        let (spool, mut writers) = Spool::open(&config, folder.path(), "node", 1).unwrap();
        for n in 0..4 {
            writers[0].append(&draft(life * 4 + n)).unwrap();
        }
        // Half of them as after a kill.
        if life % 2 == 0 {
            std::mem::forget(writers);
        }
        spool.close();
    }
    let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
    let numbers: Vec<i64> = read_all(&mut reader).into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, (0..i64::try_from(lives).unwrap() * 4).collect::<Vec<_>>());
    assert_eq!(reader.corrupt_records(), 0);
}

/// What a power failure leaves of a segment that was laid ready: a name, and nothing behind it.
#[test]
fn a_segment_that_was_never_durable_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    append(&mut writers[0], 0);
    drop(writers);
    spool.close();
    let lane = folder.path().join("core-000");
    // Ahead of any that time gave out.
    let number = 4_000_000_000_u64;
    for (at, bytes) in (0..).zip([vec![0; 64 << 10], Vec::new()]) {
        std::fs::write(lane.join(format!("{:020}.seg", number + at)), bytes).unwrap();
    }
    let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    append(&mut writers[0], 1);
    let mut reader = LaneReader::open(folder.path(), 0, None).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut numbers = Vec::new();
    while numbers.len() < 2 {
        assert!(Instant::now() < deadline, "{numbers:?}");
        numbers.extend(read_all(&mut reader).into_iter().map(|(_, n)| n));
    }
    assert_eq!((numbers, reader.corrupt_records()), (vec![0, 1], 0));
    let bad = std::fs::read_dir(lane)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "bad"));
    assert_eq!(bad.count(), 0);
    drop(writers);
    spool.close();
}

#[test]
fn holes_of_a_power_loss_are_counted_unless_they_were_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    let first: Vec<u64> = (0..100).map(|n| append(&mut writers[0], n)).collect();
    drop(writers);
    spool.close();
    // Of the only segment in use, some pages never reached the disk: the records in the middle, and the end mark.
    let path = &segments(folder.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8_192..16_384].fill(0);
    let tail = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // A mark ends with its count, of which only the lowest byte is not zero.
    bytes[tail - 16..].fill(0);
    std::fs::write(path, &bytes).unwrap();
    let (spool, mut writers) = Spool::open(&small(), folder.path(), "node", 1).unwrap();
    let second: Vec<u64> = (100..200).map(|n| append(&mut writers[0], n)).collect();
    let read_after = |after: Option<u64>| {
        let mut reader = LaneReader::open(folder.path(), 0, after).unwrap();
        let mut read = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while read.last() != second.last() {
            assert!(Instant::now() < deadline, "the reader stays before the hole");
            read.extend(read_all(&mut reader).into_iter().map(|(sequence, _)| sequence));
        }
        (read, reader.corrupt_records())
    };
    let (read, lost) = read_after(None);
    assert!(lost > 10, "{lost} records are lost");
    assert_eq!(read.len() as u64 + lost, 200);
    // What the collector stored by itself is not lost, though the spool lacks it.
    let (read, lost) = read_after(Some(first[90]));
    assert_eq!((&read[..9], lost), (&first[91..], 0));
    assert_eq!(read[9..], second);
    drop(writers);
    spool.close();
}
