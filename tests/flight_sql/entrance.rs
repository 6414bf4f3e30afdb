//! Who is let in: tokens right, wrong and missing, users with passwords, TLS, and what an operator may configure.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::Site;
use super::{ALICES, ROWS, adbc, adbc_at, http, traffic};

/// A token that may see everything.
const ALL: &str = "all-secret-0123456789";
/// One of a consumer.
const ALICE: &str = "alice-secret-0123456789";

/// A site whose service has tokens.
fn guarded(origin: &Origin) -> Site {
    Site::new(origin.addr).set(
        &["analytics", "tokens"],
        json!([
            { "name": "grafana", "secret": ALL },
            { "name": "alice", "secret": ALICE, "consumer": "alice" },
        ]),
    )
}

#[test]
fn a_token_shows_its_own_rows_and_without_one_there_are_none() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let house = site.run();
    traffic(&house);
    eventually("rows in requests", || {
        let rows = http(&house, ALL, "SELECT count(*) AS n FROM requests");
        if rows[0]["n"] == ROWS { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    adbc(&house, "tokens", &[ALL, ALICE, &ROWS.to_string(), &ALICES.to_string()]);
    assert!(!house.log().contains(ALL) && !house.log().contains("wrong-secret"), "{}", house.log());
}

#[test]
fn with_a_certificate_it_speaks_tls() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (site.folder().join("cert.pem"), site.folder().join("key.pem"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let site = site.set(
        &["analytics", "flight"],
        json!({ "listen": "127.0.0.1:0", "tls": { "cert_file": certificate, "key_file": key } }),
    );
    let house = site.start("analytics");
    adbc_at(&house, "tls", "grpc+tls", &[certificate.to_str().unwrap(), ALL]);
}

#[test]
fn configurations_that_would_show_everything_are_refused() {
    let origin = Origin::start();
    let flight = |value: serde_json::Value| Site::new(origin.addr).set(&["analytics", "flight"], value);
    for (value, words) in [
        (json!({ "listen": "0.0.0.0:0", "allow_plaintext": true }), "whoever reaches this address"),
        (json!({ "listen": "0.0.0.0:0" }), "speaks plain text"),
        (
            json!({ "listen": "127.0.0.1:0", "tls": { "cert_file": "/nowhere" } }),
            "analytics.flight.tls.key_file",
        ),
        (
            json!({ "listen": "127.0.0.1:0", "tls": { "cert_file": "/nowhere", "key_file": "/nowhere" } }),
            "/nowhere",
        ),
        (json!({ "listen": "127.0.0.1:0", "calls_max": 0 }), "analytics.flight.calls_max"),
    ] {
        let (code, stderr) = flight(value.clone()).refused("analytics");
        assert!(code != 0 && stderr.contains(words), "{value}: {stderr}");
    }
    let site = flight(json!({ "listen": null }));
    assert_eq!(site.run().sql("SELECT 1 AS n"), [json!({ "n": 1 })]);
}
