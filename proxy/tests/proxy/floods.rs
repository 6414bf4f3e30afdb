//! Floods of HTTP/2 frames: each ends in GOAWAY with ENHANCE_YOUR_CALM after bounded work, while others are served.

use crate::support::*;
use serde_json::json;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET http://a/`.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// `POST http://a/`.
const POST: [u8; 6] = [0x83, 0x86, 0x84, 0x41, 1, b'a'];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a client heard: frames, by kind and payload.
type Heard = Vec<(u8, Vec<u8>)>;

/// Sends the preface and then pieces until the gateway has had enough of them or of `count`; says what came back.
async fn flood(addr: SocketAddr, count: u32, piece: impl Fn(u32) -> Vec<u8>) -> (u32, Heard) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let reads = tokio::task::spawn_local(async move {
        let mut heard = Vec::new();
        let mut head = [0; 9];
        while reader.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if reader.read_exact(&mut payload).await.is_err() {
                break;
            }
            heard.push((head[3], payload));
        }
        heard
    });
    writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let mut sent = 0;
    while sent < count && !reads.is_finished() && writer.write_all(&piece(sent)).await.is_ok() {
        sent += 1;
        if sent % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(writer);
    (sent, tokio::time::timeout(PATIENCE, reads).await.unwrap().unwrap())
}

fn calmed(heard: &Heard) -> bool {
    heard.iter().any(|(kind, payload)| *kind == GOAWAY && payload[4..8] == ENHANCE_YOUR_CALM.to_be_bytes())
}

#[test]
fn each_flood_ends_in_goaway_and_others_are_served() {
    run(async {
        let asked = Rc::new(Cell::new(0u32));
        let count = Rc::clone(&asked);
        // Takes requests and never answers those of the flood.
        let origin = origin(move |_, mut stream| {
            let count = Rc::clone(&count);
            async move {
                let mut got = Vec::new();
                while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                    if got.starts_with(b"GET /good") && got.ends_with(b"\r\n\r\n") {
                        got.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    } else if got.ends_with(b"\r\n\r\n") {
                        count.set(count.get() + 1);
                        got.clear();
                    }
                }
            }
        })
        .await;
        let limits = json!({"h2_resets_max": 50, "h2_control_frames_max": 100, "h2_errors_max": 40});
        let gateway = Gateway::start(
            everything_to(origin),
            json!({"limits": limits, "timeouts": {"sweep_interval_ms": 10, "linger_timeout_ms": 500}}),
        );
        let mut good = TcpStream::connect(gateway.addr).await.unwrap();
        let id = |number: u32| number * 2 + 1;
        let request = |number, block: &[u8], flags| frame(HEADERS, END_HEADERS | flags, id(number), block);
        type Piece<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;
        let floods: Vec<(&str, &str, Piece<'_>)> = vec![
            (
                "rapid reset",
                "h2_resets_max",
                Box::new(|number| {
                    let cancel = frame(RST_STREAM, 0, id(number), &8u32.to_be_bytes());
                    [request(number, &GET, END_STREAM), cancel].concat()
                }),
            ),
            (
                "made to reset by a window that overflows",
                "",
                Box::new(|number| {
                    let beyond = frame(WINDOW_UPDATE, 0, id(number), &0x7fff_ffffu32.to_be_bytes());
                    [request(number, &POST, 0), beyond].concat()
                }),
            ),
            ("ping", "h2_control_frames_max", Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
            ("settings", "h2_control_frames_max", Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
            ("priority", "h2_control_frames_max", Box::new(|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]))),
            (
                "windows",
                "h2_control_frames_max",
                Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
            ),
            ("unknown", "h2_control_frames_max", Box::new(|_| frame(0xaa, 0, 0, &[]))),
            (
                "empty data",
                "h2_control_frames_max",
                Box::new(|number| match number {
                    0 => request(0, &POST, 0),
                    _ => frame(DATA, 0, 1, &[]),
                }),
            ),
            (
                "continuation",
                "",
                Box::new(|number| match number {
                    0 => frame(HEADERS, END_STREAM, 1, &GET),
                    _ => frame(CONTINUATION, 0, 1, &[]),
                }),
            ),
        ];
        for (name, reason, piece) in floods {
            let counted = || {
                let counts = gateway.running.as_ref().unwrap().connections();
                counts.ended.iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| *count)
            };
            let (before, before_asked) = (counted(), asked.get());
            let (sent, heard) = flood(gateway.addr, 100_000, piece).await;
            assert!(calmed(&heard), "{name}: {sent} sent, heard {:?}", heard.last());
            assert!(asked.get() - before_asked <= 200, "{name}: {} requests went upstream", asked.get());
            if !reason.is_empty() {
                assert_eq!(counted(), before + 1, "{name}");
            }
            // Whoever behaves is served as before.
            good.write_all(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert!(read_until(&mut good, "\r\n\r\ngood").await.starts_with("HTTP/1.1 200 "), "{name}");
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while gateway.running.as_ref().unwrap().connections().open > 1 {
            assert!(std::time::Instant::now() < deadline, "connections of floods stay open");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_header_bomb_is_refused() {
    run(async {
        let gateway = Gateway::before(echo().await);
        // One long header into the table, then nothing but references to it: 64 bytes of a frame ask for 4 KiB each.
        let mut block = GET.to_vec();
        block.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        block.extend_from_slice(&[b'v'; 4000]);
        block.extend_from_slice(&[0xbe; 12_000]);
        let (_, heard) =
            flood(gateway.addr, 1, |_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        let refused = heard.iter().any(|(kind, payload)| match *kind {
            GOAWAY => payload[4..8] != [0; 4],
            RST_STREAM => true,
            // 431, which the static table does not have: a literal.
            HEADERS => payload.windows(3).any(|three| three == b"431"),
            _ => false,
        });
        assert!(refused, "{:?}", heard.iter().map(|(kind, _)| kind).collect::<Vec<_>>());
    });
}

/// Draining as RFC 9113, 6.8 has it: GOAWAY, and what is under way is answered.
#[test]
fn the_last_request_of_a_connection_is_followed_by_goaway() {
    run(async {
        let gateway = Gateway::start(
            everything_to(echo().await),
            json!({"limits": {"requests_per_connection_max": 3}, "timeouts": {"sweep_interval_ms": 10}}),
        );
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (mut sender, conn) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .unwrap();
        let driver = tokio::task::spawn_local(conn);
        for number in 0..3 {
            let request =
                hyper::Request::get("http://a/x").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200, "{number}");
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        }
        tokio::time::timeout(PATIENCE, driver).await.unwrap().unwrap().unwrap();
        assert!(sender.is_closed());
        assert_eq!(gateway.events(3).await.len(), 3);
    });
}
