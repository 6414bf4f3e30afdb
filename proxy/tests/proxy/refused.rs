//! Requests of HTTP/2 that the upstream says it has not touched, seen from an upstream of frames made by hand.

use crate::support::*;
use event::AttemptError;
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What an upstream does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Status 200 and no body.
    Answer,
    /// RST_STREAM with REFUSED_STREAM.
    Refuse,
    /// RST_STREAM with CANCEL: it may have done something.
    Cancel,
    /// GOAWAY that leaves the request out, and end.
    LeaveOut,
    /// GOAWAY that does not, and end.
    GiveUp,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An upstream that plays its parts in turn, request by request, the last one again and again; and how many it has seen.
async fn playing(parts: &'static [Part]) -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let addr = origin(move |_, stream| {
        let seen = Rc::clone(&seen);
        async move {
            // The gateway may have closed before all was written.
            let _closed = play(stream, parts, &seen).await;
        }
    })
    .await;
    (addr, count)
}

async fn play(mut stream: TcpStream, parts: &[Part], seen: &Cell<usize>) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(4, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let id = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        match head[3] {
            4 if head[4] & 1 == 0 => stream.write_all(&frame(4, 1, 0, &[])).await?,
            1 => {
                let part = parts[seen.get().min(parts.len() - 1)];
                seen.set(seen.get() + 1);
                let going_away = |last: u32| frame(7, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
                match part {
                    // `:status: 200` of HPACK's static table.
                    Part::Answer => stream.write_all(&frame(1, 5, id, &[0x88])).await?,
                    Part::Refuse => stream.write_all(&frame(3, 0, id, &7u32.to_be_bytes())).await?,
                    Part::Cancel => stream.write_all(&frame(3, 0, id, &8u32.to_be_bytes())).await?,
                    Part::LeaveOut => return leave(stream, &going_away(id - 1)).await,
                    Part::GiveUp => return leave(stream, &going_away(id)).await,
                }
            }
            _ => {}
        }
    }
}

/// Says a last thing. What still comes is read: a close before would be a reset, which may overtake it.
async fn leave(mut stream: TcpStream, last: &[u8]) -> std::io::Result<()> {
    stream.write_all(last).await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

fn gateway(addr: SocketAddr, retry: &Value) -> Gateway {
    let mut entities = everything_to(addr);
    entities["services"][0]["http2"] = json!(true);
    entities["services"][0]["retry"] = retry.clone();
    Gateway::start(entities, json!({"timeouts": {"sweep_interval_ms": 10}}))
}

async fn ask(gateway: &Gateway, method: &str) -> u16 {
    let got = gateway.talk(format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    got[9..12].parse().unwrap()
}

#[test]
fn what_was_not_touched_is_sent_again_whatever_its_method() {
    use Part::{Answer, Cancel, GiveUp, LeaveOut, Refuse};
    run(async {
        let (default, off) = (json!({}), json!({"retry_on": ["connect-failure"]}));
        let (alone, all) = (json!({"retry_on": ["refused-stream"]}), json!({"retry_on": ["5xx"]}));
        let cases: [(&Value, &str, &'static [Part], u16, usize); 11] = [
            (&default, "POST", &[Refuse, Answer], 200, 2),
            (&alone, "POST", &[Refuse, Refuse, Answer], 200, 3),
            (&all, "GET", &[Refuse, Answer], 200, 2),
            (&off, "POST", &[Refuse, Answer], 502, 1),
            (&off, "GET", &[Refuse, Answer], 502, 1),
            (&default, "POST", &[LeaveOut, Answer], 200, 2),
            // The upstream may have done it.
            (&default, "POST", &[GiveUp, Answer], 502, 1),
            (&default, "GET", &[GiveUp, Answer], 502, 1),
            (&all, "POST", &[GiveUp, Answer], 502, 1),
            (&default, "POST", &[Cancel, Answer], 502, 1),
            (&default, "POST", &[Refuse], 502, 6),
        ];
        for (retry, method, parts, status, tries) in cases {
            let (addr, seen) = playing(parts).await;
            let gateway = gateway(addr, retry);
            let got = (ask(&gateway, method).await, seen.get());
            let event = gateway.events(1).await.remove(0);
            assert_eq!(got, (status, tries), "{retry} {method}: {:?}", event.attempts);
            assert_eq!(event.attempts.len(), tries);
            assert!(event.attempts[..tries - 1].iter().all(|attempt| attempt.2 == AttemptError::Reset));
        }
    });
}

#[test]
fn a_refusal_on_a_shared_connection_does_not_cost_the_connection() {
    run(async {
        let (addr, seen) = playing(&[Part::Answer, Part::Refuse, Part::Answer]).await;
        let gateway = gateway(addr, &json!({}));
        assert_eq!((ask(&gateway, "POST").await, ask(&gateway, "POST").await), (200, 200));
        assert_eq!(seen.get(), 3);
        let events = gateway.events(2).await;
        let reused: Vec<_> =
            events.iter().flat_map(|event| &event.attempts).map(|attempt| attempt.3).collect();
        assert_eq!(reused, [false, true, true]);
    });
}
