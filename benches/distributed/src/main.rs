//! The questions of `benches/cluster`, asked of datafusion-distributed with one, two and three workers.
//!
//! It is what Tollhouse did not choose ([decision 22](../../../docs/adr/0022-plans-go-to-a-cluster.md)), so it is a program of its
//! own, of which nothing is in the house's build. All processes are on this machine, as they are in `benches/cluster`, with two
//! threads each: the figures show what the way through workers costs, not how it scales. Of datafusion-distributed everything is
//! as it comes, but for how files are handed out (`leaf.rs`). Each question is asked once to warm up, and the answer is compared with that of
//! DataFusion alone in this process; figures are medians. Then workers are lost in the middle of a long question.
//!
//! `latency_percentile` belongs to the analytics, which bring a gateway's worth of crates along: here DataFusion's
//! `approx_percentile_cont` answers in its place, everywhere, and is off by some percent.
//!
//! In this folder, over files that `cargo bench --bench cluster -- --data DIR` has left:
//! `cargo run --release -- --data DIR --rounds 3`.

mod engine;
mod leaf;
mod loss;
mod questions;
mod table;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::Engine;
use questions::{QUESTIONS, Rows};
use table::{Cell, Column};
use worker::{Worker, cpu};

/// The house's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads of each process, and partitions of each task.
pub const THREADS: usize = 2;

struct Options {
    data: PathBuf,
    rounds: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/distributed: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut data, mut rounds) = (None, 3);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--data" => data = Some(PathBuf::from(value)),
            "--rounds" => {
                let number =
                    value.parse::<usize>().map_err(|_| format!("--rounds: {value:?} is not a number"))?;
                rounds = number.max(1);
            }
            _ => return Err(format!("unknown argument {arg}: --data, --rounds")),
        }
    }
    Ok(Options { data: data.ok_or("--data DIR is what `cargo bench --bench cluster` has left")?, rounds })
}

fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    // How this program starts itself.
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return runtime.block_on(worker::serve());
    }
    let options = options(std::env::args().skip(1))?;
    runtime.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<(), String> {
    let files = table::files(&options.data)?;
    let local = Engine::local(&files).await?;
    let rows = local.ask("SELECT count(*) AS n FROM requests").await?;
    eprintln!("{} rows, {} files", rows.first(), files.len());

    let (column, expected) = ask_all(&local, &[], options.rounds).await?;
    let mut columns = vec![column];
    for count in 1..=3 {
        let workers = (0..count).map(|_| Worker::start()).collect::<Result<Vec<_>, _>>()?;
        let engine = Engine::over(&files, workers.iter().map(|worker| worker.url.clone()).collect()).await?;
        let (column, answers) = ask_all(&engine, &workers, options.rounds).await?;
        for ((name, _), (found, wanted)) in QUESTIONS.iter().zip(answers.iter().zip(&expected)) {
            found.must_be(wanted).map_err(|problem| format!("{name}, {count} workers: {problem}"))?;
        }
        columns.push(column);
    }
    table::print(&columns);
    println!();
    for count in 1..=3 {
        // Nobody has to listen there to have it planned.
        let urls = (1..=count).map(|port| url::Url::parse(&format!("http://127.0.0.1:{port}")));
        let urls = urls.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let planned = match Engine::as_it_comes(&files, urls).await?.tasks(QUESTIONS[0].1).await {
            Ok(tasks) => format!("{tasks} tasks"),
            Err(problem) => problem,
        };
        println!("files handed out as it comes, workers {count}: {planned}");
    }
    loss::try_all(&files, &local).await
}

/// Asks everything, counting the time of this process and of workers.
async fn ask_all(engine: &Engine, workers: &[Worker], rounds: usize) -> Result<(Column, Vec<Rows>), String> {
    let name = match workers.len() {
        0 => "local".to_owned(),
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let all = || cpu(std::process::id()) + workers.iter().map(|worker| cpu(worker.id())).sum::<Duration>();
    let (mut cells, mut answers) = (Vec::new(), Vec::new());
    for (question, sql) in QUESTIONS {
        eprintln!("{name}: {question}");
        answers.push(engine.ask(sql).await.map_err(|problem| format!("{question}, {name}: {problem}"))?);
        let mut samples = Vec::new();
        for _ in 0..rounds {
            let (before, clock) = (all(), Instant::now());
            engine.ask(sql).await?;
            samples.push((clock.elapsed(), all().saturating_sub(before)));
        }
        let wall = median(samples.iter().map(|(wall, _)| *wall).collect());
        let cpu = median(samples.iter().map(|(_, cpu)| *cpu).collect());
        cells.push(Cell { wall, cpu, tasks: engine.tasks(sql).await? });
    }
    Ok((Column { name, cells }, answers))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
