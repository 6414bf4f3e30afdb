//! The command line.

use std::path::PathBuf;

/// What the command line says.
pub struct Options {
    /// Rows to generate.
    pub rows: u64,
    /// Samples of each question and engine.
    pub rounds: usize,
    /// Threads of each engine.
    pub threads: u16,
    /// Where to write the figures as JSON.
    pub json: Option<PathBuf>,
    /// Where the files are kept for the next run.
    pub data: Option<PathBuf>,
    /// A Python that can import duckdb.
    pub python: PathBuf,
    /// Part of the name of the questions to ask.
    pub only: Option<String>,
    /// Rows whose freshness is measured; 0 asks the questions instead.
    pub freshness: usize,
    /// Other requests per second meanwhile.
    pub rate: u32,
}

impl Options {
    /// Reads `--rows N --rounds N --threads N --json FILE --data DIR --python FILE --only TEXT --freshness N
    /// --rate N`.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let mut options = Self {
            rows: 20_000_000,
            rounds: 5,
            threads: 2,
            json: None,
            data: None,
            python: home.join(".cache/tollhouse-tests/python/bin/python"),
            only: None,
            freshness: 0,
            rate: 5_000,
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
                "--threads" => options.threads = number()?.clamp(1, 256) as u16,
                "--json" => options.json = Some(value.into()),
                "--data" => options.data = Some(value.into()),
                "--python" => options.python = value.into(),
                "--freshness" => options.freshness = number()? as usize,
                "--rate" => options.rate = number()?,
                "--only" => options.only = Some(value),
                _ => {
                    return Err(format!(
                        "unknown argument {arg}: --rows, --rounds, --threads, --json, --data, --python, --only, --freshness, --rate"
                    ));
                }
            }
        }
        Ok(options)
    }
}
