//! A bucket that cannot be used: the log says what to do, and no request is changed by it.

use serde_json::Value;

use super::support::bucket::Store;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::port::free_addr;
use super::{bucket_metric, site};

/// What the log says of a bucket.
fn said(section: Value) -> String {
    let origin = Origin::start();
    let site = site(&origin, section);
    let house = site.run();
    for _ in 0..50 {
        assert_eq!(house.get("/open/echo", &[]).status, 200);
    }
    house.rows(50);
    eventually("a failure", || match bucket_metric(&house, "failures_total") {
        0.0 => Err(house.log()),
        _ => Ok(()),
    });
    assert_eq!(bucket_metric(&house, "last_success_timestamp_seconds"), 0.0);
    assert_eq!(house.get("/open/echo", &[]).status, 200);
    house.rows(51);
    let log = house.log();
    assert!(house.terminate().success());
    log
}

#[test]
fn wrong_credentials_are_said_without_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let mut section = store.section();
    section["options"]["secret_access_key"] = "not-the-s3cret".into();
    let log = said(section);
    assert!(log.contains("the store refuses the credentials (SignatureDoesNotMatch)"), "{log}");
    assert!(log.contains("object_store.options") && !log.contains("not-the-s3cret"), "{log}");
}

#[test]
fn a_missing_bucket_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let mut section = store.section();
    section["url"] = "s3://nowhere/tollhouse".into();
    let log = said(section);
    assert!(log.contains("there is no such bucket: create it"), "{log}");
}

#[test]
fn a_store_that_does_not_answer_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let mut section = store.section();
    section["options"]["endpoint"] = format!("http://{}", free_addr()).into();
    let log = said(section);
    assert!(log.contains("the store does not answer as it should") && log.contains("`endpoint`"), "{log}");
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("share");
    let log = said(serde_json::json!({
        "url": format!("file://{}", gone.display()), "sync_interval_s": 1, "retry_initial_ms": 20, "retry_max_ms": 200,
    }));
    assert!(log.contains("create it, or mount what belongs there") && !gone.exists(), "{log}");
}

#[test]
fn check_names_what_is_wrong_with_the_section() {
    let origin = Origin::start();
    let section =
        serde_json::json!({ "url": "s3://logs", "options": { "acess_key_id": "x" }, "part_bytes": 1 });
    let (code, errors) = site(&origin, section).refused("run");
    assert_eq!(code, 1, "{errors}");
    for place in ["object_store.options.acess_key_id", "object_store.part_bytes"] {
        assert!(errors.contains(place), "{errors}");
    }
}
