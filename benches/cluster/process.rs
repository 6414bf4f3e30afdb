//! A process of the program, what it is asked, and how long it has computed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Ticks of the system's clock of processes in a second.
const TICKS: u64 = 100;

/// A process that runs; killed when it is dropped.
pub struct Process {
    child: Child,
    addresses: HashMap<String, String>,
}

impl Process {
    /// Starts a role with its data folder under `root`, and returns when it says that it is ready.
    pub fn start(role: &[&str], root: &Path, data: &str, config: &Value) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("tollhouse {}: {error}", role.join(" "));
        let name = format!("{}-{data}", role.join("-"));
        let file = root.join(format!("{name}.yaml"));
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).map_err(failed)?;
        let log = File::create(root.join(format!("{name}.log"))).map_err(failed)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
        command.args(role).arg("--config").arg(file).arg("--data").arg(root.join(data));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().map_err(failed)?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let mut process = Self { child, addresses: HashMap::new() };
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if line == "ready" {
                return Ok(process);
            }
            if let Some((name, url)) = line.split_once(' ')
                && let Some((_, rest)) = url.split_once("://")
            {
                let address = rest.split('/').next().unwrap_or_default();
                process.addresses.insert(name.to_owned(), address.to_owned());
            }
        }
        Err(format!("tollhouse {} ended: see {name}.log", role.join(" ")))
    }

    /// Where a listener is.
    pub fn address(&self, name: &str) -> Result<String, String> {
        self.addresses.get(name).cloned().ok_or_else(|| format!("no listener {name}"))
    }

    /// The rows of a statement.
    pub fn ask(&self, sql: &str) -> Result<Value, String> {
        let failed = |error: std::io::Error| format!("{sql}: {error}");
        let mut stream = TcpStream::connect(self.address("sql")?).map_err(failed)?;
        // Of version 1.0, so that the answer ends with the connection.
        let head = format!(
            "POST /sql HTTP/1.0\r\nContent-Type: text/plain\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n",
            sql.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sql.as_bytes())).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{sql}: no answer"))?;
        match head.split(' ').nth(1) {
            Some("200") => serde_json::from_str(body).map_err(|error| format!("{sql}: {error}")),
            _ => Err(format!("{sql}: {body}")),
        }
    }

    /// User and system time since its start.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
