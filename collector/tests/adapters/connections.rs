//! Client connections on the page, as the gateway left them in the data folder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use collector::adapters::{Adapters, OtlpConfig};
use event::connections::ConnectionStates;
use event::layout::DataFolder;

use crate::exposition::read;
use crate::support::{OPEN_METRICS, START_US, metrics_config, scrape};

#[test]
fn connections_are_counted_by_reason_until_the_gateway_is_silent() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (otlp, ledger) = (OtlpConfig::default(), Arc::new(Mutex::new(Vec::new())));
    let (mut adapters, page) = Adapters::start(&metrics_config(), &otlp, ledger, &folder, START_US).unwrap();
    assert!(
        !scrape(&mut adapters, page, OPEN_METRICS).contains("tollhouse_connections"),
        "nobody has said anything"
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let ended = BTreeMap::from([("connections_max".to_owned(), 3), ("h2_resets_max".to_owned(), 2)]);
    let mut states = ConnectionStates {
        at_us: now.as_micros() as i64,
        interval_us: 1_000_000,
        open: 4,
        accepted: 20,
        overloaded: 7,
        ended,
        ..ConnectionStates::default()
    };
    states.store(&folder).unwrap();
    let samples = read(&scrape(&mut adapters, page, OPEN_METRICS), true);
    assert_eq!(samples.value("tollhouse_connections_open", &[]), 4.0);
    assert_eq!(samples.value("tollhouse_connections_accepted_total", &[]), 20.0);
    assert_eq!(samples.value("tollhouse_connections_ended_total", &[("reason", "h2_resets_max")]), 2.0);
    assert_eq!(samples.value("tollhouse_requests_overloaded_total", &[]), 7.0);
    states.at_us -= 3_600_000_000;
    states.store(&folder).unwrap();
    assert!(!scrape(&mut adapters, page, OPEN_METRICS).contains("tollhouse_connections"), "of an hour ago");
}
