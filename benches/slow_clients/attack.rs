//! Clients that do not behave, from a thread of their own, which runs when nobody else on its CPU wants to: they stand for
//! other machines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// How often a slow client moves.
const DRIP: Duration = Duration::from_millis(1000);
/// Connections of a flood.
const FLOODS: usize = 8;
/// Requests that a flood opens and resets in one write.
const BATCH: u32 = 50;

/// `GET http://bench/good`, by HPACK without a table.
const GET: &[u8; 16] = b"\x82\x86\x01\x05bench\x04\x05/good";

/// What they do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// A request head, one byte a second (slow loris).
    Heads,
    /// A body, one byte a second.
    Bodies,
    /// A long response, read byte by byte.
    Readers,
    /// HTTP/2 streams, opened and reset (rapid reset), over and over.
    Resets,
    /// PING frames, over and over.
    Pings,
}

impl Attack {
    pub const ALL: [Self; 5] = [Self::Heads, Self::Bodies, Self::Readers, Self::Resets, Self::Pings];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Heads => "slow heads",
            Self::Bodies => "slow bodies",
            Self::Readers => "slow readers",
            Self::Resets => "flood of resets",
            Self::Pings => "flood of PING",
        }
    }

    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Resets | Self::Pings)
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    connected: AtomicUsize,
    closed: AtomicU64,
    longest_us: AtomicU64,
}

/// A running attack.
pub struct Attackers {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

impl Attackers {
    /// Starts it; returns when all are connected.
    pub fn start(attack: Attack, at: SocketAddr, slow: usize) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let count = if attack.is_http2() { FLOODS } else { slow };
        let theirs = Arc::clone(&shared);
        let body = move || {
            super::house::yield_to_all();
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async move {
                let mut all = tokio::task::JoinSet::new();
                for number in 0..count {
                    all.spawn(attacker(attack, at, Arc::clone(&theirs)));
                    // Over one time-out, so that the gateway's closing is spread as it would be.
                    if number % 32 == 31 {
                        let pause = Duration::from_millis(super::house::TIMEOUT_MS) * 32;
                        tokio::time::sleep(pause / u32::try_from(count).unwrap_or(u32::MAX)).await;
                    }
                }
                while !theirs.stop.load(Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        };
        let thread = std::thread::Builder::new().name("attack".into()).spawn(body);
        let thread = thread.map_err(|error| format!("no thread: {error}"))?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while shared.connected.load(Relaxed) < count {
            if Instant::now() > deadline {
                return Err(format!("only {} of {count} connected", shared.connected.load(Relaxed)));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(Self { shared, thread })
    }

    /// Ends it: how many connections the gateway had closed, and the longest that one of these was open.
    pub fn end(self) -> (u64, Duration) {
        self.shared.stop.store(true, Relaxed);
        if self.thread.join().is_err() {
            eprintln!("benches/slow_clients: the attack panicked");
        }
        (self.shared.closed.load(Relaxed), Duration::from_micros(self.shared.longest_us.load(Relaxed)))
    }
}

/// Comes back whenever it is closed.
async fn attacker(attack: Attack, at: SocketAddr, shared: Arc<Shared>) {
    let mut first = true;
    loop {
        let Some(stream) = connect(at).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if std::mem::take(&mut first) {
            shared.connected.fetch_add(1, Relaxed);
        }
        let begun = Instant::now();
        match attack {
            Attack::Heads => drip(stream, b"GET / HTTP/1.1\r\nHost: bench\r\nX-A: ", b"a").await,
            Attack::Bodies => {
                drip(stream, b"POST /big HTTP/1.1\r\nHost: bench\r\nContent-Length: 100000\r\n\r\n", b"b")
                    .await
            }
            Attack::Readers => sip(stream).await,
            Attack::Resets | Attack::Pings => flood(stream, attack).await,
        }
        shared.closed.fetch_add(1, Relaxed);
        let open_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.longest_us.fetch_max(open_us, Relaxed);
    }
}

async fn connect(at: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(4096).ok()?;
    socket.connect(at).await.ok()
}

/// Sends a byte now and then until the other side ends.
async fn drip(mut stream: TcpStream, first: &[u8], then: &[u8]) {
    let mut sent = stream.write_all(first).await;
    let mut buffer = [0; 512];
    while sent.is_ok() {
        match tokio::time::timeout(DRIP, stream.read(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return,
            Err(_) => sent = stream.write_all(then).await,
        }
    }
}

/// Reads a byte now and then until the other side ends.
async fn sip(mut stream: TcpStream) {
    if stream.write_all(b"GET /big HTTP/1.1\r\nHost: bench\r\n\r\n").await.is_err() {
        return;
    }
    let mut byte = [0; 1];
    while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
        // Behind what has come a reset would be read only when all of it is.
        if let Ok(Ok(_reset)) = tokio::time::timeout(DRIP, stream.ready(Interest::ERROR)).await {
            return;
        }
    }
}

/// Sends frames for as long as they are taken.
async fn flood(stream: TcpStream, attack: Attack) {
    let (mut reader, mut writer) = stream.into_split();
    let reads = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let mut id = 1u32;
    while !reads.is_finished() {
        for _ in 0..BATCH {
            match attack {
                Attack::Resets => {
                    // A request and its cancellation.
                    bytes.extend_from_slice(&[0, 0, 16, 1, 5]);
                    bytes.extend_from_slice(&id.to_be_bytes());
                    bytes.extend_from_slice(GET);
                    bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
                    bytes.extend_from_slice(&id.to_be_bytes());
                    bytes.extend_from_slice(&8u32.to_be_bytes());
                    id += 2;
                }
                _ => bytes.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\0bench..."),
            }
        }
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
        bytes.clear();
    }
    reads.abort();
}
