//! A data folder full of sealed files, written by the spool and the collector themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use collector::CollectorConfig;
use event::Draft;
use event::layout::{DataFolder, Manifest};
use event::spool::{Spool, SpoolConfig, Writer};

use crate::traffic::Traffic;

/// Parquet files, one for each hour of traffic.
const FILES: u64 = 10;
const HOUR_US: i64 = 3_600_000_000;
/// 2026-03-01T00:00:00Z.
pub const BEGIN_US: i64 = 1_772_323_200_000_000;
const SEED: u64 = 0x7011_1045_e000_0001;

/// The files of the table.
pub struct House {
    pub folder: DataFolder,
    pub files: Vec<PathBuf>,
    pub rows: u64,
    pub bytes: u64,
}

/// Opens the folder and fills it, unless an earlier run has.
pub fn open(root: &Path, rows: u64) -> Result<House, String> {
    let folder = DataFolder::open(root).map_err(|error| error.to_string())?;
    let mut manifest = Manifest::load(&folder).map_err(|error| error.to_string())?;
    if manifest.files.is_empty() {
        fill(&folder, rows)?;
        manifest = Manifest::load(&folder).map_err(|error| error.to_string())?;
    }
    let stored: u64 = manifest.files.iter().map(|file| file.rows).sum();
    if stored != rows {
        return Err(format!("{} holds {stored} rows, {rows} are wanted", root.display()));
    }
    let files = manifest.files.iter().map(|file| folder.root().join(&file.path)).collect();
    Ok(House { folder, files, rows, bytes: manifest.files.iter().map(|file| file.bytes).sum() })
}

fn fill(folder: &DataFolder, rows: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let mut traffic = Traffic::new(SEED);
    for hour in 0..FILES {
        let count = rows * (hour + 1) / FILES - rows * hour / FILES;
        let begin_us = BEGIN_US + HOUR_US * hour as i64;
        record(folder, &mut traffic, begin_us, count)?;
        seal(folder, &runtime)?;
        eprintln!("hour {} of {FILES}: {count} rows", hour + 1);
    }
    Ok(())
}

/// Appends an hour of requests to the spool, as one core of a gateway does.
fn record(folder: &DataFolder, traffic: &mut Traffic, begin_us: i64, count: u64) -> Result<(), String> {
    let config = SpoolConfig { segment_bytes: 64 << 20, bytes_max: 64 << 30, ..SpoolConfig::default() };
    let (spool, mut writers) =
        Spool::open(&config, &folder.spool(), "bench", 1).map_err(|error| error.to_string())?;
    let writer = writers.first_mut().ok_or("no writer")?;
    let mut draft = Draft::new();
    for row in 0..count {
        let since_us = (u128::from(row) * HOUR_US as u128 / u128::from(count)) as i64;
        traffic.next(&mut draft, begin_us + since_us);
        append(writer, &draft);
    }
    drop(writers);
    spool.close();
    Ok(())
}

/// A gateway would drop what comes while no segment is ready; here it waits.
fn append(writer: &mut Writer, draft: &Draft) {
    while writer.append(draft).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs the collector until everything is one sealed file.
fn seal(folder: &DataFolder, runtime: &tokio::runtime::Runtime) -> Result<(), String> {
    let mut config = CollectorConfig { drain_timeout_ms: 3_600_000, ..CollectorConfig::default() };
    config.metrics.listen = ([127, 0, 0, 1], 0).into();
    config.seal.interval_s = 86_400;
    config.seal.rows_max = 16_000_000;
    config.seal.bytes_max = 16 << 30;
    let plan = collector::validate(&config).map_err(|problems| format!("{problems:?}"))?;
    let running = collector::start(plan, folder).map_err(|error| error.to_string())?;
    let report = runtime.block_on(running.shutdown());
    if !report.drained || report.hot_left > 0 {
        return Err(format!("not everything was sealed: {report:?}"));
    }
    Ok(())
}
