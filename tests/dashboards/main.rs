//! The dashboards, rules and alerts as Grafana and Prometheus use them. No Grafana takes part: what its server does to
//! a query is done here (`expand`), and its schema reads the files (`schema/`).
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod boards;

mod expand;

mod world;

mod queries;

mod rules;

mod aliases;

mod fault;

use std::path::{Path, PathBuf};

/// A file or folder below `dashboards/`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)
}

/// The text of a file below `dashboards/`.
pub fn text(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
