//! nginx and HAProxy as services. Each answers a request with what it has understood of it: in `x-view`, and as one
//! line of its log.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::eventually;
use super::support::port::free_addr;
use super::support::tool::Running;

/// The address and log of a service.
pub struct Origin {
    pub name: &'static str,
    pub addr: SocketAddr,
    log: PathBuf,
    _process: Running,
}

impl Origin {
    /// How many requests its log has.
    pub fn logged(&self) -> usize {
        std::fs::read(&self.log).unwrap().iter().filter(|byte| **byte == b'\n').count()
    }

    /// Debian's nginx. `x-view` is id, method and target.
    pub fn nginx(folder: &Path) -> Self {
        let (addr, log) = (free_addr(), folder.join("nginx.log"));
        let text = format!(
            "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx-errors.log crit;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
  uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
  log_format line '$http_x_request_id $request_method $request_uri $status';
  access_log {0}/nginx.log line; keepalive_requests 100000000; keepalive_timeout 600s; client_body_timeout 600s;
  client_header_timeout 600s; large_client_header_buffers 8 64k; underscores_in_headers on; default_type text/plain;
  server {{ listen {addr}; merge_slashes off; location / {{
    add_header x-origin nginx always; add_header x-view \"$http_x_request_id $request_method $request_uri\" always;
    return 200 \"nginx\\n\"; }} }}
}}
",
            folder.display()
        );
        let config = folder.join("nginx.conf");
        std::fs::write(&config, text).unwrap();
        let mut command = program("nginx");
        command.arg("-e").arg(folder.join("nginx-start.log")).arg("-c").arg(&config).stdout(Stdio::null());
        Self::start("nginx", addr, log, &mut command)
    }

    /// Debian's HAProxy, which waits for the whole body. `x-view` is id, method, target and length of the body.
    pub fn haproxy(folder: &Path) -> Self {
        let (addr, log) = (free_addr(), folder.join("haproxy.log"));
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4096\n  tune.bufsize 131072\n  tune.http.maxhdr 4096\n  log stdout format raw local0
defaults\n  mode http\n  log global\n  option http-buffer-request\n  option dontlognull\n  timeout client 600s\n  timeout http-keep-alive 600s
  timeout http-request 600s\n  timeout connect 5s\n  timeout server 600s\n  log-format \"%HM %HU %ST\"
frontend f\n  bind {addr}
  http-request return status 200 content-type text/plain string haproxy hdr x-origin haproxy hdr x-view \
             \"%[req.fhdr(x-request-id)] %[method] %[url] %[req.body_size]\"\n"
        );
        let config = folder.join("haproxy.cfg");
        std::fs::write(&config, text).unwrap();
        let mut command = program("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdout(File::create(&log).unwrap());
        Self::start("haproxy", addr, log, &mut command)
    }

    fn start(name: &'static str, addr: SocketAddr, log: PathBuf, command: &mut Command) -> Self {
        let errors = File::create(log.with_extension("stderr")).unwrap();
        let process = command.stderr(errors).stdin(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| panic!("{name}: {error} (`tests/run` installs it)"));
        let process = Running(process);
        eventually(name, || {
            TcpStream::connect(addr).map(drop).map_err(|error| {
                let said = std::fs::read_to_string(log.with_extension("stderr")).unwrap_or_default();
                format!("{error}: {said}")
            })
        });
        Self { name, addr, log, _process: process }
    }
}

/// A program that Debian puts where only root looks.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}
