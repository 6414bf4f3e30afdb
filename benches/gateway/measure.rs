//! Running a proxy under load and reading what it cost.

use crate::arms::Arm;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What the command line says.
pub struct Options {
    /// Seconds of load for one sample.
    pub seconds: u32,
    /// Samples of each arm.
    pub rounds: usize,
    /// Connections that wrk holds open.
    pub connections: u32,
    /// What is compared.
    pub arms: Vec<Arm>,
    /// The Tollhouse that is measured: the one that was built with the bench, or one that was kept.
    pub binary: PathBuf,
    /// Where to write the figures as JSON.
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads `--seconds N --rounds N --connections N --arms on,off --binary FILE --json FILE`.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seconds: 20,
            rounds: 4,
            connections: 64,
            arms: Arm::ALL.to_vec(),
            binary: env!("CARGO_BIN_EXE_tollhouse").into(),
            json: None,
        };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            let number = || value.parse::<u32>().map_err(|_| format!("{arg}: {value:?} is not a number"));
            match arg.as_str() {
                "--seconds" => options.seconds = number()?.max(1),
                "--rounds" => options.rounds = number()?.max(1) as usize,
                "--connections" => options.connections = number()?.max(1),
                "--arms" => {
                    let arm = |word: &str| Arm::ALL.into_iter().find(|arm| arm.word() == word);
                    let arms =
                        value.split(',').map(|word| arm(word).ok_or_else(|| format!("no arm {word:?}")));
                    options.arms = arms.collect::<Result<_, String>>()?;
                }
                "--binary" => options.binary = value.into(),
                "--json" => options.json = Some(value.into()),
                _ => {
                    return Err(format!(
                        "unknown argument {arg}: --seconds, --rounds, --connections, --arms, --binary, --json"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Fails with what to install when a program is missing.
pub fn require(programs: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let missing: Vec<_> = programs
        .iter()
        .filter(|name| !std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .copied()
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            Err(format!("missing {}: apt-get install nginx-light haproxy wrk util-linux", missing.join(", ")))
        }
    }
}

/// One run of one arm.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Responses that wrk received whole.
    pub requests: u64,
    /// Responses that were not 2xx, and socket errors.
    pub errors: u64,
    /// User + system CPU of the proxy, all threads and children, from the start of the load to its end as a process.
    pub cpu: Duration,
    /// Of that, the threads that carry requests, up to the end of the load; none where all threads do.
    pub hot: Option<Duration>,
    /// Seconds of load.
    pub seconds: f64,
    /// 99th percentile that wrk saw (closed loop), as it prints it.
    pub p99: String,
    /// Resident memory at the end of the load, KiB.
    pub rss_kib: u64,
}

impl Sample {
    /// The figure.
    pub fn cpu_us_per_request(&self) -> f64 {
        self.per_request(self.cpu)
    }

    /// The same of the threads that carry requests.
    pub fn hot_us_per_request(&self) -> f64 {
        self.per_request(self.hot.unwrap_or(self.cpu))
    }

    fn per_request(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }
}

/// Loads a URL from CPU 1, or what a script makes of it.
pub fn load(url: &str, script: Option<&Path>, options: &Options) -> Result<Sample, String> {
    let began = Instant::now();
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "--latency"])
        .args(script.into_iter().flat_map(|script| [OsStr::new("-s"), script.as_os_str()]))
        .arg(format!("-c{}", options.connections))
        .arg(format!("-d{}s", options.seconds))
        .arg(url)
        .output()
        .map_err(|error| format!("cannot run wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut sample = Sample {
        requests: 0,
        errors: 0,
        cpu: Duration::ZERO,
        hot: None,
        seconds: began.elapsed().as_secs_f64(),
        p99: String::new(),
        rss_kib: 0,
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [count, "requests", "in", ..] => sample.requests = count.parse().unwrap_or(0),
            ["99%", p99] => sample.p99 = p99.to_owned(),
            ["Non-2xx", .., count] => sample.errors += count.parse::<u64>().unwrap_or(1),
            ["Socket", "errors:", ..] => sample.errors += 1,
            _ => {}
        }
    }
    if sample.requests == 0 || sample.errors > 0 {
        return Err(format!("the load on {url} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(sample)
}

/// CPU that the living threads of a process took so far, of all or of those whose names begin so.
pub fn cpu_so_far(pid: u32, names: &str) -> Duration {
    let of = |thread: std::fs::DirEntry| {
        let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
        let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let ns: u64 = times.split_whitespace().next()?.parse().ok()?;
        name.starts_with(names).then_some(Duration::from_nanos(ns))
    };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.filter_map(|thread| of(thread.ok()?)).sum()
}

/// Ends a process by SIGTERM and says the CPU that it and its children took in their lives.
pub fn end(child: Child) -> Result<Duration, String> {
    let pid = libc::pid_t::try_from(child.id()).map_err(|error| error.to_string())?;
    // SAFETY: plain calls on a child of ours that has not been waited for; `usage` outlives the call.
    let usage = unsafe {
        if libc::kill(pid, libc::SIGTERM) != 0 {
            return Err(io::Error::last_os_error().to_string());
        }
        let mut usage: libc::rusage = std::mem::zeroed();
        let mut status = 0;
        if libc::wait4(pid, &mut status, 0, &mut usage) != pid {
            return Err(io::Error::last_os_error().to_string());
        }
        usage
    };
    let time = |t: libc::timeval| {
        Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_usec).unwrap_or(0) * 1000)
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

/// Resident memory of a process, KiB.
pub fn rss_kib(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        })
        .unwrap_or(0)
}

/// Waits until a port takes connections.
pub fn wait_for(port: u16) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            return Err(format!("nothing listens on port {port} after 20 s"));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(())
}
