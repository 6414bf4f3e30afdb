//! Promise 2: a collector that is absent, stopped or dead changes no request. While the spool has room nothing is
//! dropped; then every drop is counted by reason, and the ledger balances.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use support::load::{Load, assert_exact, stored};
use support::origin::Origin;
use support::site::Site;
use support::{eventually, long};

/// A gateway that waited for its collector would wait for seconds. Noise of a busy machine stays below this.
fn bound(usual: Duration) -> Duration {
    usual * 3 + Duration::from_millis(25)
}

#[test]
fn absent_stopped_and_killed_collectors_cost_no_request_no_row_and_no_time() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let proxy = site.start("proxy");
    let load = Load::start(proxy.gateway(), "/open/echo", 4);
    let mut phases = Vec::new();
    let mut phase = |name: &'static str| {
        let began = Instant::now();
        load.wait(3000);
        phases.push((name, began, Instant::now()));
    };
    phase("absent");
    let collector = site.start("collector");
    phase("at work");
    collector.signal(libc::SIGSTOP);
    phase("stopped");
    collector.signal(libc::SIGCONT);
    phase("catching up");
    collector.kill9();
    phase("killed");
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    let times: Vec<_> = phases.iter().map(|(name, from, until)| (*name, ledger.p99(*from, *until))).collect();
    println!("p99 by what the collector is: {times:?}");
    let usual = times[1].1;
    let slow: Vec<_> = times.iter().filter(|(_, p99)| *p99 > bound(usual)).collect();
    assert!(slow.is_empty(), "{usual:?} with a collector at work, but {slow:?}");
    let received: Vec<_> = ledger.received.into_iter().map(|(id, _)| id).collect();

    let _collector = site.start("collector");
    let analytics = site.start("analytics");
    analytics.rows(received.len() as u64);
    assert_exact(&stored(&analytics), received.iter().map(String::as_str));
}

/// A stop of any length, which the spool has room for, is made up for afterwards.
#[test]
fn a_collector_that_is_stopped_for_long_costs_no_request_no_row_and_no_time() {
    let stopped_for = Duration::from_secs(if long() { 300 } else { 6 });
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let (proxy, collector) = (site.start("proxy"), site.start("collector"));
    let analytics = site.start("analytics");
    // Some hundred requests a second: what is stopped is the collector, not the client.
    let load = Load::start_paced(proxy.gateway(), "/open/echo", 4, Duration::from_millis(4));
    load.wait(500);
    let began = Instant::now();
    load.wait(1500);
    collector.signal(libc::SIGSTOP);
    let stopped = Instant::now();
    let before = analytics.number("SELECT count(*) AS n FROM requests");
    while stopped.elapsed() < stopped_for {
        load.wait(500);
    }
    let waiting = load.done() - before;
    let went_on = Instant::now();
    collector.signal(libc::SIGCONT);
    load.wait(1500);
    let over = Instant::now();
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    let [usual, meanwhile, after] =
        [(began, stopped), (stopped, went_on), (went_on, over)].map(|(from, until)| ledger.p99(from, until));
    println!("p99 {usual:?}, {meanwhile:?} while it was stopped for {stopped_for:?}, {after:?} after it");
    assert!(meanwhile.max(after) < bound(usual), "{usual:?}, then {meanwhile:?}, then {after:?}");

    let received: Vec<_> = ledger.received.iter().map(|(id, _)| id.as_str()).collect();
    analytics.rows(received.len() as u64);
    println!("{waiting} rows came late, all within {:?}", went_on.elapsed());
    assert_exact(&stored(&analytics), received);
    let books = eventually("settled books", || {
        let rows = analytics.try_sql(
            "SELECT produced, stored, dropped, in_flight FROM system.ledger WHERE sink = 'parquet'",
        )?;
        let settled = rows.iter().find(|row| row["stored"] == ledger.received.len() && row["in_flight"] == 0);
        settled.cloned().ok_or_else(|| format!("{rows:?}"))
    });
    assert_eq!(
        (&books["produced"], &books["dropped"]),
        (&ledger.received.len().into(), &0.into()),
        "{books}"
    );
}

#[test]
fn a_full_spool_drops_by_reason_and_the_ledger_balances() {
    let origin = Origin::start();
    let site = Site::new(origin.addr)
        .set(&["spool", "segment_bytes"], (1 << 20).into())
        .set(&["spool", "bytes_max"], (8 << 20).into());
    let proxy = site.start("proxy");
    let load = Load::start(proxy.gateway(), "/open/echo", 8);
    // A record takes some hundred bytes: this is several times what the spool holds.
    for _ in 0..6 {
        load.wait(10_000);
    }
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new(), "a full spool touches no request");
    let sent = ledger.received.len() as u64;

    let _collector = site.start("collector");
    let analytics = site.start("analytics");
    let balance = "SELECT produced, recovered, stored, dropped, in_flight, reasons FROM system.ledger \
         WHERE sink = 'parquet'";
    let row = eventually("the ledger with all events settled", || {
        let rows = analytics.try_sql(balance)?;
        let settled = rows.iter().find(|row| row["produced"] == sent && row["in_flight"] == 0);
        settled.cloned().ok_or_else(|| format!("{sent} sent, {rows:?}"))
    });
    let field = |name: &str| row[name].as_u64().unwrap();
    assert!(field("dropped") > 0, "the spool never filled: {row}");
    assert_eq!(
        field("produced") + field("recovered"),
        field("stored") + field("dropped") + field("in_flight"),
        "{row}"
    );
    assert!(row["reasons"].to_string().contains("spool_full"), "{row}");
    assert_eq!(analytics.number("SELECT count(*) AS n FROM requests"), field("stored"));
    let stored = stored(&analytics);
    assert_exact(&stored, []);
    let received: HashSet<_> = ledger.received.iter().map(|(id, _)| id.as_str()).collect();
    let strange: Vec<_> = stored.keys().filter(|id| !received.contains(id.as_str())).take(5).collect();
    assert!(strange.is_empty(), "rows that no client has seen: {strange:?}");
}
