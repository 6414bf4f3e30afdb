//! The steps between an event and a durable row: in which order they are, what a death before each of them leaves, and
//! what becomes of syncs that the disk refuses.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use event::spool::{CoreCounts, Counters};

use super::send;
use super::support::eventually;
use super::support::load::{assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};
use super::support::tool::{output, preload};
use super::support::trace::calls;

/// Batches and hot files so small that a few hundred requests make several of each.
fn site(origin: &Origin) -> Site {
    Site::new(origin.addr)
        .set(&["collector", "batch_rows_max"], 100.into())
        .set(&["collector", "seal"], serde_json::json!({ "rows_max": 150, "grace_ms": 0 }))
        .set(&["spool", "segment_bytes"], (512 << 10).into())
}

/// A command whose steps are counted.
fn counted(site: &Site, role: &str) -> Command {
    let mut command = site.command(role);
    let library = preload(site.folder(), "steps", include_str!("../support/steps.c"));
    command.env("LD_PRELOAD", library).env("STEPS_PREFIX", site.data());
    command
}

/// The whole binary on a disk that refuses each `nth` sync, from the moment that it is ready.
fn refusing(site: &Site, nth: u32, log: &Path) -> Tollhouse {
    let mark = site.folder().join("refuse");
    let mut command = counted(site, "run");
    command.env("STEPS_LOG", log).env("STEPS_REFUSE", nth.to_string()).env("STEPS_REFUSE_MARK", &mark);
    let house = site.launch("run", command);
    std::fs::write(mark, "").unwrap();
    house
}

/// What a gateway leaves in the spool that ends.
fn fill(site: &Site) -> Vec<String> {
    let proxy = site.start("proxy");
    let sent = send(&proxy, 400);
    assert!(proxy.terminate().success());
    assert_eq!(dropped(site), 0, "the spool is too small for this load");
    sent
}

/// Events that the last gateway found no place for, whatever the reason.
fn dropped(site: &Site) -> u64 {
    counts(site, |core| core.dropped.iter().sum())
}

/// Of all cores of the last gateway.
fn counts(site: &Site, what: impl Fn(CoreCounts) -> u64) -> u64 {
    let counters = Counters::open(&site.data().join("spool"), 0).unwrap();
    (0..counters.cores()).map(|core| what(counters.core(core))).sum()
}

#[test]
fn a_collector_killed_before_any_step_loses_and_doubles_nothing() {
    let origin = Origin::start();
    let site = site(&origin);
    let mut sent = fill(&site);
    let log = site.folder().join("steps");
    let mut command = counted(&site, "collector");
    command.env("STEPS_LOG", &log);
    assert!(site.launch("collector", command).terminate().success());
    let steps = std::fs::read_to_string(&log).unwrap().lines().count();
    assert!(steps > 30, "{steps} steps: are they counted?");
    let analytics = site.start("analytics");
    let mut died = 0;
    for step in 1..=steps {
        sent.extend(fill(&site));
        let mut command = counted(&site, "collector");
        command.env("STEPS_KILL", step.to_string());
        // What was left by the one before is put in order by this one, as far as it gets.
        died += usize::from(site.dies(command));
        let row = &analytics.sql("SELECT count(*) AS n, count(DISTINCT request_id) AS ids FROM requests")[0];
        assert_eq!(row["n"], row["ids"], "after a death before step {step}");
    }
    assert!(died > steps / 2, "only {died} of {steps} died");
    assert!(site.start("collector").terminate().success());
    assert_exact(&stored(&analytics), sent.iter().map(String::as_str));
    println!("{steps} steps, {died} deaths, {} requests: 0 lost, 0 double", sent.len());
}

#[test]
fn syncs_that_the_disk_refuses_cost_no_row_and_are_not_tried_again_on_that_file() {
    let origin = Origin::start();
    let site = site(&origin).set(&["spool", "sync_interval_ms"], 10.into());
    let log = site.folder().join("steps");
    let house = refusing(&site, 5, &log);
    let mut sent = Vec::new();
    eventually("refused syncs of segments and of hot files", || {
        sent.extend(send(&house, 1000));
        let log = std::fs::read_to_string(&log).unwrap();
        let refused = |end| log.lines().any(|line| line.starts_with("refused ") && line.ends_with(end));
        if refused(".seg") && refused(".arrow") { Ok(()) } else { Err(log) }
    });
    assert!(house.terminate().success());
    // What could not be made durable is given up, and no word on it is believed that comes later; unless it is cut back to
    // what was durable before.
    let mut refused = BTreeSet::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let (what, path) = line.split_once(' ').unwrap();
        match what {
            "refused" => assert!(refused.insert(path.to_owned()), "{path} was synced again"),
            "cut" => drop(refused.remove(path)),
            "synced" | "renamed" => {
                assert!(!refused.contains(path), "{path} was {what} though its sync had failed")
            }
            _ => {}
        }
    }
    assert_stored_or_dropped(&site, &sent);
}

#[test]
fn a_gateway_killed_while_syncs_are_refused_loses_nothing_that_was_recorded() {
    let origin = Origin::start();
    let site = site(&origin);
    let house = refusing(&site, 3, &site.folder().join("steps"));
    let sent = send(&house, 3000);
    // A response is with its client a moment before it is recorded.
    eventually("the last of them to be recorded", || match counts(&site, |core| core.produced) {
        produced if produced == sent.len() as u64 => Ok(()),
        produced => Err(format!("{produced} of {}", sent.len())),
    });
    house.kill9();
    assert_stored_or_dropped(&site, &sent);
}

/// Of what was sent to the last gateway each is a row by now, or counted as dropped.
fn assert_stored_or_dropped(site: &Site, sent: &[String]) {
    let dropped = dropped(site);
    println!("{} sent, {dropped} dropped", sent.len());
    assert!(dropped < sent.len() as u64 / 2, "{dropped} of {} were dropped", sent.len());
    // What the spool still holds is stored by the next.
    let house = site.run();
    house.rows(sent.len() as u64 - dropped);
    let stored = stored(&house);
    assert_exact(&stored, []);
    let sent: BTreeSet<&str> = sent.iter().map(String::as_str).collect();
    assert!(stored.keys().all(|id| sent.contains(id.as_str())), "a row that no client has seen");
}

/// A system call on a file under the data folder.
struct Call {
    name: String,
    path: String,
}

fn calls_on(trace: &str, data: &str) -> Vec<Call> {
    let all = calls(trace).into_iter();
    all.filter_map(|call| Some(Call { path: call.path(data)?.to_owned(), name: call.name })).collect()
}

/// By strace: what a collector gives up (a segment of the spool, a hot file) was made durable elsewhere before.
#[test]
fn nothing_is_given_up_before_what_takes_its_place_is_durable() {
    let origin = Origin::start();
    let site = site(&origin);
    // The second gateway ends the segments that the first one left open: all of them can be given up.
    let sent = [fill(&site), fill(&site)].concat();
    let trace = site.folder().join("trace");
    let plain = site.command("collector");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "4096", "-e", "trace=fsync,fdatasync,rename,unlink", "-o"]).arg(&trace);
    command.arg(plain.get_program()).args(plain.get_args());
    let collector = site.launch("collector", command);
    let analytics = site.start("analytics");
    analytics.rows(sent.len() as u64);
    // strace passes the signal on to nobody: it is the collector that is asked.
    let pid = output(Command::new("pgrep").arg("-P").arg(collector.pid().to_string()));
    output(Command::new("kill").arg(pid.trim()));
    assert!(collector.ended().success());

    let data = site.data().display().to_string();
    let text = std::fs::read_to_string(&trace).unwrap();
    let calls = calls_on(&text, &data);
    let last = |before: usize, names: &[&str], holds: &dyn Fn(&str) -> bool| {
        calls[..before].iter().rposition(|call| names.contains(&call.name.as_str()) && holds(&call.path))
    };
    let syncs = ["fsync", "fdatasync"];
    let (mut segments, mut hot_files) = (0, 0);
    for (at, call) in calls.iter().enumerate() {
        let (name, path) = (call.name.as_str(), call.path.as_str());
        let released = path.starts_with("spool/core-")
            && (name == "unlink" && path.ends_with(".seg") || name == "rename" && path.ends_with(".free"));
        if released {
            // Rows first, then the line that makes them count, and the folder that both are in.
            let line = last(at, &syncs, &|path| path.ends_with(".commits")).expect("a synced commit log");
            let log = &calls[line].path;
            let rows = log.replace(".commits", ".arrow");
            assert!(last(line, &syncs, &|path| path == rows).is_some(), "{rows} was not synced before {log}");
            assert!(
                last(line, &syncs, &|path| path == "hot").is_some(),
                "the folder of {log} was not synced"
            );
            segments += 1;
        }
        if name == "unlink" && path.starts_with("hot/") && path.ends_with(".arrow") {
            let number = path.trim_start_matches("hot/").trim_end_matches(".arrow");
            let parquet = |path: &str| path.starts_with("requests/") && path.contains(number);
            let state = last(at, &syncs, &|path| path == "state").expect("the manifest's folder is synced");
            let manifest = last(state, &["rename"], &|path| path == "state/manifest.json").unwrap();
            let written = last(manifest, &syncs, &|path| path == "state/manifest.tmp").unwrap();
            let renamed = last(written, &["rename"], &parquet).expect("a Parquet file of this hot file");
            let file = last(renamed, &syncs, &|path| parquet(path) && path.ends_with(".tmp"));
            assert!(file.is_some(), "{} was renamed before it was synced", calls[renamed].path);
            let folder = calls[renamed].path.rsplit_once('/').unwrap().0;
            let synced = last(written, &syncs, &|path| path == folder);
            assert!(
                synced.is_some_and(|synced| synced > renamed),
                "{folder} was not synced after the rename"
            );
            hot_files += 1;
        }
    }
    assert!(segments >= 2 && hot_files >= 2, "{segments} segments and {hot_files} hot files: {text}");
}
