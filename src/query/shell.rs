//! The interactive shell: statements that end with `;`, commands that begin with `\`, as psql and DuckDB have them.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use super::line::Line;
use super::{Stop, answer, chart};
use crate::cli::{Format, QueryArgs};
use crate::failure::Failure;

/// How often `\watch` asks, unless it is told.
const WATCH: Duration = Duration::from_secs(2);
/// What Tab completes, besides the words of SQL.
const NAMES: &str = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' \
                     UNION SELECT table_schema || '.' || table_name FROM information_schema.tables \
                     WHERE table_schema <> 'public' \
                     UNION SELECT column_name FROM information_schema.columns \
                     WHERE table_schema NOT IN ('information_schema', 'pg_catalog') \
                     UNION SELECT routine_name FROM information_schema.routines";
const HELP: &str = "\\?                 this
\\d                 tables and views
\\d NAME            columns of one
\\f FORMAT          table, json, ndjson or csv
\\timing            how long answers take, on or off
\\chart             the last statement's answer as bars: its first column, and its last number
\\watch [SECONDS]   the last statement again and again, until Ctrl-C
\\q                 leaves, as Ctrl-D does

A statement ends with ; and may have many lines. Ctrl-C ends one that runs.
Tab completes; the arrow up and Ctrl-R bring back what was asked before. What
begins with a space is not remembered.
";

/// What the shell remembers.
struct Shell {
    args: QueryArgs,
    runtime: Runtime,
    timing: bool,
    last: Option<String>,
}

/// Asks until the person leaves.
pub(super) fn run(args: &QueryArgs, runtime: Runtime) -> Result<ExitCode, Failure> {
    let mut shell = Shell { args: args.clone(), runtime, timing: false, last: None };
    // That nobody answers is said before the first prompt.
    shell.rows("SELECT 1 AS one")?;
    println!("Tollhouse at {}. \\? helps, \\q leaves.", shell.args.url);
    let mut line = Line::open(shell.names())?;
    while let Some(typed) = line.typed()? {
        match shell.obey(typed.trim()) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(stop) => eprintln!("{}", Failure::from(stop)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Shell {
    /// Does what a line says; false to leave.
    fn obey(&mut self, line: &str) -> Result<bool, Stop> {
        if line.is_empty() {
            return Ok(true);
        }
        let word = match line.trim_end_matches([';', ' ']) {
            "exit" | "quit" => "\\q",
            "help" => "\\?",
            _ => line,
        };
        let Some(command) = word.strip_prefix('\\') else {
            let sql = line.trim_end_matches([';', ' ', '\n']);
            self.last = Some(sql.to_owned());
            self.ask(sql, self.args.format)?;
            return Ok(true);
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim().trim_end_matches(';');
        match name.trim_end_matches(';') {
            "q" => return Ok(false),
            "?" => print!("{HELP}"),
            "d" | "dt" if rest.is_empty() => self.ask(
                "SELECT table_schema AS schema, table_name AS name, table_type AS kind FROM information_schema.tables \
                 WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1 DESC, 2",
                Format::Table,
            )?,
            "d" => self.ask(&columns_of(rest), Format::Table)?,
            "f" => self.args.format = format(rest)?,
            "timing" => {
                self.timing = !self.timing;
                println!("timing is {}", if self.timing { "on" } else { "off" });
            }
            "chart" => {
                let sql = self.last()?;
                let rows = self.rows(&sql)?;
                print!("{}", chart::bars(&rows, width())?);
            }
            "watch" => {
                let seconds = if rest.is_empty() { Ok(WATCH) } else { seconds(rest) }?;
                self.watch(seconds)?;
            }
            other => return Err(Stop::Usage(format!("\\{other} is no command: \\? lists them"))),
        }
        Ok(true)
    }

    /// What there is; a shell without completion is better than none.
    fn names(&self) -> Vec<String> {
        let rows = self.rows(NAMES).unwrap_or_default();
        rows.iter().filter_map(|row| Some(row["name"].as_str()?.to_owned())).collect()
    }

    fn last(&self) -> Result<String, Stop> {
        self.last.clone().ok_or_else(|| Stop::Usage("nothing was asked yet".into()))
    }

    /// Asks and prints; Ctrl-C ends the question, and the server's work on it.
    fn ask(&self, sql: &str, format: Format) -> Result<(), Stop> {
        let begun = Instant::now();
        let args = QueryArgs { format, ..self.args.clone() };
        self.until_interrupted(answer(&args, sql, &mut io::stdout().lock()))?;
        if self.timing {
            println!("{:.1} ms", begun.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(())
    }

    fn until_interrupted<T>(&self, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                pressed = tokio::signal::ctrl_c() => {
                    pressed?;
                    Err(Stop::Query("ended by Ctrl-C".into()))
                }
            }
        })
    }

    /// The last statement again and again. Ctrl-C ends that, and not the shell.
    fn watch(&self, pause: Duration) -> Result<(), Stop> {
        let sql = self.last()?;
        let again = async {
            loop {
                println!("{} (every {} s)", jiff::Zoned::now().strftime("%F %T"), pause.as_secs_f64());
                answer(&self.args, &sql, &mut io::stdout().lock()).await?;
                tokio::time::sleep(pause).await;
            }
        };
        match self.until_interrupted::<()>(again) {
            Err(Stop::Query(text)) if text == "ended by Ctrl-C" => Ok(()),
            ended => ended,
        }
    }

    fn rows(&self, sql: &str) -> Result<Vec<Value>, Stop> {
        let mut json = Vec::new();
        let args = QueryArgs { format: Format::Json, ..self.args.clone() };
        self.until_interrupted(answer(&args, sql, &mut json))?;
        serde_json::from_slice(&json).map_err(|error| Stop::Query(format!("the answer broke off: {error}")))
    }
}

/// The columns of a table, which may be named with its schema.
fn columns_of(name: &str) -> String {
    let literal = |text: &str| text.trim_matches('"').replace('\'', "''");
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    format!(
        "SELECT column_name AS name, data_type AS type, is_nullable AS nullable FROM information_schema.columns \
         WHERE table_schema = '{}' AND table_name = '{}' ORDER BY ordinal_position",
        literal(schema),
        literal(table)
    )
}

fn format(name: &str) -> Result<Format, Stop> {
    match name {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        "ndjson" => Ok(Format::Ndjson),
        "csv" => Ok(Format::Csv),
        other => Err(Stop::Usage(format!("\\f {other}: table, json, ndjson or csv"))),
    }
}

fn seconds(text: &str) -> Result<Duration, Stop> {
    let parsed = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let least = Duration::from_millis(100);
    parsed
        .filter(|pause| *pause >= least)
        .ok_or_else(|| Stop::Usage(format!("\\watch {text}: a number of seconds, 0.1 at least")))
}

/// How many characters a line has.
fn width() -> usize {
    let flushed = io::stdout().flush();
    // Output that is gone is met by the next print.
    drop(flushed);
    crossterm::terminal::size().map_or(80, |(columns, _)| columns.into())
}
