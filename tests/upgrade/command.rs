//! `tollhouse upgrade` and SIGUSR2: the running process starts its program anew.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::json;

use crate::support::client::get;
use crate::support::load::Load;
use crate::support::origin::Origin;
use crate::support::site::{Site, Tollhouse};
use crate::support::{DEADLINE, eventually};
use crate::{settled, state, taking};

/// Runs a command on the site's data folder: exit code and what it said.
fn ask(site: &Site, command: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args([command, "--data"])
        .arg(site.data())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

/// A process that was started by another, and so is not this test's child: ended in any case.
struct Adopted(i32);

impl Adopted {
    fn serving(site: &Site) -> Self {
        Self(i32::try_from(state(site)["pid"].as_i64().unwrap()).unwrap())
    }

    fn signal(&self, signal: i32) -> bool {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(self.0, signal) == 0 }
    }

    /// Whether it is there and not only waits to be buried, for which this may be the wrong parent.
    fn runs(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    fn terminate(self) {
        assert!(self.signal(libc::SIGTERM));
        eventually("the end of the process", || if self.runs() { Err("still runs".into()) } else { Ok(()) });
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        if self.runs() {
            self.signal(libc::SIGKILL);
        }
    }
}

fn rows(house: &Tollhouse) -> u64 {
    house.number("SELECT count(*) AS n FROM requests")
}

#[test]
fn the_command_replaces_the_process_and_says_which_serves() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 0}));
    assert_eq!(ask(&site, "upgrade").0, 3, "nobody runs");
    let first = site.run();
    let (gateway, old) = (first.gateway(), first.pid());
    let load = Load::start(gateway, "/open/echo", 4);
    load.wait(200);
    let (code, said) = ask(&site, "upgrade");
    assert_eq!(code, 0, "{said}");
    let second = Adopted::serving(&site);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("upgraded: process {old} -> process {}, version {version}\n", second.0);
    assert!(said.ends_with(&expected), "{said}");
    // The new one is found by whoever asks for more.
    let (code, said) = ask(&site, "reload");
    assert!(code == 0 && said.contains("reloaded: version"), "{said}");
    assert_eq!(state(&site)["pid"], second.0);
    load.wait(200);
    // Its program is found as well, though it was started by another process.
    let (code, said) = ask(&site, "upgrade");
    assert_eq!(code, 0, "{said}");
    let third = Adopted::serving(&site);
    assert!(third.0 != second.0 && third.0 != old);
    load.wait(200);
    // By a signal.
    assert!(third.signal(libc::SIGUSR2));
    let fourth = eventually("the next process", || match Adopted::serving(&site) {
        same if same.0 == third.0 => {
            std::mem::forget(same);
            Err("still the same".to_owned())
        }
        next => Ok(next),
    });
    load.wait(200);
    // What is wrong stays out, and is told.
    let good = site.config().to_string();
    site.replace("services: 7");
    let (code, said) = ask(&site, "upgrade");
    assert!(code == 1 && said.contains("has ended before it served"), "{said}");
    assert!(said.contains(&format!("process {} serves on", fourth.0)), "{said}");
    site.replace(&good);
    load.wait(200);
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    first.rows(ledger.received.len() as u64);
    settled(&first);
    for old in [&second, &third] {
        eventually(
            "the end of an old process",
            || if old.runs() { Err("still runs".into()) } else { Ok(()) },
        );
    }
    let sql = first.addr("sql");
    assert_eq!(rows(&first), ledger.received.len() as u64);
    assert!(first.ended().success());
    fourth.terminate();
    get(gateway, "/open/echo", &[]).expect_err("nobody serves");
    get(sql, "/healthz", &[]).expect_err("nobody answers");
}

#[test]
fn a_service_manager_hears_which_process_is_the_one() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let path = site.folder().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = || {
        let mut words = [0; 100];
        let length = manager.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..length]).into_owned()
    };
    let mut command = site.command("run");
    command.env("NOTIFY_SOCKET", &path);
    let old = site.launch("run", command);
    assert_eq!(heard(), format!("READY=1\nMAINPID={}", old.pid()));
    let mut command = taking(&site, "run");
    command.env("NOTIFY_SOCKET", &path);
    let new = site.launch("run", command);
    let mut both = [heard(), heard()];
    both.sort();
    assert_eq!(both, [format!("MAINPID={}", new.pid()), format!("READY=1\nMAINPID={}", new.pid())]);
    assert!(old.ended().success());
    assert!(new.terminate().success());
    assert_eq!(heard(), "STOPPING=1");
}
