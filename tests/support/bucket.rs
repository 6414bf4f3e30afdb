//! A real S3 server for a test: Versity's gateway over a folder, so that its objects are files that can be looked at.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::port::free_addr;
use super::tool::{self, Running};
use super::{client, eventually};

/// The key of the one user, and its secret.
pub const KEY: &str = "tollhouse-tests";
/// Its secret.
pub const SECRET: &str = "tollhouse-tests-s3cret";

/// An S3 server with one bucket, `logs`.
pub struct Store {
    folder: PathBuf,
    addr: SocketAddr,
    process: Option<Running>,
}

impl Store {
    /// Starts one with its files in `folder`.
    pub fn start(folder: &Path) -> Self {
        let folder = folder.join("s3");
        std::fs::create_dir_all(folder.join("buckets/logs")).unwrap();
        let mut store = Self { folder, addr: free_addr(), process: None };
        store.resume();
        store
    }

    /// Kills it, as a crash would.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same address and the same objects.
    pub fn resume(&mut self) {
        let log = self.folder.join("log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let process = Command::new(tool::versitygw())
            .args(["--port", &self.addr.to_string(), "--quiet", "posix"])
            .arg(self.folder.join("buckets"))
            .env("ROOT_ACCESS_KEY", KEY)
            .env("ROOT_SECRET_KEY", SECRET)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut process = Running(process);
        eventually("the S3 server to answer", || match client::get(self.addr, "/", &[]) {
            Ok(_) => Ok(()),
            Err(error) => match process.0.try_wait().unwrap() {
                Some(status) => panic!("it ended, {status}: {}", std::fs::read_to_string(&log).unwrap()),
                None => Err(error.to_string()),
            },
        });
        self.process = Some(process);
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A section `object_store` that leads here, quick enough for a test.
    pub fn section(&self) -> Value {
        section(self.addr)
    }

    /// The names of the objects in the bucket.
    pub fn objects(&self) -> Vec<String> {
        files(&self.folder.join("buckets/logs"))
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        let size = |name: &String| {
            std::fs::metadata(self.folder.join("buckets/logs").join(name)).map_or(0, |meta| meta.len())
        };
        self.objects().iter().map(size).sum()
    }
}

/// A real nginx before a store, which can answer 503 in its place.
pub struct Front {
    folder: PathBuf,
    addr: SocketAddr,
    _process: Running,
}

impl Front {
    /// Starts one with its files in `folder`. It passes everything on.
    pub fn of(store: &Store, folder: &Path) -> Self {
        let folder = folder.join("front");
        std::fs::create_dir_all(&folder).unwrap();
        let (addr, at, store) = (free_addr(), folder.display(), store.addr());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
            .join(" ");
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\n\
             http {{ access_log {at}/access.log combined; {temporary}\n\
             server {{ listen {addr}; client_max_body_size 0;\n\
             location / {{ if (-f {at}/refuse) {{ return 503; }}\n\
             proxy_pass http://{store}; proxy_http_version 1.1; proxy_set_header Host $http_host;\n\
             proxy_request_buffering off; proxy_buffering off; }} }} }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), text).unwrap();
        let process = Command::new("nginx")
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .arg("-p")
            .arg(&folder)
            .arg("-e")
            .arg(folder.join("start.log"))
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx: {error} (`tests/run` installs it)"));
        eventually("nginx to answer", || {
            client::get(addr, "/", &[]).map(drop).map_err(|error| error.to_string())
        });
        Self { folder, addr, _process: Running(process) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it answers 503 from now on.
    pub fn refuse(&self, refuses: bool) {
        let mark = self.folder.join("refuse");
        match refuses {
            true => std::fs::write(mark, "").unwrap(),
            false => std::fs::remove_file(mark).unwrap(),
        }
    }

    /// How often it has answered 503.
    pub fn refused(&self) -> usize {
        let log = std::fs::read_to_string(self.folder.join("access.log")).unwrap();
        log.lines().filter(|line| line.contains("\" 503 ")).count()
    }
}

/// A section `object_store` for an S3 server at an address.
pub fn section(addr: SocketAddr) -> Value {
    json!({
        "url": "s3://logs/tollhouse",
        "options": {
            "endpoint": format!("http://{addr}"), "region": "us-east-1", "allow_http": "true",
            "access_key_id": KEY, "secret_access_key": SECRET,
        },
        "sync_interval_s": 1, "poll_interval_s": 1, "timeout_ms": 5_000,
        "retry_initial_ms": 20, "retry_max_ms": 500, "retry_elapsed_max_ms": 1_000,
    })
}

/// The files below a folder, by their names from there.
pub fn files(folder: &Path) -> Vec<String> {
    fn walk(top: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(top, &path, found),
                false => found.push(path.strip_prefix(top).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Lets two collectors read the root of a bucket at the same time, so that both change the same one: the answer to one
/// waits until the other has asked too.
#[derive(Default)]
pub struct Crossing {
    state: Mutex<Meeting>,
    changed: Condvar,
}

#[derive(Default)]
struct Meeting {
    waits: [bool; 2],
    /// How often both have met.
    met: u64,
    over: bool,
}

impl Crossing {
    /// How long one waits for the other: less than what a store has for its answer.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// The way of one of the two to a server.
    pub fn way(self: &Arc<Self>, side: usize, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let crossing = Arc::clone(self);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(to) else { continue };
                let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                let crossing = Arc::clone(&crossing);
                let asked = Arc::new(AtomicBool::new(false));
                let asks = Arc::clone(&asked);
                std::thread::spawn(move || {
                    pass(from_client, to_server, |piece| {
                        let line = piece.split(|byte| *byte == b'\r').next().unwrap_or_default();
                        let root =
                            line.starts_with(b"GET ") && line.ends_with(b"/tollhouse/manifest.json HTTP/1.1");
                        asks.fetch_or(root, Ordering::SeqCst);
                    });
                });
                std::thread::spawn(move || {
                    pass(server, client, |_| {
                        if asked.swap(false, Ordering::SeqCst) {
                            crossing.meet(side);
                        }
                    });
                });
            }
        });
        addr
    }

    /// Nobody waits from now on.
    pub fn open(&self) {
        self.state.lock().unwrap().over = true;
        self.changed.notify_all();
    }

    fn meet(&self, side: usize) {
        let mut state = self.state.lock().unwrap();
        if state.waits[1 - side] {
            state.met += 1;
            self.changed.notify_all();
            return;
        }
        let met = state.met;
        state.waits[side] = true;
        let waited =
            self.changed.wait_timeout_while(state, Self::PATIENCE, |now| now.met == met && !now.over);
        waited.unwrap().0.waits[side] = false;
    }
}

/// Until either end is gone, which is what ends it.
fn pass(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        look(&piece[..read]);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}
