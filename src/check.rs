//! `tollhouse check`: everything that is wrong with a configuration, for people or for programs.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::CheckArgs;
use crate::config::{self, Config, Loaded, Role};
use crate::failure::Failure;
use crate::sources;

/// Exits 0 when `run` would take the configuration.
pub fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    match look(args) {
        Ok(loaded) => {
            let file = loaded.file().unwrap_or_default();
            let note = loaded.value.note();
            if args.json {
                let answer =
                    json!({"ok": true, "file": file, "problems": [], "note": note, "notes": loaded.notes()});
                anstream::println!("{answer:#}");
            } else {
                for note in loaded.notes() {
                    anstream::eprintln!("{file}: {note}");
                }
                anstream::println!(
                    "{file}: ok{}",
                    note.map(|note| format!(", but {note}")).unwrap_or_default()
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) if args.json => {
            let problems = match &failure {
                Failure::Configuration(report) => report.json(),
                other => json!([{"message": other.to_string()}]),
            };
            anstream::println!("{:#}", json!({"ok": false, "problems": problems}));
            Ok(ExitCode::from(failure.code()))
        }
        Err(failure) => Err(failure),
    }
}

fn look(args: &CheckArgs) -> Result<Loaded<Config>, Failure> {
    let variables = sources::variables()?;
    let sources = match &args.kong {
        Some(kong) => sources::for_kong(kong, variables)?,
        None => sources::for_check(args.config.as_deref(), variables)?,
    };
    let loaded = config::load(sources)?;
    config::validate(&loaded, Role::All)?;
    Ok(loaded)
}
