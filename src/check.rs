//! `tollhouse check`: everything that is wrong with a configuration, for people or for programs.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::CheckArgs;
use crate::config::{self, Config, Loaded, Role};
use crate::failure::Failure;
use crate::sources;

/// Exits 0 when `run` would take the configuration.
pub fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let sources = sources::for_check(args.config.as_deref(), sources::variables())?;
    let loaded: Result<Loaded<Config>, _> = config::load(sources);
    let outcome = loaded.and_then(|loaded| config::validate(&loaded, Role::All).map(|_| loaded));
    match outcome {
        Ok(loaded) => {
            let file = loaded.file().unwrap_or_default();
            if args.json {
                anstream::println!("{:#}", json!({"ok": true, "file": file, "problems": []}));
            } else {
                anstream::println!("{file}: ok");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(report) if args.json => {
            anstream::println!("{:#}", json!({"ok": false, "problems": report.json()}));
            Ok(ExitCode::from(1))
        }
        Err(report) => Err(report.into()),
    }
}
