//! The data folder that is merged, the gateway on a copy of it, and the service behind.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use collector::CollectorConfig;
use event::Draft;
use event::layout::{DataFolder, Manifest};
use event::spool::{Spool, SpoolConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::port::free_addr;
use crate::traffic::{SPACING_US, Traffic};

/// Rows of one sealed file.
const FILE_ROWS: u64 = 250_000;
/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Keeps this process off the gateway's CPU.
pub fn pin() -> Result<(), String> {
    let pid = std::process::id().to_string();
    match Command::new("taskset").args(["-acp", "1", &pid]).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err("cannot pin to CPU 1: apt-get install util-linux".into()),
    }
}

/// Seals rows of hours that are over into small files, and merges none.
pub fn fill(root: &Path, rows: u64) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let folder = DataFolder::open(root).map_err(|error| said(&error))?;
    let spool = SpoolConfig { segment_bytes: 32 << 20, bytes_max: 4 << 30, ..SpoolConfig::default() };
    let (spool, mut writers) =
        Spool::open(&spool, &folder.spool(), "bench", 1).map_err(|error| said(&error))?;
    let writer = writers.first_mut().ok_or("no writer")?;
    let mut config = CollectorConfig::default();
    config.metrics.listen = ([127, 0, 0, 1], 0).into();
    config.compaction.enabled = false;
    config.seal.rows_max = FILE_ROWS;
    config.drain_timeout_ms = 120_000;
    let plan = collector::validate(&config).map_err(|problems| format!("{problems:?}"))?;
    let running = collector::start(plan, &folder).map_err(|error| said(&error))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| said(&error))?;
    let now_us = i64::try_from(since.as_micros()).map_err(|error| said(&error))?;
    // All of one hour, the day before yesterday.
    let hour_us = 3_600_000_000;
    let begin_us = (now_us / hour_us - 48) * hour_us + hour_us / 10;
    let rows_max = u64::try_from(hour_us * 8 / 10 / SPACING_US).map_err(|error| said(&error))?;
    let traffic = Traffic::new(begin_us);
    let mut draft = Draft::new();
    let begun = Instant::now();
    for number in 0..rows.min(rows_max) {
        traffic.request(number).fill(&mut draft);
        while writer.append(&draft).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err("the rows to merge are not stored".into());
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    drop(writers);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| said(&error))?;
    runtime.block_on(running.shutdown());
    spool.close();
    let stored: u64 =
        Manifest::load(&folder).map_err(|error| said(&error))?.files.iter().map(|file| file.rows).sum();
    if stored == rows.min(rows_max) { Ok(()) } else { Err(format!("{stored} of {rows} rows are stored")) }
}

/// A gateway on a copy of the folder.
pub struct House {
    pub addr: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl House {
    /// Starts it, on CPU 0.
    pub fn start(full: &Path, origin: SocketAddr, merges: bool) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        for part in ["requests", "rollups", "state"] {
            copy(&full.join(part), &folder.path().join("data").join(part))
                .map_err(|error| error.to_string())?;
        }
        let (addr, path) = (free_addr(), folder.path().join("tollhouse.yaml"));
        let text = format!(
            "gateway:\n  threads: 1\n  listen: [{{name: bench, address: '{addr}'}}]\n\
             collector:\n  metrics: {{listen: '127.0.0.1:0'}}\n  compaction: {{enabled: {merges}}}\n\
             analytics:\n  listen: '127.0.0.1:0'\n  verify_bytes_per_s: 0\nservices:\n  \
             - name: origin\n    url: http://{origin}\n    routes: [{{name: all, paths: [/], strip_path: false}}]\n"
        );
        fs::write(&path, text).map_err(|error| error.to_string())?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0", env!("CARGO_BIN_EXE_tollhouse"), "run", "--config"]).arg(&path);
        command.arg("--data").arg(folder.path().join("data")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let house = Self { addr, folder, child };
        let begun = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{command:?} does not start"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(house)
    }

    /// CPU that its compaction thread took so far.
    pub fn compaction_cpu(&self) -> Result<Duration, String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut tasks = fs::read_dir(tasks).map_err(|error| format!("the gateway is gone: {error}"))?;
        let ns = tasks.find_map(|task| {
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let times = fs::read_to_string(path.join("schedstat")).ok()?;
            (name.trim() == "compaction").then(|| times.split_whitespace().next()?.parse().ok())?
        });
        Ok(Duration::from_nanos(ns.ok_or("there is no compaction thread")?))
    }

    /// Files that are still to be merged.
    pub fn unmerged(&self) -> Result<usize, String> {
        let folder =
            DataFolder::existing(&self.folder.path().join("data")).map_err(|error| error.to_string())?;
        let manifest = Manifest::load(&folder).map_err(|error| error.to_string())?;
        let begun_us = manifest.files.iter().map(|file| file.time_max_us).min().unwrap_or_default();
        let old = manifest.files.iter().filter(|file| file.time_max_us - begun_us < 3_600_000_000);
        Ok(old.filter(|file| file.level == 0).count())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("benches/compaction: the gateway did not end: {error}");
        }
    }
}

/// A folder with other names of its files: those of the table are never changed, and small ones are replaced.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        match path.is_dir() {
            true => copy(&path, &to.join(name))?,
            false => fs::hard_link(&path, to.join(name))?,
        }
    }
    Ok(())
}

/// Answers each request by a word, from a thread of its own.
pub fn origin() -> Result<SocketAddr, String> {
    let (sender, addr) = std::sync::mpsc::sync_channel(1);
    let body = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::bind("127.0.0.1:0").await else { return };
            // Whoever has asked is still there.
            let _told = sender.send(listener.local_addr());
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream));
                }
            }
        });
    };
    std::thread::Builder::new().name("origin".into()).spawn(body).map_err(|error| error.to_string())?;
    let addr = addr.recv().map_err(|_| "the origin does not start".to_owned())?;
    addr.map_err(|error| error.to_string())
}

async fn answer(mut stream: tokio::net::TcpStream) {
    let mut got = Vec::with_capacity(1024);
    while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
        if got.ends_with(b"\r\n\r\n") {
            got.clear();
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await.is_err() {
                return;
            }
        }
    }
}
