//! The collector's side: from the spool to hot files and Parquet, with and without metrics, at once and live.

use crate::hot_path::{self, Gateway};
use crate::measure::{Collected, process_ns, thread_ns};
use crate::traffic::Traffic;
use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use collector::{CollectorConfig, Running};
use event::layout::{DataFolder, Manifest};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::VecDeque;
use std::fs::File;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the collector may take for one arm.
const PATIENCE: Duration = Duration::from_secs(120);
/// Length of one step of the live arm.
const TICK: Duration = Duration::from_millis(1);

/// Records everything, then collects it. Events older than the collector are not counted in its metrics, which is how
/// the two are told apart.
pub fn at_once(events: u64, metrics: bool) -> Result<Collected, String> {
    let (_root, folder) = new_folder()?;
    let minute_us = 60_000_000;
    let traffic = Traffic::new(if metrics { now_us() + minute_us } else { now_us() - 60 * minute_us });
    let (spool, writer) = hot_path::open(&folder)?;
    let mut gateway = Gateway::new(writer);
    gateway.record_all(&folder, &traffic, events)?;
    let hot_path_ns = gateway.spent_ns;
    drop(gateway);
    spool.close();

    let begun = process_ns();
    let running = start(&folder)?;
    wait_for(&running, events)?;
    let hot = process_ns();
    let hot_bytes = hot_bytes(&folder)?;
    let measured = process_ns();
    end(running, events)?;
    let done = process_ns() - (measured - hot);
    let each = |total: u64| total as f64 / events as f64;
    finish(&folder, events, each(hot_path_ns), each(hot - begun), each(done - begun), each(hot_bytes))
}

/// Records at a steady rate while the collector works; counts all threads but the gateway's.
pub fn live(rate: u64, seconds: u64) -> Result<Collected, String> {
    let (_root, folder) = new_folder()?;
    let (spool, writer) = hot_path::open(&folder)?;
    let running = start(&folder)?;
    let traffic = Traffic::new(now_us() + 1_000_000);
    let mut gateway = Gateway::new(writer);
    let (begun, begun_here, clock) = (process_ns(), thread_ns(), Instant::now());
    let (mut done, events) = (0, rate * seconds);
    let mut lateness = Lateness::default();
    while done < events {
        std::thread::sleep(TICK);
        let due = (clock.elapsed().as_micros() as u64 * rate / 1_000_000).min(events);
        gateway.record(&traffic, done..due)?;
        done = due;
        lateness.recorded(done);
        lateness.look(&folder)?;
    }
    while !lateness.waiting.is_empty() {
        if clock.elapsed() > PATIENCE {
            return Err("not every event became visible".into());
        }
        std::thread::sleep(TICK);
        lateness.look(&folder)?;
    }
    let hot_path_ns = gateway.spent_ns;
    let here = thread_ns() - begun_here;
    drop(gateway);
    spool.close();
    wait_for(&running, events)?;
    let hot = process_ns();
    let hot_bytes = hot_bytes(&folder)?;
    end(running, events)?;
    let done = process_ns();
    let each = |total: u64| total as f64 / events as f64;
    let others = |until: u64| each(until - begun - here);
    let found = finish(&folder, events, each(hot_path_ns), others(hot), others(done), each(hot_bytes))?;
    Ok(Collected { visible_ms: lateness.percentile(0.99), ..found })
}

/// How long events take from the gateway's append to being rows that a query would see.
#[derive(Default)]
struct Lateness {
    /// Events recorded by when, as long as they are not visible.
    waiting: VecDeque<(Instant, u64)>,
    found_ms: Vec<f64>,
}

impl Lateness {
    fn recorded(&mut self, events: u64) {
        self.waiting.push_back((Instant::now(), events));
    }

    /// Counts the rows of the hot file's commit log.
    fn look(&mut self, folder: &DataFolder) -> Result<(), String> {
        let log = match std::fs::read_to_string(folder.hot_commits(1)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            log => log.map_err(|error| error.to_string())?,
        };
        let whole = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let rows: u64 = whole.filter_map(|line| line["rows"].as_u64()).sum();
        while let Some((since, _)) = self.waiting.front().filter(|(_, events)| *events <= rows) {
            self.found_ms.push(since.elapsed().as_secs_f64() * 1e3);
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn percentile(mut self, share: f64) -> Option<f64> {
        self.found_ms.sort_by(f64::total_cmp);
        self.found_ms.get((self.found_ms.len() as f64 * share) as usize).copied()
    }
}

fn new_folder() -> Result<(tempfile::TempDir, DataFolder), String> {
    let root = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = DataFolder::open(root.path()).map_err(|error| error.to_string())?;
    Ok((root, folder))
}

/// A collector as it is by default, but for its port, and for hot files that all stay to be measured.
fn start(folder: &DataFolder) -> Result<Running, String> {
    let mut config = CollectorConfig::default();
    config.metrics.listen = ([127, 0, 0, 1], 0).into();
    config.seal.rows_max = 16_000_000;
    config.seal.bytes_max = 16 << 30;
    let plan = collector::validate(&config).map_err(|problems| format!("{problems:?}"))?;
    collector::start(plan, folder).map_err(|error| error.to_string())
}

/// Waits until every row is durable in a hot file.
fn wait_for(running: &Running, events: u64) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ledger = running.ledger();
        if ledger.first().is_some_and(|row| row.stored == events && row.in_flight == 0 && row.dropped == 0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not every event arrived: {ledger:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Stops the collector, which seals everything.
fn end(running: Running, events: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(|error| error.to_string())?.block_on(running.shutdown());
    if report.rows == events && report.drained && report.hot_left == 0 {
        return Ok(());
    }
    Err(format!("the collector did not store everything: {report:?}"))
}

fn hot_bytes(folder: &DataFolder) -> Result<u64, String> {
    let mut bytes = 0;
    for number in folder.hot_numbers().map_err(|error| error.to_string())? {
        for path in [folder.hot_file(number), folder.hot_commits(number)] {
            bytes += std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        }
    }
    Ok(bytes)
}

/// Looks at the Parquet files: every event once, and what a row takes.
fn finish(
    folder: &DataFolder,
    events: u64,
    hot_path_ns: f64,
    hot_ns: f64,
    sealed_ns: f64,
    hot_bytes: f64,
) -> Result<Collected, String> {
    let text = |error: parquet::errors::ParquetError| error.to_string();
    let files = Manifest::load(folder).map_err(|error| error.to_string())?.files;
    let (mut bytes, mut id_bytes, mut sequences) = (0, 0, Vec::with_capacity(events as usize));
    for entry in files {
        bytes += entry.bytes;
        let file = File::open(folder.root().join(&entry.path)).map_err(|error| error.to_string())?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(text)?;
        for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let name = column.column_path().string();
            if name.ends_with("_id") && name != "credential_id" {
                id_bytes += column.compressed_size();
            }
            id_bytes += i64::from(column.bloom_filter_length().unwrap_or(0));
        }
        let mask = ProjectionMask::columns(reader.parquet_schema(), ["sequence"]);
        for batch in reader.with_projection(mask).build().map_err(text)? {
            let batch = batch.map_err(|error| error.to_string())?;
            sequences.extend_from_slice(batch["sequence"].as_primitive::<UInt64Type>().values());
        }
    }
    let rows = sequences.len() as u64;
    sequences.sort_unstable();
    sequences.dedup();
    if rows != events || sequences.len() as u64 != events {
        return Err(format!("{events} events became {rows} rows, {} of them different", sequences.len()));
    }
    let each = |total: u64| total as f64 / events as f64;
    Ok(Collected {
        visible_ms: None,
        hot_path_ns,
        hot_ns,
        sealed_ns,
        hot_bytes,
        parquet_bytes: each(bytes),
        parquet_bytes_without_ids: each(bytes.saturating_sub(id_bytes.unsigned_abs())),
    })
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as i64
}
