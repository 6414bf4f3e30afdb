//! Targets that are names, before a name server on UDP that the test plays.

use crate::support::*;
use event::{AttemptError, Outcome};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::BinDecodable;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

type Zone = HashMap<(&'static str, RecordType), Vec<RData>>;

/// A name server.
#[derive(Clone)]
pub struct Server {
    pub addr: SocketAddr,
    zone: Rc<RefCell<Zone>>,
    pub ttl: Rc<Cell<u32>>,
    /// It takes questions and answers none.
    pub mute: Rc<Cell<bool>>,
    pub asked: Rc<Cell<usize>>,
}

impl Server {
    pub async fn start(records: &[(&'static str, RData)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            addr: socket.local_addr().unwrap(),
            zone: Rc::default(),
            ttl: Rc::new(Cell::new(1)),
            mute: Rc::default(),
            asked: Rc::default(),
        };
        server.set(records);
        let answers = server.clone();
        tokio::task::spawn_local(async move {
            let mut bytes = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                answers.asked.set(answers.asked.get() + 1);
                if !answers.mute.get() {
                    let answer = answers.answer(&bytes[..length]);
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    pub fn set(&self, records: &[(&'static str, RData)]) {
        let mut zone = self.zone.borrow_mut();
        zone.clear();
        for (name, data) in records {
            zone.entry((*name, data.record_type())).or_default().push(data.clone());
        }
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let question = Message::from_bytes(question).unwrap();
        let query = question.queries[0].clone();
        let name = query.name().to_lowercase().to_utf8();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_query(query.clone());
        let zone = self.zone.borrow();
        if !zone.keys().any(|(known, _)| *known == name) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let found = zone.iter().find(|((known, kind), _)| *known == name && *kind == query.query_type());
        for data in found.into_iter().flat_map(|(_, data)| data) {
            answer.add_answer(Record::from_rdata(query.name().clone(), self.ttl.get(), data.clone()));
        }
        answer.to_vec().unwrap()
    }
}

pub fn a(octets: [u8; 4]) -> RData {
    RData::A(A(Ipv4Addr::from(octets)))
}

fn srv(priority: u16, weight: u16, port: u16, host: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, Name::from_utf8(host).unwrap()))
}

fn gateway(server: &Server, target: &str, more: &Value) -> Gateway {
    let mut dns = json!({"resolvers": [server.addr.to_string()], "timeout_ms": 300, "attempts": 1,
        "ttl_min_ms": 50, "retry_interval_ms": 50});
    dns.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let entities = json!({
        "services": [{"name": "s", "host": "group", "routes": [{"paths": ["/"]}]}],
        "upstreams": [{"name": "group", "targets": [{"target": target}]}],
    });
    Gateway::start(entities, json!({"timeouts": {"sweep_interval_ms": 10}, "dns": dns}))
}

/// An origin that answers with the address it is reached at; one port on several addresses.
pub async fn origins(addrs: &[&str]) -> u16 {
    let port = free_addr().port();
    for addr in addrs {
        let listener = TcpListener::bind((*addr, port)).await.unwrap();
        tokio::task::spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    let own = stream.local_addr().unwrap().ip().to_string();
                    let mut got = Vec::new();
                    while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                        if got.ends_with(b"\r\n\r\n") {
                            got.clear();
                            let answer =
                                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{own}", own.len());
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
    }
    port
}

async fn ask(gateway: &Gateway) -> String {
    let got = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    if got.starts_with("HTTP/1.1 200 ") { got.rsplit("\r\n\r\n").next().unwrap().to_owned() } else { got }
}

async fn until(gateway: &Gateway, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while ask(gateway).await != what {
        assert!(Instant::now() < deadline, "{what} never answers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn all_addresses_of_a_name_take_turns() {
    run(async {
        let port = origins(&["127.0.0.1", "127.0.0.2"]).await;
        let server = Server::start(&[("up.test.", a([127, 0, 0, 1])), ("up.test.", a([127, 0, 0, 2]))]).await;
        let gateway = gateway(&server, &format!("up.test:{port}"), &json!({}));
        let mut counts = HashMap::<String, usize>::new();
        for _ in 0..20 {
            *counts.entry(ask(&gateway).await).or_default() += 1;
        }
        assert_eq!(counts, HashMap::from([("127.0.0.1".into(), 10), ("127.0.0.2".into(), 10)]));
    });
}

#[test]
fn a_change_is_followed_once_the_ttl_is_over() {
    run(async {
        let port = origins(&["127.0.0.1", "127.0.0.2"]).await;
        let server = Server::start(&[("up.test.", a([127, 0, 0, 1]))]).await;
        let gateway = gateway(&server, &format!("up.test:{port}"), &json!({"order": ["A"]}));
        assert_eq!(ask(&gateway).await, "127.0.0.1");
        let begun = Instant::now();
        server.set(&[("up.test.", a([127, 0, 0, 2]))]);
        until(&gateway, "127.0.0.2").await;
        assert!(
            begun.elapsed() > Duration::from_millis(700),
            "the TTL of a second counts: {:?}",
            begun.elapsed()
        );
        for _ in 0..5 {
            assert_eq!(ask(&gateway).await, "127.0.0.2", "the old address is not asked any more");
        }
    });
}

#[test]
fn the_last_good_answer_is_kept() {
    run(async {
        let port = origins(&["127.0.0.1"]).await;
        let server = Server::start(&[("up.test.", a([127, 0, 0, 1]))]).await;
        let gateway =
            gateway(&server, &format!("up.test:{port}"), &json!({"order": ["A"], "ttl_max_ms": 60}));
        assert_eq!(ask(&gateway).await, "127.0.0.1");
        for mute in [true, false] {
            server.mute.set(mute);
            server.set(&[]);
            let (before, deadline) = (server.asked.get(), Instant::now() + PATIENCE);
            while server.asked.get() < before + 3 {
                assert!(Instant::now() < deadline, "it is asked again and again");
                assert_eq!(ask(&gateway).await, "127.0.0.1", "mute {mute}");
            }
            assert_eq!(ask(&gateway).await, "127.0.0.1");
        }
    });
}

#[test]
fn a_name_that_nobody_knows_is_503_until_it_is_known() {
    run(async {
        let port = origins(&["127.0.0.1"]).await;
        let server = Server::start(&[]).await;
        let gateway = gateway(&server, &format!("up.test:{port}"), &json!({}));
        let got = ask(&gateway).await;
        assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("name resolution failed"), "{got}");
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.attempts[0].2), (Outcome::ConnectFailed, AttemptError::DnsFailed));
        server.set(&[("up.test.", a([127, 0, 0, 1]))]);
        until(&gateway, "127.0.0.1").await;
    });
}

#[test]
fn a_name_server_that_is_silent_holds_no_other_request_up() {
    run(async {
        let server = Server::start(&[]).await;
        server.mute.set(true);
        let fixed = echo().await;
        let entities = json!({
            "services": [
                {"name": "named", "url": "http://up.test:9", "routes": [{"paths": ["/named"]}]},
                {"name": "fixed", "url": format!("http://{fixed}"), "routes": [{"paths": ["/fixed"]}]},
            ],
        });
        let dns = json!({"resolvers": [server.addr.to_string()], "timeout_ms": 500, "attempts": 1});
        let gateway = Gateway::start(entities, json!({"timeouts": {"sweep_interval_ms": 10}, "dns": dns}));
        let named = gateway.talk("GET /named HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut named = std::pin::pin!(named);
        for _ in 0..20 {
            let fixed = gateway.talk("GET /fixed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            tokio::select! {
                biased;
                got = &mut named => panic!("before its time: {got}"),
                got = fixed => assert!(got.starts_with("HTTP/1.1 200 "), "{got}"),
            }
        }
        let got = named.await;
        assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("name resolution failed"), "{got}");
        let events = gateway.events(21).await;
        let waited = events.iter().find(|event| event.text("service") == "named").unwrap();
        assert!(waited.head.dns_us > 100_000 && waited.head.dns_us != event::ABSENT_U32);
    });
}

#[test]
fn srv_records_give_ports_and_weights_and_the_lowest_priority_wins() {
    run(async {
        let (one, two) = (origins(&["127.0.0.1"]).await, origins(&["127.0.0.2"]).await);
        let server = Server::start(&[
            ("up.test.", srv(1, 3, one, "one.test.")),
            ("up.test.", srv(1, 1, two, "two.test.")),
            ("up.test.", srv(2, 9, 9, "one.test.")),
            ("up.test.", a([127, 0, 0, 9])),
            ("one.test.", a([127, 0, 0, 1])),
            ("two.test.", a([127, 0, 0, 2])),
        ])
        .await;
        let gateway = gateway(&server, "up.test:9", &json!({}));
        let mut counts = HashMap::<String, usize>::new();
        for _ in 0..20 {
            *counts.entry(ask(&gateway).await).or_default() += 1;
        }
        assert_eq!(counts, HashMap::from([("127.0.0.1".into(), 15), ("127.0.0.2".into(), 5)]));
    });
}

#[test]
fn addresses_may_be_ipv6_and_the_hosts_file_comes_first() {
    run(async {
        let port = origins(&["::1"]).await;
        let server = Server::start(&[("up.test.", RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)))]).await;
        let gateway = gateway(&server, &format!("up.test:{port}"), &json!({}));
        assert_eq!(ask(&gateway).await, "::1");
        let asked = server.asked.get();
        let local = origins(&["127.0.0.1"]).await;
        let hosts =
            self::gateway(&server, &format!("localhost:{local}"), &json!({"retry_interval_ms": 60_000}));
        assert_eq!(ask(&hosts).await, "127.0.0.1");
        drop(gateway);
        assert!(server.asked.get() <= asked + 4, "localhost is nobody's to tell");
    });
}

#[test]
fn the_host_of_an_srv_record_may_be_sent() {
    run(async {
        let (one, two) = (echo().await, echo().await);
        let server = Server::start(&[
            ("up.test.", srv(1, 1, one.port(), "one.test.")),
            ("up.test.", srv(1, 1, two.port(), "two.test.")),
            ("one.test.", a([127, 0, 0, 1])),
            ("two.test.", a([127, 0, 0, 1])),
        ])
        .await;
        let hosts = async |more: Value| {
            let mut upstream = json!({"name": "group", "targets": [{"target": "up.test:9"}]});
            upstream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let services = json!([{"name": "s", "host": "group", "routes": [{"paths": ["/"]}]}]);
            let dns = json!({"resolvers": [server.addr.to_string()], "timeout_ms": 300, "attempts": 1});
            let gateway =
                Gateway::start(json!({"services": services, "upstreams": [upstream]}), json!({"dns": dns}));
            let mut hosts = Vec::new();
            for _ in 0..2 {
                let got = gateway.talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                let host = got.rsplit("\r\nhost: ").next().unwrap();
                hosts.push(host.lines().next().unwrap().to_owned());
            }
            hosts.sort();
            hosts
        };
        let named = [format!("one.test:{}", one.port()), format!("two.test:{}", two.port())];
        assert_eq!(hosts(json!({"use_srv_name": true})).await, named);
        assert_eq!(hosts(json!({})).await, ["up.test:9", "up.test:9"]);
        let both = json!({"use_srv_name": true, "host_header": "own.test"});
        assert_eq!(hosts(both).await, ["own.test", "own.test"]);
    });
}
