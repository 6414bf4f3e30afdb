//! What a scraper gets.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::adapters::{Adapters, MetricsConfig, OtlpConfig, StartError};
use event::layout::LedgerRow;
use event::{ABSENT_U16, Attempt, AttemptError, Draft, Source, Text};

use crate::exposition::read;
use crate::support::{
    DEADLINE, OPEN_METRICS, START_US, draft, empty_folder, get, metrics_config, observe, sampled, scrape,
    start, talk, until,
};

/// Events that differ in every label.
fn varied(number: usize) -> Draft {
    let services: [&[u8]; 3] = [b"orders", b"users", b"billing"];
    let mut draft = draft(
        services[number % 3],
        format!("route-{}", number % 7).as_bytes(),
        format!("consumer-{}", number % 5).as_bytes(),
    );
    draft.text(Text::Method, [&b"GET"[..], b"POST", b"BREW", b"\xff"][number % 4]);
    draft.head.status = [200, 201, 301, 404, 503, ABSENT_U16][number % 6];
    draft.head.source = [Source::Upstream, Source::Gateway, Source::Cache][number % 3] as u8;
    draft.head.duration_us = (number * 977) as u32;
    draft.head.request_bytes = number as u64;
    draft.head.response_bytes = 2 * number as u64;
    draft
}

#[test]
fn sums_equal_the_events_observed_in_both_formats() {
    let (mut adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    let (mut count, mut bytes) = (0, 0);
    for number in 0..5_000 {
        observe(&mut adapters, &varied(number));
        count += 1;
        bytes += number;
    }
    let mut earlier = varied(1);
    earlier.head.time_us = START_US - 1;
    observe(&mut adapters, &earlier);

    for (accept, open_metrics) in [(OPEN_METRICS, true), ("*/*", false)] {
        let samples = read(&scrape(&mut adapters, address, accept), open_metrics);
        assert_eq!(samples.sum("tollhouse_http_requests_total"), f64::from(count));
        assert_eq!(samples.sum("tollhouse_http_request_duration_seconds_count"), f64::from(count));
        assert_eq!(samples.sum("tollhouse_http_gateway_duration_seconds_count"), f64::from(count));
        assert_eq!(samples.sum("tollhouse_http_upstream_duration_seconds_count"), f64::from(count));
        assert_eq!(samples.sum("tollhouse_upstream_attempts_total"), f64::from(count));
        assert_eq!(samples.sum("tollhouse_http_request_bytes_total"), bytes as f64);
        assert_eq!(samples.sum("tollhouse_http_response_bytes_total"), 2.0 * bytes as f64);
        let seconds = samples.sum("tollhouse_http_request_duration_seconds_sum");
        assert!((seconds - 977e-6 * bytes as f64).abs() < 1e-6, "{seconds}");
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(samples.value(name, &[]) > 0.0, "{name}");
        }
        assert_eq!(samples.value("process_start_time_seconds", &[]), START_US as f64 / 1e6);
        assert_eq!(samples.value("tollhouse_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    }
    let count = &adapters.counts()[0];
    assert_eq!((count.sink, count.accepted, count.delivered, count.queued), ("prometheus", 5_000, 5_000, 0));
}

#[test]
fn one_request_increments_exactly_its_series() {
    let (mut adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    let mut failed = draft(b"orders", b"orders-write", b"alice");
    failed.text(Text::Method, b"PROPFIND");
    failed.head.status = 502;
    failed.attempt(&Attempt {
        addr: b"10.0.0.8:80",
        status: ABSENT_U16,
        error: AttemptError::ConnectTimeout,
        start_us: 1,
        duration_us: 2,
        reused: false,
        span_id: [0; 8],
    });
    observe(&mut adapters, &failed);
    let samples = read(&scrape(&mut adapters, address, OPEN_METRICS), true);
    let labels = [
        ("service", "orders"),
        ("route", "orders-write"),
        ("consumer", "alice"),
        ("method", "_OTHER"),
        ("status_class", "5xx"),
        ("source", "upstream"),
    ];
    assert_eq!(samples.value("tollhouse_http_requests_total", &labels), 1.0);
    assert_eq!(samples.of("tollhouse_http_requests_total").count(), 1);
    let attempts = |outcome| {
        let labels = [("service", "orders"), ("upstream", "pool"), ("outcome", outcome)];
        samples.value("tollhouse_upstream_attempts_total", &labels)
    };
    assert_eq!((attempts("ok"), attempts("connect_timeout")), (1.0, 1.0));
    let bucket = |le| samples.value("tollhouse_http_request_duration_seconds_bucket", &[("le", le)]);
    assert_eq!((bucket("0.5"), bucket("1.0"), bucket("+Inf")), (0.0, 1.0, 1.0));
}

#[test]
fn exemplars_name_sampled_traces_only() {
    let (mut adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    let mut unsampled = sampled(9);
    unsampled.head.sampled = 0;
    unsampled.head.duration_us = 1_500;
    observe(&mut adapters, &unsampled);
    observe(&mut adapters, &sampled(0xab));
    let samples = read(&scrape(&mut adapters, address, OPEN_METRICS), true);
    let exemplars: Vec<_> = samples
        .of("tollhouse_http_request_duration_seconds_bucket")
        .filter_map(|sample| sample.exemplar.clone())
        .collect();
    let [(labels, value, time)] = &exemplars[..] else { panic!("{exemplars:?}") };
    assert_eq!(labels["trace_id"], "ab".repeat(16));
    assert_eq!(*value, 1.0);
    assert!((time - (START_US as f64 / 1e6 + 2.0)).abs() < 1e-3, "{time}");
    read(&scrape(&mut adapters, address, "text/plain"), false);
}

#[test]
fn beyond_the_budget_requests_are_counted_in_one_overflow_series() {
    let config = MetricsConfig { series_max: 10, ..metrics_config() };
    let (mut adapters, address) = start(&config, &OtlpConfig::default());
    for number in 0..100 {
        let consumer = format!("consumer-{number}");
        observe(&mut adapters, &draft(b"s", b"r", consumer.as_bytes()));
    }
    // A known label set whose further methods do not fit any more.
    let mut post = draft(b"s", b"r", b"consumer-0");
    post.text(Text::Method, b"POST");
    observe(&mut adapters, &post);
    // A configured name that looks like the overflow series.
    observe(&mut adapters, &draft(b"__overflow__", b"__overflow__", b"__overflow__"));
    let samples = read(&scrape(&mut adapters, address, OPEN_METRICS), true);
    assert_eq!(samples.sum("tollhouse_http_requests_total"), 102.0);
    assert_eq!(samples.of("tollhouse_http_requests_total").count(), 11);
    let overflow =
        ["service", "route", "consumer", "method", "status_class", "source"].map(|n| (n, "__overflow__"));
    assert_eq!(samples.value("tollhouse_http_requests_total", &overflow), 92.0);
    assert_eq!(samples.sum("tollhouse_http_request_duration_seconds_count"), 102.0);
    assert_eq!(samples.of("tollhouse_http_request_duration_seconds_count").count(), 11);
    let family = |family| [("family", family)];
    assert_eq!(samples.value("tollhouse_metrics_series", &family("requests")), 10.0);
    assert_eq!(samples.value("tollhouse_metrics_overflows_total", &family("requests")), 92.0);
    assert_eq!(samples.value("tollhouse_metrics_overflows_total", &family("request_duration")), 91.0);
}

#[test]
fn labels_hold_any_bytes() {
    let (mut adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    let mut count = 0.0;
    for byte in 0..=255u8 {
        for value in [vec![byte], vec![b'a', byte, b'\\', b'"', b'\n', byte], vec![0xe2, 0x82, byte]] {
            observe(&mut adapters, &draft(&value, &value, b"} 1\nfake 2"));
            count += 1.0;
        }
    }
    for (accept, open_metrics) in [(OPEN_METRICS, true), ("text/plain", false)] {
        let page = scrape(&mut adapters, address, accept);
        let samples = read(&page, open_metrics);
        assert_eq!(samples.sum("tollhouse_http_requests_total"), count);
        let newline =
            samples.of("tollhouse_http_requests_total").filter(|s| s.labels["service"] == "\n").count();
        assert_eq!(newline, 1);
        if !open_metrics {
            promtool(&page);
        }
    }
}

/// Prometheus' own checker, where it is installed.
fn promtool(page: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return eprintln!("promtool is not installed ({error}): its check is left out"),
    };
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.is_empty(), "{said}");
}

#[test]
fn promtool_finds_nothing_to_say() {
    let ledger = vec![LedgerRow {
        node: "node-1".into(),
        sink: "requests".into(),
        produced: 10,
        recovered: 0,
        stored: 9,
        dropped: 1,
        in_flight: 0,
        reasons: BTreeMap::from([("spool_full".into(), 1)]),
    }];
    let shared = Arc::new(Mutex::new(ledger));
    let (mut adapters, address) =
        Adapters::start(&metrics_config(), &OtlpConfig::default(), shared, &empty_folder(), START_US)
            .unwrap();
    (0..100).for_each(|number| observe(&mut adapters, &varied(number)));
    promtool(&scrape(&mut adapters, address, "text/plain"));
}

#[test]
fn the_ledger_is_a_metric() {
    let row = |node: &str, in_flight, reasons: &[(&str, u64)]| LedgerRow {
        node: node.into(),
        sink: "requests".into(),
        produced: 100,
        recovered: 5,
        stored: 90,
        dropped: 15 - in_flight,
        in_flight,
        reasons: reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
    };
    let rows = vec![row("a", 5, &[("spool_full", 7), ("disk_error", 3)]), row("b", 1, &[("spool_full", 12)])];
    let shared = Arc::new(Mutex::new(rows));
    let (config, otlp, folder) = (metrics_config(), OtlpConfig::default(), empty_folder());
    let (mut adapters, address) =
        Adapters::start(&config, &otlp, Arc::clone(&shared), &folder, START_US).unwrap();
    let samples = read(&scrape(&mut adapters, address, OPEN_METRICS), true);
    let events = |stage, reason| {
        let labels = [("stage", stage), ("sink", "requests"), ("reason", reason)];
        samples.value("tollhouse_events_total", &labels)
    };
    assert_eq!((events("produced", ""), events("recovered", ""), events("stored", "")), (200.0, 10.0, 180.0));
    assert_eq!(events("dropped", "spool_full"), 19.0);
    assert_eq!(events("dropped", "disk_error"), 3.0);
    assert_eq!(events("dropped", "unknown"), 2.0);
    assert_eq!(samples.value("tollhouse_events_in_flight", &[("sink", "requests")]), 6.0);
}

#[test]
fn scrapes_while_observing_show_consistent_moments_and_stall_nothing() {
    let (mut adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let (mut pages, mut last) = (0, 0.0);
            while !done.load(std::sync::atomic::Ordering::Acquire) || pages < 3 {
                let samples = read(&get(address, "/metrics", OPEN_METRICS).body, true);
                let requests = samples.sum("tollhouse_http_requests_total");
                assert_eq!(requests, samples.sum("tollhouse_http_request_duration_seconds_count"));
                assert_eq!(requests, samples.sum("tollhouse_http_gateway_duration_seconds_count"));
                assert!(requests >= last, "a counter went back");
                (pages, last) = (pages + 1, requests);
            }
            pages
        });
        let drafts: Vec<Draft> = (0..1_000).map(varied).collect();
        for _ in 0..100 {
            drafts.iter().for_each(|draft| observe(&mut adapters, draft));
            adapters.flush();
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        assert!(scraper.join().unwrap() >= 3);
    });
    let samples = read(&scrape(&mut adapters, address, OPEN_METRICS), true);
    assert_eq!(samples.sum("tollhouse_http_requests_total"), 100_000.0);
}

#[test]
fn health_readiness_methods_and_paths() {
    let config = MetricsConfig { stale_ms: 300, ..metrics_config() };
    let (mut adapters, address) = start(&config, &OtlpConfig::default());
    assert_eq!(get(address, "/healthz", "*/*").status, 200);
    let waiting = get(address, "/readyz", "*/*");
    assert_eq!(waiting.status, 503);
    assert!(waiting.body.contains("has not begun its first round"), "{}", waiting.body);
    adapters.flush();
    let ready = get(address, "/readyz", "*/*");
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"status":"ready"}"#));
    until("a collector that does not go round is not ready", || get(address, "/readyz", "*/*").status == 503);
    assert!(get(address, "/readyz", "*/*").body.contains("has not gone round for"));

    assert_eq!(get(address, "/", "*/*").status, 404);
    let post =
        talk(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get,head"), "{}", post.head);
    let head = talk(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(talk(address, "nonsense\r\n\r\n").status, 400);
    let page = get(address, "/metrics", OPEN_METRICS);
    assert!(page.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let page = get(address, "/metrics", "*/*");
    assert!(page.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", page.head);
}

#[test]
fn slow_clients_are_cut_off_and_give_their_place_to_others() {
    let config = MetricsConfig { connections_max: 2, header_timeout_ms: 200, ..metrics_config() };
    let (_adapters, address) = start(&config, &OtlpConfig::default());
    let slow: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HT").unwrap();
            stream
        })
        .collect();
    assert_eq!(get(address, "/healthz", "*/*").status, 200, "once the slow ones are gone there is room");
    for mut stream in slow {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut rest = Vec::new();
        // An answer of 408 or a bare end of the connection: either way it ends.
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn a_reader_that_accepts_nothing_is_cut_off() {
    let config =
        MetricsConfig { connections_max: 1, write_stall_ms: 200, series_max: 20_000, ..metrics_config() };
    let (mut adapters, address) = start(&config, &OtlpConfig::default());
    // More than the socket buffers of both sides hold.
    for number in 0..20_000 {
        observe(&mut adapters, &draft(b"s", b"r", format!("consumer-{number}").as_bytes()));
    }
    adapters.flush();
    let mut deaf = TcpStream::connect(address).unwrap();
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(get(address, "/healthz", "*/*").status, 200, "the only place is given to the next");
    drop(deaf);
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let config = MetricsConfig { listen: taken.local_addr().unwrap(), ..metrics_config() };
    let (otlp, ledger) = (OtlpConfig::default(), Arc::new(Mutex::new(Vec::new())));
    let error = Adapters::start(&config, &otlp, ledger, &empty_folder(), START_US).unwrap_err();
    assert!(matches!(&error, StartError::Listen { address, .. } if *address == config.listen), "{error}");
}

#[test]
fn the_listener_ends_with_the_adapters() {
    let (adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    let idle = TcpStream::connect(address).unwrap();
    assert_eq!(get(address, "/healthz", "*/*").status, 200);
    let began = Instant::now();
    adapters.shutdown(Instant::now() + Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(4), "an idle connection holds nothing up");
    assert!(TcpStream::connect(address).is_err());
    drop(idle);
}
