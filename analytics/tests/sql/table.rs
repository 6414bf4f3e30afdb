//! One table over hot files, sealed Parquet, and both while one becomes the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use event::hot::HotWriter;
use event::layout::{DataFolder, Manifest};

use crate::support::{ask, hot, house, post, rows, seal, serve, sql};
use serde_json::Value;

#[test]
fn hot_and_sealed_rows_are_one_table() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let addr = running.addr;
    assert_eq!(sql(addr, "SELECT count(*) AS n FROM requests")[0]["n"], 300);
    let sums = sql(addr, "SELECT sum(sequence) AS s, count(DISTINCT sequence) AS d FROM requests");
    assert_eq!((&sums[0]["s"], &sums[0]["d"]), (&Value::from(45_150), &Value::from(300)));
    let one = sql(addr, "SELECT sequence, path, time FROM requests WHERE sequence = 250");
    assert_eq!(one[0]["path"], "/a\r\n\u{1b}\"',");
    assert_eq!(one[0]["time"], "1970-01-01T00:00:00.250Z");
}

#[test]
fn files_out_of_the_time_range_are_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let plan = sql(running.addr, "EXPLAIN SELECT path FROM requests WHERE time > '1970-01-01T00:00:00.150Z'");
    let plan = plan.to_string();
    assert!(plan.contains("2.parquet") && !plan.contains("/1.parquet"), "{plan}");
}

#[test]
fn views_give_the_numbers_of_the_rows() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(&house(root.path()), |_| {});
    let services = sql(running.addr, "SELECT * FROM services");
    assert_eq!((&services[0]["requests"], &services[0]["errors"]), (&Value::from(300), &Value::from(30)));
    let p99 = services[0]["p99_ms"].as_f64().unwrap();
    assert!((p99 - 297.0).abs() <= 297.0 * 0.01, "{p99}");
    let consumers = sql(running.addr, "SELECT consumer, requests, errors FROM consumers ORDER BY 1");
    assert_eq!((&consumers[0]["consumer"], &consumers[0]["errors"]), (&"even".into(), &Value::from(30)));
    assert_eq!((&consumers[1]["requests"], &consumers[1]["errors"]), (&Value::from(150), &Value::from(0)));
    let graph = sql(running.addr, "SELECT caller, callee, requests FROM call_graph ORDER BY 1");
    assert_eq!((&graph[0]["caller"], &graph[0]["requests"]), (&"even".into(), &Value::from(150)));
    let files = sql(running.addr, "SELECT kind, sum(rows) AS n FROM system.files GROUP BY 1 ORDER BY 1");
    assert_eq!((&files[0]["n"], &files[1]["n"]), (&Value::from(100), &Value::from(200)));
    assert!(sql(running.addr, "SHOW TABLES").to_string().contains("call_graph"));
}

#[test]
fn a_cut_file_makes_the_answer_partial() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    File::options().write(true).open(root.path().join("requests/1.parquet")).unwrap().set_len(100).unwrap();
    let running = serve(&folder, |_| {});
    let (status, head, body) = post(running.addr, "/sql", "text/plain", "SELECT count(*) AS n FROM requests");
    assert_eq!((status, body), (200, br#"[{"n":200}]"#.to_vec()));
    assert!(head.contains("x-tollhouse-partial: requests/1.parquet"), "{head}");
}

#[test]
fn no_row_is_twice_or_missing_while_files_are_sealed() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    // As a collector does when it starts.
    Manifest::default().store(&folder).unwrap();
    for number in 1..=30 {
        hot(&folder, number, &rows(number * 10, 10));
    }
    let running = serve(&folder, |_| {});
    let sealer = {
        let folder = folder.clone();
        std::thread::spawn(move || {
            let mut manifest = Manifest::default();
            for number in 1..=30 {
                seal(&folder, &mut manifest, number, &rows(number * 10, 10));
                std::fs::remove_file(folder.hot_file(number)).unwrap();
                std::fs::remove_file(folder.hot_commits(number)).unwrap();
            }
        })
    };
    let mut asked = 0;
    while asked < 5 || !sealer.is_finished() {
        let found = sql(running.addr, "SELECT count(*) AS n, count(DISTINCT sequence) AS d FROM requests");
        assert_eq!((&found[0]["n"], &found[0]["d"]), (&300.into(), &300.into()));
        asked += 1;
    }
    sealer.join().unwrap();
}

#[test]
fn a_damaged_page_is_found_and_the_rest_answers() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let path = root.path().join("requests/2.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    // Behind the first magic mark: the length and both marks stay as they are.
    bytes[4..400].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let running = serve(&folder, |_| {});
    let found = ask(
        running.addr,
        "/sql",
        &[],
        "SELECT sum(sequence) AS s, min(time) AS t, max(consumer) AS c FROM requests",
    );
    assert_eq!(found.status, 200, "{}", found.text());
    assert_eq!(found.json()[0]["s"], 45_150 - (101..=200).sum::<u64>());
    assert!(found.head.contains("x-tollhouse-partial: requests/2.parquet"), "{}", found.head);
    let files = sql(running.addr, "SELECT path, status FROM system.files WHERE status <> 'ok'");
    assert_eq!((files.as_array().unwrap().len(), &files[0]["path"]), (1, &"requests/2.parquet".into()));
    assert!(files[0]["status"].as_str().unwrap().contains("checksum"), "{files}");
}

#[test]
fn files_of_an_older_schema_have_nulls_in_new_columns() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let mut manifest = Manifest::default();
    let keep: Vec<usize> = (0..event::columns::schema().fields().len())
        .filter(|&column| {
            !["consumer", "upstream_span_id", "gateway_us", "extra"]
                .contains(&event::columns::COLUMNS[column].name)
        })
        .collect();
    seal(&folder, &mut manifest, 1, &rows(1, 100).project(&keep).unwrap());
    seal(&folder, &mut manifest, 2, &rows(101, 100));
    let running = serve(&folder, |_| {});
    let found = sql(
        running.addr,
        "SELECT count(*) AS n, count(consumer) AS named, count(gateway_us) AS timed, sum(sequence) AS s FROM requests",
    );
    assert_eq!(
        (&found[0]["n"], &found[0]["named"], &found[0]["timed"]),
        (&200.into(), &100.into(), &0.into())
    );
    assert_eq!(found[0]["s"], 20_100);
    let one = sql(running.addr, "SELECT * FROM requests WHERE sequence = 7");
    assert_eq!(
        (&one[0]["consumer"], &one[0]["extra"], &one[0]["status"]),
        (&Value::Null, &Value::Null, &200.into())
    );
}

#[test]
fn hot_rows_show_as_soon_as_they_are_committed() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let running = serve(&folder, |_| {});
    let count = || sql(running.addr, "SELECT count(*) AS n, count(DISTINCT sequence) AS d FROM requests");
    assert_eq!(count()[0]["n"], 0);
    let mut writer = HotWriter::create(&folder, 1).unwrap();
    for batch in 0..20 {
        writer.append(&rows(batch * 10, 10), &BTreeMap::default()).unwrap();
        let found = count();
        assert_eq!(
            (&found[0]["n"], &found[0]["d"]),
            (&((batch + 1) * 10).into(), &((batch + 1) * 10).into())
        );
    }
    // The next file has begun: this one is looked at again, as a whole.
    hot(&folder, 2, &rows(200, 10));
    assert_eq!(count()[0]["d"], 210);
    assert_eq!(count()[0]["d"], 210);
}

/// A data folder with a thousand hot rows.
fn ten_batches(root: &Path) -> DataFolder {
    let folder = DataFolder::open(root).unwrap();
    let mut writer = HotWriter::create(&folder, 1).unwrap();
    for batch in 0..10 {
        writer.append(&rows(batch * 100, 100), &BTreeMap::default()).unwrap();
    }
    folder
}

#[test]
fn hot_batches_out_of_the_time_range_are_not_read() {
    let root = tempfile::tempdir().unwrap();
    let folder = ten_batches(root.path());
    let running = serve(&folder, |_| {});
    let filter = "WHERE time >= '1970-01-01T00:00:00.250Z' AND time < '1970-01-01T00:00:00.350Z'";
    assert_eq!(sql(running.addr, &format!("SELECT count(*) AS n FROM requests {filter}"))[0]["n"], 100);
    let plan = sql(running.addr, &format!("EXPLAIN SELECT path FROM requests {filter}")).to_string();
    assert!(plan.contains("hot_batches=[2]"), "{plan}");
}

#[test]
fn a_question_of_many_rows_is_shared_by_threads() {
    let root = tempfile::tempdir().unwrap();
    let folder = ten_batches(root.path());
    for (parallel_rows_min, batches) in [(1_001, "hot_batches=[10]"), (1_000, "hot_batches=[5, 5]")] {
        let running = serve(&folder, |config| config.parallel_rows_min = parallel_rows_min);
        let plan = sql(running.addr, "EXPLAIN SELECT path, count(*) FROM requests GROUP BY path").to_string();
        assert!(plan.contains(batches), "{parallel_rows_min}: {plan}");
        let joined = "EXPLAIN SELECT a.path FROM requests a, requests b";
        let plan = sql(running.addr, joined).to_string();
        assert!(plan.contains("hot_batches=[5, 5]"), "{plan}");
    }
}

#[test]
fn a_damaged_hot_file_is_left_out_and_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = house(root.path());
    let path = folder.hot_file(3);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let running = serve(&folder, |_| {});
    let found = ask(running.addr, "/sql", &[], "SELECT count(*) AS n FROM requests");
    assert_eq!((found.status, &found.json()[0]["n"]), (200, &200.into()));
    assert!(found.head.contains("x-tollhouse-partial: hot/0000000003.arrow"), "{}", found.head);
}
