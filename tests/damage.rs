//! Bits that a disk flips, in each kind of file that a row passes: each is found, kept for a person to look at and spoken of
//! in answers, tables, metrics and by `tollhouse storage`; what is lost is counted; and every other row is what it was.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use event::layout::{DataFolder, FileEntry, Manifest};
use serde_json::{Value, json};
use support::eventually;
use support::load::{Load, assert_exact, stored};
use support::origin::Origin;
use support::site::{Site, Tollhouse};

/// Turns a bit of a file, as it is on the disk and in the memory of whoever has it mapped.
fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, at).unwrap();
}

/// Sends some requests one after another; their ids.
fn send(house: &Tollhouse, requests: u64) -> Vec<String> {
    (0..requests).map(|_| house.get("/open/echo", &[]).request_id()).collect()
}

/// Waits until so many of what was sent are rows, each of them once, and nothing else is.
fn assert_all_but(house: &Tollhouse, sent: &[String], lost: u64) {
    house.rows(sent.len() as u64 - lost);
    let stored = stored(house);
    assert_exact(&stored, []);
    let sent: HashSet<&str> = sent.iter().map(String::as_str).collect();
    assert!(stored.keys().all(|id| sent.contains(id.as_str())), "a row that no client has seen");
}

/// The books of rows, with nothing on the way.
fn books(house: &Tollhouse, dropped: u64) -> Value {
    let statement =
        "SELECT produced, stored, dropped, in_flight, reasons FROM system.ledger WHERE sink = 'parquet'";
    eventually("the books to say so", || {
        let rows = house.try_sql(statement)?;
        let settled = rows.iter().find(|row| row["in_flight"] == 0 && row["dropped"] == dropped);
        settled.cloned().ok_or_else(|| format!("{rows:?}, {dropped} lost"))
    })
}

/// Waits until the metrics say that so many files are damaged.
fn damaged_files(house: &Tollhouse, files: usize) {
    eventually("the metric of damaged files", || {
        match house.metric("tollhouse_storage_damaged_files", &[]) {
            found if found == files as f64 => Ok(()),
            found => Err(format!("{found} of {files}")),
        }
    });
}

/// Waits until answers are without these files: whoever merges finds a damaged file, and counts it, before queries do.
fn answers_lack(house: &Tollhouse, names: &[&str]) {
    eventually("the damage in system.files", || {
        let found = house.try_sql("SELECT path FROM system.files WHERE status <> 'ok' ORDER BY path")?;
        let found: Vec<&str> = found.iter().map(|row| row["path"].as_str().unwrap()).collect();
        if found == names { Ok(()) } else { Err(format!("{found:?}, not {names:?}")) }
    });
}

/// The problems that `tollhouse storage check` finds: kinds and rows.
fn problems(site: &Site) -> Vec<(String, Value)> {
    let (code, said) = site.storage(&["check", "--deep"]);
    let problems = said["problems"].as_array().unwrap();
    assert_eq!(code, i32::from(!problems.is_empty()), "{said}");
    problems.iter().map(|one| (one["kind"].as_str().unwrap().to_owned(), one["rows"].clone())).collect()
}

#[test]
fn a_bit_of_the_spool_costs_the_record_that_it_is_in() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let proxy = site.start("proxy");
    let sent: Vec<String> =
        (1_000..1_100).map(|number| proxy.get(&format!("/open/bytes/{number}"), &[]).request_id()).collect();
    // A response is with its client a moment before it is recorded.
    let needle = b"/open/bytes/1057";
    let (segment, at) = eventually("the record in the spool", || {
        let lanes = std::fs::read_dir(site.data().join("spool")).unwrap().map(|lane| lane.unwrap().path());
        let segments = lanes.filter(|lane| lane.is_dir()).flat_map(|lane| std::fs::read_dir(lane).unwrap());
        let found = segments.map(|segment| segment.unwrap().path()).find_map(|segment| {
            let bytes = std::fs::read(&segment).unwrap();
            let at = bytes.windows(needle.len()).position(|window| window == needle)?;
            Some((segment, at as u64))
        });
        found.ok_or_else(|| "not yet".to_owned())
    });
    flip(&segment, at + 6);
    assert_eq!(problems(&site), [("spool".to_owned(), json!(1))]);
    let _collector = site.start("collector");
    let analytics = site.start("analytics");
    assert_all_but(&analytics, &sent, 1);
    assert!(!stored(&analytics).contains_key(&sent[57]), "another record is missing");
    let row = books(&analytics, 1);
    assert_eq!(
        (&row["produced"], &row["stored"], &row["reasons"]),
        (&json!(100), &json!(99), &json!("corrupt=1"))
    );
}

/// Rows that are not sealed before they are asked to, each batch of them durable at once.
fn unsealed(origin: &Origin, rows_max: u64) -> Site {
    Site::new(origin.addr)
        .set(&["collector", "sync_interval_ms"], 0.into())
        .set(&["collector", "seal"], json!({ "interval_s": 600, "rows_max": rows_max, "grace_ms": 0 }))
}

/// The one hot file, and where its batches end.
fn hot_file(site: &Site) -> (PathBuf, Vec<u64>) {
    let folder = DataFolder::existing(&site.data()).unwrap();
    let number = *folder.hot_numbers().unwrap().last().unwrap();
    let log = std::fs::read_to_string(folder.hot_commits(number)).unwrap();
    let ends = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["end"].as_u64().unwrap());
    (folder.hot_file(number), ends.collect())
}

#[test]
fn a_bit_of_a_hot_file_costs_its_batch_and_answers_say_so_until_one_takes_note() {
    let origin = Origin::start();
    let site = unsealed(&origin, 1_000_000);
    let house = site.run();
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.extend(send(&house, 20));
        house.rows(sent.len() as u64);
    }
    house.kill9();
    let (file, ends) = hot_file(&site);
    assert!(ends.len() >= 5, "{ends:?}");
    flip(&file, u64::midpoint(ends[1], ends[2]));
    let found = problems(&site);
    assert_eq!((found.len(), found[0].0.as_str()), (1, "hot_damaged"), "{found:?}");
    let lost = found[0].1.as_u64().unwrap();
    assert!((1..=20).contains(&lost), "{lost} rows of a batch");

    // It is whole again as far as it was, and says what it lacks; sealed, too.
    for life in 1..=2 {
        let house = site.run();
        assert_all_but(&house, &sent, lost);
        let partial = house.partial("SELECT count(*) FROM requests");
        assert!(partial.len() == 1 && partial[0].starts_with("hot/"), "life {life}: {partial:?}");
        let asked = std::process::Command::new(env!("CARGO_BIN_EXE_tollhouse"))
            .args([
                "query",
                "--url",
                &format!("http://{}", house.addr("sql")),
                "SELECT count(*) FROM requests",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success() && said.starts_with("warning: rows are missing: "), "{said}");
        let files = house.sql("SELECT kind, status FROM system.files WHERE status <> 'ok'");
        assert_eq!((files.len(), &files[0]["kind"]), (1, &json!("hot")), "{files:?}");
        assert!(files[0]["status"].as_str().unwrap().starts_with(&format!("{lost} rows ")), "{files:?}");
        assert_eq!(house.log().lines().filter(|line| line.contains("a hot file is damaged")).count(), 1);
        if life == 2 {
            damaged_files(&house, 1);
            assert_eq!(house.metric("tollhouse_storage_set_aside_rows", &[]), lost as f64);
        }
        assert!(house.terminate().success());
    }
    let kept = site.data().join("quarantine/hot").join(file.file_name().unwrap());
    assert!(kept.exists() && kept.with_extension("commits").exists());
    assert_eq!(problems(&site), [("set_aside".to_owned(), json!(lost))]);
    let (code, repaired) = site.storage(&["repair"]);
    assert_eq!((code, &repaired["rows_missing"]), (0, &json!(lost)), "{repaired}");
    assert_eq!(site.storage(&["check"]).1["rows_set_aside"], lost);
    assert_eq!(problems(&site), []);
    let house = site.run();
    assert_all_but(&house, &sent, lost);
    assert_eq!(house.partial("SELECT count(*) FROM requests"), Vec::<String>::new());
    damaged_files(&house, 0);
}

/// Half of a backup: without the manifest nobody can say which files count, and none of them goes.
#[test]
fn a_manifest_that_is_lost_takes_no_row_with_it() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let sent = send(&house, 100);
    house.rows(100);
    assert!(house.terminate().success());
    let folder = DataFolder::existing(&site.data()).unwrap();
    let files = Manifest::load(&folder).unwrap().files;
    assert!(!files.is_empty());
    let (manifest, kept) = (Manifest::path(&folder), site.data().join("kept"));
    std::fs::rename(&manifest, &kept).unwrap();
    assert_eq!(problems(&site)[0].0, "manifest");
    for role in ["run", "collector"] {
        let (code, said) = site.refused(role);
        assert!(
            code == 1 && said.contains("manifest.json is damaged: it is missing, though"),
            "{code}: {said}"
        );
    }
    for file in &files {
        assert!(site.data().join(&file.path).exists(), "{}", file.path);
    }
    std::fs::rename(&kept, &manifest).unwrap();
    let house = site.run();
    assert_all_but(&house, &sent, 0);
}

#[test]
fn a_bit_that_flips_before_rows_are_sealed_is_counted_in_the_books() {
    let origin = Origin::start();
    let site = unsealed(&origin, 200);
    let (proxy, collector) = (site.start("proxy"), site.start("collector"));
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.extend(send(&proxy, 20));
        // Nobody has these rows in memory: what is read of them is on the disk.
        eventually("rows that are stored", || {
            match collector.metric("tollhouse_events_total", &["stage=\"stored\"", "sink=\"parquet\""]) {
                stored if stored == sent.len() as f64 => Ok(()),
                stored => Err(format!("{stored} of {}: {}", sent.len(), collector.metrics())),
            }
        });
    }
    let (file, ends) = hot_file(&site);
    flip(&file, u64::midpoint(ends[1], ends[2]));
    sent.extend(send(&proxy, 150));
    eventually("the sealing to find it", || {
        let log = collector.log();
        if log.contains("a hot file is damaged") { Ok(()) } else { Err(log) }
    });
    eventually("the manifest to say so", || {
        let folder = DataFolder::existing(&site.data()).unwrap();
        if Manifest::load(&folder).unwrap().set_aside.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    let lost = collector.metric("tollhouse_storage_set_aside_rows", &[]) as u64;
    assert!((1..=20).contains(&lost), "{lost} rows of a batch");
    let analytics = site.start("analytics");
    assert_all_but(&analytics, &sent, lost);
    let row = books(&analytics, lost);
    assert_eq!(row["produced"], sent.len());
    assert_eq!(row["stored"].as_u64().unwrap() + lost, sent.len() as u64, "{row}");
    assert_eq!(row["reasons"], format!("damaged={lost}"));
    assert_eq!(analytics.partial("SELECT count(*) FROM requests").len(), 1);
}

/// A stopped house with merged files and files as they were sealed, of which each has some rows; and what was sent.
fn sealed_and_merged(origin: &Origin) -> (Site, Vec<String>) {
    let seal = json!({ "interval_s": 600, "rows_max": 50, "grace_ms": 0 });
    let site = Site::new(origin.addr)
        .set(&["collector", "batch_rows_max"], 50.into())
        .set(&["collector", "seal"], seal)
        .set(&["collector", "retention"], json!({ "grace_s": 0 }))
        .set(&["collector", "compaction"], json!({ "files_min": 2, "files_max": 2 }));
    let house = site.run();
    let load = Load::start(house.gateway(), "/open/echo", 2);
    load.wait(600);
    let ledger = load.stop();
    assert_eq!(ledger.failed, Vec::<String>::new());
    let mut sent: Vec<String> = ledger.received.into_iter().map(|(id, _)| id).collect();
    house.rows(sent.len() as u64);
    eventually("merges, and what they say of themselves", || {
        let page = house.metrics();
        let of = |name: &str| support::site::sum(&page, &format!("tollhouse_compaction_{name}_total"), &[]);
        let (merges, read, written) = (of("merges"), of("read_files"), of("written_files"));
        let whole = merges >= 2.0 && read == 2.0 * merges && written == merges && of("rows") >= 100.0;
        let sized =
            of("read_bytes") > of("written_bytes") && of("written_bytes") > 0.0 && of("seconds") > 0.0;
        if whole && sized && of("failures") == 0.0 { Ok(()) } else { Err(page) }
    });
    assert!(house.terminate().success());
    let site = site.set(&["collector", "compaction", "enabled"], false.into());
    // Some that stay as they are sealed.
    let house = site.run();
    for _ in 0..4 {
        sent.extend(send(&house, 50));
        house.rows(sent.len() as u64);
    }
    assert!(house.terminate().success());
    assert_eq!(problems(&site), []);
    (site, sent)
}

fn pick(files: &[FileEntry], is_merged: bool, nth: usize) -> FileEntry {
    let of = files.iter().filter(|file| (file.level > 0) == is_merged && file.rows > 0);
    of.clone().nth(nth).unwrap_or_else(|| panic!("{files:?}")).clone()
}

#[test]
fn bits_of_sealed_and_merged_files_and_of_roll_ups_are_found_and_all_else_is_exact() {
    let origin = Origin::start();
    let (site, sent) = sealed_and_merged(&origin);
    let folder = DataFolder::existing(&site.data()).unwrap();
    let manifest = Manifest::load(&folder).unwrap();
    let path = |file: &FileEntry| folder.root().join(&file.path);
    let (sealed, merged) = (pick(&manifest.files, false, 0), pick(&manifest.files, true, 0));
    let cut = pick(&manifest.files, false, 1);
    let rollup = manifest.rollups[0].file.clone();
    for file in [&sealed, &merged, &rollup] {
        flip(&path(file), file.bytes / 2);
    }
    std::fs::File::options().write(true).open(path(&cut)).unwrap().set_len(cut.bytes - 100).unwrap();
    let lost = sealed.rows + merged.rows + cut.rows;
    let mut names: Vec<&str> = [&sealed, &merged, &cut, &rollup].map(|file| file.path.as_str()).into();
    names.sort_unstable();

    // All are found though nobody asks for what is in them.
    let house = site.run();
    answers_lack(&house, &names);
    assert_all_but(&house, &sent, lost);
    let mut partial = house.partial("SELECT count(*) FROM requests");
    partial.sort_unstable();
    assert_eq!(partial, names.iter().filter(|name| **name != rollup.path).copied().collect::<Vec<_>>());
    assert!(house.partial("SELECT sum(requests) FROM traffic_1m").contains(&rollup.path));
    damaged_files(&house, 4);
    assert_eq!(house.log().lines().filter(|line| line.contains("a Parquet file is left out")).count(), 4);

    // Another one, of a house at work that has looked at it already.
    let late = pick(&manifest.files, false, 2);
    std::fs::File::options().write(true).open(path(&late)).unwrap().set_len(64).unwrap();
    let lost = lost + late.rows;
    eventually("an answer without it", || {
        let rows =
            house.try_sql("SELECT max(path) AS p, max(duration_us) AS d, count(*) AS n FROM requests")?;
        match rows[0]["n"].as_u64() {
            Some(rows) if rows == sent.len() as u64 - lost => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(house.partial("SELECT count(*) FROM requests").contains(&late.path));
    damaged_files(&house, 5);
    assert!(house.terminate().success());

    // Whoever takes note finds the table whole again, and the number of rows that it lacks.
    let mut kinds: Vec<String> = problems(&site).into_iter().map(|(kind, _)| kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["damaged", "damaged", "damaged", "damaged", "rollup"]);
    let (code, repaired) = site.storage(&["repair"]);
    assert_eq!((code, &repaired["rows_missing"]), (0, &json!(lost)), "{repaired}");
    for name in names {
        assert!(site.data().join("quarantine").join(name).exists(), "{name}");
    }
    assert_eq!(problems(&site), []);
    let house = site.run();
    assert_all_but(&house, &sent, lost);
    assert_eq!(house.partial("SELECT count(*) FROM requests"), Vec::<String>::new());
    damaged_files(&house, 0);
    assert_eq!(house.metric("tollhouse_storage_set_aside_rows", &[]), lost as f64);
}

#[test]
fn a_merge_passes_a_damaged_file_by_and_counts_it() {
    let origin = Origin::start();
    let (site, sent) = sealed_and_merged(&origin);
    let folder = DataFolder::existing(&site.data()).unwrap();
    let bad = pick(&Manifest::load(&folder).unwrap().files, false, 1);
    flip(&folder.root().join(&bad.path), bad.bytes / 2);
    let site = site.set(&["collector", "compaction", "enabled"], true.into());
    let house = site.run();
    eventually("a merge that failed, and others that did not", || {
        let of = |name: &str| house.metric(&format!("tollhouse_compaction_{name}_total"), &[]);
        let (failures, merges) = (of("failures"), of("merges"));
        if failures >= 1.0 && merges >= 1.0 {
            Ok(())
        } else {
            Err(format!("{failures} failures, {merges} merges"))
        }
    });
    damaged_files(&house, 1);
    answers_lack(&house, &[&bad.path]);
    assert_all_but(&house, &sent, bad.rows);
    assert!(house.terminate().success());
    assert_eq!(problems(&site), [("damaged".to_owned(), json!(bad.rows))]);
}
