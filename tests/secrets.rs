//! A canary in every place a secret travels, and a search for it in everything Tollhouse writes or says.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use support::client;
use support::origin::Origin;
use support::site::{ALICE_KEY, Site};

const CANARIES: [&str; 5] =
    [ALICE_KEY, "canary-bearer-71c2", "canary-cookie-88ab", "canary-query-30de", "canary-wrong-key-4f00"];

fn search(folder: &Path, found: &mut Vec<String>, files: &mut u32) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found, files);
        } else {
            *files += 1;
            check(&path.display().to_string(), &std::fs::read(&path).unwrap(), found);
        }
    }
}

fn check(place: &str, bytes: &[u8], found: &mut Vec<String>) {
    for canary in CANARIES {
        if bytes.windows(canary.len()).any(|window| window == canary.as_bytes()) {
            found.push(format!("{canary} in {place}"));
        }
    }
}

#[test]
fn no_secret_is_ever_written() {
    let origin = Origin::start();
    // Uncompressed text in hot files and spool would show a canary; Parquet is asked through SQL.
    let site = Site::new(origin.addr).set(&["log"], serde_json::json!({ "level": "debug" }));
    let house = site.run();
    let (key, wrong) = (("apikey", ALICE_KEY), ("apikey", CANARIES[4]));
    let rest = [("Authorization", "Bearer canary-bearer-71c2"), ("Cookie", "session=canary-cookie-88ab")];
    let target = "/private/headers?token=canary-query-30de";
    let reply = client::get(house.gateway(), target, &[key, rest[0], rest[1]]).unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("canary-bearer"), "the canaries did reach the upstream");
    assert!(!reply.text().contains(ALICE_KEY), "hide_credentials hides the key from the upstream");
    assert_eq!(client::get(house.gateway(), target, &[wrong, rest[0], rest[1]]).unwrap().status, 401);
    house.rows(2);

    let mut found = Vec::new();
    check("rows", format!("{:?}", house.sql("SELECT * FROM requests")).as_bytes(), &mut found);
    check("metrics", house.metrics().as_bytes(), &mut found);
    let mut files = 0;
    search(&site.data(), &mut found, &mut files);
    assert!(files > 0, "the data folder holds files");
    check("the log", house.log().as_bytes(), &mut found);
    assert!(house.terminate().success());
    search(&site.data(), &mut found, &mut files);
    assert_eq!(found, Vec::<String>::new());
}
