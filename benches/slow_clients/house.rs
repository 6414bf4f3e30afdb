//! The gateways and the origins behind them.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Time-outs of the gateway, so that a phase sees them at work.
pub const TIMEOUT_MS: u64 = 5000;

/// Puts the calling thread behind all others of its CPU.
pub fn yield_to_all() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain numbers; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) } != 0 {
        eprintln!("benches/slow_clients: {}", std::io::Error::last_os_error());
    }
}

/// Raises what may be open, and keeps this process off the gateway's CPU.
pub fn prepare(slow: usize) -> Result<(), String> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain numbers, in a place of their own.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    // Here a client and, of readers and bodies, the origin's side.
    let needed = slow * 2 + 500;
    if !raised || limit.rlim_cur < needed as u64 {
        return Err(format!("{needed} descriptors are needed: raise `ulimit -Hn`, or give --slow less"));
    }
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-acp", "1", &pid]).stdout(Stdio::null()).status();
    match pinned {
        Ok(status) if status.success() => Ok(()),
        _ => Err("cannot pin to CPU 1: apt-get install util-linux".into()),
    }
}

/// Where the slow and those that behave go: each has an origin of its own.
#[derive(Clone, Copy)]
pub struct Origins {
    good: SocketAddr,
    slow: SocketAddr,
}

impl Origins {
    pub fn start() -> Result<Self, String> {
        Ok(Self { good: origin(false)?, slow: origin(true)? })
    }
}

/// A gateway.
pub struct House {
    pub addr: SocketAddr,
    /// Where it takes HTTP/2.
    pub http2: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl House {
    /// Starts Tollhouse; one that is `elsewhere` has CPU 0 only as far as the other leaves it, as if it ran on another
    /// machine.
    pub fn tollhouse(origins: Origins, elsewhere: bool) -> Result<Self, String> {
        let Origins { good, slow } = origins;
        let folder = new_folder()?;
        let addr = free()?;
        let path = folder.path().join("tollhouse.yaml");
        let text = format!(
            "gateway:\n  threads: 1\n  listen: [{{name: bench, address: '{addr}'}}]\n  \
             limits: {{connections_per_client_max: 0}}\n  \
             timeouts: {{header_timeout_ms: {TIMEOUT_MS}, body_idle_timeout_ms: {TIMEOUT_MS}}}\n\
             collector:\n  metrics: {{listen: '127.0.0.1:0'}}\nanalytics:\n  listen: '127.0.0.1:0'\n  postgres: {{listen: null}}\n  flight: {{listen: null}}\nservices:\n  \
             - name: origin\n    url: http://{good}\n    routes: [{{name: all, paths: [/], strip_path: false}}]\n  \
             - name: slow\n    url: http://{slow}\n    routes: [{{name: big, paths: [/big], strip_path: false}}]\n"
        );
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let mut command = on_cpu_0(elsewhere, env!("CARGO_BIN_EXE_tollhouse"));
        command.args(["run", "--config"]).arg(&path).arg("--data").arg(folder.path().join("data"));
        Self::start(command, addr, addr, folder)
    }

    /// Starts nginx, with one process and without a log.
    pub fn nginx(origins: Origins) -> Result<Self, String> {
        let Origins { good, slow } = origins;
        let folder = new_folder()?;
        let (addr, http2) = (free()?, free()?);
        let at = folder.path().display();
        let path = folder.path().join("nginx.conf");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
            .join(" ");
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error crit;\n\
             events {{ worker_connections 100000; }}\n\
             http {{ access_log off; {temporary}\n\
             client_header_timeout {TIMEOUT_MS}ms; client_body_timeout {TIMEOUT_MS}ms; send_timeout {TIMEOUT_MS}ms;\n\
             proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;\n\
             upstream good {{ server {good}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{ listen {addr} backlog=4096 reuseport; listen {http2} http2;\n\
             location / {{ proxy_pass http://good; proxy_set_header Connection \"\"; }}\n\
             location /big {{ proxy_pass http://{slow}; }} }} }}\n"
        );
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let mut command = on_cpu_0(false, "nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&path);
        Self::start(command, addr, http2, folder)
    }

    fn start(
        mut command: Command,
        addr: SocketAddr,
        http2: SocketAddr,
        folder: TempDir,
    ) -> Result<Self, String> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let house = Self { addr, http2, child, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(addr).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{command:?} does not start"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(house)
    }

    fn status(&self, name: &str) -> Result<u64, String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.map_err(|error| format!("the gateway is gone: {error}"))?;
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        Ok(line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// Its own resident memory, without files that it has mapped.
    pub fn own_kib(&self) -> Result<u64, String> {
        self.status("RssAnon:")
    }

    /// Waits until what an attack has left behind is gone.
    pub fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count);
            if open < 200 || Instant::now() > deadline {
                return if open < 200 { Ok(()) } else { Err(format!("{open} descriptors stay open")) };
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("benches/slow_clients: the gateway did not end: {error}");
        }
    }
}

/// A program on CPU 0; at the lowest priority if it is meant to be elsewhere.
fn on_cpu_0(elsewhere: bool, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]);
    if elsewhere {
        command.args(["chrt", "-i", "0"]);
    }
    command.arg(program);
    command
}

fn new_folder() -> Result<TempDir, String> {
    tempfile::tempdir().map_err(|error| error.to_string())
}

fn free() -> Result<SocketAddr, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

/// Answers `/big` without an end, other GETs by a word, and waits for bodies, from a thread of its own.
fn origin(yields: bool) -> Result<SocketAddr, String> {
    let (sender, addr) = std::sync::mpsc::sync_channel(1);
    let body = move || {
        if yields {
            yield_to_all();
        }
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async move {
            let Ok(listener) = listen() else { return };
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

/// With small buffers, which connections inherit: what the kernel holds between the two is not what is measured.
fn listen() -> std::io::Result<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_send_buffer_size(16 << 10)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(4096)
}

async fn answer(mut stream: tokio::net::TcpStream) {
    let mut got = Vec::with_capacity(1024);
    while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
        if got.starts_with(b"GET /big") {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
            while sent.is_ok() {
                sent = stream.write_all(&[7; 8 << 10]).await;
            }
            return;
        }
        if got.starts_with(b"GET") && got.ends_with(b"\r\n\r\n") {
            got.clear();
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await.is_err() {
                return;
            }
        }
    }
}
