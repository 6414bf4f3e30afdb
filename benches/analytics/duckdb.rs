//! DuckDB in a Python process of its own, spoken to in lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::house::House;
use crate::questions::{Answer, Cost, Engine};

/// The child; it ends with its standard input.
pub struct DuckDb {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub version: String,
}

impl DuckDb {
    pub fn open(python: &Path, house: &House, threads: u16) -> Result<Self, String> {
        let mut child = Command::new(python)
            .args(["-c", include_str!("duckdb.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", python.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the child has no pipes".into());
        };
        let mut duckdb =
            Self { child, input: Some(input), output: BufReader::new(output), version: String::new() };
        let hello = duckdb.exchange(&json!({"threads": threads, "files": house.files}))?;
        duckdb.version = hello["version"].as_str().unwrap_or("unknown").to_owned();
        Ok(duckdb)
    }

    fn exchange(&mut self, question: &Value) -> Result<Value, String> {
        let broken = |error: std::io::Error| format!("DuckDB's process: {error}");
        let input = self.input.as_mut().ok_or("DuckDB's process was closed")?;
        writeln!(input, "{question}").and_then(|()| input.flush()).map_err(broken)?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(broken)?;
        let answer: Value = serde_json::from_str(&line)
            .map_err(|_| format!("DuckDB's process said {line:?}: is the Python package duckdb there?"))?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("DuckDB: {error}: {question}")),
            None => Ok(answer),
        }
    }
}

impl Engine for DuckDb {
    fn ask(&mut self, sql: &str) -> Result<Answer, String> {
        let mut answer = self.exchange(&Value::from(sql))?;
        let seconds = |key: &str| Duration::from_secs_f64(answer[key].as_f64().unwrap_or_default());
        let cost = Cost { wall: seconds("wall_s"), cpu: seconds("cpu_s") };
        let rows = serde_json::from_value(answer["rows"].take())
            .map_err(|error| format!("DuckDB's answer to {sql}: {error}"))?;
        Ok(Answer { rows, cost })
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("DuckDB's process: {error}");
        }
    }
}
