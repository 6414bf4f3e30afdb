//! Clients that behave: some connections, each a request every few milliseconds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: u32 = 16;
/// Between two requests of one connection.
const EVERY: Duration = Duration::from_millis(8);

/// What they saw.
pub struct Latencies {
    sorted: Vec<Duration>,
    pub failed: u64,
}

impl Latencies {
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// A quantile.
    pub fn at(&self, share: f64) -> Duration {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
}

pub fn measure(at: SocketAddr, time: Duration) -> Result<Latencies, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let (sorted, failed) = runtime.block_on(async {
        let until = Instant::now() + time;
        let mut all = tokio::task::JoinSet::new();
        for number in 0..CONNECTIONS {
            all.spawn(client(at, EVERY * number / CONNECTIONS, until));
        }
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while let Some(ended) = all.join_next().await {
            let (more, broken) = ended.unwrap_or_default();
            latencies.extend(more);
            failed += broken;
        }
        latencies.sort_unstable();
        (latencies, failed)
    });
    if sorted.is_empty() { Err("no answer at all".into()) } else { Ok(Latencies { sorted, failed }) }
}

async fn client(at: SocketAddr, after: Duration, until: Instant) -> (Vec<Duration>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    tokio::time::sleep(after).await;
    let mut ticks = tokio::time::interval(EVERY);
    let mut kept = None;
    while Instant::now() < until {
        ticks.tick().await;
        let begun = Instant::now();
        match request(at, &mut kept).await {
            Some(()) => latencies.push(begun.elapsed()),
            None => {
                failed += 1;
                kept = None;
            }
        }
    }
    (latencies, failed)
}

async fn request(at: SocketAddr, kept: &mut Option<TcpStream>) -> Option<()> {
    if kept.is_none() {
        let stream = TcpStream::connect(at).await.ok()?;
        stream.set_nodelay(true).ok()?;
        *kept = Some(stream);
    }
    let stream = kept.as_mut()?;
    stream.write_all(b"GET /good HTTP/1.1\r\nHost: bench\r\n\r\n").await.ok()?;
    let mut got = Vec::with_capacity(1024);
    while !got.ends_with(b"\r\n\r\ngood") {
        if stream.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
    }
    got.starts_with(b"HTTP/1.1 200 ").then_some(())
}
