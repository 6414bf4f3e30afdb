//! Several collectors and one table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::azure::{self, Azure};
use super::support::bucket::{Crossing, Store, section};
use super::support::eventually;
use super::support::load::{Load, assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::Site;
use super::{bucket_metric, ids, reader, site, uploaded};

#[test]
fn two_collectors_fill_one_table_at_once_and_both_merge() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    fill_together(store.addr(), section);
}

#[test]
fn two_collectors_fill_one_table_in_azure() {
    let folder = tempfile::tempdir().unwrap();
    let store = Azure::start(folder.path());
    fill_together(store.addr(), azure::section);
}

/// Two collectors fill a store at once, by sections `object_store` that lead to an address.
fn fill_together(store: SocketAddr, section: fn(SocketAddr) -> Value) {
    let origin = Origin::start();
    let crossing = Arc::new(Crossing::default());
    let house = |side: usize, node: &str| -> Site {
        site(&origin, section(crossing.way(side, store)))
            .set(&["node"], node.into())
            .set(&["collector", "compaction"], json!({ "files_min": 3 }))
            .set(&["collector", "retention"], json!({ "grace_s": 2 }))
    };
    let sites = [house(0, "one"), house(1, "two")];
    let houses = [sites[0].run(), sites[1].run()];
    // Merges are to keep up with it on a machine that does other things too.
    let pause = Duration::from_millis(2);
    let loads = [0, 1].map(|at| Load::start_paced(houses[at].gateway(), "/open/echo", 2, pause));
    eventually("a change that the other one was quicker than, and merges of both", || {
        let conflicts: f64 = houses.iter().map(|house| bucket_metric(house, "conflicts_total")).sum();
        let merged = houses.iter().all(|house| {
            let merged = "SELECT count(*) AS n FROM system.files WHERE path LIKE 'requests/%merged%' AND place = 'both'";
            house.number(merged) > 0
        });
        if conflicts > 0.0 && merged {
            Ok(())
        } else {
            Err(format!("{conflicts} conflicts, merged: {merged}"))
        }
    });
    crossing.open();
    let sent: Vec<Vec<String>> = loads.into_iter().map(ids).collect();
    let all = (sent[0].len() + sent[1].len()) as u64;
    // Each sees what the other one uploads, beside its own.
    houses.iter().for_each(|house| house.rows(all));
    houses.iter().for_each(|house| uploaded(house, all));
    let (_folder, second) = reader(&origin, section(store));
    second.rows(all);
    assert_exact(&stored(&second), sent.iter().flatten().map(String::as_str));
    for (node, sent) in ["one", "two"].iter().zip(&sent) {
        let rows = second.number(&format!("SELECT count(*) AS n FROM requests WHERE node = '{node}'"));
        assert_eq!(rows, sent.len() as u64);
    }
    let rolled = second.number("SELECT CAST(sum(requests) AS BIGINT) AS n FROM traffic_1h");
    assert_eq!(rolled, all, "roll-ups are those of both");
    let of = |name| houses.iter().map(|house| bucket_metric(house, name)).sum::<f64>();
    println!("{all} rows of two, {} commits, {} conflicts", of("commits_total"), of("conflicts_total"));
}

#[test]
fn a_copy_of_a_data_folder_is_fenced_off_and_says_so() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let first = site(&origin, store.section());
    let house = first.run();
    for _ in 0..10 {
        house.get("/open/echo", &[]);
    }
    uploaded(&house, 10);
    let copy = site(&origin, store.section());
    for name in ["state/manifest.json", "state/bucket.json"] {
        std::fs::create_dir_all(copy.data().join("state")).unwrap();
        std::fs::copy(first.data().join(name), copy.data().join(name)).unwrap();
    }
    house.get("/open/echo", &[]);
    uploaded(&house, 11);
    let double = copy.run();
    double.get("/open/echo", &[]);
    eventually("the copy to be found out", || match bucket_metric(&double, "fenced") {
        1.0 => Ok(()),
        _ => Err(double.log()),
    });
    assert!(double.log().contains("a copy of the folder"), "{}", double.log());
    house.get("/open/echo", &[]);
    uploaded(&house, 12);
    assert_eq!(bucket_metric(&house, "fenced"), 0.0);
    let (_folder, second) = reader(&origin, store.section());
    second.rows(12);
}
