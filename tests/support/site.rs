//! A folder with a configuration and a data folder, and the real binary started in it. The folder outlives the
//! processes, so a test can kill one and start the next on what it left.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{self, Reply};
use super::tool::Running;
use super::{DEADLINE, eventually};

/// The key of the consumer `alice`.
pub const ALICE_KEY: &str = "alice-key-5f1c0a";
/// The key of the consumer `bob`.
pub const BOB_KEY: &str = "bob-key-9e27d3";

/// A configuration and its data folder.
pub struct Site {
    folder: TempDir,
    config: Value,
}

impl Site {
    /// Two services on one origin: `open` under `/open`, and `private` under `/private`, which wants an API key.
    pub fn new(origin: SocketAddr) -> Self {
        let url = format!("http://{origin}");
        let config = json!({
            "node": "test",
            "gateway": { "listen": [{ "name": "gateway", "address": "127.0.0.1:0" }] },
            "services": [
                { "name": "open", "url": url,
                  "routes": [{ "name": "open-route", "paths": ["/open"] }] },
                { "name": "private", "url": url,
                  "routes": [{ "name": "private-route", "paths": ["/private"] }],
                  "plugins": [{ "name": "key-auth", "config": { "hide_credentials": true } }] },
            ],
            "consumers": [
                { "username": "alice", "keyauth_credentials": [{ "key": ALICE_KEY }] },
                { "username": "bob", "keyauth_credentials": [{ "key": BOB_KEY }] },
            ],
            "collector": { "metrics": { "listen": "127.0.0.1:0" } },
            "analytics": { "listen": "127.0.0.1:0", "postgres": { "listen": "127.0.0.1:0" },
                "flight": { "listen": "127.0.0.1:0" } },
        });
        Self { folder: TempDir::new().unwrap(), config }
    }

    /// Sets one key by its path from the top, as in `["collector", "seal", "rows_max"]`.
    pub fn set(mut self, path: &[&str], value: Value) -> Self {
        let mut place = &mut self.config;
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        self
    }

    /// What it is configured with.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Puts another text in the place of the configuration, as an editor does.
    pub fn replace(&self, text: &str) {
        let next = self.folder.path().join("next.yaml");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.folder.path().join("tollhouse.yaml")).unwrap();
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// All in one process.
    pub fn run(&self) -> Tollhouse {
        self.start("run")
    }

    /// One role: `run`, `proxy`, `collector`, `analytics` or `cluster executor`. Returns when it says that it is ready.
    pub fn start(&self, role: &str) -> Tollhouse {
        self.launch(role, self.command(role))
    }

    /// Starts a role that must refuse to start: its exit code and what it said on standard error.
    pub fn refused(&self, role: &str) -> (i32, String) {
        self.ends(role, self.command(role))
    }

    /// Runs what `command` made, which must end by itself: its exit code and what it said on standard error.
    pub fn ends(&self, role: &str, mut command: Command) -> (i32, String) {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running(child);
        // What it says is short enough for a pipe, so nobody need read while it runs.
        let status =
            eventually(&format!("`tollhouse {role}` to refuse"), || match running.0.try_wait().unwrap() {
                Some(status) => Ok(status),
                None => Err("it runs".to_owned()),
            });
        let (mut stdout, mut stderr) = (String::new(), String::new());
        running.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        running.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(stdout, "", "a process that does not start announces nothing");
        let code =
            status.code().unwrap_or_else(|| panic!("`tollhouse {role}` was killed: {status}, {stderr}"));
        (code, stderr)
    }

    /// The command line of a role, with its configuration written.
    pub fn command(&self, role: &str) -> Command {
        let config = self.folder.path().join("tollhouse.yaml");
        // JSON is YAML. Put there whole, since a process that runs may look at it at any moment.
        self.replace(&self.config.to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
        command
            .args(role.split(' '))
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null());
        command
    }

    /// What `tollhouse storage ARGS --json` says of the data folder, and its exit code.
    pub fn storage(&self, args: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
        command.arg("storage").args(args).args(["--json", "--data"]).arg(self.data());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let said = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), said)
    }

    /// Runs what `command` made until it dies of SIGKILL; if it lives to be ready, it is asked to end. Whether it died.
    pub fn dies(&self, mut command: Command) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        if lines.any(|line| line.trim() == "ready") {
            // SAFETY: no memory is involved. The child has not been waited for, so the id is its own.
            let asked = unsafe { libc::kill(i32::try_from(child.0.id()).unwrap(), libc::SIGTERM) };
            assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
        }
        let status =
            eventually("the end", || child.0.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
        let died = status.signal() == Some(libc::SIGKILL);
        assert!(died || status.success(), "{status}");
        died
    }

    /// Starts what `command` made, perhaps with more variables, and returns when it says that it is ready.
    pub fn launch(&self, role: &str, mut command: Command) -> Tollhouse {
        let log = self.folder.path().join(format!("{role}.log"));
        let log_file = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log_file).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::sync_channel(1024);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more once it is ready; the pipe must be emptied all the same.
                drop(sender.send(line));
            }
        });
        // From here on the child is killed whatever happens.
        let mut house = Tollhouse { child, addrs: HashMap::new(), log };
        let end = Instant::now() + DEADLINE;
        loop {
            let line = match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("`tollhouse {role}` did not get ready"),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    panic!("`tollhouse {role}` ended before it was ready: {}", house.child.wait().unwrap())
                }
            };
            if line.trim() == "ready" {
                return house;
            }
            if let Some((name, url)) = line.split_once(' ')
                && let Some((_, addr)) = url.trim().split_once("://")
                && let Ok(addr) = addr.split('/').next().unwrap_or_default().parse()
            {
                house.addrs.insert(name.to_owned(), addr);
            }
        }
    }
}

/// A running process, killed when it is dropped. Its log is shown when the test fails.
pub struct Tollhouse {
    child: Child,
    addrs: HashMap<String, SocketAddr>,
    log: PathBuf,
}

impl Tollhouse {
    /// The address of a listener by the name it was printed with: `gateway`, `metrics`, `sql`.
    pub fn addr(&self, name: &str) -> SocketAddr {
        *self.addrs.get(name).unwrap_or_else(|| panic!("no `{name}` line on stdout, only {:?}", self.addrs))
    }

    pub fn gateway(&self) -> SocketAddr {
        self.addr("gateway")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// `GET` through the gateway.
    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        client::get(self.gateway(), target, headers).unwrap()
    }

    /// The rows of a statement; the refusal's text when it is refused.
    pub fn try_sql(&self, statement: &str) -> Result<Vec<Value>, String> {
        let headers = [("Content-Type", "text/plain"), ("Accept", "application/json")];
        let reply = client::exchange(self.addr("sql"), "POST", "/sql", &headers, statement.as_bytes())
            .map_err(|error| format!("{statement}: {error}"))?;
        if reply.status != 200 {
            return Err(format!("{statement}: {} {}", reply.status, reply.text()));
        }
        match serde_json::from_slice(&reply.body) {
            Ok(Value::Array(rows)) => Ok(rows),
            other => Err(format!("{statement}: not an array of rows: {other:?}")),
        }
    }

    /// The files that an answer to a statement lacks, as its header says.
    pub fn partial(&self, statement: &str) -> Vec<String> {
        let headers = [("Content-Type", "text/plain")];
        let reply =
            client::exchange(self.addr("sql"), "POST", "/sql", &headers, statement.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
        let said = reply.header("x-tollhouse-partial").unwrap_or_default();
        said.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    }

    pub fn sql(&self, statement: &str) -> Vec<Value> {
        self.try_sql(statement).unwrap()
    }

    /// The one number of a statement's one row and column.
    pub fn number(&self, statement: &str) -> u64 {
        let rows = self.sql(statement);
        let value = rows.first().and_then(Value::as_object).and_then(|row| row.values().next());
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("{statement}: not one number: {rows:?}"))
    }

    /// Waits until `requests` has exactly so many rows. More of them fails at once: a row too many does not go away.
    pub fn rows(&self, expected: u64) {
        eventually("rows in requests", || {
            // Of the rows themselves: no roll-up knows this column.
            let stored = self.number("SELECT count(*) AS n FROM requests WHERE sequence >= 0");
            assert!(stored <= expected, "{stored} rows for {expected} requests");
            if stored == expected { Ok(()) } else { Err(format!("{stored} rows for {expected} requests")) }
        });
    }

    /// The classic text exposition.
    pub fn metrics(&self) -> String {
        let reply =
            client::get(self.addr("metrics"), "/metrics", &[("Accept", "text/plain;version=0.0.4")]).unwrap();
        assert_eq!(reply.status, 200);
        reply.text()
    }

    /// The sum of all series of `name` whose label text holds each of `labels` (as in `route="open-route"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics(), name, labels)
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved. The child has not been waited for, so the id is its own.
        let answer = unsafe { libc::kill(self.pid(), signal) };
        assert_eq!(answer, 0, "signal {signal}: {}", std::io::Error::last_os_error());
    }

    /// Kills the process as a crash would.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal again and again until the process has ended.
    pub fn ends_by(mut self, signal: i32) -> ExitStatus {
        eventually("the end of the process", || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => {
                self.signal(signal);
                Err("still runs".to_owned())
            }
        })
    }

    /// Asks the process to end, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Waits until the process has ended.
    pub fn ended(mut self) -> ExitStatus {
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || {
            self.child.try_wait().unwrap().ok_or_else(|| "still runs".to_owned())
        })
    }

    /// Memory resident in the process, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS")
    }

    /// One line of the process's memory in `/proc`, in bytes.
    pub fn memory_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How long the thread of this name has run, and how long it has waited for a processor.
    pub fn thread_times(&self, name: &str) -> (Duration, Duration) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let read = |thread: &Path, file| std::fs::read_to_string(thread.join(file)).unwrap_or_default();
        let thread =
            threads.map(|one| one.unwrap().path()).find(|one| read(one, "comm").trim() == name).unwrap();
        let times = read(&thread, "schedstat");
        let mut times = times.split_whitespace().map(|ns| Duration::from_nanos(ns.parse().unwrap()));
        (times.next().unwrap(), times.next().unwrap())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Tollhouse {
    fn drop(&mut self) {
        // Either may fail only because the process has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!(
                "--- {}\n{}",
                self.log.display(),
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

/// The sum of the samples of `name` in an exposition whose label text holds each of `labels`.
pub fn sum(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = exposition.lines().filter_map(|line| line.strip_prefix(name));
    samples
        .filter(|rest| rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label)))
        .map(|rest| {
            let values = rest.rsplit_once('}').map_or(rest, |(_, values)| values);
            values.split_whitespace().next().unwrap().parse::<f64>().unwrap()
        })
        .sum()
}
