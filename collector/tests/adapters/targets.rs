//! The addresses of upstreams on the page, as the gateway left them in the data folder.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use collector::adapters::{Adapters, MetricsConfig, OtlpConfig};
use event::layout::DataFolder;
use event::upstreams::{CheckCounts, CircuitState, TargetCondition, TargetState, UpstreamStates};

use crate::exposition::read;
use crate::support::{OPEN_METRICS, START_US, get, metrics_config, scrape};

fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64
}

fn address(number: u64, state: TargetCondition) -> TargetState {
    TargetState {
        upstream: Some("pool \"a\"".into()),
        target: "pool.test:80".into(),
        address: Some(format!("10.0.0.{number}:80")),
        state,
        weight: 100,
        requests: 10 * number,
        failures: number,
        ejections: 2,
        connections: 3,
        checks: CheckCounts { success: 7, failure: number, ignored: 0 },
        ..TargetState::default()
    }
}

#[test]
fn each_address_is_a_series_and_no_more_than_allowed() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let config = MetricsConfig { series_max: 4, ..metrics_config() };
    let (otlp, ledger) = (OtlpConfig::default(), Arc::new(Mutex::new(Vec::new())));
    let (mut adapters, page) = Adapters::start(&config, &otlp, ledger, &folder, START_US).unwrap();
    let none = scrape(&mut adapters, page, OPEN_METRICS);
    assert!(!none.contains("tollhouse_upstream_target"), "no gateway has said anything");

    let plain = TargetState {
        service: Some("s".into()),
        target: "s.test:80".into(),
        state: TargetCondition::DnsPending,
        ..TargetState::default()
    };
    let mut targets = vec![
        address(1, TargetCondition::Healthy),
        address(2, TargetCondition::Ejected),
        // The same label set twice is one series.
        address(2, TargetCondition::Healthy),
        address(3, TargetCondition::Unchecked),
        plain,
    ];
    targets.extend((4..7).map(|number| address(number, TargetCondition::Unhealthy)));
    let circuits = vec![CircuitState {
        upstream: "pool".into(),
        resource: "max_requests".into(),
        used: 3,
        most: 4,
        overflows: 5,
    }];
    let mut states = UpstreamStates {
        at_us: now_us(),
        interval_us: 1_000_000,
        node: "n".into(),
        targets,
        omitted: 5,
        circuits,
    };
    states.store(&folder).unwrap();
    for (accept, open_metrics) in [(OPEN_METRICS, true), ("*/*", false)] {
        let samples = read(&scrape(&mut adapters, page, accept), open_metrics);
        let of = |name: &str, address| samples.value(name, &[("address", address), ("service", "")]);
        assert_eq!(of("tollhouse_upstream_target_healthy", "10.0.0.1:80"), 1.0);
        assert_eq!(of("tollhouse_upstream_target_healthy", "10.0.0.2:80"), 0.0);
        assert_eq!(of("tollhouse_upstream_target_healthy", "10.0.0.3:80"), 1.0);
        assert_eq!(samples.value("tollhouse_upstream_target_healthy", &[("service", "s")]), 0.0);
        assert_eq!(of("tollhouse_upstream_target_ejected", "10.0.0.2:80"), 1.0);
        assert_eq!(of("tollhouse_upstream_target_requests_total", "10.0.0.2:80"), 40.0);
        assert_eq!(of("tollhouse_upstream_target_failures_total", "10.0.0.1:80"), 1.0);
        assert_eq!(of("tollhouse_upstream_target_ejections_total", "10.0.0.3:80"), 2.0);
        let bad = [("address", "10.0.0.3:80"), ("result", "failure")];
        assert_eq!(samples.value("tollhouse_upstream_target_checks_total", &bad), 3.0);
        assert_eq!(samples.of("tollhouse_upstream_target_healthy").count(), 4);
        for (name, value) in [("used", 3.0), ("limit", 4.0), ("overflows_total", 5.0)] {
            let labels = [("upstream", "pool"), ("resource", "max_requests")];
            assert_eq!(samples.value(&format!("tollhouse_upstream_circuit_{name}"), &labels), value);
        }
        assert_eq!(samples.value("tollhouse_upstream_targets_omitted", &[]), 8.0, "5 there and 3 here");
    }

    states.at_us -= 3_600_000_000;
    states.store(&folder).unwrap();
    let old = scrape(&mut adapters, page, OPEN_METRICS);
    assert!(!old.contains("tollhouse_upstream_target"), "what was so an hour ago is not said to be so");
    std::fs::write(UpstreamStates::path(&folder), "no picture").unwrap();
    assert_eq!(get(page, "/metrics", "*/*").status, 200, "the rest of the page is there");
}
