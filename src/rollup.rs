//! `tollhouse rollup`: what is kept of requests by the minute and by the hour, made anew.

use std::process::ExitCode;

use event::layout::DataFolder;

use crate::cli::PartArgs;
use crate::config::{self, Config, Role};
use crate::failure::Failure;
use crate::sources;

const DOING: &str = "cannot make the roll-ups anew";

/// Makes the roll-ups of a data folder anew, and says of how much.
pub fn rebuild(args: &PartArgs) -> Result<ExitCode, Failure> {
    let sources = sources::for_part(args.config.as_deref(), args.data.as_deref(), sources::variables()?)?;
    let loaded = config::load::<Config>(sources)?;
    let plans = config::validate(&loaded, Role::Collector)?;
    let Some(plan) = plans.collector else {
        return Err(Failure::part(DOING, "the configuration has no collector"));
    };
    let data = &loaded.value.data;
    // A folder that is not there is a wrong path, not one to be made.
    if !data.is_dir() {
        return Err(Failure::part(DOING, format!("{} is no folder", data.display())));
    }
    let folder = DataFolder::open(data).map_err(|error| Failure::part(DOING, error))?;
    let rebuilt = collector::rebuild(&plan, &folder).map_err(|error| Failure::part(DOING, error))?;
    anstream::println!("{} requests of {} hours are rolled up anew", rebuilt.requests, rebuilt.hours);
    if rebuilt.kept > 0 {
        anstream::println!(
            "{} hours keep their roll-ups: not all of their rows are there any more",
            rebuilt.kept
        );
    }
    Ok(ExitCode::SUCCESS)
}
