//! What the tests of each door to the analytics share: traffic whose rows are known, tokens, and what no operator may say.

use serde_json::{Value, json};

use super::origin::Origin;
use super::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};
use super::{client, eventually};

/// A token that may see everything; its name is `grafana`.
pub const ALL: &str = "all-secret-0123456789";
/// One of the consumer `alice`.
pub const ALICE: &str = "alice-secret-0123456789";
/// The rows of [`traffic`], and those of alice.
pub const ROWS: u64 = 8;
pub const ALICES: u64 = 3;

/// A site whose service has tokens.
pub fn guarded(origin: &Origin) -> Site {
    Site::new(origin.addr).set(
        &["analytics", "tokens"],
        json!([
            { "name": "grafana", "secret": ALL },
            { "name": "alice", "secret": ALICE, "consumer": "alice" },
        ]),
    )
}

/// Requests of two consumers and of nobody, with the columns that they fill.
pub fn traffic(house: &Tollhouse) {
    for number in 0..6 {
        let path = format!("/private/status/{}", [200, 201, 404][number % 3]);
        client::get(house.gateway(), &path, &[("apikey", [ALICE_KEY, BOB_KEY][number % 2])]).unwrap();
    }
    client::exchange(house.gateway(), "POST", "/open/count", &[], &[b'u'; 5000]).unwrap();
    client::get(house.gateway(), "/nowhere", &[("user-agent", "a \"quoted\", {odd} one\\ é")]).unwrap();
}

/// A house that everybody may ask, with that traffic.
pub fn house() -> (Origin, Site, Tollhouse) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    traffic(&house);
    house.rows(ROWS);
    (origin, site, house)
}

/// The rows of a statement over HTTP, with a token.
pub fn http(house: &Tollhouse, token: &str, statement: &str) -> Vec<Value> {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Accept", "application/json")];
    let reply = client::exchange(house.addr("sql"), "POST", "/sql", &headers, statement.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

/// Waits for the rows of [`traffic`] where tokens are needed.
pub fn arrived(house: &Tollhouse) {
    eventually("rows in requests", || {
        let rows = http(house, ALL, "SELECT count(*) AS n FROM requests");
        if rows[0]["n"] == ROWS { Ok(()) } else { Err(format!("{rows:?}")) }
    });
}

/// Asserts that no configuration of a door (`analytics.NAME`) shows everything to everybody; `bound` is one of its fields
/// that may not be 0. Without an address there is no such door, and the others are open.
pub fn assert_no_open_door(name: &str, bound: &str) {
    let origin = Origin::start();
    let with = |value: Value| Site::new(origin.addr).set(&["analytics", name], value);
    let mut unbounded = json!({ "listen": "127.0.0.1:0" });
    unbounded[bound] = 0.into();
    let half = json!({ "listen": "127.0.0.1:0", "tls": { "cert_file": "/nowhere" } });
    let nowhere =
        json!({ "listen": "127.0.0.1:0", "tls": { "cert_file": "/nowhere", "key_file": "/nowhere" } });
    for (value, words) in [
        (
            json!({ "listen": "0.0.0.0:0", "allow_plaintext": true }),
            "whoever reaches this address".to_owned(),
        ),
        (json!({ "listen": "0.0.0.0:0" }), "speaks plain text".into()),
        (half, format!("analytics.{name}.tls.key_file")),
        (nowhere, "/nowhere".into()),
        (unbounded, format!("analytics.{name}.{bound}")),
    ] {
        let (code, stderr) = with(value.clone()).refused("analytics");
        assert!(code != 0 && stderr.contains(&words), "{value}: {stderr}");
    }
    let site = with(json!({ "listen": null }));
    assert_eq!(site.run().sql("SELECT 1 AS n"), [json!({ "n": 1 })]);
}
