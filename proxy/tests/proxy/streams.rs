//! TCP and TLS streams: routes by ends and by server name, both ways, half-closed, broken and silent; one event each.

use crate::states::{Shown, of};
use crate::support::*;
use event::upstreams::{TargetCondition, UpstreamStates};
use event::{AttemptError, Outcome, Protocol, Scheme, TlsVersion};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Everything, whatever its ends.
fn everything() -> Value {
    json!([{"ip": "0.0.0.0/0"}, {"ip": "::/0"}])
}

fn start(services: Value, listen: Value, more: Value) -> (Gateway, SocketAddr) {
    let mut config = json!({
        "listen": [{"address": "127.0.0.1:0"}],
        "stream_listen": [listen],
        "timeouts": {"sweep_interval_ms": 10, "header_timeout_ms": 300, "stream_idle_timeout_ms": 20_000},
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let gateway = Gateway::start(services, config);
    let listeners = &gateway.running.as_ref().unwrap().listeners;
    let addr = listeners.iter().find(|one| one.stream).unwrap().addr;
    (gateway, addr)
}

fn tcp_to(origin: SocketAddr) -> Value {
    json!({"services": [{"name": "db", "protocol": "tcp", "host": "127.0.0.1", "port": origin.port(), "connect_timeout": 2000,
        "routes": [{"name": "all", "protocols": ["tcp"], "sources": everything()}]}]})
}

fn plain() -> Value {
    json!({"name": "stream", "address": "127.0.0.1:0"})
}

/// Greets, then reads all that comes, and only then answers: neither works without half-closing.
async fn patient() -> SocketAddr {
    origin(|_, mut stream| async move {
        stream.write_all(b"hello ").await.unwrap();
        let mut got = Vec::new();
        if stream.read_to_end(&mut got).await.is_ok() {
            let answer = format!("{} bytes", got.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// A certificate of these names, as files.
fn certificate(folder: &tempfile::TempDir, names: &[&str]) -> (PathBuf, PathBuf, rcgen::Certificate) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let (cert, key) =
        (folder.path().join(format!("{}.pem", names[0])), folder.path().join(format!("{}.key", names[0])));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key, made.cert)
}

fn connector(trusted: &rcgen::Certificate) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

/// An origin of TLS that answers all it was sent when the client has ended.
async fn tls_origin(cert: &PathBuf, key: &PathBuf) -> SocketAddr {
    use rustls_pki_types::pem::PemObject;
    let chain = vec![rustls_pki_types::CertificateDer::from_pem_file(cert).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    origin(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            assert_eq!(stream.get_ref().1.alpn_protocol(), None);
            let mut got = Vec::new();
            if stream.read_to_end(&mut got).await.is_ok() {
                let answer = [b"by tls: ", &got[..]].concat();
                stream.write_all(&answer).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    })
    .await
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    run(async {
        const BYTES: usize = 3 << 20;
        let (gateway, addr) = start(tcp_to(patient().await), plain(), json!({}));
        let mut client = TcpStream::connect(addr).await.unwrap();
        read_until(&mut client, "hello ").await;
        client.write_all(&vec![7; BYTES]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, format!("{BYTES} bytes"));
        let event = gateway.events(1).await.remove(0);
        assert_eq!((event.outcome, event.head.status), (Outcome::Ok, event::ABSENT_U16));
        assert_eq!((event.head.request_bytes, event.head.response_bytes), (BYTES as u64, 6 + 13));
        assert_eq!((event.head.protocol, event.head.scheme), (Protocol::Tcp as u8, Scheme::Tcp as u8));
        assert_eq!(
            (event.text("route"), event.text("service"), event.text("listener")),
            ("all", "db", "stream")
        );
        assert_eq!(event.attempts.len(), 1);
        assert!(
            event.head.duration_us >= event.head.response_body_us
                && event.head.connect_us != event::ABSENT_U32
        );
        assert_eq!((event.text("method"), event.text("path")), ("", ""));
    });
}

#[test]
fn the_next_target_is_tried_and_who_answers_no_more_is_left_out() {
    run(async {
        let dead = free_addr();
        let alive = patient().await;
        let entities = json!({
            "services": [{"name": "db", "protocol": "tcp", "host": "pool", "routes": [
                {"name": "all", "protocols": ["tcp"], "sources": everything()}]}],
            "upstreams": [{"name": "pool", "targets": [{"target": dead.to_string()}, {"target": alive.to_string()}],
                "healthchecks": {"passive": {"type": "tcp", "unhealthy": {"tcp_failures": 1}}}}],
        });
        let (gateway, addr) = start(entities, plain(), json!({}));
        for _ in 0..3 {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(read_all(&mut client).await, "hello 0 bytes");
        }
        let events = gateway.events(3).await;
        let tries: usize = events.iter().map(|event| event.attempts.len()).sum();
        assert_eq!(tries, 4, "the dead one was asked once");
        assert!(events.iter().any(|event| event.attempts[0].2 == AttemptError::ConnectFailed));
        assert!(events.iter().all(|event| event.outcome == Outcome::Ok && event.text("upstream") == "pool"));
    });
}

/// Says its name to whoever connects.
async fn greeter(at: SocketAddr, name: &'static str) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // A check has gone by then.
            let _gone = stream.write_all(name.as_bytes()).await;
        }
    });
}

#[test]
fn connections_made_for_it_tell_which_targets_take_streams() {
    run(async {
        let (dead, alive) = (free_addr(), free_addr());
        greeter(alive, "alive").await;
        let checks = json!({"active": {"type": "tcp", "healthy": {"interval": 0.02, "successes": 2},
            "unhealthy": {"interval": 0.02, "tcp_failures": 2}}});
        let pool = |name: &str, targets: &[SocketAddr]| {
            let targets: Vec<_> = targets.iter().map(|addr| json!({"target": addr.to_string()})).collect();
            json!({"name": name, "targets": targets, "healthchecks": checks})
        };
        let entities = json!({
            "services": [
                {"name": "two", "protocol": "tcp", "host": "two", "retries": 0, "routes": [
                    {"name": "two", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.1"}]}]},
                {"name": "none", "protocol": "tcp", "host": "none", "retries": 0, "routes": [
                    {"name": "none", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.2"}]}]}],
            "upstreams": [pool("two", &[dead, alive]), pool("none", &[dead])],
        });
        let listen = json!([{"address": "127.0.0.1:0"}]);
        let shown = Shown::start(entities, json!({"listen": listen, "stream_listen": [plain()]}));
        let listeners = &shown.gateway.running.as_ref().unwrap().listeners;
        let addr = listeners.iter().find(|one| one.stream).unwrap().addr;
        let talk = async |from: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            match socket.connect(addr).await {
                Ok(mut client) => read_all(&mut client).await,
                Err(error) => format!("[{error}]"),
            }
        };
        let turned = |state: TargetCondition| {
            move |states: &UpstreamStates| {
                let rows = states.targets.iter().filter(|row| row.address == Some(dead.to_string()));
                rows.clone().count() == 2
                    && rows.clone().all(|row| row.state == state && row.checks.failure > 1)
            }
        };
        let states = shown.once("out", turned(TargetCondition::Unhealthy)).await;
        assert_eq!(of(&states, alive).state, TargetCondition::Healthy);
        assert_eq!(of(&states, dead).last_failure_by.as_deref(), Some("check"));
        for _ in 0..4 {
            assert_eq!(talk("127.0.0.1").await, "alive");
        }
        assert!(talk("127.0.0.2").await.starts_with('['), "nobody is fit");
        let mut events = shown.gateway.events(5).await;
        // A client may have its answer a moment before the event is written.
        events.sort_by_key(|event| event.head.time_us);
        let at_alive =
            |event: &Seen| event.attempts.len() == 1 && event.text("upstream_addr") == alive.to_string();
        assert!(
            events[..4].iter().all(|event| event.outcome == Outcome::Ok && at_alive(event)),
            "{events:#?}"
        );
        assert_eq!((events[4].outcome, events[4].attempts.len()), (Outcome::NoHealthyUpstream, 0));
        greeter(dead, "back").await;
        shown.once("in again", turned(TargetCondition::Healthy)).await;
        let mut names = [talk("127.0.0.1").await, talk("127.0.0.1").await];
        names.sort();
        assert_eq!(names, ["alive", "back"]);
        assert_eq!(talk("127.0.0.2").await, "back");
        shown.gateway.events(8).await;
    });
}

#[test]
fn what_breaks_on_one_side_breaks_on_the_other() {
    run(async {
        let origin = origin(|number, mut stream| async move {
            let mut buffer = [0; 100];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(b"half").await.unwrap();
            if number == 0 {
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            } else {
                assert!(
                    stream.read(&mut buffer).await.is_err(),
                    "the client's reset must not look like an end"
                );
            }
        })
        .await;
        let (gateway, addr) = start(tcp_to(origin), plain(), json!({}));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"x").await.unwrap();
        read_until(&mut client, "half").await;
        client.write_all(b"x").await.unwrap();
        let error = client.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"x").await.unwrap();
        read_until(&mut client, "half").await;
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        let events = gateway.events(2).await;
        assert_eq!([events[0].outcome, events[1].outcome], [Outcome::UpstreamReset, Outcome::ClientClosed]);
        assert_eq!((events[0].head.request_bytes, events[0].head.response_bytes), (2, 4));
    });
}

#[test]
fn silence_has_its_bound_and_refusals_their_events() {
    run(async {
        let dead = free_addr();
        let entities = json!({"services": [
            {"name": "db", "protocol": "tcp", "host": "127.0.0.1", "port": patient().await.port(), "routes": [
                {"name": "near", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.2"}]}]},
            {"name": "dead", "protocol": "tcp", "host": "127.0.0.1", "port": dead.port(), "retries": 1, "routes": [
                {"name": "far", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.3"}]}]}]});
        let timeouts = json!({"timeouts": {"sweep_interval_ms": 10, "stream_idle_timeout_ms": 100}});
        let (gateway, addr) = start(entities, plain(), timeouts);
        let from = |ip: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
            socket.connect(addr)
        };
        for (ip, heard) in [("127.0.0.2", "hello "), ("127.0.0.3", ""), ("127.0.0.1", "")] {
            // A reset may come before the connection was seen to be there.
            let got = match from(ip).await {
                Ok(mut client) => read_all(&mut client).await,
                Err(error) => format!("[{error}]"),
            };
            assert!(got.starts_with(heard) && (!heard.is_empty() || got.starts_with('[')), "{got}");
        }
        let events = gateway.events(3).await;
        let outcomes: Vec<_> = events.iter().map(|event| event.outcome).collect();
        assert_eq!(outcomes, [Outcome::RequestTimeout, Outcome::ConnectFailed, Outcome::NoRoute]);
        assert_eq!((events[0].text("route"), events[1].attempts.len()), ("near", 2));
    });
}

#[test]
fn tls_is_ended_here_or_passed_through_by_its_name() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (own_cert, own_key, own) = certificate(&folder, &["own.example"]);
        let (cert, key, theirs) = certificate(&folder, &["through.example"]);
        let secret = tls_origin(&cert, &key).await;
        let (plain, port) = (patient().await.port(), secret.port());
        let entities = json!({"services": [
            {"name": "plain", "protocol": "tcp", "host": "127.0.0.1", "port": plain, "routes": [
                {"name": "ended", "protocols": ["tls"], "snis": ["own.example"]}]},
            {"name": "again", "protocol": "tls", "host": "127.0.0.1", "port": port, "tls_verify": false, "routes": [
                {"name": "encrypted", "protocols": ["tls"], "sources": everything()}]},
            {"name": "raw", "protocol": "tcp", "host": "127.0.0.1", "port": port, "routes": [
                {"name": "through", "protocols": ["tls_passthrough"], "snis": ["through.example"]}]}]});
        let listen = json!({"name": "stream", "address": "127.0.0.1:0", "tls": {"certificate": own_cert, "key": own_key}});
        let (gateway, addr) = start(entities, listen, json!({}));
        let talk = async |name: &'static str, trusted: &rcgen::Certificate, says: &[u8]| {
            let stream = TcpStream::connect(addr).await.unwrap();
            let mut stream = connector(trusted).connect(name.try_into().unwrap(), stream).await?;
            stream.write_all(says).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut got = String::new();
            stream.read_to_string(&mut got).await?;
            std::io::Result::Ok(got)
        };
        assert_eq!(talk("own.example", &own, b"abc").await.unwrap(), "hello 3 bytes");
        assert_eq!(talk("through.example", &theirs, b"abc").await.unwrap(), "by tls: abc");
        assert!(talk("other.example", &own, b"").await.is_err(), "its certificate is for another name");
        let events = gateway.events(3).await;
        let seen: Vec<_> = events.iter().map(|event| (event.text("route"), event.text("sni"))).collect();
        let expected =
            [("ended", "own.example"), ("through", "through.example"), ("encrypted", "other.example")];
        assert_eq!(seen, expected);
        assert!(events.iter().all(|event| event.head.protocol == Protocol::Tls as u8));
        assert_eq!((events[0].head.request_bytes, events[0].head.tls_version), (3, TlsVersion::Tls13 as u8));
        assert!(events[1].head.request_bytes > 300, "the handshake is the upstream's");
        assert_eq!([events[0].outcome, events[1].outcome], [Outcome::Ok; 2]);
        assert_eq!(events[2].outcome, Outcome::BadRequest);
    });
}

#[test]
fn tls_to_the_upstream_names_no_protocol() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key, _) = certificate(&folder, &["db.example"]);
        let secret = tls_origin(&cert, &key).await;
        let entities = json!({"services": [{"name": "db", "protocol": "tls", "host": "127.0.0.1", "port": secret.port(),
            "tls_verify": false, "routes": [{"name": "all", "protocols": ["tcp"], "sources": everything()}]}]});
        let (gateway, addr) = start(entities, plain(), json!({}));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"abc").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, "by tls: abc");
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.outcome, Outcome::Ok);
        assert_ne!(event.head.tls_us, event::ABSENT_U32);
    });
}

#[test]
fn what_is_no_client_hello_is_refused_within_a_bound() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (_, _, theirs) = certificate(&folder, &["through.example"]);
        let entities = json!({"services": [{"name": "raw", "protocol": "tcp", "host": "127.0.0.1", "port": 1, "routes": [
            {"name": "through", "protocols": ["tls_passthrough"], "snis": ["through.example"]}]}]});
        let listen = json!({"name": "stream", "address": "127.0.0.1:0", "passthrough": true});
        let (gateway, addr) = start(entities, listen, json!({"limits": {"client_hello_bytes_max": 512}}));
        // A hello of 64 KiB, in records of 16 KiB, is never whole.
        let mut long = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xfc, 3, 3];
        long.resize(5 + 0x4000, 0);
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 600], &long, &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], &[22, 3]]
        {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(bytes).await.unwrap();
            let mut got = Vec::new();
            let _reset = client.read_to_end(&mut got).await;
            assert!(got.len() <= 7, "{got:?}");
        }
        let events = gateway.events(5).await;
        assert!(events.iter().take(4).all(|event| event.outcome == Outcome::BadRequest), "{events:?}");
        assert_eq!(events[4].outcome, Outcome::RequestTimeout);
        assert!(events.iter().all(|event| event.attempts.is_empty()));
        let unknown = TcpStream::connect(addr).await.unwrap();
        let error =
            connector(&theirs).connect("unknown.example".try_into().unwrap(), unknown).await.unwrap_err();
        assert!(
            error.to_string().contains("UnrecognisedName") || error.to_string().contains("reset"),
            "{error}"
        );
        assert_eq!(gateway.events(6).await[5].outcome, Outcome::NoRoute);
    });
}

#[test]
fn ends_are_told_both_ways_by_the_proxy_protocol() {
    run(async {
        for (version, expected) in [
            ("v1", &b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\nabc"[..]),
            ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc6\x33\x64\x01\x9c\x40\x01\xbbabc"),
        ] {
            let origin = origin(move |_, mut stream| async move {
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, expected);
                stream.write_all(b"right").await.unwrap();
            })
            .await;
            let mut entities = tcp_to(origin);
            entities["services"][0]["send_proxy_protocol"] = json!(version);
            entities["services"][0]["routes"][0]["sources"] =
                json!([{"ip": "203.0.113.0/24", "port": 40000}]);
            entities["services"][0]["routes"][0]["destinations"] = json!([{"port": 443}]);
            let listen = json!({"name": "stream", "address": "127.0.0.1:0", "proxy_protocol": "require"});
            let (gateway, addr) = start(entities, listen, json!({"trusted_ips": ["127.0.0.1"]}));
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\nabc").await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(read_all(&mut client).await, "right");
            let event = gateway.events(1).await.remove(0);
            let ip = event::ip_from_bytes(event.head.client_ip).unwrap().to_string();
            assert_eq!(
                (event.outcome, ip.as_str(), event.head.request_bytes),
                (Outcome::Ok, "203.0.113.7", 3)
            );
        }
    });
}

#[test]
fn what_fits_no_stream_is_refused_with_its_path() {
    let entities = json!({"services": [
        {"name": "s", "protocol": "tcp", "host": "h", "path": "/x", "http2": true, "routes": [
            {"protocols": ["tcp"]},
            {"protocols": ["tcp", "http"], "sources": [{}], "paths": ["/"]},
            {"protocols": ["tls_passthrough"], "destinations": [{"port": 0, "ip": "x"}]},
            {"protocols": ["tcp"], "snis": ["a.x"]},
            {"protocols": ["tls"], "snis": ["*.x"]},
            {"paths": ["/"]}]},
        {"name": "h", "host": "h", "routes": [
            {"protocols": ["tcp"], "destinations": [{"port": 5}]}, {"paths": ["/"], "sources": [{"port": 1}]}]}]});
    let entities = serde_json::from_value(entities).unwrap();
    let problems = proxy::validate(&Default::default(), &entities).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    for path in [
        "services[0].path",
        "services[0].http2",
        "services[0].routes[0]",
        "services[0].routes[1].protocols[1]",
        "services[0].routes[1].sources[0]",
        "services[0].routes[1].paths",
        "services[0].routes[2].snis",
        "services[0].routes[2].destinations[0].port",
        "services[0].routes[2].destinations[0].ip",
        "services[0].routes[3].snis",
        "services[0].routes[4].snis[0]",
        "services[0].routes[5].protocols",
        "services[1].routes[0].service",
        "services[1].routes[1].sources",
    ] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
}
