//! How soon the console's first page is there over many rows: tiles and charts, and all of its panels.
//!
//! The binary serves the rows of the analytics bench from a data folder, and a real Chromium opens the overview of all of them
//! a number of times, each time without a cache of its own: by a span of whole minutes, and by one that begins and ends within
//! a minute, as one that counts back from now does. Figures are medians.
//!
//! `cargo bench --bench console -- --rows 20000000 --rounds 10`. `--data DIR` keeps the files and uses them again. Needs node,
//! Chromium (`--chromium FILE`) and playwright-core (`--modules DIR`, by default those that `tests/run` installs).

#[path = "../analytics/house.rs"]
#[allow(dead_code)]
mod house;

#[path = "../cluster/process.rs"]
#[allow(dead_code)]
mod process;

#[path = "../analytics/traffic.rs"]
#[allow(dead_code)]
mod traffic;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use process::Process;
use serde_json::{Value, json};

/// What is looked at: the whole, and nearly the whole.
const SPANS: [(&str, &str, &str); 2] = [
    ("whole minutes", "2026-03-01T00:00:00Z", "2026-03-01T10:00:00Z"),
    ("any moments", "2026-03-01T00:17:23.5Z", "2026-03-01T09:43:41.25Z"),
];

struct Options {
    rows: u64,
    rounds: usize,
    data: Option<PathBuf>,
    modules: PathBuf,
    chromium: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/console: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let mut options = Options {
        rows: 20_000_000,
        rounds: 10,
        data: None,
        modules: home.join(".cache/tollhouse-tests/console/node_modules"),
        chromium: "/usr/bin/chromium".into(),
    };
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
            "--modules" => options.modules = value.into(),
            "--chromium" => options.chromium = value.into(),
            _ => {
                return Err(format!(
                    "unknown argument {arg}: --rows, --rounds, --data, --modules, --chromium"
                ));
            }
        }
    }
    Ok(options)
}

fn run() -> Result<(), String> {
    let options = options(std::env::args().skip(1))?;
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let root = options.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    let house = house::open(&root, options.rows)?;
    eprintln!("{} rows, {} files, {} MiB", house.rows, house.files.len(), house.bytes >> 20);
    let config = json!({ "analytics": {
        "listen": "127.0.0.1:0", "postgres": { "listen": null }, "flight": { "listen": null },
    } });
    let parent = root.parent().ok_or("a folder has a parent")?;
    let name = root.file_name().and_then(|name| name.to_str()).ok_or("a folder has a name")?;
    let analytics = Process::start(&["analytics"], parent, name, &config)?;
    let base = format!("http://{}", analytics.address("console")?);

    println!("| the overview of {} rows | tiles and charts, ms | all panels, ms |", house.rows);
    println!("| --- | ---: | ---: |");
    for (name, from, until) in SPANS {
        let asked = json!({
            "base": base, "from": from, "until": until, "rounds": options.rounds,
            "modules": options.modules, "chromium": options.chromium,
        });
        let found = opened(&asked)?;
        let shown = found.iter().filter_map(|page| page["requests"].as_u64());
        if name == SPANS[0].0
            && let Some(wrong) = shown.into_iter().find(|shown| *shown != house.rows)
        {
            return Err(format!("the page shows {wrong} requests of {}", house.rows));
        }
        let median = |what: &str| {
            let mut times: Vec<f64> = found.iter().filter_map(|page| page[what].as_f64()).collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().ok_or_else(|| format!("nothing was measured of {what}"))
        };
        println!("| {name} | {:.0} | {:.0} |", median("charts")?, median("all")?);
    }
    Ok(())
}

/// Opens the page; what was measured each time.
fn opened(asked: &Value) -> Result<Vec<Value>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/console/first_page.mjs");
    let output = Command::new("node").arg(script).arg(asked.to_string()).output();
    let output = output.map_err(|error| format!("cannot run node: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("first_page.mjs: {error}"))
}
