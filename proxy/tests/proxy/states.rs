//! What the gateway says of its upstreams' addresses, and that it agrees with what happened.

use crate::support::*;
use event::layout::DataFolder;
use event::upstreams::{TargetCondition, TargetState, UpstreamStates};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A gateway that shows its upstreams, and where.
pub struct Shown {
    pub gateway: Gateway,
    folder: DataFolder,
    _root: tempfile::TempDir,
}

impl Shown {
    pub fn start(entities: Value, mut config: Value) -> Self {
        config["timeouts"] = json!({"sweep_interval_ms": 10});
        config["upstream_states"]["interval_ms"] = json!(20);
        let mut gateway = Gateway::start(entities, config);
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        gateway.running.as_mut().unwrap().show_upstreams(&folder, "node-1").unwrap();
        Self { gateway, folder, _root: root }
    }

    /// The picture once something holds of it.
    pub async fn once(&self, what: &str, holds: impl Fn(&UpstreamStates) -> bool) -> UpstreamStates {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states = UpstreamStates::load(&self.folder).unwrap();
            if states.at_us > 0 && holds(&states) {
                return states;
            }
            assert!(Instant::now() < deadline, "never {what}: {states:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn status(&self) -> u16 {
        self.gateway.talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await[9..12]
            .parse()
            .unwrap()
    }
}

/// The row of an address.
pub fn of(states: &UpstreamStates, addr: SocketAddr) -> &TargetState {
    let text = addr.to_string();
    states.targets.iter().find(|row| row.address.as_ref() == Some(&text)).expect("a row of it")
}

fn service(name: &str, host: &str, path: &str) -> Value {
    json!({"name": name, "host": host, "retries": 0, "routes": [{"paths": [path]}]})
}

/// Answers each request with a status, and keeps the connection.
pub async fn always(status: u16) -> SocketAddr {
    always_after(status, Duration::ZERO).await
}

/// The same, not at once.
pub async fn always_after(status: u16, patience: Duration) -> SocketAddr {
    origin(move |_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            if got.ends_with(b"\r\n\r\n") {
                got.clear();
                if !patience.is_zero() {
                    tokio::time::sleep(patience).await;
                }
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[test]
fn requests_failures_and_reasons_are_those_that_happened() {
    run(async {
        let (good, bad) = (always(200).await, always(503).await);
        let refusing = free_addr();
        let targets: Vec<_> =
            [good, bad, refusing].iter().map(|addr| json!({"target": addr.to_string()})).collect();
        let checks = json!({"passive": {"unhealthy": {"http_failures": 2}}});
        let upstreams = json!([{"name": "group", "targets": targets, "healthchecks": checks}]);
        let shown = Shown::start(
            json!({"services": [service("s", "group", "/")], "upstreams": upstreams}),
            json!({}),
        );
        let first = shown.once("the first picture", |states| states.targets.len() == 3).await;
        assert_eq!((first.node.as_str(), first.interval_us, first.omitted), ("node-1", 20_000, 0));
        assert!(first.targets.iter().all(|row| row.state == TargetCondition::Healthy && row.requests == 0));
        for _ in 0..12 {
            shown.status().await;
        }
        let all = |states: &UpstreamStates| states.targets.iter().map(|row| row.requests).sum::<u64>() == 12;
        let states = shown.once("all requests", all).await;
        let (good, bad, refusing) = (of(&states, good), of(&states, bad), of(&states, refusing));
        assert_eq!((good.failures, good.last_failure.as_deref(), good.active), (0, None, 0));
        assert_eq!(good.connections, 1, "the idle one");
        assert_eq!(good.upstream.as_deref(), Some("group"));
        assert_eq!((bad.state, bad.requests, bad.failures), (TargetCondition::Unhealthy, 2, 2));
        assert_eq!((bad.http_failures, bad.last_failure.as_deref()), (2, Some("http_503")));
        assert_eq!(bad.last_failure_by.as_deref(), Some("request"));
        assert!(bad.since_us >= first.at_us && bad.last_failure_us.unwrap() >= first.at_us);
        assert_eq!((refusing.requests, refusing.failures), (12 - 2 - good.requests, refusing.requests));
        assert_eq!((refusing.last_failure.as_deref(), refusing.connections), (Some("connect_failed"), 0));
        let attempts: usize = shown.gateway.events(12).await.iter().map(|event| event.attempts.len()).sum();
        assert_eq!(attempts, 12, "every try is a request of an address");
    });
}

#[test]
fn what_is_under_way_is_counted_until_its_end() {
    run(async {
        let silent = origin(|_, mut stream: TcpStream| async move {
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let shown = Shown::start(everything_to(silent), json!({}));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(shown.gateway.addr).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        let busy = |row: &TargetState| (row.active, row.connections);
        let states = shown.once("three", |states| busy(of(states, silent)) == (3, 3)).await;
        let row = of(&states, silent);
        assert_eq!((row.service.as_deref(), row.upstream.as_deref()), (Some("origin"), None));
        assert_eq!(row.state, TargetCondition::Unchecked, "nobody looks");
        clients.pop();
        shown.once("two", |states| busy(of(states, silent)) == (2, 2)).await;
        clients.clear();
        shown.once("none", |states| busy(of(states, silent)) == (0, 0)).await;
    });
}

#[test]
fn checks_are_counted_by_what_they_showed_and_names_that_fail_are_said() {
    run(async {
        let (good, bad) = (always(200).await, always(500).await);
        let checks = json!({"active": {"healthy": {"interval": 0.02, "successes": 1},
            "unhealthy": {"interval": 0.02, "http_failures": 1}}});
        let targets =
            json!([{"target": good.to_string()}, {"target": bad.to_string()}, {"target": "no.invalid:81"}]);
        // Nobody answers there.
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let shown = Shown::start(
            json!({"services": [service("s", "group", "/")],
                "upstreams": [{"name": "group", "targets": targets, "healthchecks": checks}]}),
            json!({"dns": {"resolvers": [silent.local_addr().unwrap().to_string()], "timeout_ms": 50, "attempts": 1},
                "upstream_states": {"rows_max": 3}}),
        );
        let lost =
            |states: &UpstreamStates| states.targets.iter().any(|row| row.state == TargetCondition::DnsError);
        let checked = |states: &UpstreamStates| {
            of(states, good).checks.success > 2 && of(states, bad).checks.failure > 2 && lost(states)
        };
        let states = shown.once("checked", checked).await;
        let (good, bad) = (of(&states, good), of(&states, bad));
        assert_eq!((good.state, good.checks.failure), (TargetCondition::Healthy, 0));
        assert_eq!((bad.state, bad.checks.success), (TargetCondition::Unhealthy, 0));
        assert_eq!(
            (bad.last_failure.as_deref(), bad.last_failure_by.as_deref()),
            (Some("http_500"), Some("check"))
        );
        assert!(bad.last_check_us.unwrap() >= bad.last_failure_us.unwrap() && bad.requests == 0);
        let lost = states.targets.iter().find(|row| row.address.is_none()).unwrap();
        assert_eq!(
            (lost.target.as_str(), lost.since_us),
            ("no.invalid:81", lost.dns_failing_since_us.unwrap())
        );
    });
}

#[test]
fn the_picture_is_bounded_and_says_what_is_left_out() {
    run(async {
        let addr = always(200).await;
        let services: Vec<_> = (0..5)
            .map(|n| json!({"name": format!("s{n}"), "url": format!("http://{addr}"), "routes": [{"paths": [format!("/{n}")]}]}))
            .collect();
        let shown = Shown::start(json!({"services": services}), json!({"upstream_states": {"rows_max": 2}}));
        let states = shown.once("a picture", |_| true).await;
        assert_eq!((states.targets.len(), states.omitted), (2, 3));
    });
}
