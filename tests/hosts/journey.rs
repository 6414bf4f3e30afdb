//! Two hosts send, one has it all: every response is one row there, equal to what its host would have stored.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::support::load::{Load, assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::{ALICE_KEY, Site, Tollhouse};
use super::support::{client, eventually};
use super::{centre, edge, reaches, settled, url};

#[test]
fn every_response_of_two_hosts_is_one_row_in_the_centre() {
    let origin = Origin::start();
    let site = centre(&origin);
    let house = site.run();
    let sites = ["edge-1", "edge-2"].map(|node| edge(&origin, node, &[url(&house)]));
    let edges: Vec<Tollhouse> = sites.iter().map(Site::run).collect();
    let loads: Vec<Load> =
        edges.iter().map(|edge| Load::start(edge.gateway(), "/open/bytes/300", 4)).collect();
    loads.iter().for_each(|load| load.wait(3_000));
    let ledgers: Vec<_> = loads.into_iter().map(Load::stop).collect();
    // Rows of its own stand among them.
    assert_eq!(house.get("/open/echo", &[]).status, 200);
    let all: usize = ledgers.iter().map(|ledger| ledger.received.len()).sum();
    house.rows(all as u64 + 1);
    let ids: Vec<&str> =
        ledgers.iter().flat_map(|ledger| &ledger.received).map(|(id, _)| id.as_str()).collect();
    assert_exact(&stored(&house), ids);

    let by_node: HashMap<String, u64> = house
        .sql("SELECT node, count(*) AS n FROM requests GROUP BY node")
        .into_iter()
        .map(|row| (row["node"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap()))
        .collect();
    for (edge, (node, ledger)) in edges.iter().zip(["edge-1", "edge-2"].into_iter().zip(&ledgers)) {
        let received = ledger.received.len() as u64;
        assert_eq!(ledger.failed, Vec::<String>::new());
        assert_eq!(by_node[node], received);
        let row = settled(edge, received);
        assert_eq!(
            (&row["produced"], &row["dropped"], &row["node"]),
            (&received.into(), &0.into(), &node.into())
        );
        // Metrics are the edge's own; nothing is stored there.
        assert_eq!(edge.metric("tollhouse_http_requests_total", &[]), received as f64);
        assert_eq!(edge.number("SELECT count(*) AS n FROM requests"), 0);
        eventually("the books of what was received", || {
            let statement =
                "SELECT produced, stored, in_flight FROM system.ledger WHERE sink = 'received' AND node = ";
            let books = house.try_sql(&format!("{statement}'{node}'"))?;
            let whole = books.len() == 1 && books[0]["stored"] == received && books[0]["in_flight"] == 0;
            if whole { Ok(()) } else { Err(format!("{books:?} for {received}")) }
        });
        assert_eq!(edge.metric("tollhouse_forward_connected", &[]), 1.0);
    }
    assert_eq!(house.metric("tollhouse_receive_rows_total", &[]), all as f64);
    let total = |name| edges.iter().map(|edge| edge.metric(name, &[])).sum::<f64>();
    let (batches, bytes) = (total("tollhouse_forward_batches_total"), total("tollhouse_forward_bytes_total"));
    println!(
        "{all} rows in {batches} batches of {:.0} bytes for each row; {:.1} ms to an acknowledgement on average",
        bytes / all as f64,
        total("tollhouse_forward_wait_seconds_total") * 1e3 / total("tollhouse_forward_acknowledged_total")
    );
    assert_eq!(house.metric("tollhouse_receive_senders", &[]), 2.0);
    assert_eq!(house.metric("tollhouse_http_requests_total", &[]), 1.0, "metrics of the centre are its own");
    let own = house.sql("SELECT stored FROM system.ledger WHERE sink = 'parquet'");
    assert_eq!(own[0]["stored"], 1, "{own:?}");
    // Sealed files of several hosts stand beside one another, and all is one table.
    eventually("sealed rows", || {
        let files = house.number("SELECT count(*) AS n FROM system.files WHERE path LIKE '%.parquet'");
        if files > 0 { Ok(()) } else { Err("none".to_owned()) }
    });
    house.rows(all as u64 + 1);
    for edge in edges {
        assert!(edge.terminate().success());
    }
    assert!(house.terminate().success());
    let house = site.run();
    house.rows(all as u64 + 1);
    assert!(!edge_files(&sites[0]), "an edge has no rows on disk");
}

fn edge_files(site: &Site) -> bool {
    ["hot", "requests"].iter().any(|folder| std::fs::read_dir(site.data().join(folder)).unwrap().count() > 0)
}

/// Columns that do not depend on time.
const VALUES: &str = "SELECT method, host, path, query, status, service, route, consumer, outcome, source, \
    upstream_status, request_bytes, response_bytes, user_agent, protocol, scheme, client_ip, error, \
    cardinality(attempts) AS attempts, count(*) AS n FROM requests \
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 \
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19";

fn traffic(house: &Tollhouse) {
    for number in 0..12 {
        let path = format!("/private/status/{}?n={number}", [200, 404, 500][number % 3]);
        house.get(&path, &[("apikey", ALICE_KEY), ("User-Agent", "hosts")]);
    }
    client::exchange(house.gateway(), "POST", "/open/count", &[], &[b'u'; 5000]).unwrap();
    house.get("/private/echo", &[("apikey", "nobody's")]);
    house.get("/nowhere", &[]);
    client::get(house.gateway(), "/open/reset/10", &[]).unwrap_err();
}

#[test]
fn rows_from_elsewhere_have_the_values_that_local_rows_have() {
    let origin = Origin::start();
    let local_site = Site::new(origin.addr);
    let local = local_site.run();
    traffic(&local);
    local.rows(16);
    let values = |house: &Tollhouse| house.sql(VALUES);
    let expected = values(&local);

    let site = centre(&origin);
    let house = site.run();
    let edge_site = edge(&origin, "edge-1", &[url(&house)]);
    let edge = edge_site.run();
    traffic(&edge);
    house.rows(16);
    assert_eq!(values(&house), expected);

    // How soon: from the last byte of a response to its row in the centre.
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        let id = edge.get("/open/echo", &[]).request_id();
        let answered = Instant::now();
        let statement =
            format!("SELECT count(*) AS n FROM requests WHERE encode(request_id, 'hex') = '{id}'");
        eventually("a live row", || match house.number(&statement) {
            1 => Ok(()),
            rows => Err(format!("{rows} rows")),
        });
        took.push(answered.elapsed());
    }
    took.sort_unstable();
    println!("a row is in the centre after {:?} (median), {:?} (longest of 20)", took[10], took[19]);
}

/// An edge that stored by itself and sends from now on; and back.
#[test]
fn a_host_begins_to_send_and_ends_it_without_a_lost_or_double_row() {
    let origin = Origin::start();
    let centre_site = centre(&origin);
    let house = centre_site.run();
    let mut site = edge(&origin, "edge-1", &[url(&house)]);
    let forward = site.config()["collector"]["forward"].clone();
    let (mut here, mut there) = (0, 0);
    for round in 0..4 {
        let sends = round % 2 == 1;
        let config = if sends { forward.clone() } else { serde_json::json!({}) };
        site = site.set(&["collector", "forward"], config);
        let edge = site.run();
        for _ in 0..50 {
            assert_eq!(edge.get("/open/echo", &[]).status, 200);
        }
        *if sends { &mut there } else { &mut here } += 50;
        if sends {
            house.rows(there);
            reaches(&edge, "tollhouse_forward_acknowledged_total", &[], 1.0);
        }
        edge.rows(here);
        assert!(edge.terminate().success());
    }
    house.rows(there);
}
