//! Committed, torn and damaged hot files.

use super::*;
use crate::layout::DataFolder;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use std::sync::Arc;

fn batch(rows: usize) -> RecordBatch {
    let schema = crate::columns::schema();
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| {
            let nulls = new_null_array(field.data_type(), rows);
            if field.is_nullable() {
                return nulls;
            }
            // No nulls where none may be: the same values with their null mask left out.
            let data = nulls.to_data().into_builder().nulls(None).build().unwrap();
            arrow::array::make_array(data)
        })
        .collect();
    RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
}

#[test]
fn what_is_committed_is_read_and_a_torn_tail_is_not() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    assert!(HotReader::open(&folder, 1).unwrap().is_none());
    let mut writer = HotWriter::create(&folder, 1).unwrap();
    assert_eq!(HotReader::open(&folder, 1).unwrap().unwrap().rows, 0);
    let mark = |n| Watermarks::from([("n/0".into(), Position { sequence: n, life_us: 0, ordinal: n })]);
    writer.append(&batch(3), &mark(3)).unwrap();
    let first = writer.bytes();
    writer.append(&batch(2), &mark(5)).unwrap();
    writer.sync().unwrap();
    let read = HotReader::open(&folder, 1).unwrap().unwrap();
    assert_eq!((read.rows, read.bytes, read.watermarks), (5, writer.bytes(), mark(5)));
    assert_eq!(read.batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2]);

    let log = std::fs::read(folder.hot_commits(1)).unwrap();
    let first_line = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in first_line..log.len() {
        std::fs::write(folder.hot_commits(1), &log[..cut]).unwrap();
        let read = HotReader::open(&folder, 1).unwrap().unwrap();
        assert_eq!((read.rows, read.bytes), (3, first), "cut at {cut}");
    }
    std::fs::write(folder.hot_commits(1), &log).unwrap();
    let mut data = std::fs::read(folder.hot_file(1)).unwrap();
    let last = data.len() - 20;
    data[last] ^= 1;
    std::fs::write(folder.hot_file(1), &data).unwrap();
    assert!(matches!(HotReader::open(&folder, 1), Err(HotError::File(LayoutError::Damaged { .. }))));
    std::fs::write(folder.hot_file(1), &data[..last]).unwrap();
    assert!(matches!(HotReader::open(&folder, 1), Err(HotError::File(LayoutError::Damaged { .. }))));
}

#[test]
fn reading_on_takes_over_what_is_known() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let mut writer = HotWriter::create(&folder, 1).unwrap();
    let mark = |n| Watermarks::from([("n/0".into(), Position { sequence: n, life_us: 0, ordinal: n })]);
    let mut known = HotReader::open(&folder, 1).unwrap().unwrap();
    for n in 1..5 {
        writer.append(&batch(3), &mark(n)).unwrap();
        let before = known.batches.clone();
        known = known.read_on(&folder).unwrap().unwrap();
        assert_eq!((known.rows, known.bytes, &known.watermarks), (3 * n, writer.bytes(), &mark(n)));
        let kept = before.iter().zip(&known.batches).all(|(a, b)| Arc::ptr_eq(a.column(0), b.column(0)));
        assert!(kept && known.batches.len() == before.len() + 1);
        let same = known.read_on(&folder).unwrap().unwrap();
        assert_eq!((same.rows, same.batches.len(), same.watermarks), (3 * n, n as usize, mark(n)));
    }
    let anew = HotReader::open(&folder, 1).unwrap().unwrap();
    assert_eq!(anew.batches, known.batches);

    let log = std::fs::read(folder.hot_commits(1)).unwrap();
    let end = log[..log.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    std::fs::write(folder.hot_commits(1), &log[..end]).unwrap();
    assert_eq!(known.read_on(&folder).unwrap().unwrap().rows, 9, "a cut log is read anew");
    std::fs::write(folder.hot_commits(1), &log).unwrap();
    assert_eq!(known.read_on(&folder).unwrap().unwrap().rows, 12);
    writer.append(&batch(3), &mark(5)).unwrap();
    let mut data = std::fs::read(folder.hot_file(1)).unwrap();
    let last = data.len() - 20;
    data[last] ^= 1;
    std::fs::write(folder.hot_file(1), &data).unwrap();
    assert!(matches!(known.read_on(&folder), Err(HotError::File(LayoutError::Damaged { .. }))));
}

#[test]
fn a_tail_that_was_never_durable_is_cut_and_other_damage_is_not() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let mark = |n| Watermarks::from([("n/0".into(), Position { sequence: n, life_us: 0, ordinal: n })]);
    let mut writer = HotWriter::create(&folder, 1).unwrap();
    writer.append(&batch(1), &mark(1)).unwrap();
    let first = usize::try_from(writer.bytes()).unwrap();
    writer.sync().unwrap();
    writer.append(&batch(2), &mark(3)).unwrap();
    let second = usize::try_from(writer.bytes()).unwrap();
    writer.append(&batch(4), &mark(7)).unwrap();
    let (data, log) =
        (std::fs::read(folder.hot_file(1)).unwrap(), std::fs::read(folder.hot_commits(1)).unwrap());
    let state = |data: &[u8], log: &[u8]| {
        std::fs::write(folder.hot_file(1), data).unwrap();
        std::fs::write(folder.hot_commits(1), log).unwrap();
        let cut = cut_torn_tail(&folder, 1).unwrap();
        (cut > 0, HotReader::open(&folder, 1).ok().flatten().map(|reader| reader.rows))
    };
    assert_eq!(state(&data, &log), (false, Some(7)));
    // Lost: the last batch, its end, both, the second alone (the third is whole, but counts only behind it).
    assert_eq!(state(&data[..second], &log), (true, Some(3)));
    assert_eq!(state(&data[..data.len() - 1], &log), (true, Some(3)));
    assert_eq!(state(&data[..first], &log), (true, Some(1)));
    let flipped = |at: usize| {
        let mut flipped = data.clone();
        flipped[at] ^= 1;
        flipped
    };
    assert_eq!(state(&flipped(first + 100), &log), (true, Some(1)));
    // Lines of which nothing but their length arrived.
    let lines: Vec<usize> =
        log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let mut zeros = log.clone();
    zeros[lines[1] + 1..].fill(0);
    assert_eq!(state(&data, &zeros), (true, Some(3)));
    zeros[lines[0] + 1..].fill(0);
    assert_eq!(state(&data, &zeros), (true, Some(1)));
    // The first batch was durable: what is wrong with it is no torn tail.
    assert_eq!(state(&flipped(100), &log), (false, None));
}

/// A file of four batches of 1, 2, 3 and 4 rows, with its bytes and its commit log.
fn four_batches(folder: &DataFolder) -> (Vec<u8>, Vec<u8>) {
    let mut writer = HotWriter::create(folder, 1).unwrap();
    for n in 1..=4 {
        let mark = Watermarks::from([("n/0".into(), Position { sequence: n, life_us: 0, ordinal: n })]);
        writer.append(&batch(usize::try_from(n).unwrap()), &mark).unwrap();
    }
    writer.sync().unwrap();
    (std::fs::read(folder.hot_file(1)).unwrap(), std::fs::read(folder.hot_commits(1)).unwrap())
}

#[test]
fn a_bit_that_flips_anywhere_costs_one_batch_and_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (data, log) = four_batches(&folder);
    assert_eq!((damaged_rows(&folder, 1).unwrap(), cut_damage(&folder, 1, true).unwrap()), (None, None));
    let ends: Vec<u64> = String::from_utf8(log.clone())
        .unwrap()
        .lines()
        .map(|line| Commit::of_line(line.as_bytes()).unwrap().end)
        .collect();
    let mended = |data: &[u8], log: &[u8]| {
        std::fs::write(folder.hot_file(1), data).unwrap();
        std::fs::write(folder.hot_commits(1), log).unwrap();
        assert!(HotReader::open(&folder, 1).is_err(), "not found");
        let expected = damaged_rows(&folder, 1).unwrap();
        let lost = cut_damage(&folder, 1, true).unwrap();
        assert_eq!(lost, expected);
        let reader = HotReader::open(&folder, 1).unwrap().unwrap();
        let rows: Vec<usize> = reader.batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(reader.rows, rows.iter().sum::<usize>() as u64);
        assert_eq!((Some(reader.lost), cut_damage(&folder, 1, true).unwrap()), (lost, None));
        (rows, reader.lost, reader.watermarks["n/0"].sequence)
    };
    for at in (0..data.len()).step_by(997) {
        let mut flipped = data.clone();
        flipped[at] ^= 1 << (at % 8);
        let hit = ends.iter().position(|end| (at as u64) < *end).unwrap();
        let left: Vec<usize> = (1..=4).filter(|rows| *rows != hit + 1).collect();
        assert_eq!(mended(&flipped, &log), (left, hit as u64 + 1, 4), "a bit of byte {at}");
    }
    // A line of the log: nothing else says that its batch is what was written.
    let lines: Vec<usize> =
        log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    for at in (0..log.len()).step_by(3).filter(|at| !lines.contains(at)) {
        let mut flipped = log.clone();
        flipped[at] ^= 2;
        let hit = lines.iter().position(|end| at < *end).unwrap();
        std::fs::write(folder.hot_file(1), &data).unwrap();
        std::fs::write(folder.hot_commits(1), &flipped).unwrap();
        if let Ok(Some(reader)) = HotReader::open(&folder, 1) {
            // The name of the checksum: a line without one says what it said.
            assert_eq!((reader.rows, reader.watermarks["n/0"].sequence), (10, 4), "byte {at}");
            continue;
        }
        let left: Vec<usize> = (1..=4).filter(|rows| *rows != hit + 1).collect();
        let through = if hit == 3 { 3 } else { 4 };
        assert_eq!(mended(&data, &flipped), (left, hit as u64 + 1, through), "a bit of the log's byte {at}");
    }
    // Cut short, and gone.
    assert_eq!(mended(&data[..data.len() - 9], &log), (vec![1, 2, 3], 4, 4));
    assert_eq!(mended(&[], &log), (vec![], 10, 4));
}

#[test]
fn a_log_of_a_version_that_summed_no_lines_is_read_and_mended() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (mut data, log) = four_batches(&folder);
    let mut old = Vec::new();
    for line in whole_lines_of(&log) {
        let mut line: serde_json::Value = serde_json::from_slice(line).unwrap();
        line.as_object_mut().unwrap().retain(|key, _| !["begin", "sum"].contains(&key.as_str()));
        old.extend(serde_json::to_vec(&line).unwrap());
        old.push(b'\n');
    }
    std::fs::write(folder.hot_commits(1), &old).unwrap();
    assert_eq!(HotReader::open(&folder, 1).unwrap().unwrap().rows, 10);
    data[100] ^= 1;
    std::fs::write(folder.hot_file(1), &data).unwrap();
    assert_eq!(cut_damage(&folder, 1, false).unwrap(), Some(1));
    let reader = HotReader::open(&folder, 1).unwrap().unwrap();
    assert_eq!((reader.rows, reader.lost), (9, 0));
}

fn whole_lines_of(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}
