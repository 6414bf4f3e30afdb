//! A new configuration while requests pass.

use crate::dns::{Server, a, origins};
use crate::health::Patient;
use crate::support::*;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn config() -> Value {
    json!({"timeouts": {"sweep_interval_ms": 10}})
}

/// One service of this name with a route of the same, which takes everything.
fn named(name: &str, origin: SocketAddr) -> Value {
    json!({"services": [{"name": name, "url": format!("http://{origin}"),
        "routes": [{"name": format!("{name}-route"), "paths": ["/"], "strip_path": false}]}]})
}

/// An exchange on a connection that stays, with an origin whose answers have no body.
async fn ask(stream: &mut TcpStream, lines: &str) -> String {
    let request = format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(stream, "\r\n\r\n").await
}

#[test]
fn the_next_request_of_a_connection_has_the_new_plan_and_the_one_under_way_the_old() {
    run(async {
        let Told { addr: slow, arrived, go } = Told::start().await;
        let gateway = Gateway::start(named("old", slow), config());
        let mut kept = TcpStream::connect(gateway.addr).await.unwrap();
        kept.write_all(b"GET /under-way HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        arrived.notified().await;
        assert_eq!(
            gateway.reload(named("new", Patient::new(200).start().await), config()),
            proxy::Reloaded::default()
        );
        // Another connection has the new one at once.
        let mut other = TcpStream::connect(gateway.addr).await.unwrap();
        assert!(ask(&mut other, "").await.starts_with("HTTP/1.1 200 "));
        go.notify_one();
        let got = read_until(&mut kept, "ok").await;
        assert!(got.starts_with("HTTP/1.1 200 ") && !got.contains("connection: close"), "{got}");
        assert!(ask(&mut kept, "").await.starts_with("HTTP/1.1 200 "));
        let events = gateway.events(3).await;
        let of =
            |service: &str| events.iter().filter(|one| one.text("service") == service).collect::<Vec<_>>();
        let (old, new) = (of("old"), of("new"));
        assert_eq!((old.len(), new.len()), (1, 2));
        assert_eq!((old[0].text("path"), old[0].text("route")), ("/under-way", "old-route"));
        assert!(new.iter().all(|one| one.text("route") == "new-route"));
        assert_ne!(old[0].head.config_version, new[0].head.config_version);
        assert_eq!(new[0].head.config_version, new[1].head.config_version);
        // The same configuration has the same version, whichever came between.
        gateway.reload(named("old", slow), config());
        go.notify_one();
        gateway.talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(gateway.events(4).await[3].head.config_version, old[0].head.config_version);
    });
}

#[test]
fn a_key_that_is_taken_away_is_refused_at_once() {
    run(async {
        let origin = Patient::new(200).start().await;
        let with = |key: &str| {
            let mut entities = everything_to(origin);
            entities["plugins"] = json!([{"name": "key-auth"}]);
            entities["consumers"] = json!([{"username": "u", "keyauth_credentials": [{"key": key}]}]);
            entities
        };
        let gateway = Gateway::start(with("first-key-0123"), config());
        let mut kept = TcpStream::connect(gateway.addr).await.unwrap();
        assert!(ask(&mut kept, "apikey: first-key-0123\r\n").await.starts_with("HTTP/1.1 200 "));
        gateway.reload(with("second-key-0123"), config());
        assert!(ask(&mut kept, "apikey: first-key-0123\r\n").await.starts_with("HTTP/1.1 401 "));
        let mut fresh = TcpStream::connect(gateway.addr).await.unwrap();
        assert!(ask(&mut fresh, "apikey: second-key-0123\r\n").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn targets_that_stay_keep_their_health_and_connections() {
    run(async {
        let (sick, well, third) = (Patient::new(500), Patient::new(200), Patient::new(200));
        let (bad, good, new) = (sick.start().await, well.start().await, third.start().await);
        let group = |targets: &[SocketAddr]| {
            let targets: Vec<_> = targets.iter().map(|addr| json!({"target": addr.to_string()})).collect();
            json!({"services": [{"name": "s", "host": "group", "routes": [{"paths": ["/"]}]}],
                "upstreams": [{"name": "group", "targets": targets,
                    "healthchecks": {"passive": {"unhealthy": {"http_failures": 1}}}}]})
        };
        let gateway = Gateway::start(group(&[bad, good]), config());
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        for _ in 0..4 {
            ask(&mut client, "").await;
        }
        let (sent_bad, sent_good) = (sick.heads.borrow().len(), well.heads.borrow().len());
        assert_eq!((sent_bad, sent_good), (1, 3));
        // Another before it and in another order: numbers change, whoever they stand for does not.
        let mut second = group(&[new, good, bad]);
        second["upstreams"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"name": "other", "targets": [{"target": bad.to_string()}]}));
        gateway.reload(second, config());
        for _ in 0..6 {
            assert!(ask(&mut client, "").await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(sick.heads.borrow().len(), 1, "what was unhealthy still is");
        assert_eq!((well.heads.borrow().len(), third.heads.borrow().len()), (6, 3));
        let events = gateway.events(10).await;
        let mut to_good = events.iter().filter(|one| one.text("upstream_addr") == good.to_string());
        assert!(!to_good.next().unwrap().attempts[0].3, "the first is a new connection");
        assert!(to_good.all(|one| one.attempts.last().unwrap().3), "and all others are on it");
        // A target that is taken away is not asked again, nor is one of another name that has its number.
        gateway.reload(group(&[new]), config());
        for _ in 0..3 {
            assert!(ask(&mut client, "").await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!((well.heads.borrow().len(), third.heads.borrow().len()), (6, 6));
    });
}

#[test]
fn whose_turn_it_is_and_the_ring_outlast_a_reload() {
    run(async {
        let patients: Vec<_> = (0..4).map(|_| Patient::new(200)).collect();
        let mut targets = Vec::new();
        for patient in &patients {
            targets.push(json!({"target": patient.start().await.to_string(), "weight": 100}));
        }
        for (algorithm, lines) in [("round-robin", ""), ("consistent-hashing", "x-user: 7\r\n")] {
            let group = |service: &str| {
                let mut upstream = json!({"name": "group", "algorithm": algorithm, "targets": targets});
                if algorithm == "consistent-hashing" {
                    upstream["hash_on"] = json!("header");
                    upstream["hash_on_header"] = json!("x-user");
                }
                json!({"services": [{"name": service, "host": "group", "routes": [{"paths": ["/"]}]}], "upstreams": [upstream]})
            };
            let gateway = Gateway::start(group("0"), config());
            let mut client = TcpStream::connect(gateway.addr).await.unwrap();
            let before: Vec<_> = patients.iter().map(|one| one.heads.borrow().len()).collect();
            // With a fresh start each time, the first target would have all.
            for round in 0..8 {
                ask(&mut client, lines).await;
                gateway.reload(group(&round.to_string()), config());
            }
            let mut had: Vec<_> =
                patients.iter().zip(before).map(|(one, before)| one.heads.borrow().len() - before).collect();
            had.sort_unstable();
            assert_eq!(had, if lines.is_empty() { [2; 4] } else { [0, 0, 0, 8] }, "{algorithm}");
        }
    });
}

#[test]
fn names_are_not_looked_up_anew_and_new_ones_are() {
    run(async {
        let port = origins(&["127.0.0.1", "127.0.0.2"]).await;
        let server =
            Server::start(&[("one.test.", a([127, 0, 0, 1])), ("two.test.", a([127, 0, 0, 2]))]).await;
        server.ttl.set(3600);
        let dns =
            json!({"resolvers": [server.addr.to_string()], "order": ["A"], "timeout_ms": 300, "attempts": 1});
        let to = |name: &str, service: &str| json!({"services": [{"name": service, "url": format!("http://{name}:{port}"), "routes": [{"paths": ["/"]}]}]});
        let config = |dns: &Value| json!({"timeouts": {"sweep_interval_ms": 10}, "dns": dns});
        let gateway = Gateway::start(to("one.test", "s"), config(&dns));
        let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(gateway.talk(get).await.ends_with("127.0.0.1"));
        assert_eq!(server.asked.get(), 1);
        for round in 0..5 {
            gateway.reload(to("one.test", &format!("s{round}")), config(&dns));
            // With a mute server a lookup would cost the request its time.
            server.mute.set(true);
            assert!(gateway.talk(get).await.ends_with("127.0.0.1"));
            server.mute.set(false);
        }
        assert_eq!(server.asked.get(), 1);
        gateway.reload(to("two.test", "s"), config(&dns));
        assert!(gateway.talk(get).await.ends_with("127.0.0.2"));
        assert_eq!(server.asked.get(), 2);
        // Other settings of the lookup ask for it, and the answer of before is good meanwhile.
        server.set(&[("two.test.", a([127, 0, 0, 1]))]);
        let mut other = dns.clone();
        other["ttl_max_ms"] = json!(50_000);
        gateway.reload(to("two.test", "s"), config(&other));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let got = gateway.talk(get).await;
            assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
            if got.ends_with("127.0.0.1") {
                break;
            }
            assert!(Instant::now() < deadline, "the new answer never came");
        }
    });
}

#[test]
fn a_plan_with_names_or_checks_finds_its_thread_when_the_first_had_none() {
    run(async {
        let port = origins(&["127.0.0.1"]).await;
        let server = Server::start(&[("one.test.", a([127, 0, 0, 1]))]).await;
        let dns = json!({"resolvers": [server.addr.to_string()], "order": ["A"]});
        let mut gateway = Gateway::before(Patient::new(200).start().await);
        let named = json!({"services": [{"name": "s", "url": format!("http://one.test:{port}"), "routes": [{"paths": ["/"]}]}]});
        gateway.reload(named, json!({"timeouts": {"sweep_interval_ms": 10}, "dns": dns}));
        let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(gateway.talk(get).await.ends_with("127.0.0.1"));
        // And the drain ends it.
        gateway.running.take().unwrap().drain(PATIENCE).await;
    });
}

#[test]
fn listeners_come_and_go() {
    run(async {
        let origin = Patient::new(200).start().await;
        let listen = |more: &[&str]| {
            let more = more.iter().map(|name| json!({"name": name, "address": "127.0.0.1:0"}));
            let all: Vec<_> =
                [json!({"name": "first", "address": "127.0.0.1:0"})].into_iter().chain(more).collect();
            json!({"threads": 2, "timeouts": {"sweep_interval_ms": 10}, "listen": all})
        };
        let gateway = Gateway::start(everything_to(origin), listen(&["second"]));
        let second = gateway.running.as_ref().unwrap().listeners[1].addr;
        let mut on_second = TcpStream::connect(second).await.unwrap();
        assert!(ask(&mut on_second, "").await.starts_with("HTTP/1.1 200 "));
        let reloaded = gateway.reload(everything_to(origin), listen(&["third"]));
        assert_eq!(reloaded.closed, ["second"]);
        assert_eq!(reloaded.opened.len(), 1);
        let mut on_third = TcpStream::connect(reloaded.opened[0].addr).await.unwrap();
        assert!(ask(&mut on_third, "").await.starts_with("HTTP/1.1 200 "));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(second).await.is_ok() {
            assert!(Instant::now() < deadline, "it still takes connections");
        }
        // A connection outlives its listener, and its events name it.
        assert!(ask(&mut on_second, "").await.starts_with("HTTP/1.1 200 "));
        let mut on_first = TcpStream::connect(gateway.addr).await.unwrap();
        assert!(ask(&mut on_first, "").await.starts_with("HTTP/1.1 200 "));
        // One that cannot be had refuses the plan as a whole.
        let held = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config: proxy::config::GatewayConfig = serde_json::from_value(listen(&["fourth"])).unwrap();
        config.listen[1].address = held.local_addr().unwrap().to_string();
        let entities = serde_json::from_value(json!({})).unwrap();
        let plan = proxy::validate(&config, &entities).unwrap();
        let refused = gateway.running.as_ref().unwrap().reloader().reload(plan).unwrap_err();
        assert!(refused.to_string().contains("fourth"), "{refused}");
        assert!(ask(&mut on_third, "").await.starts_with("HTTP/1.1 200 "), "the plan of before is whole");
        let mut names = Vec::new();
        let seen = gateway.all_events(5).await;
        for event in &seen {
            names.push(event.text("listener").to_owned());
        }
        names.sort();
        assert_eq!(names, ["first", "second", "second", "third", "third"]);
    });
}

#[test]
fn a_gateway_that_ends_takes_no_plan() {
    run(async {
        let origin = Patient::new(200).start().await;
        let mut gateway = Gateway::before(origin);
        let running = gateway.running.take().unwrap();
        let reloader = running.reloader();
        running.drain(PATIENCE).await;
        let plan = proxy::validate(&Default::default(), &Default::default()).unwrap();
        assert!(matches!(reloader.reload(plan), Err(proxy::ReloadError::Ending)));
    });
}
