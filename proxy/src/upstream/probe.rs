//! The prober: asks the addresses of upstreams with active checks how they are, at their intervals.

use super::Upstreams;
use super::health::{ActivePlan, Probe, ProbeTls, Shown};
use super::peer::Peer;
use crate::accept::proxy_protocol;
use crate::plan::{Plan, TargetPlan};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

/// Longest status line, and answer of gRPC, that is read of a check.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How often it is looked whether a check is due, at most.
const TICK_MAX: Duration = Duration::from_millis(500);
/// The path of gRPC's health service, and an empty request for the server as a whole.
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
const GRPC_EMPTY: &[u8] = &[0; 5];

/// Checks the addresses of one upstream, for ever.
pub(super) async fn run(plan: Arc<Plan>, upstreams: Arc<Upstreams>, upstream: usize) {
    let health = plan.upstreams[upstream].health.as_deref();
    let Some(active) = health.and_then(|health| health.active.as_ref()) else { return };
    let intervals = [active.healthy_interval, active.unhealthy_interval];
    let Some(shortest) = intervals.into_iter().flatten().min() else { return };
    let groups = upstreams.watch(upstream);
    let places = Arc::new(Semaphore::new(active.concurrency));
    let mut checks = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval((shortest / 4).clamp(Duration::from_millis(1), TICK_MAX));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while let Some(ended) = checks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a health check has ended before its time");
            }
        }
        let group = Arc::clone(&groups.borrow());
        for member in &group.members {
            let interval =
                if member.peer.is_healthy() { active.healthy_interval } else { active.unhealthy_interval };
            let Some(interval) = interval else { continue };
            // The peer knows when: it may have been checked under an earlier plan.
            let now_ms = upstreams.ms(Instant::now());
            let last = member.peer.checked_ms.load(Relaxed);
            let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            let due = last == 0 || (now_ms + 1).saturating_sub(last) >= interval_ms;
            // One that finds no place is due at the next look.
            if let (true, Ok(place)) = (due, Arc::clone(&places).try_acquire_owned()) {
                member.peer.checked_ms.store(now_ms + 1, Relaxed);
                let (plan, peer) = (Arc::clone(&plan), Arc::clone(&member.peer));
                checks.spawn_local(async move {
                    let _place = place;
                    check(&plan, upstream, &peer).await;
                });
            }
        }
    }
}

/// One check, and what it changes.
async fn check(plan: &Plan, upstream: usize, peer: &Peer) {
    let health = plan.upstreams[upstream].health.as_deref();
    let Some(active) = health.and_then(|health| health.active.as_ref()) else { return };
    let shown = match tokio::time::timeout(active.timeout, probe(plan, upstream, active, peer)).await {
        Ok(Ok(shown)) => shown,
        Ok(Err(error)) => {
            tracing::debug!(addr = %peer.addr, %error, "health check");
            Shown::Broken
        }
        Err(_) => Shown::TimedOut,
    };
    peer.checked(&active.rules, shown);
}

async fn probe(plan: &Plan, upstream: usize, active: &ActivePlan, peer: &Peer) -> io::Result<Shown> {
    let mut stream = TcpStream::connect(peer.addr).await?;
    stream.set_nodelay(true)?;
    if let Some(version) = active.proxy {
        let mut header = Vec::new();
        proxy_protocol::write(version, None, &mut header);
        stream.write_all(&header).await?;
    }
    let target = &plan.targets[peer.target];
    let host = crate::forward::host(plan, upstream, peer);
    match &active.probe {
        Probe::Tcp => Ok(Shown::Serving(true)),
        Probe::Grpc { tls: None } => grpc(stream).await,
        Probe::Grpc { tls: Some(tls) } => grpc(secure(tls, peer, target, stream).await?).await,
        Probe::Http { path, lines, tls } => {
            let host = host.to_str().unwrap_or_default();
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tollhouse-healthcheck\r\n{lines}connection: close\r\n\r\n"
            );
            match tls {
                None => status(stream, &request).await,
                Some(tls) => status(secure(tls, peer, target, stream).await?, &request).await,
            }
        }
    }
}

async fn secure(
    tls: &ProbeTls,
    peer: &Peer,
    target: &TargetPlan,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let host = peer.srv.as_ref().map_or(&target.host, |srv| &srv.host);
    let name = tls.server_name.clone().or_else(|| ServerName::try_from(host.clone()).ok());
    let name = name.ok_or_else(|| io::Error::other("no name for TLS"))?;
    tokio_rustls::TlsConnector::from(Arc::clone(&tls.config)).connect(name, stream).await
}

/// Sends a request of HTTP/1 and reads the status of its answer.
async fn status<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> io::Result<Shown> {
    stream.write_all(request.as_bytes()).await?;
    let mut got = Vec::new();
    while !got.contains(&b'\n') {
        if got.len() > LINE_BYTES_MAX || stream.read_buf(&mut got).await? == 0 {
            return Err(io::Error::other("no answer"));
        }
    }
    let line = got.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = line.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.map(Shown::Status).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// Asks gRPC's health service. One that is not there is as bad as one that does not serve.
async fn grpc<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> io::Result<Shown> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let request = http::Request::post(format!("http://health{GRPC_PATH}"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(Bytes::from_static(GRPC_EMPTY)))
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let body = http_body_util::Limited::new(response.into_body(), LINE_BYTES_MAX).collect().await;
    let body = body.map_err(io::Error::other)?;
    let fine = body.trailers().and_then(crate::forward::grpc_status) == Some(0);
    // A frame's head of five bytes, then field 1, a number: 1 is SERVING.
    Ok(Shown::Serving(fine && body.to_bytes().get(5..) == Some(&[8, 1])))
}
