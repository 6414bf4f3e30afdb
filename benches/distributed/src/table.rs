//! The files that are asked about, and the table of figures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::questions::QUESTIONS;

/// What one engine takes for each question.
pub struct Column {
    /// The engine.
    pub name: String,
    /// In the order of the questions.
    pub cells: Vec<Cell>,
}

/// What one engine takes for one question.
pub struct Cell {
    /// From the question to the last row.
    pub wall: Duration,
    /// Of all processes.
    pub cpu: Duration,
    /// That workers had.
    pub tasks: usize,
}

/// Parquet files of the table `requests`: those of the bucket, which executors read in `benches/cluster`, or else those of
/// the data folder.
pub fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    for folder in ["bucket", "data"] {
        let mut found = Vec::new();
        walk(&root.join(folder), false, &mut found)
            .map_err(|error| format!("{}: {error}", root.display()))?;
        if !found.is_empty() {
            found.sort();
            return Ok(found);
        }
    }
    Err(format!("{}: no Parquet files of requests", root.display()))
}

fn walk(folder: &Path, of_requests: bool, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            let of_requests = of_requests || path.file_name().is_some_and(|name| name == "requests");
            walk(&path, of_requests, found)?;
        } else if of_requests && path.extension().is_some_and(|name| name == "parquet") {
            found.push(std::path::absolute(path)?);
        }
    }
    Ok(())
}

/// Milliseconds of the clock, and in brackets of the processor; then how many tasks workers had.
pub fn print(columns: &[Column]) {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    println!("| question | {} |", names.join(" | "));
    println!("| ---{} |", " | ---".repeat(columns.len()));
    for (row, (question, _)) in QUESTIONS.iter().enumerate() {
        let cells = columns.iter().map(|column| {
            let cell = &column.cells[row];
            format!("{} ({})", cell.wall.as_millis(), cell.cpu.as_millis())
        });
        println!("| {question} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!();
    for (row, (question, _)) in QUESTIONS.iter().enumerate() {
        let tasks = columns.iter().map(|column| column.cells[row].tasks.to_string());
        println!("tasks of {question}: {}", tasks.collect::<Vec<_>>().join(", "));
    }
}
