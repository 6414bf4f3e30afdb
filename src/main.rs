//! Tollhouse: an API gateway that keeps the books. Parse the command line, then touch the machine.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;

mod failure;

mod sources;

mod config;

mod check;

mod convert;

mod reload;

mod signals;

mod descriptors;

mod memory;

mod notify;

mod handover;

mod parts;

mod run;

mod query;

mod storage;

mod erase;

mod rollup;

mod demo;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, ClusterCommand, Command, ConfigCommand, RollupCommand};
use config::{Config, Role, reference};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::keep();
    match command(Cli::parse().command) {
        Ok(code) => code,
        Err(failure) => failure.show(),
    }
}

fn command(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::gateway(&args, Role::All),
        Command::Proxy(args) => run::gateway(&args, Role::Proxy),
        Command::Collector(args) => run::part(&args, Role::Collector),
        Command::Analytics(args) => run::part(&args, Role::Analytics),
        Command::Cluster(ClusterCommand::Scheduler(args)) => run::part(&args, Role::Scheduler),
        Command::Cluster(ClusterCommand::Executor(args)) => run::part(&args, Role::Executor),
        Command::Reload(args) => reload::ask(&args),
        Command::Upgrade(args) => handover::ask(&args),
        Command::Check(args) => check::check(&args),
        Command::Convert(args) => convert::convert(&args),
        Command::Query(args) => query::query(&args),
        Command::Storage(command) => storage::storage(&command),
        Command::Erase(args) => erase::erase(&args),
        Command::Rollup(RollupCommand::Rebuild(args)) => rollup::rebuild(&args),
        Command::Demo(args) => Ok(demo::run(args).map(|()| ExitCode::SUCCESS)?),
        Command::Config(ConfigCommand::Reference) => {
            anstream::print!("{}", reference::markdown(&Config::schema()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Config(ConfigCommand::Schema) => {
            anstream::print!("{}", reference::schema_text(&Config::schema()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tollhouse", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
