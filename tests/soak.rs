//! Load at the ceiling: as many requests as two cores bear, for five minutes in the long run. Each response has its
//! row, the books balance, and memory does not grow.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::origin::Origin;
use support::site::{Site, Tollhouse};
use support::{client, eventually, long, tool};

/// Requests of one run of the load generator: whole ones only, so that each has its response.
const BURST: u64 = 100_000;
const CONNECTIONS: u64 = 64;
/// What memory may differ between the middle and the last third of the run.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// Resident memory at one moment, in bytes: all of it, and what is the process's own rather than mapped files.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    all: u64,
    own: u64,
}

fn burst(house: &Tollhouse) {
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-t", "1", "-n", &BURST.to_string(), "-c", &CONNECTIONS.to_string()]);
    let said = tool::output(h2load.arg(format!("http://{}/open/bytes/100", house.gateway())));
    let whole = format!("{BURST} total, {BURST} started, {BURST} done, {BURST} succeeded, 0 failed");
    assert!(said.contains(&whole) && said.contains(&format!("status codes: {BURST} 2xx")), "{said}");
}

/// Looks at memory every second, and asks for what an installation asks for all the time: metrics and a query.
fn watch(house: &Tollhouse, stop: &AtomicBool) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::new();
    let (metrics, sql) = (house.addr("metrics"), house.addr("sql"));
    while !stop.load(Relaxed) {
        let sample = Sample {
            at: began.elapsed(),
            all: house.memory_bytes("VmRSS"),
            own: house.memory_bytes("RssAnon"),
        };
        samples.push(sample);
        assert_eq!(client::get(metrics, "/metrics", &[]).unwrap().status, 200);
        if samples.len() % 5 == 0 {
            let query = b"SELECT route, count(*), approx_percentile_cont(duration_us, 0.99) FROM requests GROUP BY route";
            let reply = client::exchange(sql, "POST", "/sql", &[], query).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    samples
}

#[test]
fn at_the_ceiling_every_response_has_its_row_and_memory_is_flat() {
    let length = Duration::from_secs(if long() { 300 } else { 10 });
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = Arc::new(site.run());
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (house, stop) = (Arc::clone(&house), Arc::clone(&stop));
        std::thread::spawn(move || watch(&house, &stop))
    };
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < length {
        burst(&house);
        sent += BURST;
    }
    let took = began.elapsed();
    stop.store(true, Relaxed);
    let samples = watcher.join().unwrap();
    println!("{sent} responses in {took:?}, {:.0}/s", sent as f64 / took.as_secs_f64());
    for sample in samples.iter().step_by(samples.len().div_ceil(30)) {
        println!(
            "{:>4} s: {:>4} MiB, own {:>4} MiB",
            sample.at.as_secs(),
            sample.all >> 20,
            sample.own >> 20
        );
    }

    let row = eventually("settled books", || {
        let rows = house.try_sql("SELECT produced, recovered, stored, dropped, in_flight, reasons FROM system.ledger WHERE sink = 'parquet'")?;
        match rows.as_slice() {
            [row] if row["in_flight"] == 0 && row["produced"] == sent => Ok(row.clone()),
            _ => Err(format!("{sent} sent: {rows:?}")),
        }
    });
    assert_eq!(
        (&row["stored"], &row["dropped"], &row["recovered"]),
        (&sent.into(), &0.into(), &0.into()),
        "{row}"
    );
    house.rows(sent);
    assert_eq!(house.number("SELECT count(DISTINCT request_id) AS n FROM requests"), sent);
    assert_eq!(house.metric("tollhouse_http_requests_total", &[]), sent as f64);

    if long() {
        let third = samples.len() / 3;
        let most = |samples: &[Sample], part: fn(&Sample) -> u64| samples.iter().map(part).max().unwrap();
        for (what, part) in
            [("all", (|sample| sample.all) as fn(&Sample) -> u64), ("own", |sample| sample.own)]
        {
            let (middle, last) = (most(&samples[third..2 * third], part), most(&samples[2 * third..], part));
            println!("most resident, {what}: {middle} bytes in the middle third, {last} in the last");
            assert!(last < middle + GROWTH_BYTES_MAX, "memory grows: {middle} bytes, then {last} ({what})");
        }
    }
}
