//! `tollhouse query`: sends SQL to a running Tollhouse and streams the answer to the terminal or a file; without a statement
//! a shell.

mod chart;

mod client;

mod line;

mod shell;

mod table;

mod whole;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use crate::cli::{Format, QueryArgs};
use crate::failure::Failure;

/// Longest statement read from standard input; the server has its own, smaller bound.
const SQL_BYTES_MAX: u64 = 16 << 20;

/// Asks and prints.
pub fn query(args: &QueryArgs) -> Result<ExitCode, Failure> {
    let binary = matches!(args.format, Format::Parquet | Format::Arrow);
    if binary && args.output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "this format is not for a terminal: add --output FILE or redirect".into(),
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::part("cannot start a runtime", error))?;
    if args.sql.is_none() && args.output.is_none() && io::stdin().is_terminal() && io::stdout().is_terminal()
    {
        return shell::run(args, runtime);
    }
    let sql = statement(args.sql.as_deref().unwrap_or("-"))?;
    match &args.output {
        None => match runtime.block_on(answer(args, &sql, &mut io::stdout().lock())) {
            // Whoever reads has read enough (`| head`).
            Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(stop) => Err(stop.into()),
            Ok(()) => Ok(ExitCode::SUCCESS),
        },
        Some(path) => {
            let failed = |error: io::Error| {
                Failure::part("cannot write the answer", format!("{}: {error}", path.display()))
            };
            // A half answer must not stand under the name that was asked for.
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
            runtime.block_on(answer(args, &sql, file.as_file_mut()))?;
            readable(file.as_file()).map_err(failed)?;
            file.persist(path).map_err(|error| failed(error.error))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Temporary files are private; an answer gets the usual rights.
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn statement(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut sql = String::new();
    let read = io::stdin().take(SQL_BYTES_MAX + 1).read_to_string(&mut sql);
    match read {
        Ok(bytes_read) if bytes_read as u64 > SQL_BYTES_MAX => {
            Err(Failure::Usage(format!("the statement is longer than {SQL_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(sql),
        Err(error) => Err(Failure::Usage(format!("cannot read the statement from standard input: {error}"))),
    }
}

/// Why an answer was not printed whole.
#[derive(Debug)]
pub enum Stop {
    /// Refused, failed or broken off; a text for people.
    Query(String),
    /// No server there.
    Unreachable(String),
    /// Wrong usage.
    Usage(String),
    /// Where the answer goes takes no more.
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Query(text) => Self::Query(text),
            Stop::Unreachable(text) => Self::Unreachable(text),
            Stop::Usage(text) => Self::Usage(text),
            Stop::Output(error) => Self::part("cannot write the answer", error),
        }
    }
}

async fn answer(args: &QueryArgs, sql: &str, out: &mut impl Write) -> Result<(), Stop> {
    let accept = match args.format {
        // The table needs types, to align numbers: Arrow has them.
        Format::Table | Format::Arrow => "application/vnd.apache.arrow.stream",
        Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv",
        Format::Parquet => "application/vnd.apache.parquet",
    };
    let mut body = client::ask(args, sql, accept).await?;
    let in_terminal = args.output.is_none() && io::stdout().is_terminal();
    let mut table = (args.format == Format::Table).then(|| table::Table::new(in_terminal));
    let mut last = b'\n';
    while let Some(chunk) = body.next().await? {
        last = chunk.last().copied().unwrap_or(last);
        match &mut table {
            Some(table) => table.take(chunk, out)?,
            None => out.write_all(&chunk)?,
        }
    }
    match table {
        Some(table) => table.end(out)?,
        None if args.format == Format::Json && last != b'\n' => out.write_all(b"\n")?,
        None => {}
    }
    out.flush()?;
    if let Some(partial) = body.partial() {
        eprintln!("warning: {partial}");
    }
    Ok(())
}
