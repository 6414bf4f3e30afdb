//! Programs from elsewhere that read what Tollhouse writes. `tests/run` installs them and says where they are; a
//! plain `cargo test` finds them where it put them. A missing one fails its test: a test that skips itself proves
//! nothing.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::{client, eventually, port::free_addr};

/// Where `tests/run` puts a tool: the variable's value, or `~/.cache/tollhouse-tests/<place>`.
pub fn find(variable: &str, place: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set"))
                .join(".cache/tollhouse-tests")
                .join(place)
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: `tests/run` installs it", path.display());
    path
}

pub fn prometheus() -> PathBuf {
    find("TESTS_PROMETHEUS", "prometheus/usr/bin/prometheus")
}

pub fn promtool() -> PathBuf {
    find("TESTS_PROMTOOL", "prometheus/usr/bin/promtool")
}

pub fn python() -> PathBuf {
    find("TESTS_PYTHON", "python/bin/python")
}

pub fn jaeger() -> PathBuf {
    find("TESTS_JAEGER", "jaeger-v1.62.0")
}

pub fn versitygw() -> PathBuf {
    find("TESTS_VERSITYGW", "bin/versitygw")
}

pub fn azurite() -> PathBuf {
    find("TESTS_AZURITE", "azurite/node_modules/azurite/dist/src/blob/main.js")
}

/// Runs a program to its end and returns what it printed; fails unless it succeeds.
pub fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (`tests/run` installs tools)"));
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{text}\n{}", String::from_utf8_lossy(&stderr));
    text
}

/// A shared object to be preloaded into a process, made of a source in C.
pub fn preload(folder: &Path, name: &str, source: &str) -> PathBuf {
    let (file, library) = (folder.join(name).with_extension("c"), folder.join(name).with_extension("so"));
    if !library.exists() {
        std::fs::write(&file, source).unwrap();
        output(
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&file).arg("-ldl"),
        );
    }
    library
}

/// Where Debian puts a library that is to be preloaded: in the folder of its package, under that of the architecture.
pub fn find_library(name: &str) -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime").join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: `tests/run` installs it"))
}

/// A program that runs until it is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Either may fail only because the process has ended, which is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The program that reads dashboards by Grafana's own schema.
pub fn grafana_schema() -> PathBuf {
    find("TESTS_GRAFANA_SCHEMA", "bin/grafana-schema-v0.0.22")
}

/// A real Prometheus.
pub struct Prometheus {
    addr: SocketAddr,
    _process: Running,
}

impl Prometheus {
    /// One that scrapes an address every second, with its files in `folder`.
    pub fn start(folder: &Path, metrics: SocketAddr) -> Self {
        Self::watch(folder, "1s", &[metrics], &[])
    }

    /// One that scrapes addresses, and evaluates rules by the names of their files, as often as `interval` says. It keeps
    /// exemplars.
    pub fn watch(folder: &Path, interval: &str, metrics: &[SocketAddr], rules: &[(&str, String)]) -> Self {
        let config = folder.join("prometheus.yml");
        let targets: Vec<String> = metrics.iter().map(|addr| format!("'{addr}'")).collect();
        let text = format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}\n\
             rule_files: ['rules/*.yaml']\nscrape_configs: [{{job_name: tollhouse, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(&config, text).unwrap();
        std::fs::create_dir_all(folder.join("rules")).unwrap();
        for (name, text) in rules {
            std::fs::write(folder.join("rules").join(name), text).unwrap();
        }
        let addr = free_addr();
        let process = Command::new(prometheus())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Self { addr, _process: Running(process) };
        eventually("Prometheus to be ready", || match client::get(addr, "/-/ready", &[]) {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        prometheus
    }

    /// What one of its addresses under `/api/v1` answers.
    pub fn ask(&self, target: &str) -> Result<Value, String> {
        let reply =
            client::get(self.addr, &format!("/api/v1/{target}"), &[]).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(format!("{target}: {answer}"))
        }
    }

    /// The series of an instant query.
    pub fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        match self.ask(&format!("query?query={}", escape(query)))?["result"].take() {
            Value::Array(series) => Ok(series),
            other => Err(format!("{query}: {other}")),
        }
    }

    /// The value of the one series of an instant query.
    pub fn number(&self, query: &str) -> Result<f64, String> {
        let series = self.query(query)?;
        let text = series.first().and_then(|series| series["value"][1].as_str());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{query}: no value in {series:?}"))
    }
}

/// Percent-encodes everything but letters and digits.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
