//! Collectors that die at any step between a sealed file and the word that it is in the bucket.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::support::bucket::{Store, files};
use super::support::client;
use super::support::eventually;
use super::support::load::{Load, assert_exact, stored};
use super::support::origin::Origin;
use super::support::site::{Site, sum};
use super::support::tool::{Running, preload};
use super::{audit, collector_of, ids, reader, site, uploaded};

/// A bucket that is a folder, so that each step of an upload is one of the disk, which can be counted.
fn section(bucket: &Path) -> serde_json::Value {
    json!({
        "url": format!("file://{}", bucket.display()), "sync_interval_s": 1, "poll_interval_s": 1,
        "retry_initial_ms": 20, "retry_max_ms": 200,
    })
}

fn counted(site: &Site) -> Command {
    let mut command = site.command("collector");
    let library = preload(site.folder(), "steps", include_str!("../support/steps.c"));
    command.env("LD_PRELOAD", library).env("STEPS_PREFIX", site.folder());
    command
}

/// What a gateway leaves in the spool that ends.
fn fill(site: &Site) -> Vec<String> {
    let proxy = site.start("proxy");
    // One after the other: a spool that nobody reads has room for that at any pace.
    let sent = (0..60).map(|_| proxy.get("/open/echo", &[]).request_id()).collect();
    assert!(proxy.terminate().success());
    sent
}

/// Runs a collector until it has put the day's files in force and once more looked after what is due, or until it dies.
/// Whether it died.
fn lives_or_dies(mut command: Command) -> bool {
    let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut metrics = None;
    for line in lines {
        if let Some(addr) = line.strip_prefix("metrics http://").and_then(|rest| rest.split('/').next()) {
            metrics = addr.parse().ok();
        }
        if line.trim() == "ready" {
            break;
        }
    }
    let status = eventually("an upload or a death", || {
        if let Some(status) = child.0.try_wait().unwrap() {
            return Ok(status);
        }
        let page = metrics.and_then(|addr| client::get(addr, "/metrics", &[]).ok());
        let page = page.map(|page| page.text()).unwrap_or_default();
        let of = |name: &str| sum(&page, &format!("tollhouse_bucket_{name}"), &[]);
        if of("commits_total") >= 2.0 && of("deleted_objects_total") >= 1.0 && of("backlog_files") == 0.0 {
            // SAFETY: no memory is involved. The child has not been waited for, so the id is its own.
            unsafe { libc::kill(i32::try_from(child.0.id()).unwrap(), libc::SIGTERM) };
        }
        Err(page.lines().filter(|line| line.starts_with("tollhouse_bucket")).collect::<Vec<_>>().join("\n"))
    });
    let died = status.signal() == Some(libc::SIGKILL);
    assert!(died || status.success(), "{status}");
    died
}

#[test]
fn a_collector_killed_before_any_step_of_an_upload_loses_and_doubles_nothing() {
    let origin = Origin::start();
    let site = site(&origin, json!({}));
    let bucket = site.folder().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    let site = site
        .set(&["object_store"], section(&bucket))
        .set(&["collector", "retention"], json!({ "grace_s": 0 }))
        // Each start takes segments of its own: small ones, so that many starts find room.
        .set(&["spool", "segment_bytes"], json!(65_536));
    let mut sent = fill(&site);
    // Once to have something to delete, once to see which steps there are.
    assert!(!lives_or_dies({
        let mut command = counted(&site);
        command.env("STEPS_LOG", site.folder().join("first"));
        command
    }));
    sent.extend(fill(&site));
    let log = site.folder().join("steps");
    let mut command = counted(&site);
    command.env("STEPS_LOG", &log);
    assert!(!lives_or_dies(command));
    let steps = std::fs::read_to_string(&log).unwrap();
    let of_bucket: Vec<usize> = steps
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("/bucket/") || line.contains("state/bucket"))
        .map(|(at, _)| at + 1)
        .collect();
    let (first, last) = (*of_bucket.first().unwrap(), *of_bucket.last().unwrap());
    assert!(of_bucket.len() > 10, "{steps}");
    let most = if super::support::long() { usize::MAX } else { 40 };
    let every = (last + 2 - first).div_ceil(most).max(1);
    let mut died = 0;
    let mut tried = 0;
    for step in (first..=last + 1).step_by(every) {
        sent.extend(fill(&site));
        let mut command = counted(&site);
        command.env("STEPS_KILL", step.to_string());
        died += usize::from(lives_or_dies(command));
        tried += 1;
    }
    assert!(died > tried / 2, "only {died} of {tried} died");
    let collector = site.start("collector");
    let own = site.start("analytics");
    uploaded(&own, sent.len() as u64);
    let (_folder, second) = reader(&origin, section(&bucket));
    second.rows(sent.len() as u64);
    assert_exact(&stored(&second), sent.iter().map(String::as_str));
    // Nothing that a death has left is there for ever.
    eventually("no object that nothing names", || {
        let (lists, strays) = audit(&bucket, &files(&bucket));
        assert_eq!(lists.len(), 1, "one data folder is one collector");
        if strays.is_empty() { Ok(()) } else { Err(format!("{strays:?}")) }
    });
    println!(
        "{} steps, {tried} tried, {died} deaths, {} requests: 0 lost, 0 double",
        last + 1 - first,
        sent.len()
    );
    assert!(collector.terminate().success());
}

#[test]
fn a_house_killed_while_it_uploads_to_s3_loses_and_doubles_nothing() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(folder.path());
    let site = site(&origin, store.section());
    let mut sent = Vec::new();
    for kill in 0..if super::support::long() { 30 } else { 6 } {
        let house = site.run();
        let load = Load::start(house.gateway(), "/open/echo", 4);
        load.wait(1_500 + kill * 117);
        sent.extend(ids(load));
        // A response is with its client a moment before it is recorded.
        house.rows(sent.len() as u64);
        // The first change is made before anything is uploaded, the second one names what was.
        let goal = kill % 3;
        eventually("uploads to be under way", || {
            let commits = super::bucket_metric(&house, "commits_total");
            if commits as u64 >= goal { Ok(()) } else { Err(format!("{commits} commits")) }
        });
        house.kill9();
    }
    let house = site.run();
    uploaded(&house, sent.len() as u64);
    let (_folder, second) = reader(&origin, store.section());
    second.rows(sent.len() as u64);
    assert_exact(&stored(&second), sent.iter().map(String::as_str));
    let id = collector_of(&site);
    assert!(store.objects().iter().any(|name| name.contains(&format!("collectors/{id}/"))));
}
