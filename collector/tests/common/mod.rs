//! A spool to write to, a collector over it, and what its Parquet files hold.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod rollups;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt64Type};
use collector::{CollectorConfig, Running};
use event::hot::HotReader;
use event::layout::{DataFolder, Manifest, checksum};
use event::spool::{Spool, SpoolConfig, Writer};
use event::{ABSENT_U16, Attempt, AttemptError, Draft, Text, ip_bytes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Beginning of an hour, microseconds since 1970 (UTC).
pub const HOUR_START_US: i64 = 1_790_000_000_000_000 / 3_600_000_000 * 3_600_000_000;

pub fn config() -> CollectorConfig {
    let mut config = CollectorConfig { flush_interval_ms: 20, ..CollectorConfig::default() };
    config.metrics.listen = "127.0.0.1:0".parse().unwrap();
    config.seal.grace_ms = 0;
    config.retention.grace_s = 0;
    config
}

pub fn start(config: &CollectorConfig, folder: &DataFolder) -> Running {
    collector::start(collector::validate(config).unwrap(), folder).unwrap()
}

pub fn open_spool(folder: &DataFolder, cores: u16) -> (Spool, Vec<Writer>) {
    Spool::open(&SpoolConfig::default(), &folder.spool(), "node-a", cores).unwrap()
}

/// Spread without a random generator: the same for the same number.
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Traffic of ten services, fifty consumers and a few thousand paths, a millisecond apart and a little out of order.
pub fn fill(draft: &mut Draft, number: u64) {
    let random = mix(number);
    let pick = |shift: u32, among: u64| (random >> shift) % among;
    let time_us =
        HOUR_START_US + 200 * i64::try_from(number).unwrap() - i64::try_from(pick(3, 3_000)).unwrap();
    draft.reset(time_us);
    let head = &mut draft.head;
    head.request_id[..8].copy_from_slice(&random.to_le_bytes());
    head.request_id[8..].copy_from_slice(&mix(random).to_le_bytes());
    head.trace_id[..8].copy_from_slice(&mix(random ^ 1).to_le_bytes());
    head.trace_id[8..].copy_from_slice(&mix(random ^ 2).to_le_bytes());
    head.span_id = mix(random ^ 3).to_le_bytes();
    head.upstream_span_id = mix(random ^ 4).to_le_bytes();
    head.client_ip = ip_bytes(std::net::IpAddr::from([10, 0, pick(8, 4) as u8, pick(10, 100) as u8]));
    head.peer_ip = head.client_ip;
    head.config_version = 7;
    head.request_bytes = if pick(12, 10) == 0 { pick(14, 2_000) } else { 0 };
    head.response_bytes = [512, 2_048, 1_033, 17_000][pick(16, 4) as usize] + pick(18, 10) * pick(20, 2);
    head.status = [200, 200, 200, 200, 200, 201, 204, 404, 500, 200][pick(22, 10) as usize];
    head.upstream_status = head.status;
    let waited = 300 + u32::try_from(pick(24, 1_000) * pick(30, 40) / 10).unwrap();
    head.gateway_us = 30 + u32::try_from(pick(26, 40)).unwrap();
    head.upstream_us = waited;
    head.duration_us = waited + head.gateway_us;
    head.first_byte_us = waited + 10;
    head.queue_us = u32::try_from(pick(28, 3)).unwrap();
    head.auth_us = 1;
    head.connect_us = 0;
    head.request_body_us = 0;
    head.response_body_us = u32::try_from(pick(33, 30)).unwrap();
    let span_id = head.upstream_span_id;
    let status = head.status;
    let service = pick(36, 10);
    let consumer = pick(40, 50);
    draft.text(Text::Listener, b"http");
    draft.text(Text::Consumer, format!("consumer-number-{consumer}").as_bytes());
    draft.text(Text::CredentialId, format!("credential-0000-{consumer}").as_bytes());
    draft.text(
        Text::UserAgent,
        [&b"curl/8.5.0"[..], b"Mozilla/5.0 (X11; Linux x86_64) Firefox/132.0"][pick(44, 2) as usize],
    );
    draft.text(Text::Method, [&b"GET"[..], b"POST"][pick(46, 2) as usize]);
    draft.text(Text::Host, b"api.example.com");
    draft.text(Text::Path, format!("/service-{service}/items/{}", pick(48, 2_000)).as_bytes());
    draft.text(Text::Route, format!("route-of-service-{service}").as_bytes());
    draft.text(Text::Service, format!("service-{service}").as_bytes());
    draft.text(Text::Upstream, format!("upstream-{service}").as_bytes());
    draft.text(Text::ContentType, b"application/json");
    let addr = format!("10.1.0.{service}:8080");
    draft.text(Text::UpstreamAddr, addr.as_bytes());
    draft.attempt(&Attempt {
        addr: addr.as_bytes(),
        status: if status == 500 { ABSENT_U16 } else { status },
        error: if status == 500 { AttemptError::Reset } else { AttemptError::None },
        start_us: 20,
        duration_us: waited,
        reused: true,
        span_id,
    });
}

/// Appends events `from..to`, each to the lane of its number; waits for room rather than drop.
pub fn write(writers: &mut [Writer], draft: &mut Draft, from: u64, to: u64) {
    let lanes = writers.len() as u64;
    for number in from..to {
        fill(draft, number);
        let writer = &mut writers[(number % lanes) as usize];
        let deadline = Instant::now() + Duration::from_secs(30);
        while writer.append(draft).is_err() {
            assert!(Instant::now() < deadline, "the spool gives no room");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Rows in hot files that are not sealed.
pub fn hot_rows(folder: &DataFolder) -> u64 {
    let sealed = Manifest::load(folder).unwrap().sealed_through;
    let numbers = folder.hot_numbers().unwrap().into_iter().filter(|number| *number > sealed);
    numbers
        .filter_map(|number| HotReader::open(folder, number).ok().flatten())
        .map(|reader| reader.rows)
        .sum()
}

/// How many files below a folder have names that end so.
pub fn files_ending(folder: &Path, kind: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => files_ending(&path, kind),
            false => usize::from(path.extension().is_some_and(|found| found == kind)),
        })
        .sum()
}

/// Everything that the manifest names, each file checked against its entry.
pub fn table(folder: &DataFolder) -> Vec<RecordBatch> {
    let manifest = Manifest::load(folder).unwrap();
    let mut batches = Vec::new();
    for entry in &manifest.files {
        let path = folder.root().join(&entry.path);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            (bytes.len() as u64, checksum(&bytes)),
            (entry.bytes, entry.checksum.clone()),
            "{}",
            entry.path
        );
        let read = read_file(&path);
        let times: Vec<i64> = read
            .iter()
            .flat_map(|batch| batch["time"].as_primitive::<TimestampMicrosecondType>().values().to_vec())
            .collect();
        // Merged files are sorted by minute, service and consumer first.
        assert!(entry.level > 0 || times.is_sorted(), "{} is not sorted by time", entry.path);
        assert_eq!(times.len() as u64, entry.rows);
        let range = (times.iter().min(), times.iter().max());
        assert_eq!(range, (Some(&entry.time_min_us), Some(&entry.time_max_us)));
        let hour = entry.time_min_us / 3_600_000_000;
        assert_eq!(hour, entry.time_max_us / 3_600_000_000);
        assert!(entry.path.contains(&format!("/hour={:02}/", hour % 24)), "{}", entry.path);
        batches.extend(read);
    }
    batches
}

pub fn read_file(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// The identities of all rows; panics on a duplicate.
pub fn identities(batches: &[RecordBatch]) -> BTreeSet<(u16, u64)> {
    let mut seen = BTreeSet::new();
    for batch in batches {
        let cores = batch["core"].as_primitive::<UInt16Type>();
        let sequences = batch["sequence"].as_primitive::<UInt64Type>();
        for (core, sequence) in cores.values().iter().zip(sequences.values()) {
            assert!(seen.insert((*core, *sequence)), "row {core}/{sequence} is there twice");
        }
    }
    seen
}

/// Polls until `ready`, for at most 30 s.
pub fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn shutdown(running: Running) -> collector::Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(running.shutdown())
}

/// Asserts that every row of the ledger balances.
pub fn assert_balanced(report: &collector::Report) {
    for row in &report.ledger {
        assert_eq!(row.produced + row.recovered, row.stored + row.dropped + row.in_flight, "{row:?}");
    }
}
