//! Logs in a bucket, against a real S3 server: what one collector uploads another machine's analytics answer from, the
//! server may go and come, processes may be killed at any step, several collectors share one table, and files may leave
//! the disk. Each is held against the client's own ledger: every response is one row, and none is two.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod azure;

mod answers;

mod outage;

mod kills;

mod together;

mod leaving;

mod erasure;

mod refusals;

use std::collections::BTreeSet;
use std::path::Path;

use event::bucket::{BucketConfig, Identity, List, Root, validate};
use event::layout::DataFolder;
use serde_json::{Value, json};
use support::eventually;
use support::load::Load;
use support::origin::Origin;
use support::site::{Site, Tollhouse};

/// A site that seals every second, with a section `object_store`.
fn site(origin: &Origin, section: Value) -> Site {
    Site::new(origin.addr)
        .set(&["collector", "seal"], json!({ "interval_s": 1, "rows_max": 1_000, "grace_ms": 0 }))
        .set(&["object_store"], section)
}

/// Analytics on a data folder where nothing is, over the bucket alone.
fn reader(origin: &Origin, section: Value) -> (Site, Tollhouse) {
    let site = site(origin, section);
    let analytics = site.start("analytics");
    (site, analytics)
}

/// Sends so many requests, or a few more, none of which may fail; their ids.
fn send(house: &Tollhouse, requests: u64) -> Vec<String> {
    let load = Load::start(house.gateway(), "/open/echo", 4);
    load.wait(requests);
    ids(load)
}

/// Ends a load that no request of may have failed; the ids of its responses.
fn ids(load: Load) -> Vec<String> {
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    ledger.received.into_iter().map(|(id, _)| id).collect()
}

/// A series of the collector's without labels.
fn bucket_metric(house: &Tollhouse, name: &str) -> f64 {
    house.metric(&format!("tollhouse_bucket_{name}"), &[])
}

/// Waits until all that a house has stored is in the bucket.
fn uploaded(house: &Tollhouse, rows: u64) {
    house.rows(rows);
    eventually("all rows to be in the bucket", || {
        let waits = house.number(
            "SELECT count(*) AS n FROM system.files WHERE place = 'local' AND NOT (kind = 'hot' AND rows = 0)",
        );
        if waits == 0 { Ok(()) } else { Err(format!("{waits} files wait")) }
    });
}

/// What a folder that is a bucket says: all lists, and the objects that nothing names.
fn audit(bucket: &Path, objects: &[String]) -> (Vec<List>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = BucketConfig { url: Some(format!("file://{}", bucket.display())), ..Default::default() };
    let bucket = event::bucket::Bucket::open(&validate(&config).unwrap().unwrap()).unwrap();
    runtime.block_on(async {
        let (Root { collectors, .. }, _) = bucket.root().await.unwrap();
        let mut named: BTreeSet<String> =
            ["manifest.json", "manifest.json#1", "manifest.lock"].map(str::to_owned).into();
        let mut lists = Vec::new();
        for (collector, pointer) in collectors {
            let list = bucket.list(&pointer.list).await.unwrap();
            named.insert(pointer.list);
            let paths =
                list.all().map(|file| &file.path).chain(list.removed.iter().map(|removed| &removed.path));
            named.extend(paths.map(|path| event::bucket::object_of(&collector, path)));
            for file in list.all() {
                let object = event::bucket::object_of(&collector, &file.path);
                assert!(objects.contains(&object), "{object} is named and not there");
            }
            lists.push(list);
        }
        (lists, objects.iter().filter(|object| !named.contains(*object)).cloned().collect())
    })
}

/// The id of a site's collector in the bucket.
fn collector_of(site: &Site) -> String {
    let folder = DataFolder::existing(&site.data()).unwrap();
    Identity::load(&folder).unwrap().expect("it has an id").collector
}
