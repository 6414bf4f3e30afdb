//! Roll-ups as they should be, counted row by row, and as they are.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use event::distinct::{Distinct, hash};
use event::layout::{DataFolder, Manifest, RollupEntry, checksum};
use event::rollup::{Grouping, NAMES, OVERFLOW, Resolution};
use event::sketch::Sketch;
use event::{ABSENT_U16, ABSENT_U32, Draft, Outcome, Text, ip_bytes};

use super::{mix, read_file, table};

/// The beginning of an hour that is long over, 100 s before the end of a day.
pub const BEGIN_US: i64 = 1_700_006_300_000_000;

/// Traffic of odd kinds: names that are absent, answers that are none, times that go back, over several hours. The same
/// number and seed give the same request.
pub fn fill(draft: &mut Draft, number: u64, seed: u64) {
    let random = mix(number ^ seed << 40);
    let pick = |shift: u32, among: u64| (random >> shift) % among;
    let time_us = BEGIN_US + 2_000_000 * i64::try_from(number).unwrap()
        - i64::try_from(pick(1, 90)).unwrap() * 1_000_000;
    draft.reset(time_us);
    let head = &mut draft.head;
    head.client_ip = match pick(3, 20) {
        0 => [0; 16],
        _ => ip_bytes(std::net::IpAddr::from([10, seed as u8, pick(8, 3) as u8, pick(10, 200) as u8])),
    };
    head.request_bytes = pick(12, 5_000);
    head.response_bytes = pick(15, 100_000);
    head.status = [200, 200, 204, 301, 404, 429, 500, 503, 101, ABSENT_U16][pick(20, 10) as usize];
    head.outcome = match pick(24, 4) {
        0 => Outcome::ALL[pick(26, Outcome::ALL.len() as u64) as usize] as u8,
        _ => Outcome::Ok as u8,
    };
    head.duration_us = u32::try_from(pick(30, 1 << pick(33, 31))).unwrap();
    head.gateway_us = if pick(35, 4) == 0 { ABSENT_U32 } else { u32::try_from(pick(36, 90)).unwrap() };
    let name = |draft: &mut Draft, text: Text, shift: u32, among: u64, word: &str| {
        let chosen = pick(shift, among + 1);
        if chosen > 0 {
            draft.text(text, format!("{word}-{chosen}").as_bytes());
        }
    };
    // Of some stretches of traffic a name is always the same, or never there.
    if number % 900 >= 300 {
        name(draft, Text::Workspace, 40, 2, "workspace");
    }
    if number % 400 >= 200 {
        name(draft, Text::SourceService, 42, 3, "caller");
    }
    name(draft, Text::Service, 44, 2, "service");
    name(draft, Text::Route, 46, 3, "route");
    name(draft, Text::Consumer, 48, 5, "consumer");
}

/// What roll-ups there are of: how much time, and which names.
pub type Kind = (Resolution, Grouping);

/// By all names.
pub const MINUTES: Kind = (Resolution::Minute, Grouping::All);
/// By all names.
pub const HOURS: Kind = (Resolution::Hour, Grouping::All);

/// Each kind.
pub fn kinds() -> Vec<Kind> {
    Grouping::ALL.into_iter().flat_map(|grouping| Resolution::ALL.map(|one| (one, grouping))).collect()
}

/// When, which names, which class.
pub type Key = (i64, [Option<String>; 5], String);

/// What is known of a group.
#[derive(Debug, Default, Clone)]
pub struct Counted {
    pub requests: u64,
    pub errors: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration: Sketch,
    pub gateway: Sketch,
    pub clients: Distinct,
}

type Numbers = (u64, u64, u64, u64, Vec<u8>, Vec<u8>, Vec<u8>);

impl Counted {
    /// All of it, to be compared.
    pub fn numbers(&self) -> Numbers {
        let sketches = (self.duration.to_bytes(), self.gateway.to_bytes(), self.clients.to_bytes());
        let Self { requests, errors, request_bytes, response_bytes, .. } = self;
        (*requests, *errors, *request_bytes, *response_bytes, sketches.0, sketches.1, sketches.2)
    }
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch[name].as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

/// The groups of the rows that the manifest names, and the clients of all of them by the group.
pub fn counted(folder: &DataFolder, (resolution, grouping): Kind) -> BTreeMap<Key, Counted> {
    let mut groups: BTreeMap<Key, Counted> = BTreeMap::new();
    let mut clients: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
    for batch in table(folder) {
        let number = |name: &str, row: usize| batch[name].as_primitive::<UInt64Type>().value(row);
        for row in 0..batch.num_rows() {
            let time_us = batch["time"].as_primitive::<TimestampMicrosecondType>().value(row);
            let status = batch["status"].as_primitive::<UInt16Type>();
            let status = status.is_valid(row).then(|| status.value(row));
            let class = match status {
                _ if !grouping.keeps_class() => "any".to_owned(),
                Some(status @ 100..600) => format!("{}xx", status / 100),
                _ => "none".to_owned(),
            };
            let begin_us = time_us.div_euclid(resolution.bucket_us()) * resolution.bucket_us();
            let mut names = NAMES.map(|name| text(&batch, name, row));
            names
                .iter_mut()
                .zip(grouping.keeps())
                .filter(|(_, keeps)| !keeps)
                .for_each(|(name, _)| *name = None);
            let key = (begin_us, names, class);
            let group = groups.entry(key.clone()).or_default();
            let outcome = text(&batch, "outcome", row).unwrap();
            group.requests += 1;
            group.errors += u64::from(
                status.is_some_and(|status| status >= 500)
                    || ["circuit_open", "no_healthy_upstream", "connect_failed", "upstream_reset"]
                        .contains(&outcome.as_str())
                    || ["upstream_timeout", "gateway_error", "overloaded"].contains(&outcome.as_str()),
            );
            group.request_bytes += number("request_bytes", row);
            group.response_bytes += number("response_bytes", row);
            group.duration.add(batch["duration_us"].as_primitive::<UInt32Type>().value(row).into());
            let gateway = batch["gateway_us"].as_primitive::<UInt32Type>();
            if gateway.is_valid(row) {
                group.gateway.add(gateway.value(row).into());
            }
            if let Some(client) = text(&batch, "client_ip", row) {
                group.clients.add(hash(client.as_bytes()));
                clients.entry(key).or_default().insert(client);
            }
        }
    }
    for (key, group) in &groups {
        let (exact, found) =
            (clients.get(key).map_or(0, BTreeSet::len) as f64, group.clients.estimate() as f64);
        // Three standard errors; five where groups are of more clients.
        let errors = if grouping.keeps_class() { 0.05 } else { 0.08 };
        assert!((found - exact).abs() <= 1.0 + exact * errors, "{key:?}: {found} clients, not {exact}");
    }
    groups
}

/// The groups of the roll-ups that the manifest names, each file checked against its entry.
pub fn rolled(folder: &DataFolder, (resolution, grouping): Kind) -> BTreeMap<Key, Counted> {
    let mut groups: BTreeMap<Key, Counted> = BTreeMap::new();
    let manifest = Manifest::load(folder).unwrap();
    let is_of_kind = |entry: &&RollupEntry| entry.resolution == resolution && entry.grouping == grouping;
    for entry in manifest.rollups.iter().filter(is_of_kind) {
        let path = folder.root().join(&entry.file.path);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len() as u64, &checksum(&bytes)), (entry.file.bytes, &entry.file.checksum));
        let (mut keys, mut requests) = (Vec::new(), 0);
        for batch in read_file(&path) {
            let number = |name: &str, row: usize| batch[name].as_primitive::<UInt64Type>().value(row);
            let bytes = |name: &str, row: usize| batch[name].as_binary::<i32>().value(row).to_vec();
            for row in 0..batch.num_rows() {
                let time_us = batch["time"].as_primitive::<TimestampMicrosecondType>().value(row);
                let class = text(&batch, "status_class", row).unwrap();
                let key = (time_us, NAMES.map(|name| text(&batch, name, row)), class);
                let group = groups.entry(key.clone()).or_default();
                group.requests += number("requests", row);
                group.errors += number("errors", row);
                group.request_bytes += number("request_bytes", row);
                group.response_bytes += number("response_bytes", row);
                group.duration.merge_bytes(&bytes("duration_sketch", row)).unwrap();
                group.gateway.merge_bytes(&bytes("gateway_sketch", row)).unwrap();
                group.clients.merge_bytes(&bytes("clients_sketch", row)).unwrap();
                requests += number("requests", row);
                keys.push(key);
            }
        }
        assert!(
            keys.windows(2).all(|two| two[0].0 <= two[1].0),
            "{} is not in order of time",
            entry.file.path
        );
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "each key once in a file");
        assert_eq!((keys.len() as u64, requests), (entry.file.rows, entry.requests));
        let times = (keys.first().map(|key| key.0), keys.last().map(|key| key.0));
        assert_eq!(times, (Some(entry.file.time_min_us), Some(entry.file.time_max_us)));
        let partition = |time_us: i64| time_us.div_euclid(resolution.file_us());
        assert_eq!(partition(entry.file.time_min_us), partition(entry.file.time_max_us));
    }
    groups
}

/// Asserts that the roll-ups count exactly the rows that the manifest names; gives the number of their groups.
pub fn assert_equal(folder: &DataFolder) -> usize {
    let each = kinds().into_iter().map(|kind| {
        let (counted, rolled) = (counted(folder, kind), rolled(folder, kind));
        assert_same(&counted, &rolled);
        counted.len()
    });
    each.sum()
}

/// Asserts that two say the same.
pub fn assert_same(left: &BTreeMap<Key, Counted>, right: &BTreeMap<Key, Counted>) {
    let keys: (Vec<&Key>, Vec<&Key>) = (left.keys().collect(), right.keys().collect());
    assert_eq!(keys.0, keys.1);
    for (key, group) in left {
        assert_eq!(group.numbers(), right[key].numbers(), "{key:?}");
    }
}

/// All of it without the names.
pub fn total(groups: &BTreeMap<Key, Counted>) -> Counted {
    let mut total = Counted::default();
    for group in groups.values() {
        total.requests += group.requests;
        total.errors += group.errors;
        total.request_bytes += group.request_bytes;
        total.response_bytes += group.response_bytes;
        total.duration.merge(&group.duration);
        total.gateway.merge(&group.gateway);
        total.clients.merge(&group.clients);
    }
    total
}

/// Whether a key is of names that were too many.
pub fn is_overflow(key: &Key) -> bool {
    key.1.iter().all(|name| name.as_deref() == Some(OVERFLOW))
}
