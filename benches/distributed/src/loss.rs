//! What becomes of a long question when one of three workers is lost in the middle of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::questions::{LONG, Rows};
use crate::worker::{Worker, cpu};

const WORKERS: usize = 3;
/// How long an end is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loses workers early and late in the question, by death and by silence.
pub async fn try_all(files: &[PathBuf], local: &Engine) -> Result<(), String> {
    let wanted = local.ask(LONG).await?;
    println!();
    for part in [1, 2] {
        killed(files, &wanted, part).await?;
    }
    frozen(files, &wanted).await
}

/// Workers, an engine over them that has read the files once, and how long the question takes.
async fn start(files: &[PathBuf], wanted: &Rows) -> Result<(Vec<Worker>, Engine, Duration), String> {
    let workers = (0..WORKERS).map(|_| Worker::start()).collect::<Result<Vec<_>, _>>()?;
    let engine = Engine::over(files, workers.iter().map(|worker| worker.url.clone()).collect()).await?;
    engine.ask(LONG).await?.must_be(wanted)?;
    let clock = Instant::now();
    engine.ask(LONG).await?.must_be(wanted)?;
    Ok((workers, engine, clock.elapsed()))
}

/// A worker is killed after so many thirds of the question.
async fn killed(files: &[PathBuf], wanted: &Rows, part: u32) -> Result<(), String> {
    let (mut workers, engine, whole) = start(files, wanted).await?;
    let mut victim = workers.pop().ok_or("no worker")?;
    println!("a question of {} ms, one of {WORKERS} workers killed after {part}/3 of it:", whole.as_millis());
    let mut asked = Asked::of(&engine);
    let before = cpu(victim.id());
    tokio::time::sleep(whole * part / 3).await;
    println!("- it had computed for {} ms", cpu(victim.id()).saturating_sub(before).as_millis());
    let since = Instant::now();
    victim.kill()?;
    println!("- the question: {}", asked.end(since, wanted).await);
    println!(
        "- asked again, with the dead one in the list: {}",
        Asked::of(&engine).end(Instant::now(), wanted).await
    );
    let left = workers.iter().map(|worker| worker.url.clone()).collect();
    let engine = Engine::over(files, left).await?;
    println!(
        "- asked again, with the others alone: {}",
        Asked::of(&engine).end(Instant::now(), wanted).await
    );
    Ok(())
}

/// A worker stands still after a third of the question, and goes on when nobody would wait any more.
async fn frozen(files: &[PathBuf], wanted: &Rows) -> Result<(), String> {
    let (workers, engine, whole) = start(files, wanted).await?;
    let victim = workers.last().ok_or("no worker")?;
    println!("a question of {} ms, one of {WORKERS} workers frozen after 1/3 of it:", whole.as_millis());
    let mut asked = Asked::of(&engine);
    tokio::time::sleep(whole / 3).await;
    victim.freeze()?;
    println!("- the question: {}", asked.end(Instant::now(), wanted).await);
    victim.thaw()?;
    if asked.is_open() {
        println!("- the same question, when the worker goes on: {}", asked.end(Instant::now(), wanted).await);
    }
    Ok(())
}

/// A question that is being answered.
struct Asked {
    answer: tokio::task::JoinHandle<Result<Rows, String>>,
}

impl Asked {
    fn of(engine: &Engine) -> Self {
        let engine = engine.clone();
        Self { answer: tokio::spawn(async move { engine.ask(LONG).await }) }
    }

    fn is_open(&self) -> bool {
        !self.answer.is_finished()
    }

    /// How it ends, and how long after a moment.
    async fn end(&mut self, since: Instant, wanted: &Rows) -> String {
        let Ok(joined) = tokio::time::timeout(PATIENCE, &mut self.answer).await else {
            return format!("no end within {} s", PATIENCE.as_secs());
        };
        let ms = since.elapsed().as_millis();
        match joined {
            Ok(Ok(rows)) => match rows.must_be(wanted) {
                Ok(()) => format!("the right answer after {ms} ms"),
                Err(problem) => format!("a wrong answer after {ms} ms: {problem}"),
            },
            Ok(Err(problem)) => format!("an error after {ms} ms: {problem}"),
            Err(problem) => format!("a panic after {ms} ms: {problem}"),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}
