//! A new configuration for a gateway that serves: no request fails, no event is lost, and what is wrong changes nothing.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Connection, get};
use support::eventually;
use support::load::{Load, assert_exact, stored};
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Site, Tollhouse};

/// What the gateway says of its configuration: after a line with a checksum.
fn state(site: &Site) -> Value {
    let text = std::fs::read_to_string(site.data().join("state/configuration.json")).unwrap();
    serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
}

/// Waits for a further attempt; says how it went.
fn attempted(site: &Site, before: &Value) -> Value {
    eventually("a reload", || {
        let now = state(site);
        if now["attempts"].as_u64() > before["attempts"].as_u64() { Ok(now) } else { Err(now.to_string()) }
    })
}

fn reload(site: &Site, house: &Tollhouse, config: &Value) -> Value {
    let before = state(site);
    site.replace(&config.to_string());
    house.signal(libc::SIGHUP);
    attempted(site, &before)
}

/// The site's configuration with so many more routes, of which the last answers under a path of its own.
fn with_routes(site: &Site, count: usize, generation: usize) -> Value {
    let mut config = site.config().clone();
    let routes = config["services"][0]["routes"].as_array_mut().unwrap();
    routes.extend((0..count).map(
        |number| json!({"name": format!("more-{number}"), "paths": [format!("/more/{number}/{generation}")]}),
    ));
    config
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request_lose_no_event_and_keep_no_memory() {
    let origin = Origin::start();
    // Only signals: how many reloads there are is to be known.
    // A disk that takes nothing for half a minute leaves room in the spool.
    let site = Site::new(origin.addr)
        .set(&["reload"], json!({"watch_interval_ms": 0}))
        .set(&["spool", "bytes_max"], (4_u64 << 30).into());
    // What is freed goes back soon, rather than after the minute for which it is kept else: what stays is held by somebody.
    let mut command = site.command("run");
    command.env("MIMALLOC_PURGE_DELAY", "1000");
    let house = site.launch("run", command);
    let load = Load::start(house.gateway(), "/open/echo", 4);
    load.wait(200);
    let mut versions = std::collections::BTreeSet::new();
    let mut early = 0;
    for round in 0..100 {
        let now = reload(&site, &house, &with_routes(&site, 500, round));
        assert_eq!(now["successful"], true, "{now}");
        versions.insert(now["version"].as_u64().unwrap());
        assert_eq!(house.get(&format!("/more/499/{round}"), &[]).status, 200, "it is in force");
        if round == 20 {
            early = house.memory_bytes("RssAnon");
        }
    }
    load.wait(200);
    // 80 plans of 500 routes are more than 40 MB. What is kept is there whenever one looks; batches on their way are not.
    let grown = eventually("no more memory than before", || {
        let grown = house.memory_bytes("RssAnon").saturating_sub(early);
        if grown < 16 << 20 { Ok(grown) } else { Err(format!("{grown} bytes more")) }
    });
    let mut ledger = load.stop();
    assert!(ledger.failed.is_empty(), "{:?}", ledger.failed);
    assert_eq!(versions.len(), 100);
    let answered = ledger.received.len() as u64 + 100;
    let dropped = house.sql("SELECT dropped, reasons FROM system.ledger WHERE dropped > 0");
    assert!(dropped.is_empty(), "{dropped:?}");
    house.rows(answered);
    ledger.received.sort();
    assert_exact(&stored(&house), ledger.received.iter().map(|(id, _)| id.as_str()));
    // Each event has the version that was in force, and each version has its route's name.
    let wrong = "SELECT count(*) AS n FROM requests WHERE (path LIKE '/more/%') <> (route = 'more-499')";
    assert_eq!(house.number(wrong), 0);
    assert_eq!(
        house.number("SELECT count(DISTINCT config_version) AS n FROM requests WHERE route = 'more-499'"),
        100
    );
    println!("{answered} requests over 100 reloads, {} KiB grown in the last 80", grown >> 10);
    assert!(house.terminate().success());
}

#[test]
fn a_wrong_file_changes_nothing_and_is_told_as_check_tells_it() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    for role in ["run", "proxy"] {
        let house = site.start(role);
        let good = site.config().to_string();
        let metric = |name: &str| if role == "run" { house.metric(name, &[]) } else { -1.0 };
        let began = metric("tollhouse_config_last_reload_success_timestamp_seconds");
        assert!(role == "proxy" || began > 1e9);
        let before = state(&site);
        site.replace("services:\n  - name: open\n    url: http://127.0.0.1:1\n    routs: []\n");
        let after = attempted(&site, &before);
        assert_eq!(after["successful"], false);
        let problem = after["problems"][0].as_str().unwrap();
        assert!(problem.contains("tollhouse.yaml:4:") && problem.contains("services[0]"), "{problem}");
        let check = Command::new(env!("CARGO_BIN_EXE_tollhouse"))
            .args(["check", "--config"])
            .arg(site.folder().join("tollhouse.yaml"))
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&check.stderr).contains(problem), "{check:?}");
        eventually("the log's word", || {
            let log = house.log();
            if log.contains(problem) && log.contains("stays in force") { Ok(()) } else { Err(log) }
        });
        assert_eq!(house.get("/open/echo", &[]).status, 200);
        assert!(metric("tollhouse_config_last_reload_successful") <= 0.0);
        assert_eq!(metric("tollhouse_config_last_reload_success_timestamp_seconds"), began);
        site.replace(&good);
        let last = attempted(&site, &after);
        assert_eq!((&last["successful"], &last["version"]), (&json!(true), &before["version"]));
        assert!(role == "proxy" || metric("tollhouse_config_last_reload_successful") == 1.0);
        assert!(house.terminate().success());
    }
}

/// Editors and scripts that write in place leave an empty file for a moment, which would be a gateway without routes.
#[test]
fn an_emptied_file_changes_nothing() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 20}));
    let house = site.run();
    let before = state(&site);
    site.replace("");
    let after = attempted(&site, &before);
    assert_eq!((&after["successful"], &after["version"]), (&json!(false), &before["version"]));
    assert!(after["problems"][0].as_str().unwrap().contains("the file is empty"), "{after}");
    assert_eq!(house.get("/open/echo", &[]).status, 200);
    site.replace(&site.config().to_string());
    assert_eq!(attempted(&site, &after)["successful"], true);
}

#[test]
fn a_key_that_is_taken_out_of_the_file_is_refused_within_a_second() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    let mut kept = Connection::open(house.gateway()).unwrap();
    let mut ask = |key: &str| kept.exchange("GET", "/private/echo", &[("apikey", key)], b"").unwrap().status;
    assert_eq!((ask(ALICE_KEY), ask(BOB_KEY)), (200, 200));
    let mut config = site.config().clone();
    config["consumers"].as_array_mut().unwrap().pop();
    let changed = Instant::now();
    site.replace(&config.to_string());
    eventually("a refusal", || match ask(BOB_KEY) {
        401 => Ok(()),
        status => Err(status.to_string()),
    });
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    assert_eq!(ask(ALICE_KEY), 200);
}

#[test]
fn the_command_says_how_it_went_and_what_needs_a_restart() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 0}));
    let ask = || {
        let data = site.data();
        let output =
            Command::new(env!("CARGO_BIN_EXE_tollhouse")).args(["reload", "--data"]).arg(data).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = ask();
    assert_eq!(code, 3, "{said}");
    assert!(!site.data().exists(), "asking makes no folder");
    let house = site.run();
    let mut config = site.config().clone();
    config["spool"] = json!({"sync_interval_ms": 100});
    config["services"][0]["routes"][0]["paths"] = json!(["/opened"]);
    site.replace(&config.to_string());
    let (code, said, needs) = ask();
    assert!(code == 0 && said.starts_with("reloaded: version "), "{said}{needs}");
    assert!(needs.contains("spool.sync_interval_ms"), "{needs}");
    assert_eq!((house.get("/opened/echo", &[]).status, house.get("/open/echo", &[]).status), (200, 404));
    site.replace("services: 7");
    let (code, _, said) = ask();
    assert!(code == 1 && said.contains("tollhouse.yaml:1:") && said.contains("stays in force"), "{said}");
    assert_eq!(house.get("/opened/echo", &[]).status, 200);
    assert!(house.terminate().success());
    assert_eq!(ask().0, 3, "it has gone");
}

#[test]
fn a_renewed_certificate_alone_is_another_version() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| site.folder().join(name));
    let site = site
        .set(&["reload"], json!({"watch_interval_ms": 10}))
        .set(&["certificates"], json!([{"cert_file": cert, "key_file": key, "snis": ["a.test"]}]));
    let put = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
    };
    let [first, renewed] =
        [(), ()].map(|()| rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap());
    put(&first);
    let house = site.run();
    assert_eq!(house.get("/open/echo/first", &[]).status, 200);
    let before = state(&site);
    put(&renewed);
    // A look may fall between the two files, and is right to refuse what it sees.
    let other = eventually("the other version", || {
        let now = state(&site);
        if now["version"] != before["version"] { Ok(now) } else { Err(now.to_string()) }
    });
    assert_eq!(other["successful"], true, "{other}");
    assert_eq!(house.get("/open/echo/renewed", &[]).status, 200);
    put(&first);
    eventually("the version of before", || {
        let now = state(&site);
        if now["version"] == before["version"] { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(house.get("/open/echo/again", &[]).status, 200);
    house.rows(3);
    let of = |last: &str| {
        let asked = format!("SELECT config_version AS n FROM requests WHERE path = '/open/echo/{last}'");
        house.number(&asked)
    };
    assert_eq!(
        ["first", "renewed", "again"].map(of),
        [&before, &other, &before].map(|state| state["version"].as_u64().unwrap())
    );
    assert!(house.terminate().success());
}

#[test]
fn ten_thousand_routes_are_in_force_within_a_second() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 100}));
    let house = site.run();
    let load = Load::start(house.gateway(), "/open/echo", 2);
    load.wait(1_000);
    let (calm, mut took, mut ran) = (Instant::now(), Vec::new(), Vec::new());
    load.wait(1_000);
    let busy = Instant::now();
    for round in 0..5 {
        let before = state(&site);
        site.replace(&with_routes(&site, 10_000, round).to_string());
        let (written, times) = (Instant::now(), house.thread_times("reload"));
        eventually("the new routes", || match get(house.gateway(), &format!("/more/9999/{round}"), &[]) {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        // Other work on this machine makes the thread wait for a processor: not the gateway's time.
        let (elapsed, now) = (written.elapsed(), house.thread_times("reload"));
        took.push(elapsed.saturating_sub(now.1 - times.1));
        ran.push(now.0 - times.0);
        assert_eq!(attempted(&site, &before)["successful"], true);
    }
    let end = Instant::now();
    let ledger = load.stop();
    assert!(ledger.failed.is_empty(), "{:?}", ledger.failed);
    let (calm, busy) = (ledger.p99(calm, busy), ledger.p99(busy, end));
    println!(
        "10,000 routes in force after {took:?} ({ran:?} of work); p99 {calm:?} before, {busy:?} meanwhile"
    );
    took.sort();
    // The quickest is what it takes: the threads of requests and those of this test wait for a processor as well.
    assert!(took[0] < Duration::from_secs(1), "{took:?}");
    assert!(ran.iter().all(|ran| *ran < Duration::from_secs(1)), "{ran:?}");
    assert!(busy < Duration::from_millis(100).max(10 * calm), "{busy:?}, {calm:?} before");
}

/// What the gateway routes by is in SQL, its defaults too and no secret; and so is what a new configuration changed.
#[test]
fn what_is_in_force_and_what_changed_is_in_sql() {
    let origin = Origin::start();
    let mut site = Site::new(origin.addr).set(&["reload"], json!({"watch_interval_ms": 0, "changes_max": 5}));
    let header = json!({"active": {"type": "http", "headers": {"authorization": ["hidden-from-all"]}}});
    let pool =
        json!({"name": "pool", "healthchecks": header, "targets": [{"target": "127.0.0.1:1", "weight": 7}]});
    site = site.set(&["upstreams"], json!([pool]));
    let house = site.run();
    let first = state(&site)["version"].as_u64().unwrap();
    let services = house.sql("SELECT name, protocol, host, port, path, retries, read_timeout_ms, enabled FROM config.services WHERE name = 'open'");
    let expected = json!([{"name": "open", "protocol": "http", "host": "127.0.0.1", "port": origin.addr.port(), "path": "/",
        "retries": 5, "read_timeout_ms": 60_000, "enabled": true}]);
    assert_eq!(json!(services), expected);
    let routes = house.sql(
        "SELECT name, service, paths, protocols, strip_path FROM config.routes WHERE name = 'private-route'",
    );
    let expected = json!([{"name": "private-route", "service": "private", "paths": ["/private"], "protocols": ["http", "https"], "strip_path": true}]);
    assert_eq!(json!(routes), expected);
    let targets = house.sql("SELECT upstream, target, weight FROM config.targets");
    assert_eq!(json!(targets), json!([{"upstream": "pool", "target": "127.0.0.1:1", "weight": 7}]));
    let consumers = house.sql("SELECT username, credentials FROM config.consumers ORDER BY 1");
    assert_eq!(
        json!(consumers),
        json!([{"username": "alice", "credentials": 1}, {"username": "bob", "credentials": 1}])
    );
    let credentials = house.sql("SELECT id, consumer, kind FROM config.credentials ORDER BY 1 LIMIT 1");
    assert_eq!(json!(credentials), json!([{"id": "alice/0", "consumer": "alice", "kind": "key-auth"}]));
    let plugins = house.sql("SELECT name, service, enabled FROM config.plugins");
    assert_eq!(json!(plugins), json!([{"name": "key-auth", "service": "private", "enabled": true}]));
    let kept = std::fs::read_to_string(site.data().join("state/in-force.json")).unwrap();
    for secret in [ALICE_KEY, BOB_KEY, "hidden-from-all"] {
        assert!(!kept.contains(secret), "{secret}");
    }
    // Each table has columns also where nobody asks for rows, and no other door shows more.
    let columns = house.sql("SELECT table_name, count(*) AS n FROM information_schema.columns WHERE table_schema = 'config' GROUP BY 1");
    assert_eq!(columns.len(), 12, "{columns:?}");

    let mut next = site.config().clone();
    next["services"][0]["read_timeout"] = json!(5_000);
    next["upstreams"][0]["targets"][0]["weight"] = json!(9);
    next["consumers"].as_array_mut().unwrap().pop();
    assert_eq!(reload(&site, &house, &next)["successful"], true);
    let changes = house.sql("SELECT kind, name, change, fields FROM config.changes ORDER BY kind, name");
    let expected = json!([
        {"kind": "consumers", "name": "bob", "change": "removed", "fields": []},
        {"kind": "credentials", "name": "bob/0", "change": "removed", "fields": []},
        {"kind": "services", "name": "open", "change": "changed", "fields": ["read_timeout_ms"]},
        {"kind": "targets", "name": "pool/127.0.0.1:1", "change": "changed", "fields": ["weight"]},
    ]);
    assert_eq!(json!(changes), expected);
    let versions = house.sql(
        "SELECT version, until IS NULL AS in_force, services, consumers FROM config.versions ORDER BY since",
    );
    let second = state(&site)["version"].as_u64().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(
        json!([
            versions[0]["version"],
            versions[0]["consumers"],
            versions[1]["version"],
            versions[1]["in_force"]
        ]),
        json!([first, 2, second, true])
    );
    let id = house.get("/open/echo", &[]).status;
    assert_eq!(id, 200);
    house.rows(1);
    let joined =
        "SELECT v.services AS n FROM requests r JOIN config.versions v ON v.version = r.config_version";
    assert_eq!(house.number(joined), 2);

    // A file that is wrong changes none of it, and the reason can be read.
    let before = state(&site);
    site.replace("services: 7\n");
    house.signal(libc::SIGHUP);
    assert_eq!(attempted(&site, &before)["successful"], false);
    let status = house.sql("SELECT version, successful, problems FROM config.status");
    assert_eq!((&status[0]["version"], &status[0]["successful"]), (&json!(second), &json!(false)));
    assert!(status[0]["problems"].as_str().unwrap().contains("services"), "{status:?}");
    assert_eq!(house.number("SELECT count(*) AS n FROM config.versions"), 2);

    // What was in force before is known after a start, and no more of it than is asked for.
    site.replace(&site.config().to_string());
    assert!(house.terminate().success());
    let house = site.run();
    assert_eq!(house.number("SELECT count(*) AS n FROM config.versions"), 3);
    assert_eq!(house.number("SELECT count(*) AS n FROM config.changes"), 5);
}
