//! Why a command failed, what is printed about it, and with which code the process exits.

use std::io::IsTerminal;
use std::process::ExitCode;

use crate::config::{ReadError, Report};

/// Every way a command can fail.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing says what to run.
    #[error("there is no configuration: no --config, no ./tollhouse.yaml{also}\n\n{EXAMPLE}")]
    NoConfiguration {
        /// What else would have served.
        also: &'static str,
    },
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An override that cannot be read.
    #[error("the environment variable {name} is not UTF-8 text")]
    Variable {
        /// Its name.
        name: String,
    },
    /// The configuration is wrong; shown line by line.
    #[error("the configuration has {}", problems(.0.count()))]
    Configuration(Box<Report>),
    /// A part could not start or failed.
    #[error("{doing}: {reason}")]
    Part {
        /// What was tried.
        doing: &'static str,
        /// Why it failed and what to do.
        reason: String,
    },
    /// The SQL was refused or the answer broke off.
    #[error("{0}")]
    Query(String),
    /// No server.
    #[error("{0}")]
    Unreachable(String),
    /// Wrongly used in a way that only shows after parsing.
    #[error("{0}")]
    Usage(String),
    /// The demo.
    #[error(transparent)]
    Demo(#[from] crate::demo::DemoError),
}

fn problems(count: usize) -> String {
    if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") }
}

/// The five lines that every missing configuration is answered with.
const EXAMPLE: &str = "Write these five lines to tollhouse.yaml:

services:
  - name: example
    url: http://127.0.0.1:9000
    routes:
      - paths: [/]

or run without a file:   tollhouse run --upstream http://127.0.0.1:9000
or see it work at once:  tollhouse demo";

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Configuration(Box::new(report))
    }
}

impl Failure {
    /// A part that failed, with its own words.
    pub fn part(doing: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Part { doing, reason: reason.to_string() }
    }

    /// A part that could not start. A port in use is the usual reason, and says what to do.
    pub fn start(doing: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse) {
                break;
            }
            cause = error.source();
        }
        let hint = match cause {
            Some(_) => {
                "\nanother process listens there: stop it, or choose another port (0 takes a free one)"
            }
            None => "",
        };
        Self::Part { doing, reason: format!("{error}{hint}") }
    }

    /// 1 failed, 2 used wrongly, 3 no server: see `docs/configuration.md`.
    pub fn code(&self) -> u8 {
        match self {
            Self::NoConfiguration { .. } | Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Read(_)
            | Self::Variable { .. }
            | Self::Configuration(_)
            | Self::Part { .. }
            | Self::Query(_)
            | Self::Demo(_) => 1,
        }
    }

    /// Says it on standard error, in colour on a terminal only.
    pub fn show(&self) -> ExitCode {
        if let Self::Configuration(report) = self {
            let rich = std::io::stderr().is_terminal();
            anstream::eprint!("{}", if rich { report.snippets() } else { report.lines() });
        }
        if let Self::Configuration(report) = self
            && report.count_hidden() > 0
        {
            anstream::eprintln!("... and {} more: `tollhouse check --json` lists all", report.count_hidden());
        }
        let red = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
        anstream::eprintln!("{red}error{red:#}: {self}");
        ExitCode::from(self.code())
    }
}
