//! Who is let in, and what is refused: with clear words on both sides, nothing lost, and the receiver lives on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;

use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::support::tool::python;
use super::{TOKEN, centre, edge, reaches, settled, url};

/// A private authority.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Waits until an edge says why nothing is taken, and changes its file meanwhile: nothing of that is lost.
fn complains(edge: &Tollhouse, words: &str) {
    eventually(words, || match edge.log() {
        log if log.contains(words) => Ok(()),
        log => Err(log),
    });
}

fn send(edge: &Tollhouse, count: usize) {
    for _ in 0..count {
        assert_eq!(edge.get("/open/bytes/300", &[]).status, 200);
    }
}

#[test]
fn tls_and_tokens_decide_who_sends() {
    let origin = Origin::start();
    let (right, wrong) = (authority("right"), authority("wrong"));
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &right).unwrap();
    let site = centre(&origin);
    let file = |name: &str, text: &str| {
        let path = site.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert_file, key_file) = (file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()));
    let (right, wrong) = (file("right.pem", &right.pem()), file("wrong.pem", &wrong.pem()));
    let site =
        site.set(&["collector", "receive", "tls"], json!({ "cert_file": cert_file, "key_file": key_file }));
    let house = site.run();
    let plain = url(&house);
    let safe = plain.replace("grpc://", "grpcs://");

    let mut edge_site = edge(&origin, "edge-1", std::slice::from_ref(&safe));
    let mut expected = 0;
    for (to, ca, token, words) in [
        (&plain, &right, TOKEN, "rows wait in the spool"),
        (&safe, &wrong, TOKEN, "UnknownIssuer"),
        (
            &safe,
            &right,
            "another token, though long enough".replace(' ', "-").as_str(),
            "none of collector.receive.tokens",
        ),
        (&safe, &right, TOKEN, "ready"),
    ] {
        edge_site = edge_site.set(
            &["collector", "forward"],
            json!({ "to": [to], "token": token, "ca_file": ca, "retry_interval_ms": 100 }),
        );
        // The clean end waits for what cannot be sent.
        edge_site = edge_site.set(&["collector", "drain_timeout_ms"], 500.into());
        let edge = edge_site.run();
        send(&edge, 20);
        expected += 20;
        if words == "ready" {
            house.rows(expected);
            reaches(&edge, "tollhouse_forward_connected", &[], 1.0);
        } else {
            complains(&edge, words);
            reaches(&edge, "tollhouse_forward_failures_total", &[], 1.0);
            assert_eq!(house.number("SELECT count(*) AS n FROM requests"), 0);
        }
        let log = edge.log();
        assert!(!log.contains(TOKEN) && !log.contains("another-token"), "a token is in the log: {log}");
        assert!(edge.terminate().success());
    }
    reaches(&house, "tollhouse_receive_refusals_total", &["reason=\"unauthenticated\""], 1.0);
    assert!(house.log().contains("without a valid token"), "{}", house.log());
}

#[test]
fn what_could_never_work_is_refused_at_the_start() {
    let origin = Origin::start();
    for (path, value, words) in [
        ("forward", json!({ "to": ["grpc://127.0.0.1:1"] }), "collector.forward.token: missing"),
        ("forward", json!({ "to": ["grpc://central.example:1"], "token": TOKEN }), "plain text"),
        ("receive", json!({ "listen": "0.0.0.0:0", "tokens": [TOKEN] }), "speaks plain text"),
        ("receive", json!({ "listen": "127.0.0.1:0" }), "nobody could send"),
        (
            "receive",
            json!({ "listen": "127.0.0.1:0", "tokens": [TOKEN], "tls": { "cert_file": "/nowhere", "key_file": "/nowhere" } }),
            "cannot read /nowhere",
        ),
    ] {
        let (code, errors) = Site::new(origin.addr).set(&["collector", path], value).refused("run");
        assert!(code == 1 && errors.contains(words), "{words}: {code} {errors}");
    }
    let relay = edge(&origin, "relay", &["grpc://127.0.0.1:1".into()])
        .set(&["collector", "receive"], json!({ "listen": "127.0.0.1:0", "tokens": [TOKEN] }));
    let (code, errors) = relay.refused("collector");
    assert!(code == 1 && errors.contains("stores nothing, so it cannot receive"), "{errors}");
}

#[test]
fn bytes_that_are_no_grpc_disturb_nobody() {
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let edge_site = edge(&origin, "edge-1", &[url(&house)]);
    let edge = edge_site.run();
    send(&edge, 10);
    let mut held = Vec::new();
    for bytes in [
        &b"\0\xff garbage \r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"",
    ] {
        let mut stream = TcpStream::connect(house.addr("receive")).unwrap();
        stream.write_all(bytes).unwrap();
        held.push(stream);
    }
    send(&edge, 10);
    house.rows(20);
    for stream in &mut held[..3] {
        stream.set_read_timeout(Some(super::support::DEADLINE)).unwrap();
        // Whatever it is told first, it is closed.
        drop(stream.read_to_end(&mut Vec::new()));
    }
    send(&edge, 10);
    house.rows(30);
    settled(&edge, 30);
}

#[test]
fn a_batch_that_is_too_large_for_the_receiver_waits_until_that_takes_it() {
    let origin = Origin::start();
    let mut site = centre(&origin).set(&["collector", "receive", "batch_bytes_max"], (64 << 10).into());
    let house = site.run();
    let wire = super::wire::Wire::to(house.addr("receive"));
    let edge_site = edge(&origin, "edge-1", &[wire.url()]);
    // Texts that differ, so that they take room.
    let proxy = edge_site.start("proxy");
    for number in 0..400 {
        let name = format!("{number}-{}", "x".repeat(1_000));
        assert_eq!(proxy.get("/open/echo", &[("User-Agent", &name)]).status, 200);
    }
    let collector = edge_site.start("collector");
    complains(&collector, "collector.receive.batch_bytes_max");
    reaches(&collector, "tollhouse_forward_failures_total", &["reason=\"too_large\""], 1.0);
    assert!(house.terminate().success());
    site = site.set(&["collector", "receive", "batch_bytes_max"], (64 << 20).into());
    let house = site.run();
    wire.leads(house.addr("receive"));
    house.rows(400);
    assert_eq!(house.number("SELECT count(DISTINCT user_agent) AS n FROM requests"), 400);
}

/// Another Flight client: what it is refused with, and what it may send.
#[test]
fn pyarrow_is_let_in_with_a_token_and_rows_of_the_table_only() {
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let said = Command::new(python())
        .args(["-c", include_str!("client.py")])
        .args([url(&house), TOKEN.to_owned()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{text}");
    println!("{text}");
    for words in [
        "no token: FlightUnauthenticatedError",
        "wrong token: FlightUnauthenticatedError",
        "a name like a lane's: ArrowInvalid",
        "rows of a name like a lane's: ArrowInvalid",
        "wrong schema: ArrowInvalid",
        "no metadata: ArrowInvalid",
        "wrong path: ArrowInvalid",
        "too large: ",
        "accepted: 3 rows",
        "again: 3 rows",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains("column `colour` is unknown here"), "{text}");
    house.rows(3);
    let row = &house.sql("SELECT node, core, sequence, path FROM requests ORDER BY sequence LIMIT 1")[0];
    assert_eq!(
        (&row["node"], &row["sequence"], &row["path"]),
        (&"elsewhere".into(), &1.into(), &"/1".into()),
        "{row}"
    );
    assert_eq!(house.metric("tollhouse_receive_duplicates_total", &[]), 3.0);
    // Its columns are sealed like any others.
    assert!(house.terminate().success());
    let house = site.run();
    house.rows(3);
    let files =
        house.number("SELECT count(*) AS n FROM system.files WHERE path LIKE '%.parquet' AND status = 'ok'");
    assert!(files > 0, "rows of another client were not sealed");
    house.rows(3);
}
