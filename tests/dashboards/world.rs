//! What the dashboards look at: the demo, a host with everything that the demo has not (a pool with a circuit breaker
//! and a target that is dead, a bucket, rows of another host), that other host, and a Prometheus that scrapes all three.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::rules;
use super::support::origin::Origin;
use super::support::port::free_addr;
use super::support::site::{ALICE_KEY, Site, Tollhouse};
use super::support::tool::{Prometheus, Running};
use super::support::{client, eventually};

/// What lets the other host in.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub struct World {
    pub demo: Demo,
    pub centre: Tollhouse,
    pub prometheus: Prometheus,
    traffic: Traffic,
    _edge: Tollhouse,
    _sites: [Site; 2],
    _origin: Origin,
}

impl World {
    pub fn start() -> Self {
        let origin = Origin::start();
        let centre_site = centre(&origin);
        let centre = centre_site.run();
        let to = format!("grpc://{}", centre.addr("receive"));
        let forward = json!({ "to": [to], "token": TOKEN, "retry_interval_ms": 100 });
        let edge_site =
            Site::new(origin.addr).set(&["node"], "edge".into()).set(&["collector", "forward"], forward);
        let edge = edge_site.run();
        let demo = Demo::start(&centre_site.folder().join("demo"));
        let traffic = Traffic::start(&[centre.gateway(), edge.gateway()]);
        let rules = ["tollhouse.rules", "tollhouse.alerts"]
            .map(|name| rules::quicker(&super::text(&format!("prometheus/{name}.yaml"))));
        let [recording, alerts] = rules;
        let prometheus = Prometheus::watch(
            centre_site.folder(),
            "500ms",
            &[demo.metrics, centre.addr("metrics"), edge.addr("metrics")],
            &[("rules.yaml", recording), ("alerts.yaml", alerts)],
        );
        Self {
            demo,
            centre,
            prometheus,
            traffic,
            _edge: edge,
            _sites: [centre_site, edge_site],
            _origin: origin,
        }
    }

    /// Ends the traffic to the two hosts; the demo has its own.
    pub fn quiet(&mut self) {
        self.traffic.stop();
    }
}

/// A pool of a live and a dead target, which is asked for more at a time than its circuit breaker allows.
pub fn pool(site: Site, live: SocketAddr, dead: SocketAddr, breaker: &Value) -> Site {
    let mut services = site.config()["services"].clone();
    services.as_array_mut().unwrap().push(json!({
        "name": "pooled", "host": "pool", "retries": 1,
        "routes": [{ "name": "pooled-route", "paths": ["/pooled"] }],
    }));
    let checks = json!({ "active": {
        "http_path": "/status/200", "healthy": { "interval": 0.2, "successes": 1 },
        "unhealthy": { "interval": 0.2, "tcp_failures": 1, "http_failures": 1 },
    }});
    let targets: Vec<Value> =
        [live, dead].iter().map(|addr| json!({ "target": addr.to_string(), "weight": 1 })).collect();
    site.set(&["services"], services).set(
        &["upstreams"],
        json!([{ "name": "pool", "targets": targets, "healthchecks": checks, "circuit_breaker": breaker }]),
    )
}

fn centre(origin: &Origin) -> Site {
    let site = Site::new(origin.addr);
    let bucket = site.folder().join("bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let store = json!({ "url": format!("file://{}", bucket.display()), "sync_interval_s": 1 });
    let site = site
        .set(&["node"], "centre".into())
        .set(&["collector", "receive"], json!({ "listen": "127.0.0.1:0", "tokens": [TOKEN] }))
        .set(&["collector", "seal"], json!({ "interval_s": 1, "grace_ms": 500 }))
        .set(&["collector", "compaction"], json!({ "files_min": 2 }))
        .set(&["collector", "delta"], json!({ "enabled": true }))
        .set(&["object_store"], store);
    pool(site, origin.addr, free_addr(), &json!({ "max_requests": 1, "max_retries": 1 }))
}

/// Traffic of every kind that a panel shows, until it is dropped: with bodies, answered, failed, refused, without a route,
/// of a known consumer, to a pool, more at a time than that may have.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(gateways: &[SocketAddr]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |gateway: SocketAddr, slow: bool| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    // What an answer is does not matter here; that there are some, the panels show.
                    if slow {
                        drop(client::get(gateway, "/pooled/slow/50", &[]));
                    } else {
                        round(gateway);
                    }
                    // Who is turned away is not to come again at once.
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        };
        let threads = gateways
            .iter()
            .flat_map(|gateway| [start(*gateway, false), start(*gateway, true), start(*gateway, true)]);
        Self { threads: threads.collect(), stop }
    }

    /// One caller, whose requests are all answered while nothing is wrong.
    pub fn calm(gateway: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stops.load(Relaxed) {
                for path in ["/open/echo", "/private/echo", "/pooled/echo"] {
                    drop(client::get(gateway, path, &[]));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, threads: vec![thread] }
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
    }
}

fn round(gateway: SocketAddr) {
    drop(client::exchange(gateway, "POST", "/open/echo", &[], b"twelve bytes"));
    drop(client::get(gateway, "/open/status/500", &[]));
    drop(client::get(gateway, "/private/bytes/100", &[("apikey", ALICE_KEY)]));
    drop(client::get(gateway, "/private/bytes/100", &[]));
    drop(client::get(gateway, "/nowhere", &[]));
}

/// `tollhouse demo`, as a newcomer runs it.
pub struct Demo {
    pub metrics: SocketAddr,
    pub postgres: SocketAddr,
    _process: Running,
}

impl Demo {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
        command.args([
            "demo",
            "--port",
            "0",
            "--metrics-port",
            "0",
            "--sql-port",
            "0",
            "--postgres-port",
            "0",
        ]);
        command.args(["--rate", "60", "--data"]).arg(data).stdin(Stdio::null()).stderr(Stdio::null());
        let mut process = Running(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (mut metrics, mut postgres) = (None, None);
        for line in lines.by_ref() {
            let address = |line: &str| line.split_once("://")?.1.split('/').next()?.parse().ok();
            if line.ends_with("/metrics") {
                metrics = address(&line);
            } else if line.contains("postgresql://") {
                postgres = address(&line);
            }
            if metrics.is_some() && postgres.is_some() {
                break;
            }
        }
        // What it says further on is read by nobody, but must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { metrics: metrics.expect("metrics"), postgres: postgres.expect("postgres"), _process: process }
    }
}

/// The names of the columns and the rows of a statement by psql.
pub fn psql(addr: SocketAddr, statement: &str) -> Result<(Vec<String>, Vec<Vec<String>>), String> {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-A", "-F", "\u{1f}", "-R", "\u{1e}", "-P", "footer=off", "-c", statement])
        .env("PGHOST", addr.ip().to_string())
        .env("PGPORT", addr.port().to_string())
        .env("PGUSER", "anybody")
        .env("PGDATABASE", "tollhouse")
        .env("PGCLIENTENCODING", "UTF8");
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("psql: {error} (`tests/run` installs tools)"));
    if !status.success() {
        return Err(format!("{statement}\n{}", String::from_utf8_lossy(&stderr)));
    }
    let text = String::from_utf8(stdout).unwrap();
    let mut lines = text
        .trim_end_matches('\n')
        .split('\u{1e}')
        .map(|line| line.split('\u{1f}').map(str::to_owned).collect());
    Ok((lines.next().unwrap(), lines.collect()))
}

/// The one value of a statement, once there is one.
pub fn value(addr: SocketAddr, statement: &str) -> String {
    eventually(statement, || match psql(addr, statement)?.1.as_slice() {
        [row] if row.len() == 1 && !row[0].is_empty() => Ok(row[0].clone()),
        rows => Err(format!("{rows:?}")),
    })
}
