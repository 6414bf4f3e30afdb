//! What a receiver of spans gets, and what its failures cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use collector::adapters::{AdapterCount, Adapters, OtlpConfig, OtlpProtocol};
use event::{ABSENT_U16, Attempt, AttemptError, Draft, Outcome, Protocol, Scheme, Source, Text};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tonic::Code;

use crate::port::free_addr;
use crate::receiver::{Act, Receiver};
use crate::support::{
    OPEN_METRICS, START_US, draft, empty_folder, metrics_config, observe, sampled, scrape, start, until,
};

fn config(receiver: &Receiver, protocol: OtlpProtocol) -> OtlpConfig {
    let base = if protocol == OtlpProtocol::Http { "/base/" } else { "" };
    OtlpConfig {
        endpoint: Some(format!("http://{}{base}", receiver.address)),
        protocol,
        interval_ms: 10,
        retry_initial_ms: 10,
        retry_max_ms: 50,
        headers: BTreeMap::from([("X-Tenant".to_owned(), "blue".to_owned())]),
        ..OtlpConfig::default()
    }
}

fn spans(adapters: &Adapters) -> AdapterCount {
    let count = adapters.counts().into_iter().find(|count| count.sink == "otlp").unwrap();
    let dropped: u64 = count.dropped.values().sum();
    assert_eq!(count.accepted, count.delivered + dropped + count.queued, "{count:?}");
    count
}

/// Waits until nothing is queued and gives the account.
fn settled(adapters: &mut Adapters) -> AdapterCount {
    adapters.flush();
    until("all spans are delivered or dropped", || spans(adapters).queued == 0);
    spans(adapters)
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    let attributes = span.attributes.iter().map(|attribute| {
        (attribute.key.clone(), text(attribute.value.as_ref().unwrap().value.as_ref().unwrap()))
    });
    let map: BTreeMap<_, _> = attributes.collect();
    assert_eq!(map.len(), span.attributes.len(), "an attribute twice");
    map
}

/// A request that needed two attempts.
fn retried() -> Draft {
    let mut draft = Draft::new();
    draft.reset(START_US + 5_000_000);
    for (text, value) in [
        (Text::Method, &b"POST"[..]),
        (Text::Host, b"api.example:8443"),
        (Text::Path, b"/orders/7"),
        (Text::Query, b"a=1"),
        (Text::Route, b"orders-write"),
        (Text::Service, b"orders"),
        (Text::Upstream, b"orders-pool"),
        (Text::Consumer, b"alice"),
        (Text::UserAgent, b"curl/8 \xff"),
        (Text::Error, b"upstream said no"),
    ] {
        draft.text(text, value);
    }
    let head = &mut draft.head;
    (head.sampled, head.trace_id, head.span_id, head.parent_span_id) = (1, [1; 16], [2; 8], [3; 8]);
    (head.status, head.source, head.outcome) = (503, Source::Upstream as u8, Outcome::Ok as u8);
    (head.scheme, head.protocol) = (Scheme::Https as u8, Protocol::H2 as u8);
    head.client_ip = event::ip_bytes([203, 0, 113, 9].into());
    head.peer_ip = event::ip_bytes([10, 0, 0, 1].into());
    (head.request_bytes, head.response_bytes, head.duration_us) = (11, 22, 900);
    head.request_id = [0xab; 16];
    let first = Attempt {
        addr: b"10.0.0.8:80",
        status: ABSENT_U16,
        error: AttemptError::ConnectTimeout,
        start_us: 100,
        duration_us: 200,
        reused: false,
        span_id: [0; 8],
    };
    draft.attempt(&first);
    draft.attempt(&Attempt {
        addr: b"[::1]:81",
        status: 503,
        error: AttemptError::None,
        start_us: 400,
        duration_us: 450,
        reused: true,
        span_id: [5; 8],
    });
    draft
}

fn assert_journey(receiver: &Receiver) {
    let seen = receiver.seen.lock().unwrap();
    assert_eq!(seen.tenant.as_deref(), Some("blue"));
    let [request] = &seen.taken[..] else { panic!("{} requests", seen.taken.len()) };
    let [resource] = &request.resource_spans[..] else { panic!("one node is one resource") };
    let names: BTreeMap<_, _> = resource
        .resource
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .map(|a| (a.key.as_str(), a.value.clone().unwrap().value.unwrap()))
        .collect();
    assert_eq!(names["service.name"], Value::StringValue("tollhouse".into()));
    assert_eq!(names["service.instance.id"], Value::StringValue("node-1".into()));
    assert_eq!(resource.scope_spans[0].scope.as_ref().unwrap().name, "tollhouse");

    let [server, first, second] = &seen.spans()[..] else { panic!("three spans") };
    let start = (START_US as u64 + 5_000_000) * 1_000;
    assert_eq!((server.kind, first.kind, second.kind), (2, 3, 3));
    assert_eq!(server.name, "POST orders-write");
    assert_eq!((&server.trace_id, &server.span_id), (&vec![1; 16], &vec![2; 8]));
    assert_eq!(server.parent_span_id, [3; 8]);
    assert_eq!((server.start_time_unix_nano, server.end_time_unix_nano), (start, start + 900_000));
    assert_eq!(server.flags, 0x301);
    let status = server.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "upstream said no"));
    let expected = [
        ("http.request.method", "POST"),
        ("url.scheme", "https"),
        ("url.path", "/orders/7"),
        ("url.query", "a=1"),
        ("server.address", "api.example"),
        ("server.port", "8443"),
        ("client.address", "203.0.113.9"),
        ("network.peer.address", "10.0.0.1"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", "2"),
        ("user_agent.original", "curl/8 \u{fffd}"),
        ("http.route", "orders-write"),
        ("http.response.status_code", "503"),
        ("http.request.body.size", "11"),
        ("http.response.body.size", "22"),
        ("error.type", "503"),
        ("tollhouse.request_id", &"ab".repeat(16)),
        ("tollhouse.outcome", "ok"),
        ("tollhouse.consumer", "alice"),
        ("tollhouse.service", "orders"),
        ("tollhouse.upstream", "orders-pool"),
    ];
    assert_eq!(attributes(server), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());

    for client in [first, second] {
        assert_eq!((&client.trace_id, &client.parent_span_id), (&server.trace_id, &server.span_id));
        assert_eq!((client.name.as_str(), client.flags), ("POST", 0x101));
        assert_eq!(client.status.as_ref().unwrap().code, 2);
    }
    assert_eq!((first.start_time_unix_nano, first.end_time_unix_nano), (start + 100_000, start + 300_000));
    assert_eq!((second.start_time_unix_nano, second.end_time_unix_nano), (start + 400_000, start + 850_000));
    assert_eq!(second.span_id, [5; 8]);
    assert!(first.span_id != server.span_id && first.span_id != second.span_id && first.span_id != [0; 8]);
    let (first, second) = (attributes(first), attributes(second));
    assert_eq!(first["error.type"], "connect_timeout");
    assert!(
        !first.contains_key("http.response.status_code") && !first.contains_key("http.request.resend_count")
    );
    assert_eq!((first["server.address"].as_str(), first["server.port"].as_str()), ("10.0.0.8", "80"));
    assert_eq!(second["network.peer.address"], "::1");
    assert_eq!((second["error.type"].as_str(), second["http.request.resend_count"].as_str()), ("503", "1"));
    assert_eq!(second["tollhouse.connection_reused"], "true");
}

#[test]
fn one_server_span_and_one_client_span_per_attempt_over_grpc() {
    let receiver = Receiver::grpc(&[Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Grpc));
    observe(&mut adapters, &retried());
    assert_eq!(settled(&mut adapters).delivered, 3);
    assert_journey(&receiver);
}

#[test]
fn one_server_span_and_one_client_span_per_attempt_over_http() {
    let receiver = Receiver::http(&[Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Http));
    observe(&mut adapters, &retried());
    assert_eq!(settled(&mut adapters).delivered, 3);
    assert_journey(&receiver);
}

#[test]
fn tls_trusts_the_configured_authority_and_no_other() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let receiver = Receiver::tls(protocol == OtlpProtocol::Grpc, &[Act::Take]);
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &receiver.ca_pem).unwrap();
        let base = config(&receiver, protocol);
        let endpoint = base.endpoint.as_ref().unwrap().replace("http://127.0.0.1", "https://localhost");
        let trusting =
            OtlpConfig { endpoint: Some(endpoint.clone()), ca_file: Some(ca_file.clone()), ..base.clone() };
        let (mut adapters, _) = start(&metrics_config(), &trusting);
        observe(&mut adapters, &retried());
        assert_eq!(settled(&mut adapters).delivered, 3, "{protocol:?}");
        assert_journey(&receiver);

        let doubting = OtlpConfig { endpoint: Some(endpoint), retry_elapsed_max_ms: 100, ..base };
        let (mut adapters, _) = start(&metrics_config(), &doubting);
        observe(&mut adapters, &retried());
        assert_eq!(settled(&mut adapters).dropped["retries_exhausted"], 3, "{protocol:?}");

        let missing = OtlpConfig { ca_file: Some(folder.path().join("none.pem")), ..trusting };
        let ledger = std::sync::Arc::default();
        let error =
            Adapters::start(&metrics_config(), &missing, ledger, &empty_folder(), START_US).unwrap_err();
        assert!(error.to_string().contains("none.pem"), "{error}");
    }
}

#[test]
fn status_follows_the_side_of_the_span() {
    let receiver = Receiver::grpc(&[Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Grpc));
    let case = |number: u8, status: u16, outcome: Outcome| {
        let mut draft = sampled(number);
        draft.head.status = status;
        draft.head.outcome = outcome as u8;
        draft
    };
    observe(&mut adapters, &case(1, 404, Outcome::Ok));
    observe(&mut adapters, &case(2, 500, Outcome::Ok));
    observe(&mut adapters, &case(3, ABSENT_U16, Outcome::ClientClosed));
    observe(&mut adapters, &case(4, ABSENT_U16, Outcome::UpstreamReset));
    observe(&mut adapters, &case(5, 504, Outcome::UpstreamTimeout));
    settled(&mut adapters);
    let spans = receiver.seen.lock().unwrap().spans();
    let servers: BTreeMap<u8, _> = spans
        .iter()
        .filter(|span| span.kind == 2)
        .map(|span| {
            let error = attributes(span).get("error.type").cloned();
            (span.trace_id[0], (span.status.as_ref().map_or(0, |status| status.code), error))
        })
        .collect();
    assert_eq!(servers[&1], (0, None), "a client's mistake is no failure of the server");
    assert_eq!(servers[&2], (2, Some("500".into())));
    assert_eq!(servers[&3], (0, None));
    assert_eq!(servers[&4], (2, Some("upstream_reset".into())));
    assert_eq!(servers[&5], (2, Some("upstream_timeout".into())));
}

#[test]
fn only_sampled_events_become_spans() {
    let receiver = Receiver::http(&[Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Http));
    observe(&mut adapters, &draft(b"s", b"r", b"c"));
    let mut nameless = sampled(1);
    nameless.head.trace_id = [0; 16];
    observe(&mut adapters, &nameless);
    observe(&mut adapters, &sampled(2));
    let count = settled(&mut adapters);
    assert_eq!((count.accepted, count.delivered, count.dropped["no_id"]), (4, 2, 2));
    assert!(receiver.seen.lock().unwrap().spans().iter().all(|span| span.trace_id == [2; 16]));
}

#[test]
fn without_an_endpoint_nothing_is_kept() {
    let (mut adapters, address) = start(&metrics_config(), &OtlpConfig::default());
    observe(&mut adapters, &sampled(1));
    let page = scrape(&mut adapters, address, OPEN_METRICS);
    let sinks: Vec<_> = adapters.counts().into_iter().map(|count| count.sink).collect();
    assert_eq!(sinks, ["prometheus"], "spans that go nowhere are not in the books");
    assert!(page.contains("\ntollhouse_spans_queued 0\n"), "{page}");
    assert!(page.contains("\ntollhouse_spans_total{stage=\"accepted\",reason=\"\"} 0\n"), "{page}");
}

#[test]
fn batches_are_bounded_and_complete() {
    let receiver = Receiver::grpc(&[Act::Take]);
    let config =
        OtlpConfig { batch_spans_max: 10, interval_ms: 60_000, ..config(&receiver, OtlpProtocol::Grpc) };
    let (mut adapters, _) = start(&metrics_config(), &config);
    (0..100).for_each(|number| observe(&mut adapters, &sampled(number)));
    assert_eq!(settled(&mut adapters).delivered, 200, "a full batch waits for no interval");
    let seen = receiver.seen.lock().unwrap();
    let spans = |request: &opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest| {
        request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum::<usize>()
    };
    assert!(seen.taken.iter().all(|request| spans(request) <= 10));
    assert_eq!(seen.spans().len(), 200);
}

#[test]
fn an_endpoint_that_is_down_costs_its_queue_and_gets_it_when_it_comes_back() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let address = free_addr();
        let config = OtlpConfig {
            endpoint: Some(format!("http://{address}")),
            protocol,
            interval_ms: 10,
            retry_initial_ms: 10,
            retry_max_ms: 20,
            batch_spans_max: 10,
            queue_spans_max: 100,
            ..OtlpConfig::default()
        };
        let (mut adapters, _) = start(&metrics_config(), &config);
        for number in 0..200 {
            observe(&mut adapters, &sampled(number));
            adapters.flush();
        }
        let count = spans(&adapters);
        assert_eq!((count.accepted, count.queued, count.dropped["queue_full"]), (400, 100, 300));
        if protocol == OtlpProtocol::Grpc {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let receiver = Receiver::grpc_on(listener, &[Act::Take]);
            assert_eq!(settled(&mut adapters).delivered, 100);
            assert_eq!(receiver.seen.lock().unwrap().spans().len(), 100);
        } else {
            let counts = adapters.shutdown(Instant::now() + Duration::from_millis(100));
            assert_eq!((counts[1].queued, counts[1].dropped["shutdown"]), (0, 100));
        }
    }
}

#[test]
fn a_hanging_endpoint_is_given_up_in_time() {
    for (protocol, receiver) in [
        (OtlpProtocol::Grpc, Receiver::grpc(&[Act::Hang])),
        (OtlpProtocol::Http, Receiver::http(&[Act::Hang])),
    ] {
        let config = OtlpConfig { timeout_ms: 50, retry_elapsed_max_ms: 200, ..config(&receiver, protocol) };
        let (mut adapters, _) = start(&metrics_config(), &config);
        observe(&mut adapters, &sampled(1));
        let count = settled(&mut adapters);
        assert_eq!((count.delivered, count.dropped["retries_exhausted"]), (0, 2));
        assert!(receiver.seen.lock().unwrap().arrivals.len() >= 2, "it was tried again");
    }
}

#[test]
fn a_hanging_endpoint_does_not_hold_up_the_end() {
    let receiver = Receiver::grpc(&[Act::Hang]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Grpc));
    observe(&mut adapters, &sampled(1));
    adapters.flush();
    until("the request is on its way", || !receiver.seen.lock().unwrap().arrivals.is_empty());
    observe(&mut adapters, &sampled(2));
    let began = Instant::now();
    let counts = adapters.shutdown(Instant::now() + Duration::from_millis(200));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((counts[1].delivered, counts[1].queued, counts[1].dropped["shutdown"]), (0, 0, 4));
}

#[test]
fn the_end_delivers_what_is_queued() {
    let receiver = Receiver::grpc(&[Act::Slow(Duration::from_millis(20))]);
    let config =
        OtlpConfig { interval_ms: 60_000, batch_spans_max: 8, ..config(&receiver, OtlpProtocol::Grpc) };
    let (mut adapters, _) = start(&metrics_config(), &config);
    (0..20).for_each(|number| observe(&mut adapters, &sampled(number)));
    let counts = adapters.shutdown(Instant::now() + Duration::from_secs(15));
    assert_eq!((counts[1].delivered, counts[1].queued), (40, 0));
    assert!(counts[1].dropped.is_empty());
    assert_eq!(receiver.seen.lock().unwrap().spans().len(), 40);
}

#[test]
fn retry_after_is_honoured() {
    let receiver = Receiver::http(&[Act::Http(503, Some("1")), Act::Http(429, None), Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Http));
    observe(&mut adapters, &sampled(1));
    assert_eq!(settled(&mut adapters).delivered, 2);
    let arrivals = receiver.seen.lock().unwrap().arrivals.clone();
    assert_eq!(arrivals.len(), 3);
    assert!(arrivals[1] - arrivals[0] >= Duration::from_secs(1), "{:?}", arrivals[1] - arrivals[0]);
    assert!(arrivals[2] - arrivals[1] < Duration::from_secs(1), "no pause named, so the backoff's own");
}

#[test]
fn a_pause_longer_than_the_patience_ends_the_retries() {
    let receiver = Receiver::http(&[Act::Http(503, Some("3600"))]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Http));
    observe(&mut adapters, &sampled(1));
    assert_eq!(settled(&mut adapters).dropped["retries_exhausted"], 2);
}

/// google.rpc.Status with a RetryInfo of so many milliseconds, encoded by hand from the public field numbers.
fn retry_info(millis: i32) -> Vec<u8> {
    #[derive(Clone, PartialEq, Message)]
    struct Piece {
        #[prost(bytes = "vec", tag = "1")]
        first: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        second: Vec<u8>,
        #[prost(bytes = "vec", tag = "3")]
        third: Vec<u8>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Pause {
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
    let pause = Pause { nanos: millis * 1_000_000 }.encode_to_vec();
    let info = Piece { first: pause, ..Piece::default() }.encode_to_vec();
    let name = b"type.googleapis.com/google.rpc.RetryInfo".to_vec();
    let any = Piece { first: name, second: info, ..Piece::default() }.encode_to_vec();
    Piece { third: any, ..Piece::default() }.encode_to_vec()
}

#[test]
fn grpc_statuses_are_retried_as_the_specification_says() {
    let exhausted = Act::Status(Code::ResourceExhausted, retry_info(300));
    let receiver = Receiver::grpc(&[Act::Status(Code::Unavailable, Vec::new()), exhausted, Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Grpc));
    observe(&mut adapters, &sampled(1));
    assert_eq!(settled(&mut adapters).delivered, 2);
    let arrivals = receiver.seen.lock().unwrap().arrivals.clone();
    assert_eq!(arrivals.len(), 3);
    assert!(arrivals[2] - arrivals[1] >= Duration::from_millis(300));

    let refusals =
        [Code::ResourceExhausted, Code::InvalidArgument, Code::Unauthenticated, Code::Unimplemented];
    for code in refusals {
        let receiver = Receiver::grpc(&[Act::Status(code, Vec::new())]);
        let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Grpc));
        observe(&mut adapters, &sampled(1));
        assert_eq!(settled(&mut adapters).dropped["refused"], 2, "{code:?}");
        assert_eq!(receiver.seen.lock().unwrap().arrivals.len(), 1, "{code:?} is final");
    }
}

#[test]
fn refusals_are_counted_and_final() {
    let receiver = Receiver::http(&[Act::Http(400, None), Act::Take]);
    let (mut adapters, _) = start(&metrics_config(), &config(&receiver, OtlpProtocol::Http));
    observe(&mut adapters, &sampled(1));
    assert_eq!(settled(&mut adapters).dropped["refused"], 2);
    observe(&mut adapters, &sampled(2));
    assert_eq!(settled(&mut adapters).delivered, 2);
    assert_eq!(receiver.seen.lock().unwrap().arrivals.len(), 2);
}

#[test]
fn partial_success_counts_what_was_refused() {
    for (protocol, receiver) in [
        (OtlpProtocol::Grpc, Receiver::grpc(&[Act::Partly(3)])),
        (OtlpProtocol::Http, Receiver::http(&[Act::Partly(3)])),
    ] {
        let (mut adapters, _) = start(&metrics_config(), &config(&receiver, protocol));
        (0..2).for_each(|number| observe(&mut adapters, &sampled(number)));
        let count = settled(&mut adapters);
        assert_eq!((count.accepted, count.delivered, count.dropped["refused"]), (4, 1, 3));
        assert_eq!(receiver.seen.lock().unwrap().arrivals.len(), 1, "a partial success is not sent again");
    }
}
