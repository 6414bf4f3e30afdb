//! The data plane alone before one origin, for measurements: `bare ORIGIN_URL [LISTEN] [THREADS] [off]`, where `off`
//! records nothing. With `origin` as its first argument it is that origin: `bare origin LISTEN`, which answers each
//! request head with a small body.

use event::spool::{Spool, SpoolConfig};
use proxy::config::{Entities, GatewayConfig};
use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let first = args.next().ok_or("usage: bare ORIGIN_URL [LISTEN] [THREADS] [off] | bare origin LISTEN")?;
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:8000".into());
    if first == "origin" {
        return origin(&listen);
    }
    let threads: u16 = args.next().as_deref().unwrap_or("1").parse()?;
    let recording = args.next().as_deref() != Some("off");
    let entities: Entities = serde_json::from_value(serde_json::json!({"services": [
        {"name": "origin", "url": first, "routes": [{"name": "all", "paths": ["/"]}]}]}))?;
    let gateway: GatewayConfig = serde_json::from_value(
        serde_json::json!({"listen": [{"name": "http", "address": listen}], "threads": threads, "recording": recording}),
    )?;
    let plan = proxy::validate(&gateway, &entities).map_err(|problems| format!("{problems:?}"))?;
    let folder = tempfile::tempdir()?;
    let config = SpoolConfig { bytes_max: 4 << 30, ..Default::default() };
    let (spool, writers) = Spool::open(&config, folder.path(), "bare", plan.threads())?;
    let running = proxy::start(plan, writers)?;
    println!("{:?}", running.listeners);
    // Until the writer of standard input ends.
    let _ended = std::io::stdin().read_to_end(&mut Vec::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{:?}", runtime.block_on(running.drain(Duration::from_secs(5))));
    let counts = spool.counters().core(0);
    println!("produced {} written {}", counts.produced, counts.written);
    Ok(())
}

/// One thread per connection: enough for the few that a gateway keeps.
fn origin(listen: &str) -> Result<(), Box<dyn Error>> {
    for stream in std::net::TcpListener::bind(listen)?.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\nhello, world!\n";
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
