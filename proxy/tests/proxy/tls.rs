//! TLS on both sides: who is believed, which certificate is shown, what is resumed, and what an event says of it.

use crate::support::*;
use event::{AttemptError, Outcome, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An authority, and a folder for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A signed certificate.
struct Signed {
    pem: String,
    key_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    fn sign(&self, name: &str) -> Signed {
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A file of the authority itself.
    fn authorities(&self) -> PathBuf {
        self.file("ca.pem", &self.issuer.pem())
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An origin with TLS that says by which name it was asked for and who asked, and what it saw.
async fn tls_origin(signed: Signed, clients: Option<&Authority>) -> SocketAddr {
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider())
                .allow_unauthenticated()
                .build()
                .unwrap(),
        ),
    };
    let config = builder.with_single_cert(signed.chain, signed.key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    origin(move |number, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let session = stream.get_ref().1;
            let name = session.server_name().unwrap_or("-").to_owned();
            let client = session.peer_certificates().is_some();
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                if got.ends_with(b"\r\n\r\n") {
                    got.clear();
                    let body = format!("connection {number} sni {name} client {client}");
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        }
    })
    .await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n")
}

#[test]
fn upstreams_are_verified_by_name_and_authority() {
    run(async {
        let (good, other) = (Authority::new("good"), Authority::new("other"));
        let addr = tls_origin(good.sign("localhost"), None).await;
        let service = |name: &str, host: &str, rest: Value| {
            let mut service = json!({"name": name, "protocol": "https", "host": host, "port": addr.port(),
                "retries": 0, "routes": [{"name": name, "paths": [format!("/{name}")]}]});
            service.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            service
        };
        let gateway = Gateway::start(
            json!({
                "ca_certificates": [
                    {"id": "good", "cert": good.issuer.pem()}, {"id": "other", "cert_file": other.authorities()}],
                "services": [
                    service("default", "localhost", json!({})),
                    service("right", "localhost", json!({"ca_certificates": ["other", "good"]})),
                    service("wrong", "localhost", json!({"ca_certificates": ["other"]})),
                    service("name", "127.0.0.1", json!({"ca_certificates": ["good"]})),
                    service("anybody", "127.0.0.1", json!({"tls_verify": false})),
                ],
            }),
            json!({"upstream_roots": good.authorities()}),
        );
        for (path, answered) in
            [("default", true), ("right", true), ("wrong", false), ("name", false), ("anybody", true)]
        {
            let got = gateway.talk(get(&format!("/{path}"))).await;
            if answered {
                assert!(got.starts_with("HTTP/1.1 200 "), "{path}: {got}");
                // An address is no server name (RFC 6066, 3), and the client's Host never is.
                let name = if path == "anybody" { "sni - " } else { "sni localhost " };
                assert!(got.contains(name), "{path}: {got}");
            } else {
                assert!(got.starts_with("HTTP/1.1 502 "), "{path}: {got}");
                assert!(got.contains("The TLS handshake with the upstream server failed"), "{got}");
            }
        }
        for event in gateway.events(5).await {
            let (_, _, error, _, _) = &event.attempts[0];
            if matches!(event.text("route"), "wrong" | "name") {
                assert_eq!((event.outcome, *error), (Outcome::ConnectFailed, AttemptError::TlsFailed));
                assert_eq!(event.text("error"), "TLS with the upstream failed");
            } else {
                assert_eq!((event.outcome, *error), (Outcome::Ok, AttemptError::None));
                assert_ne!(event.head.tls_us, event::ABSENT_U32);
            }
        }
    });
}

#[test]
fn chains_are_as_long_as_is_said() {
    run(async {
        let root = Authority::new("root");
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "between");
        let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root.issuer).unwrap();
        let between = Authority { issuer: between, folder: tempfile::tempdir().unwrap() };
        let mut signed = between.sign("localhost");
        signed.chain.push(between.issuer.der().clone());
        let addr = tls_origin(signed, None).await;
        let service = |depth: u32| {
            json!({"protocol": "https", "host": "localhost", "port": addr.port(), "retries": 0,
            "tls_verify_depth": depth, "routes": [{"name": depth.to_string(), "paths": [format!("/{depth}")]}]})
        };
        let gateway = Gateway::start(
            json!({"services": [service(0), service(1)]}),
            json!({"upstream_roots": root.authorities()}),
        );
        assert!(gateway.talk(get("/0")).await.starts_with("HTTP/1.1 502 "));
        assert!(gateway.talk(get("/1")).await.starts_with("HTTP/1.1 200 "));
        gateway.events(2).await;
    });
}

#[test]
fn connections_of_different_identity_are_never_shared() {
    run(async {
        let authority = Authority::new("one");
        let addr = tls_origin(authority.sign("localhost"), Some(&authority)).await;
        let client = authority.sign("gateway");
        let service = |name: &str, rest: Value| {
            let mut service = json!({"name": name, "protocol": "https", "host": "group", "routes": [{"paths": [format!("/{name}")]}]});
            service.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            service
        };
        let gateway = Gateway::start(
            json!({
                "certificates": [{"id": "ours", "cert": client.pem, "key": client.key_pem}],
                "services": [service("plain", json!({})), service("also", json!({})),
                    service("shown", json!({"client_certificate": {"id": "ours"}}))],
                "upstreams": [{"name": "group", "host_header": "localhost:1", "targets": [{"target": addr.to_string()}]}],
            }),
            json!({"upstream_roots": authority.authorities()}),
        );
        let mut seen = Vec::new();
        for path in ["plain", "shown", "plain", "shown", "also"] {
            let got = gateway.talk(get(&format!("/{path}"))).await;
            seen.push(got.rsplit("\r\n\r\n").next().unwrap().to_owned());
        }
        // The name is that of `host_header`, without its port.
        assert_eq!(
            seen,
            [
                "connection 0 sni localhost client false",
                "connection 1 sni localhost client true",
                "connection 0 sni localhost client false",
                "connection 1 sni localhost client true",
                "connection 0 sni localhost client false",
            ]
        );
        let reused: Vec<_> = gateway.events(5).await.iter().map(|event| event.attempts[0].3).collect();
        assert_eq!(reused, [false, false, true, true, true]);
    });
}

/// A listener that shows certificates by name, and answers everything.
async fn by_name(authority: &Authority, rest: Value) -> (Gateway, Value) {
    let file = |name: &str, text: &str| authority.file(name, text);
    let (a, b, c) = (authority.sign("a.test"), authority.sign("*.b.test"), authority.sign("default.test"));
    let mut tls = json!({
        "certificate": file("c.pem", &c.pem), "key": file("c.key", &c.key_pem),
        "certificates": [{"certificate": file("a.pem", &a.pem), "key": file("a.key", &a.key_pem), "snis": ["a.test"]}],
    });
    tls.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let mut entities = everything_to(echo().await);
    entities["certificates"] =
        json!([{"id": "b", "cert": b.pem, "key": b.key_pem, "snis": [{"name": "*.b.test"}]}]);
    entities["snis"] = json!([{"name": "flat.test", "certificate": {"id": "b"}}]);
    let config = json!({"listen": [{"name": "tls", "address": "127.0.0.1:0", "tls": tls}]});
    (Gateway::start(entities.clone(), config.clone()), json!([config, entities]))
}

/// What `openssl s_client` says, after it has sent a request.
async fn s_client(addr: SocketAddr, options: &[&str]) -> String {
    let mut child = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &addr.to_string(), "-ign_eof"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is installed");
    let mut stdin = child.stdin.take().unwrap();
    // It may refuse before it reads.
    let _sent = stdin.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    drop(stdin);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn certificates_are_shown_by_server_name() {
    run(async {
        let authority = Authority::new("ca");
        let (gateway, _) = by_name(&authority, json!({})).await;
        for (options, subject) in [
            (&["-servername", "a.test"][..], "CN = a.test"),
            (&["-servername", "x.b.test"], "CN = *.b.test"),
            (&["-servername", "flat.test"], "CN = *.b.test"),
            (&["-servername", "unknown.test"], "CN = default.test"),
            (&["-noservername"], "CN = default.test"),
        ] {
            let said = s_client(gateway.addr, options).await.replace("CN=", "CN = ");
            assert!(said.contains(subject) && said.contains("HTTP/1.1 200 OK"), "{options:?}: {said}");
        }
        gateway.events(5).await;
    });
}

#[test]
fn versions_are_modern() {
    run(async {
        let authority = Authority::new("ca");
        let (gateway, _) = by_name(&authority, json!({})).await;
        assert!(s_client(gateway.addr, &["-tls1_2"]).await.contains("HTTP/1.1 200 OK"));
        assert!(s_client(gateway.addr, &["-tls1_3"]).await.contains("HTTP/1.1 200 OK"));
        for options in [
            &["-tls1_1"][..],
            &["-tls1_2", "-cipher", "AES128-SHA"],
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
        ] {
            let said = s_client(gateway.addr, options).await;
            assert!(!said.contains("HTTP/1.1"), "{options:?}: {said}");
        }
        let versions: Vec<_> = gateway.events(2).await.iter().map(|event| event.head.tls_version).collect();
        assert_eq!(versions, [TlsVersion::Tls12 as u8, TlsVersion::Tls13 as u8]);
        let (gateway, _) = by_name(&authority, json!({"version_min": "1.3"})).await;
        assert!(!s_client(gateway.addr, &["-tls1_2"]).await.contains("HTTP/1.1"));
        assert!(s_client(gateway.addr, &["-tls1_3"]).await.contains("HTTP/1.1 200 OK"));
    });
}

#[test]
fn sessions_are_resumed() {
    run(async {
        let authority = Authority::new("ca");
        let (gateway, _) = by_name(&authority, json!({})).await;
        for version in ["-tls1_2", "-tls1_3"] {
            let session = authority.folder.path().join(version);
            let session = session.to_str().unwrap();
            let first = s_client(gateway.addr, &[version, "-sess_out", session]).await;
            assert!(first.contains("New, TLSv"), "{first}");
            let again = s_client(gateway.addr, &[version, "-sess_in", session]).await;
            assert!(again.contains("Reused, TLSv") && again.contains("HTTP/1.1 200 OK"), "{again}");
        }
    });
}

#[test]
fn clients_show_who_they_are() {
    run(async {
        let (authority, stranger) = (Authority::new("ca"), Authority::new("stranger"));
        let files = |authority: &Authority| {
            let client = authority.sign("caller.test");
            let cert = authority.file("client.pem", &client.pem).display().to_string();
            (cert, authority.file("client.key", &client.key_pem).display().to_string())
        };
        let (known, unknown) = (files(&authority), files(&stranger));
        for (mode, without) in [("optional", true), ("required", false)] {
            let rest = json!({"client_certificates": mode, "client_authorities": authority.authorities()});
            let (gateway, _) = by_name(&authority, rest).await;
            let said = s_client(gateway.addr, &["-cert", &known.0, "-key", &known.1]).await;
            assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
            let said = s_client(gateway.addr, &["-cert", &unknown.0, "-key", &unknown.1]).await;
            assert!(!said.contains("HTTP/1.1"), "{said}");
            let said = s_client(gateway.addr, &[]).await;
            assert_eq!(said.contains("HTTP/1.1 200 OK"), without, "{said}");
            let events = gateway.events(1 + usize::from(without)).await;
            assert_eq!(events[0].extra("tls.client.subject"), Some("CN=caller.test"));
            assert_eq!(events[0].extra("tls.client.hash.sha256").map(str::len), Some(64));
            // Nobody is a consumer by a certificate alone.
            assert_eq!((events[0].head.auth_method, events[0].text("consumer")), (0, ""));
            if without {
                assert_eq!(events[1].extra("tls.client.subject"), None);
            }
        }
    });
}

#[test]
fn certificates_are_renewed_without_a_dropped_connection() {
    run(async {
        let authority = Authority::new("ca");
        let (gateway, configuration) = by_name(&authority, json!({})).await;
        let shown = Rc::new(RefCell::new(Vec::new()));
        let connect = || async {
            let config = rustls::ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(authority.roots())
                .with_no_client_auth();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = TcpStream::connect(gateway.addr).await.unwrap();
            let stream = connector.connect("a.test".try_into().unwrap(), stream).await.unwrap();
            shown.borrow_mut().push(stream.get_ref().1.peer_certificates().unwrap()[0].clone());
            stream
        };
        let mut before = connect().await;
        let renewed = authority.sign("a.test");
        authority.file("a.pem", &renewed.pem);
        authority.file("a.key", &renewed.key_pem);
        let config: proxy::config::GatewayConfig = serde_json::from_value(configuration[0].clone()).unwrap();
        let entities: proxy::config::Entities = serde_json::from_value(configuration[1].clone()).unwrap();
        let plan = proxy::validate(&config, &entities).unwrap();
        let reloaded = gateway.running.as_ref().unwrap().reloader().reload(plan).unwrap();
        assert_eq!(reloaded, proxy::Reloaded::default());
        let mut after = connect().await;
        for stream in [&mut before, &mut after] {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            assert!(got.starts_with(b"HTTP/1.1 200 "));
        }
        let shown = shown.take();
        assert_ne!(shown[0], shown[1]);
        assert_eq!(shown[1], renewed.chain[0]);
        gateway.events(2).await;
    });
}

#[test]
fn what_is_wrong_with_tls_is_said_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let (one, two) = (authority.sign("one"), authority.sign("two"));
    let entities = json!({
        "certificates": [
            {"id": "a", "cert": one.pem, "key": two.key_pem},
            {"id": "b", "cert": one.pem, "key": one.key_pem, "snis": ["x.test", "x.test", "a*b"]},
            {"cert": "nothing", "key_file": folder.path().join("none")},
            {"cert": one.pem, "cert_file": "x"},
        ],
        "snis": [{"name": "y", "certificate": "zzz"}],
        "ca_certificates": [{"cert": authority.issuer.pem()}, {"id": "c", "cert": authority.issuer.pem(), "cert_digest": "00"}],
        "services": [
            {"url": "https://h", "tls_verify_depth": 7, "ca_certificates": ["zzz"], "client_certificate": {"id": "zzz"}},
            {"url": "http://h", "tls_verify": false}, {"url": "https://h", "tls_verify": false, "tls_verify_depth": 1}],
    });
    let gateway = json!({"listen": [
        {"name": "a", "address": "127.0.0.1:0", "tls": {"certificate": "x"}},
        {"name": "b", "address": "127.0.0.1:1", "tls": {"client_certificates": "required"}},
        {"name": "c", "address": "127.0.0.1:2", "tls": {"client_authorities": "x"}}],
        "upstream_roots": folder.path().join("none")});
    let found: Vec<_> = proxy::validate(
        &serde_json::from_value(gateway).unwrap(),
        &serde_json::from_value(entities).unwrap(),
    )
    .unwrap_err()
    .into_iter()
    .map(|problem| problem.path)
    .collect();
    for path in [
        "certificates[0]",
        "certificates[1].snis[1]",
        "certificates[1].snis[2]",
        "certificates[2].cert",
        "certificates[2].key",
        "certificates[3].cert_file",
        "certificates[3].key",
        "snis[0].certificate",
        "ca_certificates[0].id",
        "ca_certificates[1].cert_digest",
        "services[0].tls_verify_depth",
        "services[0].ca_certificates[0]",
        "services[0].client_certificate",
        "services[1].tls_verify",
        "services[2].tls_verify",
        "gateway.listen[0].tls.key",
        "gateway.listen[1].tls.client_authorities",
        "gateway.listen[2].tls.client_authorities",
        "gateway.upstream_roots",
    ] {
        assert!(found.iter().any(|found| found == path), "{path} is missing in {found:#?}");
    }
}
