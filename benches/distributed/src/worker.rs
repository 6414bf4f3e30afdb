//! A worker: what it is, and the process that it is to the one who started it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use url::Url;

/// Ticks of the system's clock of processes in a second.
const TICKS: u64 = 100;

/// Serves on a free port, which it prints, until the other process lets go of its input.
pub async fn serve() -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    println!("{}", listener.local_addr().map_err(|error| error.to_string())?);
    std::thread::spawn(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let worker = datafusion_distributed::Worker::default().into_worker_server();
    Server::builder()
        .add_service(worker)
        .serve_with_incoming(incoming)
        .await
        .map_err(|error| error.to_string())
}

/// A worker's process; killed when it is dropped.
pub struct Worker {
    child: Child,
    /// Where it listens.
    pub url: Url,
}

impl Worker {
    /// Starts this program in its other role.
    pub fn start() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("a worker: {error}"))?;
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(out) => BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string()),
            None => Err("no standard output".to_owned()),
        };
        let url = read.and_then(|_| {
            Url::parse(&format!("http://{}", line.trim()))
                .map_err(|error| format!("a worker says {line:?}: {error}"))
        });
        match url {
            Ok(url) => Ok(Self { child, url }),
            Err(problem) => {
                // It may be gone already.
                let _gone = child.kill();
                let _gone = child.wait();
                Err(problem)
            }
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a word.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|error| error.to_string())
    }

    /// Has it stand still, with its connections open: what others see of a machine that is cut off.
    pub fn freeze(&self) -> Result<(), String> {
        self.signal(libc::SIGSTOP)
    }

    /// Has it go on.
    pub fn thaw(&self) -> Result<(), String> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: libc::c_int) -> Result<(), String> {
        let id = libc::pid_t::try_from(self.child.id()).map_err(|error| error.to_string())?;
        // SAFETY: touches no memory of this process; the child has not been waited for, so the number is its own.
        match unsafe { libc::kill(id, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().to_string()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// User and system time of a process since its start.
pub fn cpu(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS)
}
