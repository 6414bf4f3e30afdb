//! Queries on a cluster: a real scheduler and real executors of the program over a real S3 server. Whatever the documentation
//! asks has the same answer there as from the local engine, over the same data folder and bucket, part of which is not in
//! the bucket; executors and schedulers may be killed, and a caller sees its own rows only.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod documented;

mod lost;

mod walls;

use std::process::Command;

use serde_json::{Value, json};
use support::bucket::Store;
use support::client;
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};
use tempfile::TempDir;

/// Requests that lie in the bucket, in as many files as there were batches of them.
const UPLOADED: u64 = 240;
const BATCHES: u64 = 4;
/// Requests that are in hot files only.
const HOT: u64 = 40;

/// Rows in a bucket and in hot files of a data folder that nobody writes to any more.
struct Rows {
    site: Site,
    store: Store,
    _folder: TempDir,
}

impl Rows {
    fn new(origin: &Origin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::start(folder.path());
        let seal = |interval_s: u64| json!({ "interval_s": interval_s, "rows_max": 100_000, "grace_ms": 0 });
        let site = Site::new(origin.addr)
            .set(&["collector", "seal"], seal(1))
            .set(&["collector", "compaction"], json!({ "enabled": false }))
            .set(
                &["analytics", "plans"],
                json!({ "standard": { "base_fee": "9", "price_per_thousand": "0.25" } }),
            )
            .set(&["object_store"], store.section());
        let house = site.run();
        for batch in 1..=BATCHES {
            traffic(&house, UPLOADED / BATCHES);
            house.rows(batch * UPLOADED / BATCHES);
            eventually("all rows to be in the bucket", || {
                let waits = house.number(
                    "SELECT count(*) AS n FROM system.files WHERE place = 'local' AND NOT (kind = 'hot' AND rows = 0)",
                );
                if waits == 0 { Ok(()) } else { Err(format!("{waits} files wait")) }
            });
        }
        assert!(house.terminate().success());
        // From here on nothing is sealed, and nothing ends well.
        let site = site.set(&["collector", "seal"], seal(3_600));
        let house = site.run();
        traffic(&house, HOT);
        house.rows(UPLOADED + HOT);
        house.kill9();
        Self { site, store, _folder: folder }
    }

    /// Analytics over them, with these settings more.
    fn analytics(self, settings: &[(&[&str], Value)]) -> (Self, Tollhouse) {
        let Self { site, store, _folder } = self;
        let site = settings.iter().fold(site, |site, (path, value)| site.set(path, value.clone()));
        let analytics = site.start("analytics");
        (Self { site, store, _folder }, analytics)
    }
}

/// Requests of every kind.
fn traffic(house: &Tollhouse, requests: u64) {
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    for number in 0..requests {
        let key = [ALICE_KEY, BOB_KEY][number as usize % 2];
        let reply = match number % 5 {
            0 => house.get("/open/echo", &[trace]),
            1 => house.get(&format!("/private/bytes/{}", number * 50), &[("apikey", key)]),
            2 => house.get("/private/bytes/100", &[]),
            3 => house.get("/open/status/500", &[("apikey", key)]),
            _ => house.get("/nowhere", &[]),
        };
        assert!(reply.status >= 200);
    }
}

/// A scheduler and executors.
struct Cluster {
    scheduler: Tollhouse,
    executors: Vec<(Site, Tollhouse)>,
    _site: Site,
}

impl Cluster {
    fn start(rows: &Rows, executors: usize, common: &Value) -> Self {
        let site = member(common, &[]);
        let scheduler = site.start("cluster scheduler");
        let mut cluster = Self { scheduler, executors: Vec::new(), _site: site };
        for _ in 0..executors {
            let executor = cluster.executor(rows, common);
            cluster.executors.push(executor);
        }
        cluster
    }

    fn executor(&self, rows: &Rows, common: &Value) -> (Site, Tollhouse) {
        let section = json!({ "scheduler": self.scheduler_addr(), "threads": 1 });
        let more = [(&["cluster", "executor"][..], section), (&["object_store"][..], rows.store.section())];
        let site = member(common, &more);
        let executor = site.start("cluster executor");
        (site, executor)
    }

    fn scheduler_addr(&self) -> String {
        self.scheduler.addr("scheduler").to_string()
    }

    /// What analytics need to use it.
    fn engine(&self) -> [(&'static [&'static str], Value); 3] {
        [
            (&["analytics", "engine"], json!("ballista")),
            (&["analytics", "ballista"], json!({ "scheduler": self.scheduler_addr(), "partitions": 4 })),
            // What small roll-ups answer would be answered where it is asked.
            (&["analytics", "rollup_cache_bytes_max"], json!(0)),
        ]
    }
}

/// A site of a part of a cluster.
fn member(common: &Value, more: &[(&[&str], Value)]) -> Site {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut cluster = common.clone();
    cluster["scheduler"] =
        json!({ "listen": "127.0.0.1:0", "executor_timeout_s": 6, "no_executors_timeout_s": 1 });
    let site = Site::new(nowhere).set(&["cluster"], cluster);
    more.iter().fold(site, |site, (path, value)| site.set(path, value.clone()))
}

/// The rows of a statement, and what ran it.
fn ask(house: &Tollhouse, statement: &str) -> Result<(Vec<Value>, String), String> {
    let headers = [("Content-Type", "text/plain"), ("Accept", "application/json")];
    let reply = client::exchange(house.addr("sql"), "POST", "/sql", &headers, statement.as_bytes()).unwrap();
    if reply.status != 200 {
        return Err(format!("{} {}", reply.status, reply.text()));
    }
    let rows = serde_json::from_slice(&reply.body).unwrap();
    let id = reply.header("x-tollhouse-query-id").unwrap();
    let engine = house.sql(&format!("SELECT engine FROM system.queries WHERE id = {id}")).remove(0);
    Ok((rows, engine["engine"].as_str().unwrap().to_owned()))
}

/// Asks as `tollhouse query` does, which waits as long as it takes.
fn patient(house: &Tollhouse, statement: &str) -> std::thread::JoinHandle<Result<Value, String>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command.args(["query", "--format", "json", "--url", &format!("http://{}", house.addr("sql")), statement]);
    std::thread::spawn(move || {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        match output.status.success() {
            true => Ok(serde_json::from_str(&said).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    })
}
