//! The usual way: one JSON line per request, as an access log has it, to a buffered file; plain and through zstd.

use crate::measure::{Json, thread_ns};
use crate::traffic::{Request, Traffic};
use serde::{Serialize, Serializer};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;

/// Level of zstd: its own default, and the collector's.
const ZSTD_LEVEL: i32 = 3;
/// Requests made up between two looks at the clock.
const CHUNK: u64 = 1_000;

/// The same fields that the event carries.
#[derive(Serialize)]
struct Line<'a> {
    time_us: i64,
    node: &'a str,
    core: u16,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    ids: Option<Ids>,
    listener: &'a str,
    config_version: u64,
    client_ip: IpAddr,
    peer_ip: IpAddr,
    consumer: &'a str,
    credential_id: &'a str,
    auth_method: &'a str,
    user_agent: &'a str,
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'a str,
    request_bytes: u64,
    route: &'a str,
    service: &'a str,
    upstream: &'a str,
    status: u16,
    response_bytes: u64,
    content_type: &'a str,
    source: &'a str,
    upstream_addr: &'a str,
    upstream_status: u16,
    attempts: [Try<'a>; 1],
    duration_us: u32,
    gateway_us: u32,
    upstream_us: u32,
    queue_us: u32,
    auth_us: u32,
    connect_us: u32,
    first_byte_us: u32,
    request_body_us: u32,
    response_body_us: u32,
    outcome: &'a str,
}

#[derive(Serialize)]
struct Ids {
    request_id: Hex<16>,
    trace_id: Hex<16>,
    span_id: Hex<8>,
    upstream_span_id: Hex<8>,
}

#[derive(Serialize)]
struct Try<'a> {
    addr: &'a str,
    status: u16,
    start_us: u32,
    duration_us: u32,
    connection_reused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<Hex<8>>,
}

struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        serializer.serialize_str(std::str::from_utf8(&text[..2 * N]).expect("hexadecimal digits are ASCII"))
    }
}

/// Writes all events three times: plain, compressed, and compressed without ids.
pub fn json(events: u64) -> Result<Json, String> {
    let traffic = Traffic::new(1_790_000_000_000_000);
    let each = |total: u64| total as f64 / events as f64;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, level: Option<i32>, ids: bool| {
        let path = folder.path().join(name);
        let spent = File::create(&path).and_then(|file| write(file, level, &traffic, events, ids));
        let measured = spent.and_then(|spent| Ok((spent, std::fs::metadata(&path)?.len())));
        measured.map_err(|error| format!("{}: {error}", path.display()))
    };
    let (plain_ns, plain_bytes) = write("plain", None, true)?;
    let (zstd_ns, zstd_bytes) = write("zstd", Some(ZSTD_LEVEL), true)?;
    let (_, without_ids) = write("without-ids", Some(ZSTD_LEVEL), false)?;
    Ok(Json {
        plain_ns: each(plain_ns),
        zstd_ns: each(zstd_ns),
        plain_bytes: each(plain_bytes),
        zstd_bytes: each(zstd_bytes),
        zstd_bytes_without_ids: each(without_ids),
    })
}

/// Gives the CPU time in nanoseconds, up to the file being durable.
fn write(file: File, level: Option<i32>, traffic: &Traffic, events: u64, ids: bool) -> io::Result<u64> {
    let Some(level) = level else {
        let mut sink = BufWriter::with_capacity(1 << 16, file);
        let spent = lines(&mut sink, traffic, events, ids)?;
        let begun = thread_ns();
        sink.into_inner()?.sync_data()?;
        return Ok(spent + thread_ns() - begun);
    };
    let mut sink = zstd::Encoder::new(BufWriter::with_capacity(1 << 16, file), level)?;
    let spent = lines(&mut sink, traffic, events, ids)?;
    let begun = thread_ns();
    sink.finish()?.into_inner()?.sync_data()?;
    Ok(spent + thread_ns() - begun)
}

fn lines(sink: &mut impl Write, traffic: &Traffic, events: u64, ids: bool) -> io::Result<u64> {
    let mut spent = 0;
    for first in (0..events).step_by(CHUNK as usize) {
        let numbers = first..events.min(first + CHUNK);
        let requests: Vec<_> = numbers.map(|number| (number, traffic.request(number))).collect();
        let begun = thread_ns();
        for (number, request) in &requests {
            serde_json::to_writer(&mut *sink, &line(*number, request, ids))?;
            sink.write_all(b"\n")?;
        }
        spent += thread_ns() - begun;
    }
    Ok(spent)
}

fn line<'a>(number: u64, request: &Request<'a>, ids: bool) -> Line<'a> {
    let shape = request.shape;
    Line {
        time_us: request.time_us,
        node: "bench",
        core: 0,
        sequence: number,
        ids: ids.then_some(Ids {
            request_id: Hex(request.request_id),
            trace_id: Hex(request.trace_id),
            span_id: Hex(request.span_id),
            upstream_span_id: Hex(request.upstream_span_id),
        }),
        listener: "http",
        config_version: 7,
        client_ip: shape.client,
        peer_ip: shape.client,
        consumer: &shape.consumer,
        credential_id: &shape.credential,
        auth_method: "key_auth",
        user_agent: shape.user_agent,
        method: shape.method,
        scheme: "http",
        host: shape.host,
        path: &shape.path,
        protocol: "h1",
        request_bytes: shape.request_bytes,
        route: &shape.route,
        service: &shape.service,
        upstream: &shape.upstream,
        status: shape.status,
        response_bytes: shape.response_bytes,
        content_type: shape.content_type,
        source: "upstream",
        upstream_addr: &shape.addr,
        upstream_status: shape.status,
        attempts: [Try {
            addr: &shape.addr,
            status: shape.status,
            start_us: request.gateway_us / 2,
            duration_us: request.upstream_us,
            connection_reused: true,
            span_id: ids.then_some(Hex(request.upstream_span_id)),
        }],
        duration_us: request.duration_us(),
        gateway_us: request.gateway_us,
        upstream_us: request.upstream_us,
        queue_us: 0,
        auth_us: 1,
        connect_us: 0,
        first_byte_us: request.upstream_us + request.gateway_us / 2,
        request_body_us: 0,
        response_body_us: request.body_us,
        outcome: "ok",
    }
}
