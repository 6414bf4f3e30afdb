//! What is tried again, and what never is.

use crate::support::*;
use event::{AttemptError, Outcome};
use serde_json::{Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What an origin does with each of its requests, in order; the last part is played again and again.
#[derive(Clone, Copy)]
enum Part {
    Status(u16),
    /// Closes without an answer.
    Close,
    /// Says nothing.
    Silence,
}

/// An origin, and how many requests it has seen.
async fn playing(parts: &'static [Part]) -> (std::net::SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let addr = origin(move |_, mut stream: TcpStream| {
        let seen = Rc::clone(&seen);
        async move {
            let mut got = Vec::new();
            while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                if !got.windows(4).any(|four| four == b"\r\n\r\n") {
                    continue;
                }
                got.clear();
                let part = parts[seen.get().min(parts.len() - 1)];
                seen.set(seen.get() + 1);
                match part {
                    Part::Close => return,
                    Part::Silence => {}
                    Part::Status(status) => {
                        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    })
    .await;
    (addr, count)
}

fn gateway(addr: std::net::SocketAddr, retries: u32, retry: &Value) -> Gateway {
    let mut entities = everything_to(addr);
    entities["services"][0]["retries"] = json!(retries);
    entities["services"][0]["retry"] = retry.clone();
    Gateway::start(entities, json!({"timeouts": {"sweep_interval_ms": 10}}))
}

async fn ask(gateway: &Gateway, method: &str, body: &str) -> u16 {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let got = gateway
        .talk(format!("{method} / HTTP/1.1\r\nHost: a\r\n{length}Connection: close\r\n\r\n{body}"))
        .await;
    got[9..12].parse().unwrap()
}

#[test]
fn conditions_say_what_is_tried_again() {
    use Part::{Close, Status};
    run(async {
        let codes = json!({"retry_on": ["retriable-status-codes"], "retriable_status_codes": [409]});
        let cases: [(Value, &'static [Part], u16, usize); 9] = [
            (json!({"retry_on": ["5xx"]}), &[Status(500), Status(200)], 200, 2),
            (json!({"retry_on": ["5xx"]}), &[Close, Status(501), Status(200)], 200, 3),
            (json!({"retry_on": ["5xx"]}), &[Status(404), Status(200)], 404, 1),
            (json!({"retry_on": ["gateway-error"]}), &[Status(502), Status(503), Status(200)], 200, 3),
            (json!({"retry_on": ["gateway-error"]}), &[Status(500), Status(200)], 500, 1),
            (json!({"retry_on": ["reset"]}), &[Close, Status(200)], 200, 2),
            (json!({}), &[Close, Status(200)], 502, 1),
            (codes.clone(), &[Status(409), Status(200)], 200, 2),
            (codes, &[Status(503), Status(200)], 503, 1),
        ];
        for (retry, parts, status, tries) in cases {
            let (addr, seen) = playing(parts).await;
            let gateway = gateway(addr, 5, &retry);
            assert_eq!((ask(&gateway, "GET", "").await, seen.get()), (status, tries), "{retry}");
            let event = gateway.events(1).await.remove(0);
            assert_eq!(event.attempts.len(), tries, "every try is in the event");
            assert_eq!(event.head.status, status);
        }
    });
}

#[test]
fn the_last_answer_goes_to_the_client_when_the_tries_are_used_up() {
    run(async {
        for (retries, tries) in [(0, 1), (2, 3), (15, 16)] {
            let (addr, seen) = playing(&[Part::Status(503)]).await;
            let gateway = gateway(addr, retries, &json!({"retry_on": ["5xx"]}));
            assert_eq!((ask(&gateway, "GET", "").await, seen.get()), (503, tries));
            let event = gateway.events(1).await.remove(0);
            assert_eq!((event.outcome, event.attempts.len()), (Outcome::Ok, tries));
            assert!(event.attempts.iter().all(|attempt| attempt.1 == 503));
        }
    });
}

#[test]
fn what_may_do_harm_is_not_sent_twice() {
    run(async {
        let on = json!({"retry_on": ["5xx", "reset"]});
        let asked = json!({"retry_on": ["5xx", "reset"], "non_idempotent": true});
        for first in [&[Part::Status(500), Part::Status(200)], &[Part::Close, Part::Status(200)]] {
            for (retry, method, body, tries) in [
                (&on, "POST", "", 1),
                (&on, "PATCH", "", 1),
                (&on, "DELETE", "", 2),
                (&asked, "POST", "", 2),
                // Its body is gone.
                (&on, "PUT", "body", 1),
                (&asked, "POST", "body", 1),
            ] {
                let (addr, seen) = playing(first).await;
                let gateway = gateway(addr, 5, retry);
                let status = ask(&gateway, method, body).await;
                assert_eq!(seen.get(), tries, "{method} {body} {retry}");
                assert_eq!(status == 200, tries == 2, "{method} {body} {retry}");
            }
        }
    });
}

#[test]
fn a_try_has_a_time_of_its_own() {
    run(async {
        let (addr, seen) = playing(&[Part::Silence, Part::Status(200)]).await;
        let gateway = gateway(addr, 3, &json!({"retry_on": ["reset"], "per_try_timeout_ms": 50}));
        let begun = Instant::now();
        assert_eq!((ask(&gateway, "GET", "").await, seen.get()), (200, 2));
        assert!(begun.elapsed().as_millis() >= 50);
        let event = gateway.events(1).await.remove(0);
        assert_eq!(event.attempts[0].2, AttemptError::ReadTimeout);
        assert_eq!((event.attempts[1].1, event.attempts[1].2), (200, AttemptError::None));
        let (addr, seen) = playing(&[Part::Silence]).await;
        let gateway = self::gateway(addr, 2, &json!({"retry_on": ["reset"], "per_try_timeout_ms": 30}));
        assert_eq!((ask(&gateway, "GET", "").await, seen.get()), (504, 3));
    });
}

#[test]
fn the_budget_bounds_what_is_tried_again_at_once() {
    run(async {
        // Every request fails at first; those that are tried again hang until they are given up.
        let (addr, seen) = playing(&[
            Part::Status(503),
            Part::Silence,
            Part::Status(503),
            Part::Status(503),
            Part::Status(503),
        ])
        .await;
        let retry =
            json!({"retry_on": ["5xx"], "budget_percent": 1, "budget_min": 1, "per_try_timeout_ms": 10000});
        let gateway = gateway(addr, 1, &retry);
        let mut hanging = std::pin::pin!(ask(&gateway, "GET", ""));
        let deadline = Instant::now() + PATIENCE;
        while seen.get() < 2 {
            assert!(Instant::now() < deadline);
            tokio::select! {
                biased;
                status = &mut hanging => panic!("before its time: {status}"),
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            }
        }
        for more in 1..=3 {
            tokio::select! {
                biased;
                status = &mut hanging => panic!("before its time: {status}"),
                status = ask(&gateway, "GET", "") => assert_eq!(status, 503),
            }
            assert_eq!(seen.get(), 2 + more, "the budget is used up: not tried again");
        }
    });
}
