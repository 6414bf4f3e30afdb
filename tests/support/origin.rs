//! An upstream service whose answer the path chooses, one thread per connection. It counts what reached it, so that a
//! test can compare with what the gateway says it sent.
//!
//! The last two segments of the path decide: `/echo` (the request body back), `/headers` (the request's head as JSON),
//! `/status/503`, `/slow/200` (milliseconds), `/bytes/1000`, `/chunks/3`, `/count` (bytes of the request body),
//! `/reset/100` (announces twice as many bytes, then closes), `/endless` (until the peer goes away), `/upgrade` (101,
//! then echoes bytes), `/deaf` (does not read the request's body until [`Origin::hear`]).

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;

use super::client::{find, read_body, read_headers, read_line};

/// What has reached an origin so far.
#[derive(Default)]
pub struct Seen {
    /// Request heads.
    pub requests: AtomicU64,
    /// Bytes of request bodies.
    pub body_bytes: AtomicU64,
    /// Bytes of large answers that the gateway's side has taken.
    pub filled_bytes: AtomicU64,
    /// Endless answers that ended because the peer went away.
    pub cancelled: AtomicU64,
    closed: AtomicBool,
    hears: AtomicBool,
}

/// A running origin. Its listener closes when it is dropped.
pub struct Origin {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
}

impl Origin {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.closed.load(Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let seen = Arc::clone(&shared);
                // A connection that breaks is the other side's matter; what it did is in `seen`.
                std::thread::spawn(move || drop(serve(stream, &seen)));
            }
        });
        Self { addr, seen }
    }

    /// Lets all that are `/deaf` read on.
    pub fn hear(&self) {
        self.seen.hears.store(true, Relaxed);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.seen.closed.store(true, Relaxed);
        // Wakes the accept loop, which then sees the mark; if it cannot be reached it has ended already.
        drop(TcpStream::connect(self.addr));
    }
}

fn serve(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    loop {
        let line = read_line(&mut reader)?;
        let headers = read_headers(&mut reader)?;
        seen.requests.fetch_add(1, Relaxed);
        if find(&headers, "expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let mut segments = path.rsplit('/');
        let (last, before) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let number: u64 = last.parse().unwrap_or(0);

        if last == "upgrade" {
            writer.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )?;
            let mut buffer = [0; 4096];
            loop {
                let taken = reader.read(&mut buffer)?;
                if taken == 0 {
                    return Ok(());
                }
                writer.write_all(&buffer[..taken])?;
            }
        }

        while last == "deaf" && !seen.hears.load(Relaxed) {
            if seen.closed.load(Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let echoes = last == "echo";
        let mut body = Vec::new();
        let mut counted = 0;
        read_body(&mut reader, &headers, false, |piece| {
            counted += piece.len() as u64;
            seen.body_bytes.fetch_add(piece.len() as u64, Relaxed);
            if echoes {
                body.extend_from_slice(piece);
            }
        })?;

        match (before, last) {
            ("status", _) => answer(&mut writer, method, number, b"as you asked\n")?,
            ("slow", _) => {
                std::thread::sleep(Duration::from_millis(number));
                answer(&mut writer, method, 200, b"at last\n")?;
            }
            ("bytes", _) => {
                head(&mut writer, 200, number)?;
                if method != "HEAD" {
                    fill(&mut writer, number, seen)?;
                }
            }
            ("chunks", _) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for _ in 0..number {
                    writer.write_all(b"5\r\nchunk\r\n")?;
                }
                writer.write_all(b"0\r\n\r\n")?;
            }
            ("reset", _) => {
                head(&mut writer, 200, number * 2)?;
                return fill(&mut writer, number, seen);
            }
            (_, "endless") => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                while writer.write_all(b"4\r\nmore\r\n").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                seen.cancelled.fetch_add(1, Relaxed);
                return Ok(());
            }
            (_, "count" | "deaf") => answer(&mut writer, method, 200, counted.to_string().as_bytes())?,
            (_, "headers") => {
                let text = json!({ "target": target, "method": method, "headers": headers }).to_string();
                answer(&mut writer, method, 200, text.as_bytes())?;
            }
            _ => answer(&mut writer, method, 200, &body)?,
        }
    }
}

fn head(writer: &mut impl Write, status: u64, length: u64) -> io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 {status} Scripted\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn answer(writer: &mut impl Write, method: &str, status: u64, body: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(body.len() + 128);
    head(&mut whole, status, body.len() as u64)?;
    if method != "HEAD" {
        whole.extend_from_slice(body);
    }
    writer.write_all(&whole)
}

fn fill(writer: &mut impl Write, mut left: u64, seen: &Seen) -> io::Result<()> {
    let block = vec![b'x'; 256 * 1024];
    while left > 0 {
        let piece = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        writer.write_all(&block[..piece])?;
        seen.filled_bytes.fetch_add(piece as u64, Relaxed);
        left -= piece as u64;
    }
    Ok(())
}
