//! `gateway.anonymize`: whole addresses of clients are nowhere in the data folder, and reach the upstream as ever.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::origin::Origin;
use support::site::{ALICE_KEY, Site, Tollhouse};

/// The client as a trusted balancer names it.
const CLIENT: &str = "203.0.113.77";
const CLIENT6: &str = "2001:db8:1234:5678::9";

/// Whether any file below a folder has these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.metadata() {
            Ok(meta) if meta.is_dir() => holds(&path, bytes),
            Ok(meta) if meta.is_file() => {
                std::fs::read(&path).is_ok_and(|all| all.windows(bytes.len()).any(|window| window == bytes))
            }
            _ => false,
        }
    })
}

fn site(origin: &Origin, rules: Value) -> Site {
    Site::new(origin.addr)
        .set(&["gateway", "trusted_ips"], json!(["127.0.0.1"]))
        .set(&["gateway", "anonymize"], rules)
}

fn traffic(house: &Tollhouse) {
    for client in [CLIENT, CLIENT6] {
        let forwarded = ("X-Forwarded-For", client);
        let reply = house.get("/private/headers", &[forwarded, ("apikey", ALICE_KEY)]);
        assert!(reply.text().contains(client), "the upstream is told who it is: {}", reply.text());
        for target in ["/private/echo", "/open/echo", "/nowhere"] {
            house.get(target, &[forwarded]);
        }
    }
    house.rows(8);
}

/// `client_ip`, `peer_ip` and `forwarded_for` of the requests to a path, in the order of time.
fn recorded(house: &Tollhouse, path: &str) -> Vec<Value> {
    let columns = "client_ip, peer_ip, forwarded_for";
    house.sql(&format!("SELECT {columns} FROM requests WHERE path = '{path}' ORDER BY time"))
}

#[test]
fn a_rule_for_all_leaves_no_whole_address_on_the_disk() {
    let origin = Origin::start();
    let site = site(&origin, json!([{ "ipv4_prefix": 16 }]));
    let house = site.run();
    traffic(&house);
    let cut = |client: &str| json!({"client_ip": client, "peer_ip": "127.0.0.0", "forwarded_for": null});
    for path in ["/private/headers", "/private/echo", "/open/echo", "/nowhere"] {
        assert_eq!(recorded(&house, path), [cut("203.0.0.0"), cut("2001:db8:1234::")], "{path}");
    }
    assert!(house.terminate().success());
    let [four, six] = [CLIENT, CLIENT6].map(|ip| event::ip_bytes(ip.parse().unwrap()));
    for bytes in [CLIENT.as_bytes(), CLIENT6.as_bytes(), &four[..], &six[..]] {
        assert!(!holds(&site.data(), bytes), "{bytes:?}");
    }
    assert!(holds(&site.data(), b"private-route"), "the search finds what is there");
}

#[test]
fn the_first_rule_for_a_service_counts_and_others_are_recorded_whole() {
    let origin = Origin::start();
    let rules = json!([
        { "services": ["private"], "ipv4_prefix": 24, "ipv6_prefix": 32 },
        { "services": ["private"], "ipv4_prefix": 0 },
    ]);
    let site = site(&origin, rules);
    let house = site.run();
    traffic(&house);
    for path in ["/private/headers", "/private/echo"] {
        let clients: Vec<_> = recorded(&house, path).iter().map(|row| row["client_ip"].clone()).collect();
        assert_eq!(clients, ["203.0.113.0", "2001:db8::"], "{path}");
    }
    for path in ["/open/echo", "/nowhere"] {
        let whole = |ip: &str| json!({"client_ip": ip, "peer_ip": "127.0.0.1", "forwarded_for": ip});
        assert_eq!(recorded(&house, path), [whole(CLIENT), whole(CLIENT6)], "{path}");
    }
    assert!(house.terminate().success());
}

#[test]
fn wrong_rules_are_refused_by_name() {
    let origin = Origin::start();
    let site = site(&origin, json!([{ "services": ["privat"], "ipv4_prefix": 33, "ipv6_prefix": 129 }]));
    let (code, errors) = site.refused("run");
    assert_eq!(code, 1);
    for said in ["anonymize[0].services[0]", "`privat`", "ipv4_prefix", "ipv6_prefix", "at most 128"] {
        assert!(errors.contains(said), "{said}: {errors}");
    }
}
