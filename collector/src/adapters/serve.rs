//! The listener for `/metrics`, `/healthz` and `/readyz`.
//!
//! A client that is slow to send its request, or accepts no byte of the answer, is cut off; connections are
//! bounded; one page is written at a time, on a thread of its own, so that health answers meanwhile.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use event::configuration::Configuration;
use event::connections::ConnectionStates;
use event::layout::DataFolder;
use event::upstreams::UpstreamStates;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;

use super::Shown;
use super::otlp::Account;
use super::prometheus::{self, Context, MetricsConfig};

/// What the handlers read.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) process_start_us: i64,
    pub(super) stale: Duration,
    pub(super) published: prometheus::Shared,
    pub(super) shown: Shown,
    /// Most addresses of upstreams on a page.
    pub(super) series_max: usize,
    pub(super) spans: Arc<Account>,
    pub(super) scrapes: AtomicU64,
    pub(super) last_scrape_us: AtomicU64,
    /// One page at a time.
    pub(super) turn: Semaphore,
}

/// Said where nothing is.
const ANSWERS: &str = "here are /metrics, /healthz and /readyz\n";

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers connections until `stop` says so, then lets go of those that are open.
pub(super) async fn serve(
    listener: TcpListener,
    config: MetricsConfig,
    board: Arc<Board>,
    mut stop: watch::Receiver<bool>,
) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, ANSWERS) })
        .with_state(board);
    let places = Arc::new(Semaphore::new(usize::from(config.connections_max)));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (routes, stop) = (routes.clone(), stop.clone());
                let (header_timeout_ms, stall_ms) = (config.header_timeout_ms, config.write_stall_ms);
                tokio::spawn(async move {
                    let stream = Unstalled::new(stream, Duration::from_millis(u64::from(stall_ms)));
                    let header_timeout = Duration::from_millis(u64::from(header_timeout_ms));
                    converse(stream, peer, routes, header_timeout, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics listener: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Largest request head; also the size of a connection's buffer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

async fn converse(
    stream: Unstalled,
    peer: SocketAddr,
    routes: Router,
    header_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "metrics connection");
    }
}

async fn metrics(State(board): State<Arc<Board>>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = prometheus::negotiate(&accept.join(","));
    let Ok(turn) = board.turn.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let writer = Arc::clone(&board);
    let page = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let context = Context {
            process_start_us: writer.process_start_us,
            ledger: writer.shown.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            states: states(&writer.shown.folder),
            configuration: configuration(&writer.shown.folder),
            connections: connections(&writer.shown.folder),
            hosts: Arc::clone(&writer.shown.hosts),
            uploads: writer.shown.uploads.as_ref().map(|uploads| uploads.counts()),
            delta: writer.shown.delta.as_ref().map(|delta| delta.counts()),
            upkeep: writer.shown.upkeep.as_ref().map(|upkeep| upkeep.counts(&writer.shown.folder)),
            folder: writer.shown.folder.clone(),
            spool_bytes_max: writer.shown.spool_bytes_max,
            series_max: writer.series_max,
            spans: writer.spans.count(),
            scrapes: writer.scrapes.fetch_add(1, Ordering::Relaxed),
            last_scrape_us: writer.last_scrape_us.load(Ordering::Relaxed),
        };
        let page = prometheus::render(&writer.published, &context, format);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        writer.last_scrape_us.store(micros, Ordering::Relaxed);
        page
    });
    let page = page.await;
    drop(turn);
    match page {
        Ok(page) => {
            let content_type = HeaderValue::from_static(format.content_type());
            ([(header::CONTENT_TYPE, content_type), (header::VARY, HeaderValue::from_static("accept"))], page)
                .into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What the gateway says of its upstreams. An old picture is none: what was so may no longer be.
fn states(folder: &DataFolder) -> Option<UpstreamStates> {
    match UpstreamStates::load(folder) {
        Ok(states) => Some(states).filter(|states| !states.is_old(crate::now_us())),
        Err(error) => {
            tracing::warn!(%error, "the state of the upstreams cannot be read");
            None
        }
    }
}

/// What the gateway says of client connections, unless that is old.
fn connections(folder: &DataFolder) -> Option<ConnectionStates> {
    match ConnectionStates::load(folder) {
        Ok(states) => Some(states).filter(|states| !states.is_old(crate::now_us())),
        Err(error) => {
            tracing::warn!(%error, "the state of connections cannot be read");
            None
        }
    }
}

/// What the gateway says of its configuration.
fn configuration(folder: &DataFolder) -> Option<Configuration> {
    Configuration::load(folder).unwrap_or_else(|error| {
        tracing::warn!(%error, "the state of the configuration cannot be read");
        None
    })
}

async fn healthz() -> Response {
    answer(StatusCode::OK, &serde_json::json!({ "status": "ok" }))
}

async fn readyz(State(board): State<Arc<Board>>) -> Response {
    // A page being written holds the lock for as long as it takes: then intake cannot have been stopped for
    // long, since the page before could be published.
    let round = match board.published.try_lock() {
        Ok(published) => Some(published.last_round()),
        Err(_) => None,
    };
    let reason = match round {
        None => None,
        Some(None) => Some("the collector has not begun its first round".to_owned()),
        Some(Some(at)) if at.elapsed() > board.stale => {
            Some(format!("the collector has not gone round for {} ms", at.elapsed().as_millis()))
        }
        Some(Some(_)) => None,
    };
    match reason {
        None => answer(StatusCode::OK, &serde_json::json!({ "status": "ready" })),
        Some(reason) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &serde_json::json!({ "status": "not_ready", "reasons": [reason] }),
        ),
    }
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A stream whose writes fail when the peer accepts nothing for a while.
#[derive(Debug)]
struct Unstalled {
    stream: TcpStream,
    stall: Duration,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Unstalled {
    fn new(stream: TcpStream, stall: Duration) -> Self {
        Self { stream, stall, deadline: None }
    }

    fn watched<T>(&mut self, cx: &mut TaskContext<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let stall = self.stall;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Unstalled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Unstalled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watched(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
