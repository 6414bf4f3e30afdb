//! The console in a browser: a real Chromium opens every page of the real binary over traffic whose rows are known, and holds
//! what it shows against SQL. The steps are in `pages.mjs`, which Playwright runs.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use support::client::{self, Connection};
use support::doors::{ALICE, ALL, guarded, http};
use support::eventually;
use support::origin::Origin;
use support::site::{ALICE_KEY, BOB_KEY, Tollhouse};
use support::tool::{find, output};

/// What a browser must never take for markup.
const HOSTILE: &str = "<img src=x onerror=window.hit=1>";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Requests of two consumers and of nobody, some of which fail; a chain of two in one trace; texts that are markup.
/// How many there are.
fn traffic(house: &Tollhouse) -> u64 {
    let mut sent = 0;
    let mut get = |target: &str, headers: &[(&str, &str)]| {
        sent += 1;
        client::get(house.gateway(), target, headers).unwrap()
    };
    for number in 0..40 {
        let status = [200, 200, 201, 404, 503][number % 5];
        let key = [ALICE_KEY, ALICE_KEY, BOB_KEY][number % 3];
        get(&format!("/private/status/{status}"), &[("apikey", key)]);
    }
    for number in 0..12 {
        get(&format!("/open/slow/{}", 5 + 3 * number), &[]);
    }
    get("/nowhere", &[]);
    get("/private/status/200", &[("apikey", "nobody's")]);
    get("/open/status/200", &[("user-agent", HOSTILE)]);
    get("/private/status/500", &[("apikey", BOB_KEY), ("user-agent", "bob's own agent")]);
    // The service hands on the context that it was given.
    let begun = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let reply = get("/open/headers", &[("traceparent", &begun)]);
    let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let headers = said["headers"].as_array().unwrap();
    let handed = headers.iter().find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case("traceparent"));
    let handed = handed.unwrap()[1].as_str().unwrap();
    get("/private/slow/20", &[("traceparent", handed), ("apikey", ALICE_KEY)]);
    sent
}

/// Sends a target as it is, which no browser would.
fn odd_path(house: &Tollhouse) -> u64 {
    let target = "/open/status/200/%3Cimg%20src=x%20onerror=window.hit=1%3E/status/200";
    let mut connection = Connection::open(house.gateway()).unwrap();
    connection.exchange("GET", target, &[("apikey", ALICE_KEY)], b"").unwrap();
    1
}

#[test]
fn every_page_shows_what_sql_says() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let house = site.run();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let from = now() - 60;
    let rows = traffic(&house) + odd_path(&house);
    eventually("rows in requests", || {
        let found = http(&house, ALL, "SELECT count(*) AS n FROM requests WHERE sequence >= 0");
        if found[0]["n"] == rows { Ok(()) } else { Err(format!("{found:?} for {rows}")) }
    });
    let folder =
        std::env::var_os("TESTS_SCREENSHOTS").map_or_else(|| site.folder().join("screens"), Into::into);
    let asked = json!({
        "base": format!("http://{}", house.addr("sql")),
        "chromium": std::env::var("TESTS_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned()),
        "modules": find("TESTS_NODE_MODULES", "console/node_modules"),
        "screens": folder,
        "profile": site.folder().join("profile"),
        "from": from,
        // The end of the traffic is the end of time: what is shown does not move while it is looked at.
        "until": now() + 1,
        "rows": rows,
        "trace": TRACE,
        "hostile": HOSTILE,
        "tokens": {"all": ALL, "alice": ALICE},
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/pages.mjs");
    let said = output(Command::new("node").arg(script).arg(asked.to_string()));
    println!("{said}");
    let checks = said.lines().last().and_then(|line| line.strip_prefix("checks: ")).unwrap();
    assert!(checks.parse::<u32>().unwrap() > 200, "{said}");
}

#[test]
fn files_are_told_apart_packed_and_fenced_in() {
    let origin = Origin::start();
    let house = guarded(&origin).run();
    let get =
        |target: &str, headers: &[(&str, &str)]| client::get(house.addr("sql"), target, headers).unwrap();
    let index = get("/", &[]);
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(index.header("cache-control"), Some("no-cache"));
    let policy = index.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(index.header("x-content-type-options"), Some("nosniff"));
    let tag = index.header("etag").unwrap();
    assert_eq!(get("/", &[("If-None-Match", tag)]).status, 304);

    let text = index.text();
    let script = text.split('"').find(|part| part.ends_with("/console.js")).unwrap();
    let (plain, packed) = (get(script, &[]), get(script, &[("Accept-Encoding", "gzip")]));
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(plain.header("cache-control").unwrap().contains("immutable"));
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
    assert!(packed.body.len() < plain.body.len() / 2);
    // A file of another version is not kept for ever, and what is not a file is not there.
    let other = script.replace(script.split('/').nth(2).unwrap(), "0123456789abcdef");
    assert_eq!(get(&other, &[]).header("cache-control"), Some("no-cache"));
    for absent in [
        "/console/x/nothing.js",
        "/console/x/../../Cargo.toml",
        "/console/x/%2e%2e/%2e%2e/Cargo.toml",
        "/console/",
    ] {
        assert_eq!(get(absent, &[]).status, 404, "{absent}");
    }
}

#[test]
fn a_session_says_who_one_is() {
    let origin = Origin::start();
    let house = guarded(&origin).run();
    let session = |token: Option<&str>| {
        let given = format!("Bearer {}", token.unwrap_or_default());
        let headers: &[(&str, &str)] = if token.is_some() { &[("Authorization", &given)] } else { &[] };
        let reply = client::get(house.addr("sql"), "/session", headers).unwrap();
        let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        (reply.status, said)
    };
    for token in [None, Some("no token of anybody")] {
        let (status, said) = session(token);
        assert_eq!((status, said["error"]["code"].is_string()), (401, true), "{said}");
    }
    let (status, said) = session(Some(ALL));
    assert_eq!(
        (status, &said["name"], &said["system"], &said["tokens"]),
        (200, &json!("grafana"), &json!(true), &json!(true))
    );
    assert_eq!((&said["consumer"], &said["workspace"]), (&json!(null), &json!(null)));
    let (status, said) = session(Some(ALICE));
    assert_eq!((status, &said["consumer"], &said["system"]), (200, &json!("alice"), &json!(false)));
    assert!(!said.to_string().contains(ALICE), "{said}");
    drop(house);

    let open = support::site::Site::new(origin.addr).run();
    let reply = client::get(open.addr("sql"), "/session", &[]).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&said["name"], &said["tokens"]), (&json!("anonymous"), &json!(false)));
}

/// What a script or a sheet asks for in turn comes a round trip later.
#[test]
fn what_the_first_page_needs_is_fetched_at_once() {
    let origin = Origin::start();
    let house = guarded(&origin).run();
    let get = |target: &str| client::get(house.addr("sql"), target, &[]).unwrap().text();
    let index = get("/");
    let named: Vec<&str> = index.split('"').filter(|part| part.starts_with("/console/")).collect();
    let files: BTreeSet<&str> = named.iter().filter_map(|path| path.rsplit('/').next()).collect();
    assert_eq!(files, ["console.css", "console.js", "early.js", "icon.svg", "inter.woff2"].into());
    for path in named.iter().filter(|path| path.ends_with(".js")) {
        let text = get(path);
        let asks = ["import(", "importScripts"].iter().find(|word| text.contains(**word));
        assert!(asks.is_none() && !text.lines().any(|line| line.starts_with("import ")), "{path}: {asks:?}");
    }
    assert!(!get(named.iter().find(|path| path.ends_with(".css")).unwrap()).contains("@import"));
}
