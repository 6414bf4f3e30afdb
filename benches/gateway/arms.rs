//! The proxies that are compared, each with the least configuration that does the same work: one path to one origin, with
//! keep-alive on both sides.

use crate::measure::{Options, Sample, cpu_so_far, end, load, rss_kib, wait_for};
use crate::port::free_addr;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Every request recorded, stored in Parquet and counted in metrics.
    TollhouseOn,
    /// The same gateway, recording nothing.
    TollhouseOff,
    /// As the first: how far two equal arms come apart is the noise of the machine.
    TollhouseAgain,
    /// The gateway alone with ten routes, asked for ten thousand paths.
    TenRoutes,
    /// The same with a route for each of these paths.
    ManyRoutes,
    /// nginx with a JSON access log.
    NginxLog,
    /// nginx without a log.
    Nginx,
    /// HAProxy without a log.
    Haproxy,
}

impl Arm {
    /// In the order of a round.
    pub const ALL: [Self; 8] = [
        Self::TollhouseOn,
        Self::TollhouseOff,
        Self::NginxLog,
        Self::Nginx,
        Self::Haproxy,
        Self::TenRoutes,
        Self::ManyRoutes,
        Self::TollhouseAgain,
    ];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TollhouseOn => "tollhouse, telemetry on",
            Self::TollhouseOff => "tollhouse, telemetry off",
            Self::TollhouseAgain => "tollhouse, telemetry on, again",
            Self::TenRoutes => "tollhouse, telemetry off, 10 routes",
            Self::ManyRoutes => "tollhouse, telemetry off, 10,000 routes",
            Self::NginxLog => "nginx, JSON log",
            Self::Nginx => "nginx, no log",
            Self::Haproxy => "haproxy, no log",
        }
    }

    /// Its name on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TollhouseOn => "on",
            Self::TollhouseOff => "off",
            Self::TollhouseAgain => "again",
            Self::TenRoutes => "ten-routes",
            Self::ManyRoutes => "many-routes",
            Self::NginxLog => "nginx-log",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Starts it on CPU 0, loads it, ends it, and says what it cost.
    pub fn run(self, origin: &Origin, options: &Options) -> Result<Sample, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = free_addr().port();
        match self {
            Self::TollhouseOn | Self::TollhouseAgain => {
                tollhouse(folder.path(), port, origin, options, true, &Routes::One)
            }
            Self::TollhouseOff => tollhouse(folder.path(), port, origin, options, false, &Routes::One),
            Self::TenRoutes => tollhouse(folder.path(), port, origin, options, false, &Routes::Ten),
            Self::ManyRoutes => tollhouse(folder.path(), port, origin, options, false, &Routes::Many),
            Self::NginxLog | Self::Nginx => {
                let log = match self {
                    Self::NginxLog => {
                        format!("{NGINX_JSON}\n    access_log {}/access.json line;", folder.path().display())
                    }
                    _ => "access_log off;".to_owned(),
                };
                let server = format!(
                    "upstream origin {{ server 127.0.0.1:{}; keepalive 64; keepalive_requests 100000000; }}
    keepalive_requests 100000000;
    {log}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://origin; proxy_http_version 1.1;
      proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}",
                    origin.port
                );
                let child = nginx(folder.path(), 0, &server)?;
                let sample = peer(child, port, options)?;
                if self == Self::NginxLog {
                    let lines =
                        fs::read(folder.path().join("access.json")).map_err(|error| error.to_string())?;
                    let lines = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                    if lines < sample.requests {
                        return Err(format!("nginx logged {lines} of {} requests", sample.requests));
                    }
                }
                Ok(sample)
            }
            Self::Haproxy => {
                let path = folder.path().join("haproxy.cfg");
                let text = format!(
                    "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  option forwardfor\n  \
                     http-reuse always\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                     frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  \
                     server origin 127.0.0.1:{}\n",
                    origin.port
                );
                fs::write(&path, text).map_err(|error| error.to_string())?;
                let child = pinned(0, "haproxy").arg("-db").arg("-f").arg(&path).spawn();
                peer(child.map_err(|error| format!("cannot start haproxy: {error}"))?, port, options)
            }
        }
    }
}

/// The routes of an arm. Requests go to `/`, or, with ten or many, to `/0/0`, `/1/1`, ... `/9/9999` by chance. Whatever
/// part of the path matches, all of it goes on, so that ten and many send the same bytes.
enum Routes {
    One,
    Ten,
    Many,
}

impl Routes {
    /// Paths that are asked for.
    const PATHS: usize = 10_000;

    /// As a configuration has them.
    fn yaml(&self) -> String {
        let routes: Vec<String> = match self {
            Self::One => vec!["{name: all, paths: [/]}".to_owned()],
            Self::Ten => {
                (0..10).map(|ten| format!("{{name: r{ten}, paths: [/{ten}], strip_path: false}}")).collect()
            }
            Self::Many => (0..Self::PATHS)
                .map(|path| format!("{{name: r{path}, paths: [/{}/{path}], strip_path: false}}", path % 10))
                .collect(),
        };
        format!("[{}]", routes.join(", "))
    }

    /// What wrk asks for.
    fn script(&self) -> Option<String> {
        let last = Self::PATHS - 1;
        let script = format!(
            "request = function() local n = math.random(0, {last}); \
             return wrk.format('GET', '/' .. n % 10 .. '/' .. n) end\n"
        );
        (!matches!(self, Self::One)).then_some(script)
    }
}

const NGINX_JSON: &str = r#"log_format line escape=json '{"time":"$msec","id":"$request_id","client":"$remote_addr","method":"$request_method","host":"$host","path":"$uri","status":$status,"request_bytes":$request_length,"response_bytes":$body_bytes_sent,"duration":$request_time,"upstream":"$upstream_addr","upstream_status":"$upstream_status","upstream_time":"$upstream_response_time","connect_time":"$upstream_connect_time","agent":"$http_user_agent","protocol":"$server_protocol"}';"#;

/// The service behind every arm: nginx on CPU 1, which answers a small body.
pub struct Origin {
    port: u16,
    child: Option<Child>,
    _folder: TempDir,
}

impl Origin {
    /// Starts it.
    pub fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = free_addr().port();
        let server = format!(
            "access_log off; keepalive_requests 100000000;
    server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 \"{}\"; }} }}",
            "hello from the origin ".repeat(6)
        );
        let child = nginx(folder.path(), 1, &server)?;
        wait_for(port)?;
        Ok(Self { port, child: Some(child), _folder: folder })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.child.take().map(end) {
            eprintln!("benches/gateway: the origin did not end: {error}");
        }
    }
}

fn nginx(folder: &Path, cpu: u32, http: &str) -> Result<Child, String> {
    let path = folder.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/error.log;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    {http}
}}
",
        folder.display()
    );
    fs::write(&path, text).map_err(|error| error.to_string())?;
    let child = pinned(cpu, "nginx").arg("-e").arg(folder.join("start.log")).arg("-c").arg(&path).spawn();
    child.map_err(|error| format!("cannot start nginx: {error}"))
}

fn pinned(cpu: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu.to_string()).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

fn peer(child: Child, port: u16, options: &Options) -> Result<Sample, String> {
    let waited = wait_for(port);
    let before = cpu_so_far(child.id(), "");
    let loaded = waited.and_then(|()| load(&format!("http://127.0.0.1:{port}/"), None, options));
    let rss_kib = rss_kib(child.id());
    let cpu = end(child)?.saturating_sub(before);
    Ok(Sample { cpu, rss_kib, ..loaded? })
}

fn tollhouse(
    folder: &Path,
    port: u16,
    origin: &Origin,
    options: &Options,
    on: bool,
    routes: &Routes,
) -> Result<Sample, String> {
    let sql = free_addr().port();
    let path = folder.join("tollhouse.yaml");
    let script = folder.join("requests.lua");
    let script = routes.script().map(|text| fs::write(&script, text).map(|()| script)).transpose();
    let script = script.map_err(|error| error.to_string())?;
    let text = format!(
        "gateway:\n  threads: 1\n  recording: {on}\n  listen: [{{name: bench, address: '127.0.0.1:{port}'}}]\n\
         collector:\n  metrics: {{listen: '127.0.0.1:0'}}\nanalytics:\n  listen: '127.0.0.1:{sql}'\n  postgres: {{listen: null}}\n  flight: {{listen: null}}\nservices:\n  \
         - name: origin\n    url: http://127.0.0.1:{}\n    routes: {}\n",
        origin.port,
        routes.yaml()
    );
    fs::write(&path, text).map_err(|error| error.to_string())?;
    let child = pinned(0, &options.binary)
        .args(["run", "--config"])
        .arg(&path)
        .arg("--data")
        .arg(folder.join("data"))
        .spawn()
        .map_err(|error| format!("cannot start tollhouse: {error}"))?;
    let waited = wait_for(port).and_then(|()| wait_for(sql));
    let before = (cpu_so_far(child.id(), ""), cpu_so_far(child.id(), "proxy-"));
    let url = format!("http://127.0.0.1:{port}/");
    let loaded = waited.and_then(|()| load(&url, script.as_deref(), options));
    let hot = Some(cpu_so_far(child.id(), "proxy-").saturating_sub(before.1));
    let kept = loaded.and_then(|sample| books(sql, &sample, options, on).map(|()| sample));
    let rss_kib = rss_kib(child.id());
    let cpu = end(child)?.saturating_sub(before.0);
    Ok(Sample { cpu, hot, rss_kib, ..kept? })
}

/// Every response has a row and nothing was dropped. wrk cuts what is open at its end, so there may be as many rows more
/// as it had connections.
fn books(sql: u16, sample: &Sample, options: &Options, on: bool) -> Result<(), String> {
    let query = "SELECT (SELECT count(*) FROM requests) AS rows, \
                 (SELECT coalesce(sum(dropped), 0) FROM system.ledger) AS dropped";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "--data-binary", query])
            .arg(format!("http://127.0.0.1:{sql}/sql"))
            .output()
            .map_err(|error| format!("cannot run curl: {error}"))?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("SQL answered {}", String::from_utf8_lossy(&output.stdout)))?;
        let number = |name: &str| answer[0][name].as_u64();
        let (Some(rows), Some(dropped)) = (number("rows"), number("dropped")) else {
            return Err(format!("SQL answered {answer}"));
        };
        let wanted = if on { sample.requests } else { 0 };
        if dropped == 0 && rows >= wanted && rows <= wanted + u64::from(options.connections) {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return Err(format!(
                "{} responses, {rows} rows, {dropped} dropped: the run lost events",
                sample.requests
            ));
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
}
