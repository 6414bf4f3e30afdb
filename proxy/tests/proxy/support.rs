//! A gateway on port 0 with a spool in a temporary folder, and a client that speaks bytes.

use event::spool::{LaneReader, Spool, SpoolConfig};
use event::{AttemptError, Head, Outcome, Text};
use proxy::config::{Entities, GatewayConfig};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[path = "../../../tests/support/port.rs"]
mod port;

pub use port::free_addr;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway.
pub struct Gateway {
    pub addr: SocketAddr,
    pub running: Option<proxy::Running>,
    folder: tempfile::TempDir,
    _spool: Spool,
}

/// An event, owned.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: Head,
    pub outcome: Outcome,
    pub texts: HashMap<&'static str, String>,
    pub attempts: Vec<(String, u16, AttemptError, bool, [u8; 8])>,
    pub extras: HashMap<String, String>,
    pub raw: String,
}

impl Seen {
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    pub fn extra(&self, name: &str) -> Option<&str> {
        self.extras.get(name).map(String::as_str)
    }
}

impl Gateway {
    pub fn start(entities: serde_json::Value, gateway: serde_json::Value) -> Self {
        let plan = plan(entities, gateway);
        let folder = tempfile::tempdir().unwrap();
        let (spool, writers) =
            Spool::open(&SpoolConfig::default(), folder.path(), "test", plan.threads()).unwrap();
        let running = proxy::start(plan, writers).unwrap();
        Self { addr: running.listeners[0].addr, running: Some(running), folder, _spool: spool }
    }

    /// Puts another configuration in force.
    pub fn reload(&self, entities: serde_json::Value, gateway: serde_json::Value) -> proxy::Reloaded {
        let reloaded = self.running.as_ref().unwrap().reloader().reload(plan(entities, gateway)).unwrap();
        assert_eq!(reloaded.late, 0);
        reloaded
    }

    /// One service at this address that takes everything.
    pub fn before(origin: SocketAddr) -> Self {
        Self::start(everything_to(origin), serde_json::json!({"timeouts": {"sweep_interval_ms": 10}}))
    }

    /// The events once there are `count`; more would be an error.
    pub async fn events(&self, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.events_now();
            assert!(seen.len() <= count, "more events than requests: {seen:#?}");
            if seen.len() == count {
                // A second event of one request would come with it or right behind.
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert_eq!(self.events_now().len(), count);
                return seen;
            }
            assert!(Instant::now() < deadline, "only {} of {count} events", seen.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The events of all threads, once there are `count`.
    pub async fn all_events(&self, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let cores = LaneReader::lanes(self.folder.path()).unwrap();
            let seen: Vec<_> = cores.into_iter().flat_map(|core| self.events_of(core)).collect();
            assert!(seen.len() <= count, "more events than requests: {seen:#?}");
            if seen.len() == count {
                return seen;
            }
            assert!(Instant::now() < deadline, "only {} of {count} events", seen.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn events_now(&self) -> Vec<Seen> {
        self.events_of(0)
    }

    fn events_of(&self, core: u16) -> Vec<Seen> {
        let mut reader = LaneReader::open(self.folder.path(), core, None).unwrap();
        let mut seen = Vec::new();
        while reader
            .read(100, |event| {
                let texts = [
                    ("listener", Text::Listener),
                    ("consumer", Text::Consumer),
                    ("credential", Text::CredentialId),
                    ("method", Text::Method),
                    ("host", Text::Host),
                    ("path", Text::Path),
                    ("route", Text::Route),
                    ("service", Text::Service),
                    ("upstream_addr", Text::UpstreamAddr),
                    ("error", Text::Error),
                    ("content_type", Text::ContentType),
                    ("sni", Text::TlsSni),
                    ("source", Text::SourceService),
                    ("upstream", Text::Upstream),
                    ("user_agent", Text::UserAgent),
                    ("version", Text::ServiceVersion),
                ];
                seen.push(Seen {
                    head: *event.head,
                    outcome: event.outcome(),
                    texts: texts
                        .into_iter()
                        .filter_map(|(n, t)| Some((n, event.str(t)?.into_owned())))
                        .collect(),
                    attempts: event
                        .attempts()
                        .map(|a| {
                            (String::from_utf8_lossy(a.addr).into(), a.status, a.error, a.reused, a.span_id)
                        })
                        .collect(),
                    extras: event
                        .extra()
                        .map(|(key, value)| {
                            (String::from_utf8_lossy(key).into(), String::from_utf8_lossy(value).into())
                        })
                        .collect(),
                    raw: format!("{event:?}"),
                });
            })
            .unwrap()
            > 0
        {}
        seen
    }

    /// Sends bytes on a new connection and reads until the gateway closes it.
    pub async fn talk(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = TcpStream::connect(self.addr).await.unwrap();
        client.write_all(request.as_ref()).await.unwrap();
        read_all(&mut client).await
    }
}

fn plan(entities: serde_json::Value, gateway: serde_json::Value) -> proxy::Plan {
    let entities: Entities = serde_json::from_value(entities).unwrap();
    let mut config: GatewayConfig = serde_json::from_value(gateway).unwrap();
    if config.listen[0].tls.is_none() {
        config.listen[0].address = "127.0.0.1:0".into();
    }
    // One, unless a test is about several.
    config.threads = config.threads.max(1);
    proxy::validate(&config, &entities).unwrap()
}

pub fn everything_to(origin: SocketAddr) -> serde_json::Value {
    serde_json::json!({"services": [
        {"name": "origin", "url": format!("http://{origin}"), "routes": [{"name": "all", "paths": ["/"], "strip_path": false}]}]})
}

pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let done = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await;
    if let Ok(Err(error)) = done {
        got.extend_from_slice(format!("[{error}]").as_bytes());
    } else {
        done.expect("the gateway closes in time").unwrap();
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// Reads until `what` has come.
pub async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, async {
        while !String::from_utf8_lossy(&got).contains(what) {
            assert!(
                stream.read_buf(&mut got).await.unwrap() > 0,
                "closed: {}",
                String::from_utf8_lossy(&got)
            );
        }
    })
    .await
    .unwrap_or_else(|_| panic!("`{what}` never came: {}", String::from_utf8_lossy(&got)));
    String::from_utf8_lossy(&got).into_owned()
}

/// An origin that plays a part on each connection, numbered from 0.
pub async fn origin<F, P>(part: P) -> SocketAddr
where
    P: Fn(usize, TcpStream) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut number = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(part(number, stream));
            number += 1;
        }
    });
    addr
}

/// An origin that answers each request head with its own bytes as the body, keeping connections open.
pub async fn echo() -> SocketAddr {
    origin(|_, mut stream| async move {
        let mut got = Vec::new();
        while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            while let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&got[..end + 4]).into_owned();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/x\r\ncontent-length: {}\r\n\r\n{head}",
                    head.len()
                );
                got.drain(..end + 4);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// An origin whose one answer to each connection comes when it is told to.
pub struct Told {
    pub addr: SocketAddr,
    /// A request has come.
    pub arrived: Rc<Notify>,
    /// Answer it: 200, `ok`.
    pub go: Rc<Notify>,
}

impl Told {
    pub async fn start() -> Self {
        let (arrived, go) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (said, told) = (Rc::clone(&arrived), Rc::clone(&go));
        let addr = origin(move |_, mut stream| {
            let (said, told) = (Rc::clone(&said), Rc::clone(&told));
            async move {
                let mut buffer = [0; 4096];
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                said.notify_one();
                told.notified().await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        });
        Self { addr: addr.await, arrived, go }
    }
}

/// A certificate of `localhost` that nobody else has signed, with its key, as files.
pub struct SelfSigned {
    pub cert: PathBuf,
    pub key: PathBuf,
    der: rustls::pki_types::CertificateDer<'static>,
    _folder: tempfile::TempDir,
}

impl SelfSigned {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { cert, key, der: made.cert.der().clone(), _folder: folder }
    }

    /// As a listener's `tls`.
    pub fn tls(&self) -> serde_json::Value {
        serde_json::json!({"certificate": self.cert, "key": self.key})
    }

    /// What a client needs who believes it.
    pub fn believed(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { tokio::time::timeout(PATIENCE * 3, test).await.unwrap() });
}
