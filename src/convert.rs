//! `tollhouse convert`: a native configuration that does what a declarative file of Kong does.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use crate::cli::ConvertArgs;
use crate::config::{self, Config, Role};
use crate::failure::Failure;
use crate::sources;

/// Writes the native file; what is wrong with the Kong file is said as `check --kong` does.
pub fn convert(args: &ConvertArgs) -> Result<ExitCode, Failure> {
    let file = config::read_file(&args.kong)?;
    let config::Converted { native, loaded, missing } =
        config::convert::<Config>(file, sources::variables()?)?;
    // The name of a variable is no certificate: what it stands for is checked where it is set.
    if missing.is_empty() {
        config::validate(&loaded, Role::All)?;
    } else {
        let missing = missing.join(", ");
        anstream::eprintln!(
            "{}: not set here: {missing}. Run `tollhouse check` on the new file where it is.",
            args.kong.display()
        );
    }
    for note in loaded.notes() {
        anstream::eprintln!("{}: {note}", args.kong.display());
    }
    let text = format!("# Converted from {} by `tollhouse convert`.\n{native}", args.kong.display());
    match &args.output {
        None => anstream::print!("{text}"),
        Some(path) => {
            let failed = |error: std::io::Error| {
                Failure::part("cannot write the configuration", format!("{}: {error}", path.display()))
            };
            // Never over a file that somebody wrote.
            File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
