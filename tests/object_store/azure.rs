//! Azurite, Microsoft's own server of Azure's blobs for tests.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::port::free_addr;
use super::support::tool::{self, Running};
use super::support::{client, eventually};

/// The account that each Azurite has, and its key: they are the same everywhere, and no secret.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server with one container, `logs`.
pub struct Azure {
    addr: SocketAddr,
    _process: Running,
}

impl Azure {
    /// Starts one with its files in `folder`.
    pub fn start(folder: &Path) -> Self {
        let (addr, log) = (free_addr(), folder.join("azurite.log"));
        let mut process = Running(
            Command::new("node")
                .arg(tool::azurite())
                .args(["--blobHost", "127.0.0.1", "--blobPort", &addr.port().to_string(), "--silent"])
                .args(["--disableTelemetry", "--skipApiVersionCheck", "--location"])
                .arg(folder.join("azurite"))
                .stdout(Stdio::null())
                .stderr(File::create(&log).unwrap())
                .spawn()
                .unwrap_or_else(|error| panic!("node: {error} (`tests/run` installs it)")),
        );
        eventually("Azurite to answer", || match client::get(addr, "/", &[]) {
            Ok(_) => Ok(()),
            Err(error) => match process.0.try_wait().unwrap() {
                Some(status) => panic!("it ended, {status}: {}", std::fs::read_to_string(&log).unwrap()),
                None => Err(error.to_string()),
            },
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/object_store/azurite/container.py");
        tool::output(Command::new(tool::python()).arg(script).args([&addr.to_string(), ACCOUNT, KEY]));
        Self { addr, _process: process }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A section `object_store` for an Azurite at an address.
pub fn section(addr: SocketAddr) -> Value {
    json!({
        "url": "az://logs/tollhouse",
        "options": {
            "endpoint": format!("http://{addr}/{ACCOUNT}"), "allow_http": "true",
            "account_name": ACCOUNT, "account_key": KEY,
        },
        "sync_interval_s": 1, "poll_interval_s": 1, "timeout_ms": 5_000,
        "retry_initial_ms": 20, "retry_max_ms": 500, "retry_elapsed_max_ms": 1_000,
    })
}
