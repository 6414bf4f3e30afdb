//! Six questions of a dashboard, asked of Tollhouse's analytics and of DuckDB over the same Parquet files.
//!
//! The rows are synthetic but take the whole way of real ones: drafts into the spool, the collector's columns, its
//! hot files, its sealing and its writer properties. Both engines run with two threads and with warm caches, in
//! alternating order; the figures are medians of wall and of CPU time. DuckDB answers percentiles both exactly and by
//! its own sketch, and the faster of the two is compared. Every answer is checked against an exact one of DuckDB:
//! counts and sums must be equal, percentiles within 1 %. Questions that roll-ups can answer are asked a third time, with
//! roll-ups; and one row is looked up by its id.
//!
//! `cargo bench --bench analytics -- --rows 20000000 --rounds 5 --json FILE`. Needs Python with the package `duckdb`
//! (`--python`, by default the one that `tests/run` installs). `--data DIR` keeps the files and uses them again.
//!
//! `-- --freshness 500 --rate 5000` measures something else: how soon a row can be queried.

mod duckdb;

mod freshness;

mod house;

mod options;

mod questions;

mod report;

mod tollhouse;

mod traffic;

use std::process::ExitCode;

use options::Options;
use questions::{Engine, Question};
use report::Line;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("benches/analytics: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.freshness > 0 {
        return freshness::run(options.freshness, options.rate, options.threads);
    }
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let root = options.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    let house = house::open(&root, options.rows)?;
    eprintln!("{} rows, {} files, {} MiB", house.rows, house.files.len(), house.bytes >> 20);

    let mut ours = tollhouse::Tollhouse::over(&house.folder, options.threads, false)?;
    let mut rolled = tollhouse::Tollhouse::over(&house.folder, options.threads, true)?;
    let mut theirs = duckdb::DuckDb::open(&options.python, &house, options.threads)?;
    let mut lines = Vec::new();
    let some = format!("SELECT lower(hex(trace_id)) FROM requests LIMIT 1 OFFSET {}", house.rows / 3);
    let some = theirs.ask(&some)?.rows;
    let trace_id = some.first().and_then(|row| row.first()?.as_str()).ok_or("no row has a trace")?;
    for question in questions::all(trace_id) {
        if options.only.as_ref().is_none_or(|only| question.name.contains(only.as_str())) {
            let rolled = if rolled.rolls(&question.tollhouse)? { Some(&mut rolled) } else { None };
            lines.push(measure(&question, &mut ours, rolled, &mut theirs, options.rounds)?);
        }
    }
    report::print(&house, &theirs.version, &lines, options.json.as_deref())
}

/// Asks one question of both: once to warm up and to compare, then in rounds of alternating order.
fn measure(
    question: &Question,
    ours: &mut dyn Engine,
    mut rolled: Option<&mut tollhouse::Tollhouse>,
    theirs: &mut dyn Engine,
    rounds: usize,
) -> Result<Line, String> {
    let exact = theirs.ask(&question.exact)?;
    let found = ours.ask(&question.tollhouse)?;
    questions::agree(question, &found.rows, &exact.rows)?;
    if let Some(rolled) = &mut rolled {
        questions::agree(question, &rolled.ask(&question.tollhouse)?.rows, &exact.rows)?;
    }
    for sql in &question.duckdb {
        theirs.ask(sql)?;
    }
    let mut line = Line::new(question);
    for round in 0..rounds {
        if round % 2 == 0 {
            line.tollhouse.push(ours.ask(&question.tollhouse)?.cost);
        }
        for (samples, sql) in line.duckdb.iter_mut().zip(&question.duckdb) {
            samples.push(theirs.ask(sql)?.cost);
        }
        if round % 2 == 1 {
            line.tollhouse.push(ours.ask(&question.tollhouse)?.cost);
        }
        if let Some(rolled) = &mut rolled {
            line.rolled.push(rolled.ask(&question.tollhouse)?.cost);
        }
    }
    eprintln!("{}", line.short());
    Ok(line)
}
