//! Routes with several destinations: the shares of services, upstreams and versions, and who comes back where.

use crate::balancing::named;
use crate::support::*;
use event::Outcome;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Sends a request with these header lines; returns the name in the answer.
async fn ask(gateway: &Gateway, target: &str, lines: &str) -> String {
    let got =
        gateway.talk(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}Connection: close\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    got.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

/// An upstream with two targets of version 1 and one of version 2, another upstream and another service.
async fn house(routes: Value) -> Gateway {
    let [one, two, three] = [named("v1-a").await, named("v1-b").await, named("v2").await];
    let label = |version: &str| json!({"version": version, "zone": "a"});
    Gateway::start(
        json!({
            "services": [
                {"name": "main", "host": "pool", "routes": routes},
                {"name": "next", "url": format!("http://{}", named("next").await)},
            ],
            "upstreams": [
                {"name": "pool", "targets": [
                    {"target": one.to_string(), "labels": label("v1")},
                    {"target": two.to_string(), "labels": label("v1")},
                    {"target": three.to_string(), "labels": label("v2")}],
                 "subsets": [
                    {"name": "stable", "labels": {"version": "v1"}},
                    {"name": "canary", "labels": {"version": "v2", "zone": "a"}}]},
                {"name": "spare", "targets": [{"target": named("spare").await.to_string()}]},
            ],
            "consumers": [
                {"username": "alice", "keyauth_credentials": [{"key": "key-a"}]},
                {"username": "bob", "keyauth_credentials": [{"key": "key-b"}]},
            ],
        }),
        json!({}),
    )
}

#[test]
fn requests_are_shared_by_weight_and_the_event_says_where_each_went() {
    run(async {
        let gateway = house(json!([
            {"name": "shared", "paths": ["/"], "weighted_destinations": [
                {"subset": "stable", "weight": 60}, {"subset": "canary", "weight": 20},
                {"upstream": "spare", "weight": 10}, {"service": "next", "weight": 10}, {"service": "next", "weight": 0}]},
        ]))
        .await;
        let mut counts = BTreeMap::<String, i32>::new();
        let mut answers = Vec::new();
        for _ in 0..400 {
            let name = ask(&gateway, "/", "").await;
            *counts.entry(name.clone()).or_default() += 1;
            answers.push(name);
        }
        // Within a version in turn; among them by chance, of which four standard deviations are let go.
        assert!((counts["v1-a"] - counts["v1-b"]).abs() <= 1, "{counts:?}");
        for (name, due, off) in [("v1-a", 120, 20), ("v2", 80, 32), ("spare", 40, 24), ("next", 40, 24)] {
            assert!((counts[name] - due).abs() <= off, "{counts:?}");
        }
        for (event, name) in gateway.events(400).await.iter().zip(answers) {
            let seen = ["service", "upstream", "version"].map(|column| event.text(column));
            let expected = match &*name {
                "v1-a" | "v1-b" => ["main", "pool", "stable"],
                "v2" => ["main", "pool", "canary"],
                "spare" => ["main", "spare", ""],
                _ => ["next", "", ""],
            };
            assert_eq!(seen, expected, "{name}");
        }
    });
}

#[test]
fn clients_come_back_to_their_destination() {
    run(async {
        let halves = json!([{"subset": "canary", "weight": 1}, {"service": "next", "weight": 1}]);
        let key_auth = json!([{"name": "key-auth"}]);
        let gateway = house(json!([
            {"paths": ["/c"], "weighted_destinations": halves, "sticky": {"hash_on": "cookie", "hash_on_cookie": "sid"}},
            {"paths": ["/h"], "weighted_destinations": halves, "sticky": {"hash_on": "header", "hash_on_header": "X-Key"}},
            {"paths": ["/k"], "weighted_destinations": halves, "sticky": {}, "plugins": key_auth},
        ]))
        .await;
        for (target, line) in [("/c", "Cookie: a=1; sid=#\r\n"), ("/h", "x-key: #\r\n")] {
            let mut names = HashMap::<String, u32>::new();
            for client in 0..30 {
                let line = line.replace('#', &client.to_string());
                let first = ask(&gateway, target, &line).await;
                assert_eq!(ask(&gateway, target, &line).await, first);
                *names.entry(first).or_default() += 1;
            }
            assert_eq!(names.len(), 2, "{target}: both have a share");
        }
        for key in ["key-a", "key-b"] {
            let first = ask(&gateway, "/k", &format!("apikey: {key}\r\n")).await;
            for _ in 0..8 {
                assert_eq!(ask(&gateway, "/k", &format!("apikey: {key}\r\n")).await, first);
            }
        }
    });
}

#[test]
fn a_version_whose_targets_fail_is_not_stood_in_for_by_another() {
    run(async {
        let bad = free_addr();
        let good = named("good").await;
        for algorithm in ["round-robin", "least-connections", "latency", "random", "consistent-hashing"] {
            let gateway = Gateway::start(
                json!({
                    "services": [{"name": "s", "host": "u", "retries": 2, "routes": [
                        {"paths": ["/bad"], "weighted_destinations": [{"subset": "bad"}]},
                        {"paths": ["/good"], "weighted_destinations": [{"subset": "good"}]}]}],
                    "upstreams": [{"name": "u", "algorithm": algorithm, "targets": [
                        {"target": bad.to_string(), "labels": {"is": "bad"}},
                        {"target": good.to_string(), "labels": {"is": "good"}}],
                        "subsets": [{"name": "bad", "labels": {"is": "bad"}}, {"name": "good", "labels": {"is": "good"}}]}],
                }),
                json!({}),
            );
            for _ in 0..4 {
                assert_eq!(ask(&gateway, "/good", "").await, "good", "{algorithm}");
                let got = gateway.talk("GET /bad HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                assert!(got.starts_with("HTTP/1.1 502 "), "{algorithm}: {got}");
            }
            for event in gateway.events(8).await {
                let failed = event.text("version") == "bad";
                assert_eq!(
                    (event.outcome == Outcome::ConnectFailed, event.attempts.len()),
                    (failed, if failed { 3 } else { 1 })
                );
            }
        }
    });
}
