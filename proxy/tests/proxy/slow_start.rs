//! An address that becomes fit gets its share little by little.

use crate::states::{Shown, of};
use crate::support::*;
use event::upstreams::TargetCondition;
use serde_json::json;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn an_address_that_comes_back_begins_with_the_least_share() {
    run(async {
        for algorithm in ["round-robin", "least-connections"] {
            // The first answer is bad, the others are not.
            let (asked, first) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(true)));
            let (seen, is_first) = (Rc::clone(&asked), Rc::clone(&first));
            let sick = origin(move |_, mut stream| {
                let (seen, is_first) = (Rc::clone(&seen), Rc::clone(&is_first));
                async move {
                    let mut got = Vec::new();
                    while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                        if got.ends_with(b"\r\n\r\n") {
                            got.clear();
                            seen.set(seen.get() + 1);
                            let status = if is_first.replace(false) { 500 } else { 200 };
                            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                }
            })
            .await;
            let well = crate::states::always(200).await;
            let targets: Vec<_> =
                [sick, well].iter().map(|addr| json!({"target": addr.to_string()})).collect();
            // While it is out the other has its whole share.
            let upstream = json!({"name": "group", "targets": targets, "algorithm": algorithm,
                "slow_start": {"window": 3, "min_weight_percent": 1, "aggression": 0.5},
                "outlier_detection": {"consecutive_5xx": 1, "interval": 0.02, "base_ejection_time": 3.2}});
            let services =
                json!([{"name": "s", "host": "group", "retries": 0, "routes": [{"paths": ["/"]}]}]);
            let shown = Shown::start(json!({"services": services, "upstreams": [upstream]}), json!({}));
            while first.get() {
                shown.status().await;
            }
            shown
                .once("back", |states| {
                    let row = of(states, sick);
                    row.ejections == 1 && row.state == TargetCondition::Healthy
                })
                .await;
            let of_forty = async || {
                let before = asked.get();
                for _ in 0..40 {
                    assert_eq!(shown.status().await, 200);
                }
                asked.get() - before
            };
            let few = of_forty().await;
            assert!(few <= 8, "{algorithm}: {few} of 40");
            let begun = Instant::now();
            while of_forty().await < 19 {
                assert!(begun.elapsed() < PATIENCE, "{algorithm}: never its whole share");
            }
            assert!(begun.elapsed() > Duration::from_secs(1), "{algorithm}: at once");
        }
    });
}
