//! What a merge costs and what it leaves, by column: a measurement for docs/benchmarks.md, run by name with `--ignored
//! --nocapture` in a release build. The traffic is that of the pipeline benchmark, at 5,000 requests per second on four
//! cores.

use super::*;
use crate::columns::Rows;
use crate::config::CollectorConfig;
use crate::parquet::HOUR_US;
use crate::seal::{Queue, Sealer};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use event::hot::{HotWriter, Watermarks};
use event::layout::Manifest;
use event::{Draft, RequestEvent};
use std::collections::BTreeMap;
use std::fs::File;

#[path = "../../../benches/pipeline/traffic.rs"]
#[allow(dead_code, missing_docs, reason = "the benchmark uses all of it")]
mod traffic;

const ROWS: u64 = 2_000_000;
const ROWS_PER_S: u64 = 5_000;
const CORES: usize = 4;
const HOUR: i64 = 480_000;

/// Minutes of traffic, sealed as they would be.
fn sealed(folder: &DataFolder) -> Vec<FileEntry> {
    let plan = crate::config::validate(&CollectorConfig::default()).unwrap();
    let table = Table::new(folder.clone(), Manifest::default());
    let mut sealer = Sealer::new(folder.clone(), plan, Queue::default(), table.clone());
    let traffic = traffic::Traffic::new(HOUR * HOUR_US);
    let (mut draft, mut rows) = (Draft::new(), Rows::new());
    // Cores began at different times, so their sequences are apart.
    let mut lanes: [u64; CORES] = [7_000_000, 9_100_000, 5_200_000, 8_050_000];
    let mut number = 0;
    for file in 1.. {
        let mut hot = HotWriter::create(folder, file).unwrap();
        for _second in 0..60 {
            for _ in 0..ROWS_PER_S.min(ROWS - number) {
                let request = traffic.request(number);
                request.fill(&mut draft);
                let spacing_us = 1_000_000 / ROWS_PER_S;
                draft.head.time_us =
                    HOUR * HOUR_US + (number * spacing_us) as i64 + draft.head.time_us.rem_euclid(500);
                let core = usize::from(request.request_id[0]) % CORES;
                lanes[core] += 1;
                rows.append(&RequestEvent::of_draft("node", core as u16, lanes[core], &draft));
                number += 1;
            }
            hot.append(&rows.finish().unwrap(), &Watermarks::new()).unwrap();
        }
        hot.sync().unwrap();
        sealer.seal(file).unwrap();
        if number == ROWS {
            break;
        }
    }
    table.look(|manifest| manifest.files.clone())
}

/// Bytes of each column, and its encodings; bloom filters by themselves.
fn by_column(folder: &DataFolder, files: &[FileEntry]) -> BTreeMap<String, (i64, String)> {
    let mut columns: BTreeMap<String, (i64, String)> = BTreeMap::new();
    for file in files {
        let reader = SerializedFileReader::new(File::open(folder.root().join(&file.path)).unwrap()).unwrap();
        for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let entry = columns.entry(column.column_path().string()).or_default();
            entry.0 += column.compressed_size();
            entry.1 = crate::storage::data_encodings(column).join(" ");
            let bloom = i64::from(column.bloom_filter_length().unwrap_or(0));
            columns.entry("bloom filters".into()).or_default().0 += bloom;
        }
    }
    columns
}

fn id_bytes(columns: &BTreeMap<String, (i64, String)>) -> i64 {
    let is_id = |name: &str| name.ends_with("_id") && name != "credential_id" || name == "bloom filters";
    columns.iter().filter(|(name, _)| is_id(name)).map(|(_, (bytes, _))| bytes).sum()
}

fn thread_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A line of `/proc/self/status`, in mebibytes.
fn status_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[test]
#[ignore = "a measurement, not a test"]
fn measure() {
    let root = tempfile::tempdir().unwrap();
    // Where other programs may look at the files afterwards, as `clickhouse_bytes.py` does.
    let kept = std::env::var_os("MEASURE_FOLDER").map(std::path::PathBuf::from);
    let folder = DataFolder::open(kept.as_deref().unwrap_or(root.path())).unwrap();
    let inputs = sealed(&folder);
    let before = by_column(&folder, &inputs);
    let job = Job { hour: HOUR, inputs, level: choose::LEVEL_CLOSED };
    let each = |bytes: i64| bytes as f64 / ROWS as f64;
    let show = |what: &str, files: usize, bytes: u64, ids: i64| {
        let bytes = bytes as i64;
        println!(
            "{what}: {files} files, {:.2} bytes per row, {:.2} without ids",
            each(bytes),
            each(bytes - ids)
        );
    };
    show("sealed", job.inputs.len(), job.bytes(), id_bytes(&before));
    let defaults = CompactionConfig::default();
    let mut after = BTreeMap::new();
    // The default is the last one, and its columns are shown; memory is measured by the first, before anything is cached.
    let level = defaults.zstd_level;
    for (bucket_s, zstd_level, memory_mib) in [
        (BUCKET_S, level, 128),
        (10, level, 128),
        (300, level, 128),
        (3_600, level, 128),
        (BUCKET_S, 3, 128),
        (BUCKET_S, 9, 128),
        (BUCKET_S, 12, 128),
        (BUCKET_S, level, 32),
        (BUCKET_S, level, 128),
    ] {
        let config = CompactionConfig {
            memory_bytes_max: memory_mib << 20,
            io_bytes_per_s_max: 1 << 40,
            ..defaults.clone()
        };
        let parquet = ParquetConfig { zstd_level, ..ParquetConfig::default() };
        let stop = || false;
        let name = "measured".to_owned();
        let merge = Merge {
            folder: &folder,
            config: &config,
            parquet: &parquet,
            bucket_s,
            name,
            keep: None,
            stop: &stop,
        };
        // Forgets the greatest size so far.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (begun, resident) = (thread_ns(), status_mib("VmRSS"));
        let outputs = merge.run(&job).unwrap();
        let ns = (thread_ns() - begun) / ROWS;
        after = by_column(&folder, &outputs);
        let what = format!(
            "buckets of {bucket_s} s, zstd {zstd_level}, {memory_mib} MiB: {ns} ns per row, {} MiB beyond {resident}",
            status_mib("VmHWM").saturating_sub(resident)
        );
        show(&what, outputs.len(), outputs.iter().map(|file| file.bytes).sum(), id_bytes(&after));
    }
    let mut names: Vec<_> = before.keys().collect();
    names.sort_by_key(|name| -before[*name].0);
    for name in names {
        let ((sealed, encoding), (merged, _)) = (&before[name], &after[name]);
        if each(*sealed).max(each(*merged)) >= 0.01 {
            println!("| `{name}` | {encoding} | {:.2} | {:.2} |", each(*sealed), each(*merged));
        }
    }
}

/// A day of traffic, sealed by the minute and merged by the hour as a collector would. `MEASURE_HOURS` makes it shorter.
#[test]
#[ignore = "a measurement, not a test"]
fn measure_day() {
    let hours: i64 = std::env::var("MEASURE_HOURS").map_or(24, |hours| hours.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("MEASURE_FOLDER").map(std::path::PathBuf::from);
    let folder = DataFolder::open(kept.as_deref().unwrap_or(root.path())).unwrap();
    let mut config = CollectorConfig::default();
    config.compaction.io_bytes_per_s_max = 1 << 40;
    let plan = crate::config::validate(&config).unwrap();
    let table = Table::new(folder.clone(), Manifest::default());
    let mut sealer = Sealer::new(folder.clone(), plan.clone(), Queue::default(), table.clone());
    let compactor = Compactor::new(folder.clone(), &plan, table.clone(), None);
    let traffic = traffic::Traffic::new(HOUR * HOUR_US);
    let (mut draft, mut rows) = (Draft::new(), Rows::new());
    let mut lanes: [u64; CORES] = [7_000_000, 9_100_000, 5_200_000, 8_050_000];
    let mut number = 0;
    let (begun, flags) = (Instant::now(), Flags::default());
    let (mut merging_ns, mut peak_mib) = (0, 0);
    for hour in 0..hours {
        for minute in 0..60 {
            let file = u64::try_from(hour * 60 + minute + 1).unwrap();
            let mut hot = HotWriter::create(&folder, file).unwrap();
            for second in 0..60 {
                for place in 0..ROWS_PER_S {
                    let request = traffic.request(number);
                    request.fill(&mut draft);
                    let spacing_us = 1_000_000 / ROWS_PER_S;
                    draft.head.time_us = (HOUR + hour) * HOUR_US
                        + (minute * 60 + second) * 1_000_000
                        + (place * spacing_us) as i64
                        + draft.head.time_us.rem_euclid(100);
                    let core = usize::from(request.request_id[0]) % CORES;
                    lanes[core] += 1;
                    rows.append(&RequestEvent::of_draft("node", core as u16, lanes[core], &draft));
                    number += 1;
                }
                hot.append(&rows.finish().unwrap(), &Watermarks::new()).unwrap();
            }
            drop(hot);
            sealer.seal(file).unwrap();
            assert!(crate::seal::unlink_hot(&folder, file));
        }
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (cpu, resident) = (thread_ns(), status_mib("VmRSS"));
        let later_us = (HOUR + hour + 2) * HOUR_US;
        while let Some(job) =
            table.look(|now| choose::choose(&plan.config.compaction, now, |_| true, later_us))
        {
            assert!(compactor.merge(&job, &flags).unwrap());
        }
        merging_ns += thread_ns() - cpu;
        peak_mib = peak_mib.max(status_mib("VmHWM").saturating_sub(resident));
        table.commit(|next| retention::unlink(&folder, next, i64::MAX, 0)).unwrap();
        let (files, bytes) =
            table.look(|now| (now.files.len(), now.files.iter().map(|file| file.bytes).sum::<u64>()));
        println!(
            "{} hours: {number} rows in {files} files, {:.2} bytes per row; merging took {} ns per row and at most {peak_mib} MiB; {} s",
            hour + 1,
            bytes as f64 / number as f64,
            merging_ns / number,
            begun.elapsed().as_secs()
        );
    }
    let stored: u64 = table.look(|now| now.files.iter().map(|file| file.rows).sum());
    assert_eq!(stored, number, "rows of the table");
}
