//! Addresses that fail again and again are taken out for a time, by whichever balancer chooses.

use crate::states::{Shown, always, always_after, of};
use crate::support::*;
use event::upstreams::TargetCondition;
use event::{AttemptError, Outcome};
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn group(upstream: &Value, targets: &[SocketAddr]) -> Shown {
    group_that_waits(upstream, targets, 60_000)
}

/// The same where an answer may take so long: one that is late is a failure.
fn group_that_waits(upstream: &Value, targets: &[SocketAddr], read_timeout_ms: u64) -> Shown {
    let mut upstream = upstream.clone();
    upstream["name"] = json!("group");
    upstream["targets"] = targets.iter().map(|addr| json!({"target": addr.to_string()})).collect();
    let services = json!([{"name": "s", "host": "group", "retries": 0, "read_timeout": read_timeout_ms,
        "routes": [{"paths": ["/"]}]}]);
    Shown::start(json!({"services": services, "upstreams": [upstream]}), json!({}))
}

/// How many of so many requests failed.
async fn failures(shown: &Shown, requests: usize) -> usize {
    let mut failed = 0;
    for _ in 0..requests {
        failed += usize::from(shown.status().await >= 500);
    }
    failed
}

#[test]
fn five_failures_in_a_row_take_an_address_out_whatever_the_algorithm() {
    run(async {
        for algorithm in ["round-robin", "least-connections", "latency", "random", "consistent-hashing"] {
            // What has looked slow once is asked again when the others look slower still: it must be they that are slow,
            // or a busy machine decides for how long that is.
            let patience = if algorithm == "latency" { Duration::from_millis(60) } else { Duration::ZERO };
            let (sick, well) = (always(500).await, always_after(200, patience).await);
            let upstream = json!({"algorithm": algorithm, "outlier_detection": {}});
            let shown = group(&upstream, &[sick, well]);
            // Chance needs more of them.
            let (mut failed, deadline) = (0, std::time::Instant::now() + PATIENCE);
            while failed < 5 {
                failed += failures(&shown, 1).await;
                assert!(std::time::Instant::now() < deadline, "{algorithm}: {failed} failures");
            }
            assert_eq!(failures(&shown, 20).await, 0, "{algorithm}");
            let states = shown.once("ejected", |states| of(states, sick).ejections == 1).await;
            let row = of(&states, sick);
            assert_eq!((row.state, row.consecutive_5xx), (TargetCondition::Ejected, 0), "{algorithm}");
            let seconds = (row.ejected_until_us.unwrap() - row.since_us) / 1_000_000;
            assert!((29..=30).contains(&seconds), "30 seconds by default: {seconds}");
            assert_eq!(of(&states, well).state, TargetCondition::Healthy);
        }
    });
}

#[test]
fn tries_without_an_answer_are_failures_too() {
    run(async {
        let refusing = free_addr();
        let silent = origin(|_, mut stream| async move {
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        for (sick, error) in [(refusing, AttemptError::ConnectFailed), (silent, AttemptError::ReadTimeout)] {
            let upstream = json!({"outlier_detection": {"consecutive_5xx": 2}});
            // Only the one that never answers is to be late.
            let shown = match error {
                AttemptError::ReadTimeout => group_that_waits(&upstream, &[sick, always(200).await], 1_000),
                _ => group(&upstream, &[sick, always(200).await]),
            };
            assert_eq!(failures(&shown, 12).await, 2);
            let events = shown.gateway.events(12).await;
            let failed: Vec<_> = events.iter().filter(|event| event.outcome != Outcome::Ok).collect();
            assert!(failed.iter().all(|event| event.attempts[0].2 == error), "{failed:#?}");
        }
    });
}

#[test]
fn a_success_in_between_begins_the_row_anew() {
    run(async {
        let count = Rc::new(Cell::new(0));
        let turn = Rc::clone(&count);
        // Every third is good.
        let moody = origin(move |_, mut stream| {
            let turn = Rc::clone(&turn);
            async move {
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                    if got.ends_with(b"\r\n\r\n") {
                        got.clear();
                        turn.set(turn.get() + 1);
                        let status = if turn.get() % 3 == 0 { 200 } else { 502 };
                        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            }
        })
        .await;
        let shown = group(&json!({"outlier_detection": {"consecutive_5xx": 3}}), &[moody, always(200).await]);
        assert_eq!(failures(&shown, 60).await, 20);
        assert_eq!(count.get(), 30, "it keeps its share");
    });
}

#[test]
fn the_last_fit_address_stays_and_no_more_than_the_share_goes() {
    run(async {
        let sick = [always(500).await, always(500).await, always(500).await];
        // 10 percent of three is one.
        for (percent, out) in [(10, 1), (100, 2), (0, 0)] {
            let outlier = json!({"consecutive_5xx": 1, "max_ejection_percent": percent});
            let shown = group(&json!({"outlier_detection": outlier}), &sick);
            assert_eq!(failures(&shown, 20).await, 20, "there is always somebody to ask");
            let asked = |states: &event::upstreams::UpstreamStates| {
                states.targets.iter().map(|row| row.requests).sum::<u64>() == 20
            };
            let states = shown.once("asked", asked).await;
            let ejected = states.targets.iter().filter(|row| row.state == TargetCondition::Ejected).count();
            assert_eq!(ejected, out, "{percent}");
        }
    });
}

#[test]
fn an_address_comes_back_after_its_time_and_is_taken_out_again() {
    run(async {
        let (sick, well) = (always(500).await, always(200).await);
        let outlier = json!({"consecutive_5xx": 1, "interval": 0.02, "base_ejection_time": 0.2});
        let shown = group(&json!({"outlier_detection": outlier}), &[sick, well]);
        for ejection in 1..=2 {
            let states = loop {
                shown.status().await;
                let states = shown.once("a picture", |_| true).await;
                if states.targets.iter().any(|row| row.ejections == ejection) {
                    break states;
                }
            };
            let row = of(&states, sick);
            let out_us = row.ejected_until_us.unwrap() - row.since_us;
            assert!(out_us > 150_000, "{out_us}");
            assert_eq!(failures(&shown, 3).await, 0, "it is left alone");
            shown.once("back", |states| of(states, sick).state == TargetCondition::Healthy).await;
        }
    });
}
