//! Questions about rows of a bucket, asked of the local engine and of a Ballista cluster with one, two and three executors.
//!
//! All processes are on this machine, so nothing here shows how a cluster scales: what it shows is what the way through a
//! scheduler, and through disks between steps, costs in time and in processor. The bucket is a folder; roll-ups are off, since
//! the questions that they answer need no cluster. Each engine is asked once to warm up, and its answers are compared;
//! figures are medians.
//!
//! `cargo bench --bench cluster -- --rows 5000000 --rounds 5`. `--data DIR` keeps the files and uses them again.

// They are also those of another bench, which uses more of them.
#[path = "../analytics/house.rs"]
#[allow(dead_code)]
mod house;

mod process;

#[path = "../analytics/traffic.rs"]
#[allow(dead_code)]
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use process::Process;
use serde_json::{Value, json};

const QUESTIONS: [(&str, &str); 6] = [
    ("count", "SELECT count(*) AS n FROM requests WHERE sequence >= 0"),
    (
        "services",
        "SELECT service, count(*) AS n, sum(response_bytes) AS bytes, latency_percentile(duration_us, 0.99) AS p99 \
         FROM requests GROUP BY service ORDER BY service",
    ),
    (
        "consumers",
        "SELECT consumer, count(*) AS n, sum(response_bytes) AS bytes FROM requests WHERE duration_us >= 0 \
         GROUP BY consumer ORDER BY n DESC, consumer LIMIT 10",
    ),
    (
        "paths",
        "SELECT path, count(*) AS n, count(DISTINCT trace_id) AS traces FROM requests GROUP BY path \
         ORDER BY n DESC, path LIMIT 10",
    ),
    (
        "join",
        "SELECT a.service, count(*) AS n FROM requests a JOIN requests b ON a.trace_id = b.trace_id \
         WHERE a.status >= 500 GROUP BY a.service ORDER BY a.service",
    ),
    ("rows", "SELECT time, path, status FROM requests WHERE status >= 500 ORDER BY time LIMIT 1000"),
];

struct Options {
    rows: u64,
    rounds: usize,
    data: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/cluster: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { rows: 5_000_000, rounds: 5, data: None };
    while let Some(arg) = args.next() {
        if arg == "--bench" {
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let number = || value.parse::<u32>().map_err(|_| format!("{arg}: {value:?} is not a number"));
        match arg.as_str() {
            "--rows" => options.rows = number()?.max(1_000).into(),
            "--rounds" => options.rounds = number()?.max(1) as usize,
            "--data" => options.data = Some(value.into()),
            _ => return Err(format!("unknown argument {arg}: --rows, --rounds, --data")),
        }
    }
    Ok(options)
}

fn run() -> Result<(), String> {
    let options = options(std::env::args().skip(1))?;
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let root = options.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    let house = house::open(&root.join("data"), options.rows)?;
    eprintln!("{} rows, {} files, {} MiB", house.rows, house.files.len(), house.bytes >> 20);
    upload(&root)?;

    let local = analytics(&root, &json!({ "engine": "local", "use_rollups": false }))?;
    let expected = ask_all(&[&local], options.rounds)?;
    println!("{:<10} {:>10} {:>12} {:>12}", "question", "engine", "wall ms", "processor ms");
    show("local", &expected);
    drop(local);
    for count in 1..=3 {
        let scheduler = scheduler(&root)?;
        let at = scheduler.address("scheduler")?;
        let executors =
            (0..count).map(|number| executor(&root, number, &at)).collect::<Result<Vec<_>, _>>()?;
        let engine = json!({ "scheduler": at, "partitions": 2 * count });
        let settings = json!({ "engine": "ballista", "use_rollups": false, "ballista": engine });
        let remote = analytics(&root, &settings)?;
        let mut processes = vec![&remote, &scheduler];
        processes.extend(&executors);
        let answers = ask_all(&processes, options.rounds)?;
        for (found, wanted) in answers.iter().zip(&expected) {
            if found.answer != wanted.answer {
                return Err(format!("{}: {} is not {}", found.name, found.answer, wanted.answer));
            }
        }
        show(&format!("ballista-{count}"), &answers);
    }
    Ok(())
}

struct Line {
    name: &'static str,
    answer: Value,
    wall: Duration,
    cpu: Duration,
}

fn show(engine: &str, lines: &[Line]) {
    for line in lines {
        let (wall, cpu) = (line.wall.as_millis(), line.cpu.as_millis());
        println!("{:<10} {engine:>10} {wall:>12} {cpu:>12}", line.name);
    }
}

/// Asks the first of some processes, and counts the time of all of them.
fn ask_all(processes: &[&Process], rounds: usize) -> Result<Vec<Line>, String> {
    let cpu = || processes.iter().map(|process| process.cpu()).sum::<Duration>();
    QUESTIONS
        .iter()
        .map(|(name, sql)| {
            let answer = processes[0].ask(sql)?;
            let mut samples = Vec::new();
            for _ in 0..rounds {
                let (before, clock) = (cpu(), Instant::now());
                processes[0].ask(sql)?;
                samples.push((clock.elapsed(), cpu().saturating_sub(before)));
            }
            let median = |mut times: Vec<Duration>| {
                times.sort();
                times[times.len() / 2]
            };
            let wall = median(samples.iter().map(|(wall, _)| *wall).collect());
            let cpu = median(samples.iter().map(|(_, cpu)| *cpu).collect());
            Ok(Line { name, answer, wall, cpu })
        })
        .collect()
}

fn section(root: &Path) -> Value {
    json!({ "url": format!("file://{}", root.join("bucket").display()), "sync_interval_s": 1, "poll_interval_s": 1 })
}

/// Puts the files into the bucket.
fn upload(root: &Path) -> Result<(), String> {
    std::fs::create_dir_all(root.join("bucket")).map_err(|error| error.to_string())?;
    let config = json!({ "object_store": section(root),
        "collector": { "metrics": { "listen": "127.0.0.1:0" }, "compaction": { "enabled": false } } });
    let _collector = Process::start(&["collector"], root, "data", &config)?;
    let analytics = analytics(root, &json!({ "engine": "local" }))?;
    let waits = "SELECT count(*) AS n FROM system.files WHERE place = 'local' AND kind <> 'hot'";
    loop {
        if analytics.ask(waits)? == json!([{ "n": 0 }]) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn analytics(root: &Path, settings: &Value) -> Result<Process, String> {
    let mut analytics = settings.clone();
    analytics["listen"] = json!("127.0.0.1:0");
    analytics["postgres"] = json!({ "listen": "127.0.0.1:0" });
    analytics["flight"] = json!({ "listen": "127.0.0.1:0" });
    analytics["timeout_ms"] = json!(600_000);
    analytics["threads"] = json!(2);
    let config = json!({ "object_store": section(root), "analytics": analytics });
    Process::start(&["analytics"], root, "data", &config)
}

fn scheduler(root: &Path) -> Result<Process, String> {
    let config = json!({ "cluster": { "scheduler": { "listen": "127.0.0.1:0" } } });
    Process::start(&["cluster", "scheduler"], root, "scheduler", &config)
}

fn executor(root: &Path, number: usize, scheduler: &str) -> Result<Process, String> {
    let executor = json!({ "scheduler": scheduler, "threads": 2 });
    let config = json!({ "object_store": section(root), "cluster": { "executor": executor } });
    Process::start(&["cluster", "executor"], root, &format!("executor-{number}"), &config)
}
