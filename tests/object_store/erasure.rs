//! What is erased is gone from the bucket too, also from files that were nowhere else.

use serde_json::{Value, json};

use super::support::bucket::Store;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::search::has_consumer;
use super::support::site::{ALICE_KEY, BOB_KEY};
use super::{reader, site};

#[test]
fn erased_rows_are_in_no_object() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let mut section = store.section();
    section["local_bytes_max"] = 0.into();
    let site = site(&origin, section).set(&["collector", "retention"], json!({ "grace_s": 0 }));
    let house = site.run();
    for _ in 0..40 {
        assert_eq!(house.get("/private/echo", &[("apikey", ALICE_KEY)]).status, 200);
        assert_eq!(house.get("/private/echo", &[("apikey", BOB_KEY)]).status, 200);
    }
    house.rows(80);
    eventually("all files to be in the bucket only", || {
        let places = house.sql("SELECT DISTINCT place FROM system.files WHERE kind <> 'hot' OR rows > 0");
        if places == [json!({ "place": "bucket" })] { Ok(()) } else { Err(format!("{places:?}")) }
    });
    let with = |name: &str| {
        let objects = store.objects().into_iter();
        let paths = objects.map(|object| folder.path().join("s3/buckets/logs").join(object));
        paths.filter(|path| has_consumer(path, name)).count()
    };
    assert!(with("alice") >= 3, "rows and both roll-ups");
    let erased = std::process::Command::new(env!("CARGO_BIN_EXE_tollhouse"))
        .args(["erase", "--consumer", "alice", "--yes", "--json", "--data"])
        .arg(site.data())
        .current_dir(site.folder())
        .output()
        .unwrap();
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
    let said: Value = serde_json::from_slice(&erased.stdout).unwrap();
    assert_eq!((&said["done"], &said["rows"]), (&json!(true), &json!(40)), "{said}");
    assert_eq!(with("alice"), 0, "when it is done nothing is left");
    assert!(with("bob") >= 3);
    let rows = "SELECT consumer, count(*) AS n FROM requests GROUP BY consumer";
    let only_bob = [json!({ "consumer": "bob", "n": 40 })];
    assert_eq!(house.sql(rows), only_bob);
    let (_folder, second) = reader(&origin, store.section());
    second.rows(40);
    assert_eq!(second.sql(rows), only_bob);
    let groups = "SELECT consumer, CAST(sum(requests) AS BIGINT) AS n FROM traffic_1m GROUP BY consumer";
    assert_eq!([house.sql(groups), second.sql(groups)], [only_bob.clone(), only_bob]);
    assert!(house.terminate().success());
}
