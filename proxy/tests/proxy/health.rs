//! Targets that fall ill and recover, found out by traffic and by checks.

use crate::support::*;
use bytes::Bytes;
use event::Outcome;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// An origin whose status can be changed. It remembers the heads it was sent.
#[derive(Clone)]
pub struct Patient {
    pub status: Rc<Cell<u16>>,
    pub heads: Rc<RefCell<Vec<String>>>,
}

impl Patient {
    pub fn new(status: u16) -> Self {
        Self { status: Rc::new(Cell::new(status)), heads: Rc::default() }
    }

    pub async fn start(&self) -> SocketAddr {
        let own = self.clone();
        origin(move |_, stream| own.clone().serve(stream)).await
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            if got.ends_with(b"\r\n\r\n") {
                self.heads.borrow_mut().push(String::from_utf8_lossy(&got).into_owned());
                got.clear();
                let answer = format!("HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n", self.status.get());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn gateway(healthchecks: &Value, targets: &[SocketAddr], retries: u32) -> Gateway {
    gateway_with(healthchecks, targets, retries, json!({}))
}

fn gateway_with(healthchecks: &Value, targets: &[SocketAddr], retries: u32, mut config: Value) -> Gateway {
    let targets: Vec<_> = targets.iter().map(|addr| json!({"target": addr.to_string()})).collect();
    let services = json!([{"name": "s", "host": "group", "retries": retries, "read_timeout": 100,
        "routes": [{"paths": ["/"]}]}]);
    let upstreams = json!([{"name": "group", "targets": targets, "healthchecks": healthchecks}]);
    config["timeouts"] = json!({"sweep_interval_ms": 10});
    Gateway::start(json!({"services": services, "upstreams": upstreams}), config)
}

async fn status(gateway: &Gateway) -> u16 {
    gateway.talk(GET).await[9..12].parse().unwrap()
}

async fn until(gateway: &Gateway, wanted: u16) {
    let deadline = Instant::now() + PATIENCE;
    while status(gateway).await != wanted {
        assert!(Instant::now() < deadline, "never {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn bad_statuses_of_the_traffic_take_a_target_out() {
    run(async {
        let (sick, well) = (Patient::new(500), Patient::new(200));
        let targets = [sick.start().await, well.start().await];
        let checks = json!({"passive": {"unhealthy": {"http_failures": 3}}});
        let gateway = gateway(&checks, &targets, 0);
        let mut statuses = Vec::new();
        for _ in 0..12 {
            statuses.push(status(&gateway).await);
        }
        assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 3, "{statuses:?}");
        assert_eq!(sick.heads.borrow().len(), 3);
        assert_eq!(statuses[6..], [200; 6]);
    });
}

#[test]
fn without_a_healthy_target_it_is_503_and_says_so() {
    run(async {
        let sick = Patient::new(503);
        let checks = json!({"passive": {"unhealthy": {"http_failures": 1}}});
        let gateway = gateway(&checks, &[sick.start().await], 5);
        assert_eq!(status(&gateway).await, 503);
        let got = gateway.talk(GET).await;
        assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
        assert!(got.contains("failure to get a peer from the ring-balancer"), "{got}");
        let events = gateway.events(2).await;
        assert_eq!((events[0].outcome, events[0].attempts.len()), (Outcome::Ok, 1));
        assert_eq!((events[1].outcome, events[1].attempts.len()), (Outcome::NoHealthyUpstream, 0));
        assert_eq!(sick.heads.borrow().len(), 1, "it is left alone");
    });
}

#[test]
fn refused_connections_and_time_outs_count_by_their_own_bounds() {
    run(async {
        let refusing = free_addr();
        let checks = json!({"passive": {"unhealthy": {"tcp_failures": 2, "timeouts": 3}}});
        let gateway = gateway(&checks, &[refusing], 0);
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(status(&gateway).await);
        }
        assert_eq!(statuses, [502, 502, 503]);
        let silent = origin(|_, mut stream: TcpStream| async move {
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {}
        });
        let gateway = self::gateway(&checks, &[silent.await], 0);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(status(&gateway).await);
        }
        assert_eq!(statuses, [504, 504, 504, 503]);
    });
}

#[test]
fn with_too_little_weight_left_the_whole_upstream_is_unfit() {
    run(async {
        let (sick, well) = (Patient::new(500), Patient::new(200));
        let targets = [sick.start().await, well.start().await];
        let checks = json!({"threshold": 60, "passive": {"unhealthy": {"http_failures": 1}}});
        let gateway = gateway(&checks, &targets, 0);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(status(&gateway).await);
        }
        assert_eq!(
            statuses.iter().filter(|status| **status == 503).count(),
            4 - sick.heads.borrow().len() - well.heads.borrow().len()
        );
        assert_eq!(statuses[2..], [503, 503], "half of the weight is less than 60 percent");
    });
}

#[test]
fn checks_take_a_target_out_and_bring_it_back_without_traffic() {
    run(async {
        let patient = Patient::new(500);
        let checks = json!({"active": {
            "http_path": "/alive?x=1", "headers": {"X-Probe": ["one", "two"]},
            "healthy": {"interval": 0.02, "successes": 2}, "unhealthy": {"interval": 0.02, "http_failures": 2},
        }});
        let gateway = gateway(&checks, &[patient.start().await], 0);
        let deadline = Instant::now() + PATIENCE;
        while patient.heads.borrow().len() < 3 {
            assert!(Instant::now() < deadline, "nobody checks");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(gateway.talk(GET).await.contains("failure to get a peer"), "no request was needed");
        let probe = patient.heads.borrow()[0].clone();
        assert!(probe.starts_with("GET /alive?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{probe}");
        assert!(probe.contains("x-probe: one\r\nx-probe: two\r\n"), "{probe}");
        patient.status.set(200);
        until(&gateway, 200).await;
        patient.status.set(429);
        until(&gateway, 503).await;
    });
}

#[test]
fn one_prober_checks_for_all_threads() {
    run(async {
        let patient = Patient::new(200);
        let checks = json!({"active": {"healthy": {"interval": 0.2}}});
        let _gateway = gateway_with(&checks, &[patient.start().await], 0, json!({"threads": 3}));
        let begun = Instant::now();
        while patient.heads.borrow().len() < 4 {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(begun.elapsed() > Duration::from_millis(500), "the interval is kept: {:?}", begun.elapsed());
    });
}

#[test]
fn a_connection_is_a_check_too() {
    run(async {
        let addr = free_addr();
        let checks = json!({"active": {"type": "tcp", "healthy": {"interval": 0.02, "successes": 1},
            "unhealthy": {"interval": 0.02, "tcp_failures": 2}}});
        let gateway = gateway(&checks, &[addr], 0);
        until(&gateway, 503).await;
        let back = TcpListener::bind(addr).await.unwrap();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = back.accept().await.unwrap();
                tokio::task::spawn_local(Patient::new(200).serve(stream));
            }
        });
        until(&gateway, 200).await;
    });
}

#[test]
fn https_checks_verify_unless_told_not_to() {
    run(async {
        // Verified by the public authorities, by those of the file, and not at all.
        for (verifies, known, fit) in [(true, false, false), (true, true, true), (false, false, true)] {
            let made = rcgen::generate_simple_self_signed(vec!["up.test".to_owned()]).unwrap();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let names = Rc::new(RefCell::new(Vec::new()));
            let (patient, seen) = (Patient::new(200), Rc::clone(&names));
            let own = patient.clone();
            // Cleartext is answered too: it is the checks that are looked at here.
            let addr = origin(move |_, stream: TcpStream| {
                let (acceptor, own, seen) = (acceptor.clone(), own.clone(), Rc::clone(&seen));
                async move {
                    let mut first = [0];
                    stream.peek(&mut first).await.unwrap();
                    if first == [22] {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            seen.borrow_mut().extend(stream.get_ref().1.server_name().map(str::to_owned));
                            own.serve(stream).await;
                        }
                    } else {
                        own.serve(stream).await;
                    }
                }
            })
            .await;
            let checks = json!({"active": {"type": "https", "https_verify_certificate": verifies,
                "https_sni": "up.test", "healthy": {"interval": 0.02, "successes": 1},
                "unhealthy": {"interval": 0.02, "tcp_failures": 1}}});
            let folder = tempfile::tempdir().unwrap();
            let roots = folder.path().join("roots.pem");
            std::fs::write(&roots, made.cert.pem()).unwrap();
            let config = if known { json!({"upstream_roots": roots}) } else { json!({}) };
            let gateway = gateway_with(&checks, &[addr], 0, config);
            if fit {
                let deadline = Instant::now() + PATIENCE;
                while names.borrow().len() < 3 {
                    assert!(Instant::now() < deadline, "no check comes through");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(names.borrow()[0], "up.test");
                assert_eq!(status(&gateway).await, 200);
            } else {
                until(&gateway, 503).await;
                assert!(names.borrow().is_empty(), "nothing is sent to somebody unknown");
            }
        }
    });
}

#[test]
fn grpc_checks_ask_the_health_service_in_cleartext_and_over_tls() {
    run(async {
        grpc_checks("grpc").await;
        grpc_checks("grpcs").await;
    });
}

/// A server whose cleartext is answered too: it is the checks that are looked at here.
async fn grpc_checks(kind: &str) {
    let acceptor = acceptor();
    let serving = Rc::new(Cell::new(true));
    let checks_seen = Rc::new(Cell::new(0));
    let (told, seen) = (Rc::clone(&serving), Rc::clone(&checks_seen));
    let addr = origin(move |_, stream: TcpStream| {
        let (told, seen, acceptor) = (Rc::clone(&told), Rc::clone(&seen), acceptor.clone());
        async move {
            let mut first = [0; 3];
            stream.peek(&mut first).await.unwrap();
            let secure = first[0] == 22;
            if !secure && first != *b"PRI" {
                return Patient::new(200).serve(stream).await;
            }
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                seen.set(seen.get() + 1);
                let state = if told.get() { 1 } else { 2 };
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(&asked[..], [0; 5]);
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", 0.into());
                    let frames = [
                        http_body::Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, state])),
                        http_body::Frame::trailers(trailers),
                    ];
                    let frames = frames.map(Ok::<_, std::convert::Infallible>);
                    Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(
                        futures::stream::iter(frames),
                    )))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(Local);
            if secure {
                let stream = acceptor.accept(stream).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                let _closed = builder.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let _closed = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        }
    })
    .await;
    let checks = json!({"active": {"type": kind, "https_verify_certificate": false, "https_sni": "up.test",
        "healthy": {"interval": 0.02, "successes": 1},
        "unhealthy": {"interval": 0.02, "http_failures": 1}}});
    let gateway = gateway(&checks, &[addr], 0);
    let deadline = Instant::now() + PATIENCE;
    while checks_seen.get() < 3 {
        assert!(Instant::now() < deadline, "nobody checks");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(status(&gateway).await, 200);
    serving.set(false);
    until(&gateway, 503).await;
    serving.set(true);
    until(&gateway, 200).await;
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["up.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// Runs what is not for other threads.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
