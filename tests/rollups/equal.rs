//! Questions that are answered from roll-ups have the answers that rows give: thousands of random ones, over rows that are
//! sealed, hot, deleted by age, or without roll-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use analytics::{AnalyticsConfig, Running};
use collector::CollectorConfig;
use event::layout::{DataFolder, Manifest, RollupEntry};
use event::rollup::{Grouping, Resolution};
use event::spool::{Spool, SpoolConfig};
use event::{Draft, Outcome, Text, ip_bytes};
use serde_json::Value;

use super::support::client::Connection;

const HOUR_US: i64 = 3_600_000_000;
const HOURS: i64 = 5;
/// 2026-11-01T21:00:00Z: three hours of a day and two of the next.
const BEGIN_US: i64 = 1_793_566_800_000_000;

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 16) % bound
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    fn some<'a, T>(&mut self, all: &'a [T], most: u64) -> Vec<&'a T> {
        let count = self.below(most + 1);
        (0..count).map(|_| self.of(all)).collect()
    }
}

fn request(chance: &mut Chance, draft: &mut Draft, time_us: i64) {
    draft.reset(time_us);
    let head = &mut draft.head;
    let magnitude = 1 << chance.below(20);
    head.duration_us = 100 + chance.below(magnitude) as u32;
    if chance.below(3) > 0 {
        head.gateway_us = chance.below(400) as u32;
    }
    if chance.below(20) > 0 {
        head.status = *chance.of(&[200, 200, 204, 301, 404, 429, 500, 503]);
    }
    let outcome = if chance.below(4) == 0 { *chance.of(Outcome::ALL.as_ref()) } else { Outcome::Ok };
    head.outcome = outcome as u8;
    head.request_bytes = chance.below(1_000);
    head.response_bytes = chance.below(100_000);
    head.client_ip = ip_bytes(std::net::Ipv4Addr::new(10, 0, 0, chance.below(40) as u8).into());
    for (text, words) in [
        (Text::Workspace, &["red", "blue"][..]),
        (Text::Service, &["shop", "mail", "stock"]),
        (Text::Route, &["list", "item"]),
        (Text::Consumer, &["alice", "bob", "carol", "dave"]),
        (Text::SourceService, &["web"]),
    ] {
        if chance.below(5) > 0 {
            draft.text(text, chance.of(words).as_bytes());
        }
    }
}

/// Records requests of some hours and has the collector seal them.
fn seal(folder: &DataFolder, chance: &mut Chance, begin_us: i64, hours: i64, count: u64) {
    let (spool, mut writers) = Spool::open(&SpoolConfig::default(), &folder.spool(), "node", 1).unwrap();
    let mut draft = Draft::new();
    for _ in 0..count {
        let time_us = begin_us + chance.below((HOUR_US * hours) as u64) as i64;
        request(chance, &mut draft, time_us);
        writers[0].append(&draft).unwrap();
    }
    drop(writers);
    spool.close();
    let mut config = CollectorConfig::default();
    config.metrics.listen = ([127, 0, 0, 1], 0).into();
    config.compaction.files_min = 1_000;
    let running = collector::start(collector::validate(&config).unwrap(), folder).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(running.shutdown());
    assert!(report.drained && report.hot_left == 0, "{report:?}");
}

/// A data folder in which hours are told apart in every way there is.
fn house(root: &Path) -> DataFolder {
    let folder = DataFolder::open(root).unwrap();
    let mut chance = Chance(17);
    for _ in 0..3 {
        seal(&folder, &mut chance, BEGIN_US, HOURS, 700);
    }
    let mut manifest = Manifest::load(&folder).unwrap();
    let hour = |us: i64| (us - BEGIN_US).div_euclid(HOUR_US);
    // Of the first hour the rows are gone, of the third a part of them, of the fourth a roll-up.
    let third = manifest.files.iter().position(|file| hour(file.time_min_us) == 2).unwrap();
    manifest.files.remove(third);
    manifest.files.retain(|file| hour(file.time_min_us) != 0);
    let fourth = manifest
        .rollups
        .iter()
        .position(|entry| entry.resolution == Resolution::Minute && hour(entry.file.time_min_us) == 3);
    manifest.rollups.remove(fourth.unwrap());
    // And of the second and the fifth one by fewer names.
    for (far, grouping) in [(1, Grouping::Services), (1, Grouping::Workspaces), (4, Grouping::Consumers)] {
        let is_it = |entry: &RollupEntry| entry.grouping == grouping && hour(entry.file.time_min_us) == far;
        let place = manifest.rollups.iter().position(is_it);
        manifest.rollups.remove(place.unwrap());
    }
    manifest.store(&folder).unwrap();
    // What is hot is of an hour that roll-ups are whole for.
    let hot = tempfile::tempdir().unwrap();
    let other = DataFolder::open(hot.path()).unwrap();
    seal(&other, &mut chance, BEGIN_US + HOUR_US, 1, 50);
    let sealed = &Manifest::load(&other).unwrap().files[0];
    let file = std::fs::File::open(other.root().join(&sealed.path)).unwrap();
    let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let mut writer = event::hot::HotWriter::create(&folder, manifest.sealed_through + 1).unwrap();
    for batch in rows {
        let batch = batch.unwrap();
        let schema = event::columns::schema();
        let columns = schema.fields().iter().map(|field| {
            arrow::compute::cast(batch.column_by_name(field.name()).unwrap(), field.data_type()).unwrap()
        });
        let batch = arrow::array::RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
        writer.append(&batch, &BTreeMap::default()).unwrap();
    }
    writer.sync().unwrap();
    folder
}

fn serve(folder: &DataFolder, use_rollups: bool) -> Running {
    serve_sharing(folder, use_rollups, AnalyticsConfig::default().parallel_rows_min)
}

/// Two threads share what has so many rows and groups.
fn serve_sharing(folder: &DataFolder, use_rollups: bool, parallel_rows_min: u32) -> Running {
    let mut config =
        AnalyticsConfig { listen: "127.0.0.1:0".into(), threads: 2, parallel_rows_min, ..Default::default() };
    (config.use_rollups, config.rollup_group_requests_min) = (use_rollups, 0);
    (config.postgres.listen, config.flight.listen) = (None, None);
    analytics::start(analytics::validate(&config).unwrap(), folder).unwrap()
}

fn ask(addr: SocketAddr, sql: &str) -> Vec<Value> {
    let reply = Connection::open(addr).unwrap().exchange("POST", "/sql", &[], sql.as_bytes()).unwrap();
    let text = String::from_utf8(reply.body.clone()).unwrap();
    assert_eq!(reply.status, 200, "{sql}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Rows in an order that does not depend on how they were found.
fn sorted(mut rows: Vec<Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.drain(..).map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

const KEYS: [&str; 16] = [
    "workspace",
    "service",
    "route",
    "consumer",
    "source_service",
    "coalesce(consumer, 'anonymous')",
    "upper(service) || '/' || coalesce(route, '')",
    "date_bin(INTERVAL '1 minute', time)",
    "date_bin(INTERVAL '5 minutes', time)",
    "date_bin(INTERVAL '1 hour', time)",
    "date_bin(INTERVAL '1 hour', time, TIMESTAMP '2020-01-01T00:07:00')",
    "date_trunc('minute', time)",
    "date_trunc('hour', time)",
    "extract(hour FROM time)",
    "floor(extract(epoch FROM time) / 300) * 300",
    "date_trunc('day', time)",
];
const SUMS: [&str; 9] = [
    "count(*)",
    "count(*) FILTER (WHERE {failed})",
    "sum(request_bytes)",
    "sum(response_bytes)",
    "latency_percentile(duration_us, 0.5)",
    "latency_percentile(duration_us, 0.99)",
    "latency_percentile(gateway_us, 0.9)",
    "sketch_percentile(latency_sketch(duration_us), 0.95)",
    "distinct_count(distinct_sketch(client_ip))",
];
const CONDITIONS: [&str; 6] = [
    "service = 'shop'",
    "consumer IN ('alice', 'bob')",
    "route IS NULL",
    "workspace <> 'red'",
    "consumer LIKE '%a%'",
    "(service = 'mail' OR consumer IS NULL)",
];

fn at(us: i64) -> String {
    format!("to_timestamp_micros({us})")
}

fn question(chance: &mut Chance) -> String {
    let failed = "status >= 500 OR outcome IN ('circuit_open', 'no_healthy_upstream', 'connect_failed', \
                  'upstream_reset', 'upstream_timeout', 'gateway_error', 'overloaded')";
    let keys = chance.some(&KEYS, 3);
    let keys: BTreeSet<_> = keys.into_iter().collect();
    let mut shown: Vec<String> = (0..).zip(&keys).map(|(n, key)| format!("{key} AS k{n}")).collect();
    let mut sums = chance.some(&SUMS, 4);
    sums.push(&"count(*)");
    shown.extend((0..).zip(&sums).map(|(n, sum)| format!("{} AS s{n}", sum.replace("{failed}", failed))));
    let mut conditions: Vec<String> =
        chance.some(&CONDITIONS, 2).into_iter().map(|one| (*one).to_owned()).collect();
    let time = |chance: &mut Chance| {
        let us = BEGIN_US - HOUR_US + chance.below((HOUR_US * (HOURS + 2)) as u64) as i64;
        let step = *chance.of(&[1, 60_000_000, HOUR_US]);
        at(us.div_euclid(step) * step)
    };
    match chance.below(6) {
        0 => conditions.push(format!("time >= {}", time(chance))),
        1 => conditions.push(format!("time < {}", time(chance))),
        2 => conditions.push(format!("time BETWEEN {} AND {}", time(chance), time(chance))),
        3 => conditions.push(format!("time > {} AND time <= {}", time(chance), time(chance))),
        4 => conditions.push(format!("{} < time", time(chance))),
        _ => {}
    }
    let from = match chance.below(3) {
        0 => "requests",
        1 => "(SELECT * FROM requests WHERE route IS DISTINCT FROM 'nothing') q",
        _ => "requests r",
    };
    let mut sql = format!("SELECT {} FROM {from}", shown.join(", "));
    if !conditions.is_empty() {
        sql += &format!(" WHERE {}", conditions.join(" AND "));
    }
    if !keys.is_empty() {
        let places: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
        sql += &format!(" GROUP BY {}", places.join(", "));
    }
    sql
}

#[test]
fn an_answer_from_roll_ups_is_the_one_from_rows() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let (rolled, raw) = (serve(&folder, true), serve(&folder, false));
    let shared = serve_sharing(&folder, true, 0);
    let mut chance = Chance(4);
    let (mut by_hour, mut by_minute, mut fewer) = (0, 0, 0);
    for _ in 0..600 {
        let sql = question(&mut chance);
        let answer = sorted(ask(rolled.addr, &sql));
        assert_eq!(answer, sorted(ask(raw.addr, &sql)), "{sql}");
        assert_eq!(answer, sorted(ask(shared.addr, &sql)), "by several threads: {sql}");
        let plan = ask(rolled.addr, &format!("EXPLAIN {sql}"))[0]["plan"].to_string();
        by_hour += u32::from(plan.contains("rollups_1h"));
        by_minute += u32::from(plan.contains("rollups_1m"));
        fewer += u32::from(["_services", "_consumers", "_workspaces"].iter().any(|by| plan.contains(by)));
        let plan = ask(raw.addr, &format!("EXPLAIN {sql}"))[0]["plan"].to_string();
        assert!(!plan.contains("rollups_"), "{plan}");
    }
    println!(
        "of 600 questions {by_hour} used groups of an hour, {by_minute} of a minute, {fewer} by fewer names"
    );
    assert!(by_minute > 300 && by_hour > 30 && fewer > 100, "{by_minute} {by_hour} {fewer}");
    for view in ["consumers", "services", "routes"] {
        let sql = format!("SELECT * FROM {view}");
        assert_eq!(sorted(ask(rolled.addr, &sql)), sorted(ask(raw.addr, &sql)), "{sql}");
        let plan = ask(rolled.addr, &format!("EXPLAIN {sql}"))[0]["plan"].to_string();
        assert!(plan.contains("rollups_1m"), "{view}: {plan}");
    }
}

/// What groups do not know is read from rows.
#[test]
fn what_only_rows_know_is_asked_of_rows() {
    let root = tempfile::tempdir().unwrap();
    let rolled = serve(&house(root.path()), true);
    for sql in [
        "SELECT status, count(*) FROM requests GROUP BY 1",
        "SELECT count(*) FROM requests WHERE status = 200",
        "SELECT count(status) FROM requests",
        "SELECT count(DISTINCT path) FROM requests",
        "SELECT count(*) FILTER (WHERE status >= 500) FROM requests",
        "SELECT count(*) FILTER (WHERE status >= 500 OR outcome IN ('overloaded')) FROM requests",
        "SELECT avg(duration_us) FROM requests",
        "SELECT sum(duration_us) FROM requests",
        "SELECT max(time) FROM requests",
        "SELECT latency_percentile(upstream_us, 0.5) FROM requests",
        "SELECT latency_percentile(duration_us + 1, 0.5) FROM requests",
        "SELECT date_bin(INTERVAL '30 seconds', time), count(*) FROM requests GROUP BY 1",
        "SELECT date_bin(INTERVAL '90 seconds', time), count(*) FROM requests GROUP BY 1",
        "SELECT date_bin(INTERVAL '1 minute', time, TIMESTAMP '2020-01-01T00:00:30'), count(*) FROM requests GROUP BY 1",
        "SELECT date_trunc('second', time), count(*) FROM requests GROUP BY 1",
        "SELECT floor(extract(epoch FROM time) / 30) * 30, count(*) FROM requests GROUP BY 1",
        "SELECT extract(second FROM time), count(*) FROM requests GROUP BY 1",
        "SELECT service, random() < 2 AS r, count(*) FROM requests GROUP BY 1, 2",
        "SELECT count(*) FROM (SELECT * FROM requests LIMIT 10)",
        "SELECT count(*) FROM (SELECT DISTINCT service, path FROM requests)",
        "SELECT service, count(*) FROM requests GROUP BY ROLLUP (service)",
        "SELECT array_agg(service) FROM requests",
    ] {
        let plan = ask(rolled.addr, &format!("EXPLAIN {sql}"))[0]["plan"].to_string();
        assert!(!plan.contains("rollups_"), "{sql}: {plan}");
        ask(rolled.addr, sql);
    }
}
