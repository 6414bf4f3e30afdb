//! Damage of every kind is found, named, and set aside without a further loss.

use super::*;
use crate::columns::Rows;
use crate::config::{CollectorConfig, Plan};
use crate::recover::recover;
use crate::seal::{Queue, Sealer};
use crate::table::Table;
use event::hot::{HotWriter, Watermarks};
use event::layout::{DataFolder, Manifest};
use event::{Draft, RequestEvent, Text};
use tempfile::TempDir;

const HOUR_US: i64 = 3_600_000_000;

/// Three sealed files of 100 rows, each of an hour of its own, and a hot file of two batches of 50 rows.
fn house() -> (TempDir, DataFolder) {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let plan: Plan = crate::config::validate(&CollectorConfig::default()).unwrap();
    let table = Table::new(folder.clone(), Manifest::default());
    let mut sealer = Sealer::new(folder.clone(), plan, Queue::default(), table);
    for number in 1..=4 {
        let mut hot = HotWriter::create(&folder, number).unwrap();
        for half in 0..2 {
            hot.append(&batch(number, half * 50..(half + 1) * 50), &Watermarks::new()).unwrap();
        }
        hot.sync().unwrap();
        if number < 4 {
            sealer.seal(number).unwrap();
            assert!(crate::seal::unlink_hot(&folder, number));
        }
    }
    (root, folder)
}

fn batch(hour: u64, numbers: std::ops::Range<u64>) -> arrow::array::RecordBatch {
    let (mut rows, mut draft) = (Rows::new(), Draft::new());
    for number in numbers {
        draft.reset(hour as i64 * HOUR_US + number as i64);
        draft.text(Text::Service, b"orders");
        rows.append(&RequestEvent::of_draft("node", 0, hour * 1_000 + number, &draft));
    }
    rows.finish().unwrap()
}

fn look(folder: &DataFolder, deep: bool) -> Checked {
    check(folder, deep, &mut |_, _| ()).unwrap()
}

fn found(folder: &DataFolder) -> Vec<(Kind, String, Option<u64>)> {
    let problems = look(folder, true).problems;
    problems.into_iter().map(|problem| (problem.kind, problem.file, problem.rows)).collect()
}

fn sealed(folder: &DataFolder) -> Vec<event::layout::FileEntry> {
    Manifest::load(folder).unwrap().files
}

/// Turns a bit in the middle of a file.
fn damage(folder: &DataFolder, file: &str) {
    let path = folder.root().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_folder_has_no_problem_and_is_counted() {
    let (_root, folder) = house();
    let (mut done, mut all) = (0, 0);
    let checked = check(&folder, true, &mut |so_far, of| (done, all) = (so_far, of)).unwrap();
    assert_eq!(checked.problems, []);
    assert_eq!((checked.files, checked.rows, checked.hot_files, checked.hot_rows), (3, 300, 1, 100));
    assert_eq!(done, all);
    assert!(done > checked.bytes && checked.rollups == 24, "roll-ups are looked at too: {checked:?}");
    let repaired = repair(&folder, &mut |_, _| ()).unwrap();
    assert_eq!(repaired, Repaired::default());
    assert!(!folder.quarantine().exists());
}

#[test]
fn every_kind_of_damage_is_named_and_set_aside() {
    let (_root, folder) = house();
    let files: Vec<String> = sealed(&folder).into_iter().map(|file| file.path).collect();
    damage(&folder, &files[0]);
    std::fs::remove_file(folder.root().join(&files[1])).unwrap();
    damage(&folder, "hot/0000000004.arrow");
    let rollup = Manifest::load(&folder).unwrap().rollups[0].file.path.clone();
    damage(&folder, &rollup);
    let stray = files[2].replace("node-", "other-");
    std::fs::copy(folder.root().join(&files[2]), folder.root().join(&stray)).unwrap();
    let half = format!("{}.tmp", files[2]);
    std::fs::write(folder.root().join(&half), b"PAR1").unwrap();
    let expected = [
        (Kind::Damaged, files[0].clone(), Some(100)),
        (Kind::Missing, files[1].clone(), Some(100)),
        (Kind::Rollup, rollup.clone(), None),
        (Kind::HotDamaged, "hot/0000000004.arrow".to_owned(), Some(50)),
        (Kind::Half, half.clone(), None),
        (Kind::Stray, stray.clone(), None),
    ];
    assert_eq!(found(&folder), expected);

    let repaired = repair(&folder, &mut |_, _| ()).unwrap();
    assert_eq!((repaired.rows_missing, repaired.left.len()), (250, 0));
    assert_eq!(repaired.removed, [half]);
    let kept: Vec<(&str, &str, u64)> = repaired
        .set_aside
        .iter()
        .map(|aside| (aside.file.as_str(), aside.kept.as_str(), aside.rows))
        .collect();
    let place = |file: &str| format!("quarantine/{file}");
    assert_eq!(
        kept,
        [
            (files[0].as_str(), place(&files[0]).as_str(), 100),
            (files[1].as_str(), "", 100),
            (rollup.as_str(), place(&rollup).as_str(), 0),
            ("hot/0000000004.arrow", "quarantine/hot/0000000004.arrow", 50),
            (stray.as_str(), place(&stray).as_str(), 0),
        ]
    );
    for file in [&files[0], &stray, &"hot/0000000004.commits".to_owned()] {
        assert!(folder.quarantine().join(file).exists(), "{file}");
    }
    assert_eq!(found(&folder), []);
    let manifest = Manifest::load(&folder).unwrap();
    assert_eq!((manifest.files.len(), manifest.set_aside.len()), (1, 3));
    assert_eq!((look(&folder, false).rows_set_aside, look(&folder, false).hot_rows), (250, 50));
    // A collector starts on it, and removes nothing of what was kept.
    recover(&folder).unwrap();
    assert!(folder.quarantine().join(&stray).exists());
}

#[test]
fn a_repair_that_was_interrupted_is_gone_on_with() {
    let (_root, folder) = house();
    let file = sealed(&folder)[0].path.clone();
    damage(&folder, &file);
    // Moved, and the manifest still names it.
    let kept = folder.quarantine().join(&file);
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::rename(folder.root().join(&file), &kept).unwrap();
    assert_eq!(found(&folder), [(Kind::Missing, file.clone(), Some(100))]);
    let repaired = repair(&folder, &mut |_, _| ()).unwrap();
    assert_eq!(repaired.set_aside[0].kept, format!("quarantine/{file}"));
    assert_eq!(found(&folder), []);
}

#[test]
fn nothing_is_repaired_beside_a_collector_nor_without_a_manifest() {
    let (_root, folder) = house();
    let file = sealed(&folder)[0].path.clone();
    damage(&folder, &file);
    std::fs::write(folder.root().join(format!("{file}.tmp")), b"PAR1").unwrap();
    let lock = crate::lock::Lock::take(&folder).unwrap();
    // What it may be writing is no problem; what is damaged is.
    let checked = look(&folder, false);
    assert_eq!((checked.at_work, checked.problems.len()), (true, 1));
    assert!(matches!(repair(&folder, &mut |_, _| ()), Err(StorageError::Lock(StartError::InUse { .. }))));
    drop(lock);
    damage(&folder, "state/manifest.json");
    assert_eq!(found(&folder), [(Kind::Manifest, "state/manifest.json".to_owned(), None)]);
    let repaired = repair(&folder, &mut |_, _| ()).unwrap();
    assert_eq!((repaired.left.len(), repaired.set_aside.len()), (1, 0));
    assert!(folder.root().join(&file).exists());
}

#[test]
fn an_event_that_is_there_twice_is_found_by_a_deep_look() {
    let (_root, folder) = house();
    // The rows of the hot file, sealed under another name as no collector would.
    let plan = crate::config::validate(&CollectorConfig::default()).unwrap();
    let sealer =
        Sealer::new(folder.clone(), plan, Queue::default(), Table::new(folder.clone(), Manifest::default()));
    let files = sealer.write_files(9, &[batch(4, 0..30), batch(1, 5..6)]).unwrap();
    let mut manifest = Manifest::load(&folder).unwrap();
    manifest.files.extend(files);
    manifest.store(&folder).unwrap();
    assert_eq!(look(&folder, false).problems, []);
    let problems = look(&folder, true).problems;
    let said: Vec<_> = problems.iter().map(|problem| (problem.kind, problem.rows)).collect();
    assert_eq!(said, [(Kind::Duplicate, Some(1)), (Kind::Duplicate, Some(30))]);
    assert!(problems[0].what.ends_with("the first is 1005"), "{}", problems[0].what);
}

#[test]
fn what_files_are_made_of() {
    let (_root, folder) = house();
    let table = inspect_table(&folder).unwrap();
    assert_eq!((table.all.files, table.all.rows, table.levels.len(), table.hours.len()), (3, 300, 1, 3));
    let hour = table.hours.keys().next().unwrap();
    assert_eq!(hour, "date=1970-01-01/hour=01");
    let file = &sealed(&folder)[0];
    let by_hour = inspect_files(&folder, hour).unwrap();
    assert_eq!(by_hour, inspect_files(&folder, &file.path).unwrap());
    assert_eq!((by_hour.rows, by_hour.bytes), (100, file.bytes));
    let column = |name| by_hour.columns.iter().find(|column| column.name == name).unwrap();
    assert_eq!(column("service").bounds, Some(("orders".to_owned(), "orders".to_owned())));
    assert_eq!(column("sequence").bounds, Some(("1000".to_owned(), "1099".to_owned())));
    assert!(column("time").encodings.contains(&"DELTA_BINARY_PACKED".to_owned()));
    assert_eq!(column("path").nulls, 100);
    assert!(matches!(inspect_files(&folder, "date=1970-01-01/hour=09"), Err(StorageError::Unknown(_))));
}
