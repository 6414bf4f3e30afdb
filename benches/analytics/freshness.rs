//! From the end of a request to its row in SQL, while other traffic fills the same hot file.
//!
//! One thread appends to the spool as a busy core of a gateway does; another appends one event at a time and asks for
//! its row until it is there. The collector and the engine run as they are shipped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use collector::CollectorConfig;
use event::Draft;
use event::layout::DataFolder;
use event::spool::{Spool, SpoolConfig, Writer};

use crate::questions::Engine;
use crate::tollhouse::Tollhouse;
use crate::traffic::Traffic;

/// Pause between two looks for a row.
const LOOK: Duration = Duration::from_millis(2);
/// Longest wait for a row.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Measures `probes` times beside `rate` other requests per second, and prints the figures.
pub fn run(probes: usize, rate: u32, threads: u16) -> Result<(), String> {
    let root = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = DataFolder::open(root.path()).map_err(|error| error.to_string())?;
    let (spool, mut writers) = Spool::open(&SpoolConfig::default(), &folder.spool(), "bench", 2)
        .map_err(|error| error.to_string())?;
    let (Some(mut probe), Some(mut busy)) = (writers.pop(), writers.pop()) else {
        return Err("two writers were asked for".into());
    };
    let mut config = CollectorConfig::default();
    config.metrics.listen = ([127, 0, 0, 1], 0).into();
    let plan = collector::validate(&config).map_err(|problems| format!("{problems:?}"))?;
    let running = collector::start(plan, &folder).map_err(|error| error.to_string())?;
    let mut engine = Tollhouse::over(&folder, threads, true)?;
    let stop = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| load(&mut busy, rate, &stop));
        let result = measure(&mut engine, &mut probe, probes);
        stop.store(true, Ordering::Relaxed);
        result
    });
    let (mut delays, mut costs) = result?;
    drop((busy, probe));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(running.shutdown());
    spool.close();

    let millis = |sorted: &[Duration], p: f64| {
        sorted[((sorted.len() - 1) as f64 * p) as usize].as_secs_f64() * 1_000.0
    };
    delays.sort();
    costs.sort();
    println!("| of {probes} rows beside {rate} requests/s | p50, ms | p99, ms | most, ms |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, sorted) in
        [("from the end of a request to its row in SQL", &delays), ("one look for it", &costs)]
    {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|p| millis(sorted, p));
        println!("| {name} | {p50:.1} | {p99:.1} | {most:.1} |");
    }
    Ok(())
}

/// Appends at a steady rate until told to stop.
fn load(writer: &mut Writer, rate: u32, stop: &AtomicBool) {
    let (mut traffic, mut draft) = (Traffic::new(2), Draft::new());
    let (begun, mut done) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        for _ in done..due {
            traffic.next(&mut draft, now_us());
            // A drop is counted by the spool and changes nothing here.
            let _kept = writer.append(&draft);
        }
        done = due;
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn measure(
    engine: &mut Tollhouse,
    writer: &mut Writer,
    probes: usize,
) -> Result<(Vec<Duration>, Vec<Duration>), String> {
    let (mut traffic, mut draft) = (Traffic::new(1), Draft::new());
    let (mut delays, mut costs) = (Vec::new(), Vec::new());
    for number in 1..=probes {
        // Pauses of other lengths than the collector's, so that its rounds are met at any point.
        std::thread::sleep(Duration::from_millis(37 + (number as u64 * 29) % 67));
        traffic.next(&mut draft, now_us());
        let ended = Instant::now();
        writer.append(&draft).map_err(|reason| format!("the probe was dropped: {reason:?}"))?;
        loop {
            let answer = engine.ask("SELECT count(*) AS n FROM requests WHERE core = 1")?;
            costs.push(answer.cost.wall);
            let found = answer.rows.first().and_then(|row| row.first()).and_then(serde_json::Value::as_u64);
            if found == Some(number as u64) {
                break;
            }
            if ended.elapsed() > WAIT_MAX {
                return Err(format!("row {number} did not show: {found:?}"));
            }
            std::thread::sleep(LOOK);
        }
        delays.push(ended.elapsed());
    }
    Ok((delays, costs))
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as i64
}
