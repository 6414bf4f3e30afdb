//! Who is let in: tokens right, wrong and missing, users with passwords, TLS, and what an operator may configure.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use super::support::doors::{ALICE, ALICES, ALL, ROWS, arrived, assert_no_open_door, guarded, traffic};
use super::support::origin::Origin;
use super::{adbc, adbc_at};

#[test]
fn a_token_shows_its_own_rows_and_without_one_there_are_none() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let house = site.run();
    traffic(&house);
    arrived(&house);
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
    assert_no_open_door("flight", "calls_max");
}
