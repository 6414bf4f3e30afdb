//! The command line: what the user may type, with its help beside it. Pure parsing; nothing here touches the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo::DemoArgs;

/// The API gateway that keeps the books: every request is one event, and every metric, span and report adds up to them.
#[derive(Debug, Parser)]
#[command(name = "tollhouse", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  tollhouse demo                                     see it work, with sample services and traffic
  tollhouse run --upstream http://127.0.0.1:9000     put it before one service, without a file
  tollhouse run --config tollhouse.yaml              run as the file says
  tollhouse check                                    find what is wrong with ./tollhouse.yaml
  tollhouse query \"SELECT * FROM consumers\"          ask what happened";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run gateway, collector and analytics in one process.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Run the gateway alone; it records into the data folder.
    Proxy(RunArgs),
    /// Run the collector alone; it stores what the gateway recorded in the data folder.
    Collector(PartArgs),
    /// Run the analytics alone; they answer SQL over the data folder.
    Analytics(PartArgs),
    /// Run a part of a cluster that answers queries of the analytics.
    #[command(subcommand, after_help = CLUSTER_HELP)]
    Cluster(ClusterCommand),
    /// Make the gateway of a data folder read its configuration again, and say how that went.
    #[command(after_help = RELOAD_HELP)]
    Reload(PartArgs),
    /// Replace the gateway of a data folder by a new process of its program, without refusing a connection.
    #[command(after_help = UPGRADE_HELP)]
    Upgrade(PartArgs),
    /// Say what is wrong with a configuration: exit 0 good, 1 bad, 2 none.
    Check(CheckArgs),
    /// Write a native configuration that does what a declarative file of Kong does.
    #[command(after_help = "Example:\n  tollhouse convert kong.yml -o tollhouse.yaml")]
    Convert(ConvertArgs),
    /// Ask a running Tollhouse in SQL.
    #[command(after_help = QUERY_EXAMPLES)]
    Query(QueryArgs),
    /// Look at what is on disk: is it whole, what is it made of, and set damage aside.
    #[command(subcommand, after_help = STORAGE_HELP)]
    Storage(StorageCommand),
    /// Erase what was recorded of a consumer.
    #[command(after_help = ERASE_HELP)]
    Erase(EraseArgs),
    /// Look after what is kept of requests by the minute and by the hour.
    #[command(subcommand)]
    Rollup(RollupCommand),
    /// Start a gateway with sample services and traffic, and show it live.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Describe the configuration itself.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  tollhouse completions bash > /etc/bash_completion.d/tollhouse")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const RUN_EXAMPLES: &str = "Examples:
  tollhouse run                                      with ./tollhouse.yaml
  tollhouse run --upstream http://127.0.0.1:9000     everything to one service, without a file
  tollhouse run --kong kong.yml                      as a declarative file of Kong says
  TOLLHOUSE_ANALYTICS__LISTEN=127.0.0.1:0 tollhouse run

SIGTERM or SIGINT drains: open requests end, everything recorded is stored, then exit 0. A second one exits at once.
SIGHUP, or a change of the file, puts a new configuration in force without dropping a request.
SIGUSR2 starts the program anew with --take-over, as `tollhouse upgrade` does.";

const RELOAD_HELP: &str =
    "Exit codes: 0 in force, 1 refused (the configuration of before stays), 3 no gateway runs.";

const UPGRADE_HELP: &str =
    "The program is started from where the running one was, with the same arguments and --take-over.

Exit codes: 0 the new process serves, 1 it does not (the old one serves on), 3 no gateway runs.";

const CLUSTER_HELP: &str = "Examples:
  tollhouse cluster scheduler --config tollhouse.yaml
  tollhouse cluster executor --config tollhouse.yaml --data /var/lib/tollhouse-executor

Both read the section `cluster`, and executors `object_store`. Analytics with
analytics.engine: ballista send their queries there.";

/// The parts of a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Cut plans of queries into tasks, and give these to executors.
    Scheduler(PartArgs),
    /// Compute tasks over files of the bucket; each executor has a data folder of its own.
    Executor(PartArgs),
}

const STORAGE_HELP: &str = "Examples:
  tollhouse storage check --data data                every file against its checksum
  tollhouse storage check --data data --deep         and no event twice
  tollhouse storage inspect --data data              the table by hour and by level
  tollhouse storage inspect --data data date=2026-01-31/hour=07

Exit codes: 0 fine, 1 problems found, 2 wrong usage.";

const ERASE_HELP: &str = "Examples:
  tollhouse erase --data data --consumer alice       asks, and waits until the last file is gone
  tollhouse erase --data data --consumer alice --yes --no-wait

Rows, live ones included, and roll-ups of requests that had ended by now go. Logs, spans
and metrics that have left Tollhouse are not touched. The files of before are deleted
after collector.retention.grace_s.

Exit codes: 0 erased (or the order stands, with --no-wait), 1 not, 2 wrong usage.";

/// Whose rows are to go.
#[derive(Clone, Debug, Args)]
pub struct EraseArgs {
    /// The folder.
    #[command(flatten)]
    pub part: PartArgs,
    /// The consumer, as the column `consumer` names it.
    #[arg(long, value_name = "NAME")]
    pub consumer: String,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Give the order, and do not wait until it is carried out.
    #[arg(long)]
    pub no_wait: bool,
    /// Print the outcome as JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

/// What to do with what is on disk.
#[derive(Clone, Debug, Subcommand)]
pub enum StorageCommand {
    /// Compare every file with what the manifest says of it; changes nothing, and may run beside a collector.
    Check {
        /// Where, and how to say it.
        #[command(flatten)]
        storage: StorageArgs,
        /// Look also whether an event is there twice.
        #[arg(long)]
        deep: bool,
    },
    /// Move damaged files into `quarantine/` and out of the table, and say which rows are missing then. Deletes no row;
    /// refuses while a collector is at work.
    Repair {
        /// Where, and how to say it.
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Show what the table, an hour or a file is made of.
    Inspect {
        /// Where, and how to say it.
        #[command(flatten)]
        storage: StorageArgs,
        /// A Parquet file, or an hour as in `date=2026-01-31/hour=07`; without it the whole table.
        what: Option<String>,
    },
}

/// Which data folder, and how to say what was found.
#[derive(Clone, Debug, Args)]
pub struct StorageArgs {
    /// The folder.
    #[command(flatten)]
    pub part: PartArgs,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Where the configuration of the gateway comes from.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration file [default: ./tollhouse.yaml].
    #[arg(long, short, value_name = "FILE", env = "TOLLHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder that holds everything recorded.
    #[arg(long, short, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Run without a file: all requests go to this service.
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Run a declarative file of Kong; other settings come from TOLLHOUSE_ variables.
    #[arg(long, value_name = "FILE")]
    pub kong: Option<PathBuf>,
    /// Take the place of the gateway that runs on the data folder: its sockets and all that waits in them. If none runs,
    /// this is a start like any other.
    #[arg(long)]
    pub take_over: bool,
}

/// Where the configuration of a part behind the gateway comes from.
#[derive(Clone, Debug, Args)]
pub struct PartArgs {
    /// The configuration file [default: ./tollhouse.yaml].
    #[arg(long, short, value_name = "FILE", env = "TOLLHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder that holds everything recorded; enough without a file.
    #[arg(long, short, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// What to check.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration file [default: ./tollhouse.yaml].
    #[arg(long, short, value_name = "FILE", env = "TOLLHOUSE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Check a declarative file of Kong.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub kong: Option<PathBuf>,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

/// What to convert.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// The declarative file of Kong.
    pub kong: PathBuf,
    /// Write to this file, which must not exist, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

const QUERY_EXAMPLES: &str = "Examples:
  tollhouse query \"SELECT service, count(*) FROM requests GROUP BY service\"
  tollhouse query --format csv --output out.csv \"SELECT * FROM consumers\"
  echo 'SELECT count(*) FROM requests' | tollhouse query -
  tollhouse query                                    a shell: \\d, \\timing, \\watch, \\chart

Exit codes: 0 answered, 1 the query was refused or failed, 2 wrong usage, 3 no server answers.";

const DEMO_EXAMPLES: &str = "Examples:
  tollhouse demo                                     until q or Ctrl-C
  tollhouse demo --duration 30s --json > report.json
  tollhouse demo --data ./look                       keep files and configuration, to look at

Exit code 0 when what the clients counted and what Tollhouse recorded agree to the row, 1 when not.";

/// A question and how to show its answer.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// The SQL statement, or `-` to read it from standard input. Without one a shell opens on a terminal.
    pub sql: Option<String>,
    /// How to print the answer.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Where the analytics listen.
    #[arg(long, short, value_name = "URL", default_value = "http://127.0.0.1:8200")]
    pub url: String,
    /// One of `analytics.tokens`, where the analytics want one.
    #[arg(long, value_name = "TOKEN", env = "TOLLHOUSE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Write the answer to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Shapes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// One array of objects.
    Json,
    /// One object per line.
    Ndjson,
    /// Comma separated, with a header.
    Csv,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

/// What to do with roll-ups.
#[derive(Clone, Debug, Subcommand)]
pub enum RollupCommand {
    /// Make them anew from the rows that are kept. No collector may run on the data folder.
    #[command(after_help = ROLLUP_HELP)]
    Rebuild(PartArgs),
}

const ROLLUP_HELP: &str = "For a data folder of a version without roll-ups, for example:
  tollhouse rollup rebuild --data ./data

Hours of which not all rows are there any more keep their roll-ups. Until all is done nothing has changed.";

/// Descriptions of the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// All keys with type, default and meaning, as Markdown.
    Reference,
    /// The JSON Schema, for editors.
    Schema,
}
