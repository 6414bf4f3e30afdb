//! Which configuration a command means: the file it names, `./tollhouse.yaml`, or flags alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{FileFormat, PREFIX, Sources, read_file};
use crate::failure::Failure;

/// The file that is read when none is named.
const FILE_DEFAULT: &str = "tollhouse.yaml";

/// All variables of the process that are text. One of ours that is not is refused, rather than passed over.
pub fn variables() -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                variables.insert(name, value);
            }
            (Ok(name), Err(_)) if name.starts_with(PREFIX) => {
                return Err(Failure::Variable { name });
            }
            _ => {}
        }
    }
    Ok(variables)
}

/// For `run` and `proxy`, which need services or an upstream.
pub fn for_gateway(
    config: Option<&Path>,
    data: Option<&Path>,
    upstream: Option<&str>,
    kong: Option<&Path>,
    vars: BTreeMap<String, String>,
) -> Result<Sources, Failure> {
    let mut sources = match (upstream, kong) {
        (None, Some(kong)) => for_kong(kong, vars)?,
        (Some(url), _) => {
            let services =
                json!([{"name": "upstream", "url": url, "routes": [{"name": "all", "paths": ["/"]}]}]);
            let flags = vec![("--upstream", vec!["services"], services)];
            Sources { vars, flags, ..Sources::default() }
        }
        (None, None) => {
            Sources { file: Some(file(config, " and no --upstream")?), vars, ..Sources::default() }
        }
    };
    set_data(&mut sources, data);
    Ok(sources)
}

/// For `collector` and `analytics`, which can do with a data folder.
pub fn for_part(
    config: Option<&Path>,
    data: Option<&Path>,
    vars: BTreeMap<String, String>,
) -> Result<Sources, Failure> {
    let named = config.map(PathBuf::from).or_else(default_file);
    let file = match (named, data) {
        (Some(path), _) => Some(read_file(&path)?),
        (None, Some(_)) => None,
        (None, None) => return Err(Failure::NoConfiguration { also: " and no --data" }),
    };
    let mut sources = Sources { file, vars, ..Sources::default() };
    set_data(&mut sources, data);
    Ok(sources)
}

/// For `check`.
pub fn for_check(config: Option<&Path>, vars: BTreeMap<String, String>) -> Result<Sources, Failure> {
    Ok(Sources { file: Some(file(config, "")?), vars, ..Sources::default() })
}

/// A declarative file of Kong, for `run`, `proxy` and `check`.
pub fn for_kong(kong: &Path, vars: BTreeMap<String, String>) -> Result<Sources, Failure> {
    Ok(Sources { file: Some(read_file(kong)?), format: FileFormat::Kong, vars, ..Sources::default() })
}

fn file(config: Option<&Path>, also: &'static str) -> Result<(String, String), Failure> {
    let path = config.map(PathBuf::from).or_else(default_file).ok_or(Failure::NoConfiguration { also })?;
    Ok(read_file(&path)?)
}

fn default_file() -> Option<PathBuf> {
    let path = PathBuf::from(FILE_DEFAULT);
    path.exists().then_some(path)
}

fn set_data(sources: &mut Sources, data: Option<&Path>) {
    if let Some(folder) = data {
        sources.flags.push(("--data", vec!["data"], json!(folder.to_string_lossy())));
    }
}
