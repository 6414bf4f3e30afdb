//! Merges step by step, each step left where a crash would leave it.

use super::*;
use crate::columns::Rows;
use crate::config::CollectorConfig;
use crate::parquet::HOUR_US;
use crate::recover::recover;
use crate::seal::{Queue, Sealer, under};
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt64Type};
use event::hot::{HotWriter, Watermarks};
use event::layout::Manifest;
use event::{Attempt, AttemptError, Draft, RequestEvent, Text};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// The hour of all rows, since 1970.
const HOUR: i64 = 480_000;

fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

/// A request each 40 ms; some have no consumer, no attempt or several, no trace, a pair.
fn fill(draft: &mut Draft, number: u64) {
    let random = mix(number);
    let one_of = |shift: u32, among: u64| (random >> shift) % among;
    draft.reset(HOUR * HOUR_US + 40_000 * number as i64 + one_of(3, 30_000) as i64);
    draft.head.request_id[..8].copy_from_slice(&random.to_le_bytes());
    if one_of(5, 3) > 0 {
        draft.head.trace_id = [one_of(7, 255) as u8 + 1; 16];
    }
    draft.head.response_bytes = one_of(9, 7_000);
    draft.head.duration_us = random as u32;
    draft.text(Text::Service, format!("service-{}", one_of(11, 5)).as_bytes());
    draft.text(Text::Path, format!("/items/{}", one_of(13, 900)).as_bytes());
    if one_of(17, 4) > 0 {
        draft.text(Text::Consumer, format!("consumer-{}", one_of(19, 20)).as_bytes());
    }
    for attempt in 0..one_of(23, 3) as u16 {
        draft.attempt(&Attempt {
            addr: format!("10.0.0.{attempt}:80").as_bytes(),
            status: 200 + attempt,
            error: AttemptError::None,
            start_us: random as u32 >> 7,
            duration_us: u32::from(attempt),
            reused: attempt % 2 == 0,
            span_id: random.to_le_bytes(),
        });
    }
    if one_of(29, 9) == 0 {
        draft.extra(b"key", &random.to_le_bytes()[..2]);
    }
}

/// A folder whose table is `files` sealed files of `rows` rows each, one after the other.
struct House {
    _root: TempDir,
    folder: DataFolder,
    plan: Plan,
}

impl House {
    fn new(files: u64, rows: u64, change: impl FnOnce(&mut CompactionConfig)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let mut config = CollectorConfig::default();
        config.compaction.zstd_level = 3;
        change(&mut config.compaction);
        let plan = crate::config::validate(&config).unwrap();
        let house = Self { _root: root, folder, plan };
        let mut sealer =
            Sealer::new(house.folder.clone(), house.plan.clone(), Queue::default(), house.table());
        let (mut draft, mut batches) = (Draft::new(), Rows::new());
        for file in 0..files {
            let mut hot = HotWriter::create(&house.folder, file + 1).unwrap();
            for number in file * rows..(file + 1) * rows {
                fill(&mut draft, number);
                batches.append(&RequestEvent::of_draft("node", (number % 3) as u16, number, &draft));
            }
            hot.append(&batches.finish().unwrap(), &Watermarks::new()).unwrap();
            hot.sync().unwrap();
            sealer.seal(file + 1).unwrap();
        }
        house
    }

    fn table(&self) -> Table {
        Table::new(self.folder.clone(), Manifest::load(&self.folder).unwrap())
    }

    fn manifest(&self) -> Manifest {
        Manifest::load(&self.folder).unwrap()
    }

    fn compactor(&self) -> Compactor {
        Compactor::new(self.folder.clone(), &self.plan, self.table(), None)
    }

    /// What is to be merged next.
    fn job(&self) -> Option<Job> {
        choose::choose(&self.plan.config.compaction, &self.manifest(), |_| true, crate::now_us())
    }

    /// A start after a crash, and then the files of the folder are the files of the table.
    fn restart(&self) {
        let found = recover(&self.folder).unwrap();
        let known = found.manifest.files.iter().map(|file| file.path.clone());
        let removed = found.manifest.removed.iter().map(|file| file.path.clone());
        let named: BTreeSet<_> = known.chain(removed).collect();
        for path in parquet_files(&self.folder.requests()) {
            assert!(named.contains(&under(&self.folder, &path)), "{} is a stray", path.display());
        }
    }

    /// All rows of the table in the order of their numbers, of which none is there twice.
    fn rows(&self) -> RecordBatch {
        let schema = event::columns::schema();
        let mut files = Vec::new();
        for entry in &self.manifest().files {
            let path = self.folder.root().join(&entry.path);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(
                (bytes.len() as u64, event::layout::checksum(&bytes)),
                (entry.bytes, entry.checksum.clone())
            );
            let options = ArrowReaderOptions::new().with_schema(schema.clone());
            let reader =
                ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path).unwrap(), options);
            let batches: Vec<_> = reader.unwrap().build().unwrap().map(Result::unwrap).collect();
            let all = concat_batches(&schema, &batches).unwrap();
            assert_eq!(all.num_rows() as u64, entry.rows);
            let times = all["time"].as_primitive::<TimestampMicrosecondType>();
            let range = (arrow::compute::min(times), arrow::compute::max(times));
            assert_eq!(range, (Some(entry.time_min_us), Some(entry.time_max_us)));
            if entry.level > 0 {
                assert_in_order(&all);
            }
            files.push(all);
        }
        let all = concat_batches(&schema, &files).unwrap();
        let numbers = all["sequence"].as_primitive::<UInt64Type>().values();
        let order: BTreeMap<u64, u32> = numbers.iter().copied().zip(0..).collect();
        assert_eq!(order.len(), all.num_rows(), "a row is there twice");
        take_record_batch(&all, &UInt32Array::from_iter_values(order.into_values())).unwrap()
    }
}

fn parquet_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { parquet_files(&path) } else { vec![path] }).collect()
}

/// By minute, service, consumer, core and time.
fn assert_in_order(rows: &RecordBatch) {
    let text = |name: &str, row: usize| {
        let column = rows[name].as_string_view();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let times = rows["time"].as_primitive::<TimestampMicrosecondType>();
    let cores = rows["core"].as_primitive::<UInt16Type>();
    let key = |row: usize| {
        let time = times.value(row);
        let minute = time / (i64::from(BUCKET_S) * 1_000_000);
        (minute, text("service", row), text("consumer", row), cores.value(row), time)
    };
    assert!((0..rows.num_rows()).map(key).is_sorted(), "rows are not in order");
}

/// The same rows, value by value.
fn assert_same(before: &RecordBatch, after: &RecordBatch) {
    assert_eq!(before.num_rows(), after.num_rows());
    for (index, field) in before.schema_ref().fields().iter().enumerate() {
        assert_eq!(before.column(index), after.column(index), "{}", field.name());
    }
}

#[test]
fn a_closed_hour_becomes_one_file_with_the_same_rows_in_the_order_of_queries() {
    let house = House::new(7, 1_500, |_| ());
    let before = house.rows();
    let job = house.job().unwrap();
    assert_eq!((job.inputs.len(), job.rows()), (7, 10_500));
    assert!(house.compactor().merge(&job, &Flags::default()).unwrap());
    let manifest = house.manifest();
    assert_eq!((manifest.files.len(), manifest.removed.len()), (1, 7));
    assert_eq!((manifest.files[0].level, manifest.files[0].hot), (choose::LEVEL_CLOSED, 7));
    assert!(manifest.files[0].bytes < job.bytes(), "{} of {}", manifest.files[0].bytes, job.bytes());
    assert_same(&before, &house.rows());
    assert_eq!(house.job(), None);
    house.restart();
}

#[test]
fn little_memory_gives_many_small_row_groups_and_small_files_give_many_files() {
    let house = House::new(3, 30_000, |config| {
        config.memory_bytes_max = 8 << 20;
        config.bytes_max = 1 << 20;
    });
    let before = house.rows();
    assert!(house.compactor().merge(&house.job().unwrap(), &Flags::default()).unwrap());
    let files = house.manifest().files;
    assert!(files.len() > 2, "{}", files.len());
    assert!(files.windows(2).all(|two| two[0].time_min_us < two[1].time_min_us));
    assert_same(&before, &house.rows());
}

#[test]
fn files_that_were_merged_are_merged_again() {
    let house = House::new(8, 400, |config| {
        config.files_min = 2;
        config.files_max = 2;
    });
    let before = house.rows();
    let mut merges = 0;
    while let Some(job) = house.job() {
        assert!(house.compactor().merge(&job, &Flags::default()).unwrap());
        merges += 1;
        house.restart();
    }
    assert_eq!((merges, house.manifest().files.len()), (7, 1));
    assert_same(&before, &house.rows());
}

#[test]
fn a_crash_at_any_step_leaves_every_row_once() {
    let house = House::new(4, 500, |_| ());
    let before = house.rows();
    let (job, compactor) = (house.job().unwrap(), house.compactor());
    let hour = house.folder.root().join(folder_of(&job.inputs[0].path));
    // In the middle of a file.
    std::fs::write(hour.join("merged-0000000004-000.parquet.tmp"), b"PAR1").unwrap();
    house.restart();
    // All outputs are there, and the manifest does not know.
    let outputs = compactor.write(&job, &Flags::default()).unwrap();
    assert!(house.folder.root().join(&outputs[0].path).exists());
    assert_same(&before, &house.rows());
    house.restart();
    assert!(!house.folder.root().join(&outputs[0].path).exists());
    assert_same(&before, &house.rows());
    // Committed, and the inputs are still there.
    let outputs = compactor.write(&job, &Flags::default()).unwrap();
    assert!(compactor.commit(&job, outputs).unwrap());
    house.restart();
    assert_same(&before, &house.rows());
    // Some of them are gone already, and the manifest does not know.
    std::fs::remove_file(house.folder.root().join(&job.inputs[1].path)).unwrap();
    house.restart();
    // The grace is over.
    let gone =
        house.table().commit(|next| retention::unlink(&house.folder, next, crate::now_us(), 0)).unwrap();
    assert!(gone.is_some() && house.manifest().removed.is_empty());
    assert_eq!(parquet_files(&house.folder.requests()).len(), 1);
    assert_same(&before, &house.rows());
}

#[test]
fn what_left_the_table_meanwhile_does_not_come_back() {
    let house = House::new(3, 200, |_| ());
    let (job, compactor) = (house.job().unwrap(), house.compactor());
    let outputs = compactor.write(&job, &Flags::default()).unwrap();
    let going = BTreeSet::from([job.inputs[1].path.clone()]);
    let left = compactor.table.commit(|next| {
        retention::remove(next, &going, 0);
        Some(())
    });
    assert!(left.unwrap().is_some());
    assert!(!compactor.commit(&job, outputs).unwrap());
    assert_eq!(house.rows().num_rows(), 400);
}

#[test]
fn a_damaged_file_is_left_as_it_is_and_the_others_are_merged() {
    let house = House::new(4, 300, |_| ());
    let damaged = house.manifest().files[2].clone();
    let path = house.folder.root().join(&damaged.path);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (mut compactor, job) = (house.compactor(), house.job().unwrap());
    let flags = Flags::default();
    let error = compactor.merge(&job, &flags).unwrap_err();
    assert!(error.to_string().contains(&damaged.path), "{error}");
    assert_eq!(parquet_files(&house.folder.requests()).len(), 4, "nothing is left of it");
    compactor.failed(&job, &error, &flags);
    let now_us = crate::now_us();
    let job = choose::choose(
        &compactor.config,
        &house.manifest(),
        |file| !compactor.left.contains(&file.path),
        now_us,
    )
    .unwrap();
    assert!(compactor.merge(&job, &flags).unwrap());
    let files = house.manifest().files;
    assert_eq!(files.len(), 2);
    assert!(files.contains(&damaged));
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 1_200);
}

#[test]
fn it_stops_when_it_is_told_to_and_leaves_nothing() {
    let house = House::new(3, 200, |_| ());
    let flags = Flags::default();
    flags.leave.store(true, Ordering::Release);
    let error = house.compactor().merge(&house.job().unwrap(), &flags).unwrap_err();
    assert!(matches!(error, CompactError::Output(ParquetFileError::Stopped)), "{error}");
    assert_eq!(parquet_files(&house.folder.requests()).len(), 3);
    assert_eq!(house.compactor().run(&flags), 0);
}
