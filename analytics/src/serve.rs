//! The HTTP door: `/sql`, `/healthz`, `/readyz`, on a runtime of its own at low scheduling priority.
//!
//! Until the first batch an error is a JSON body with its status. After that the status is sent: an error ends NDJSON
//! with a line `{"error": ...}`, and in every format the connection is cut, so that no client takes half an answer
//! for a whole one.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use event::layout::DataFolder;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::config::Plan;
use crate::door::Door;
use crate::error::QueryError;
use crate::format::{Encoder, Format};
use crate::query::{Answer, Engine};

/// Encoded pieces that wait for a slow client.
const PIECES_MAX: usize = 4;
/// Largest piece, in bytes.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// How much longer than the longest query a connection may be silent.
const IDLE: Duration = Duration::from_secs(5);
/// Threads for snapshots, beside one for the planning of each query.
const BLOCKING_SPARE: usize = 8;
/// Stack of a thread: enough to walk and drop the deepest statement that the guard lets through. Only what is touched
/// takes memory.
const STACK_BYTES: usize = 64 << 20;
/// How much nicer than the gateway the threads are.
const NICE: i32 = 10;
const DRAIN: Duration = Duration::from_secs(5);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The configured address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// The engine refused its settings or folder.
    #[error("cannot start the engine: {0}")]
    Engine(#[from] QueryError),
}

/// The running service. Dropping it stops it at once.
#[derive(Debug)]
pub struct Running {
    /// The bound address.
    pub addr: SocketAddr,
    /// Another descriptor of the listener, for a process that takes over.
    listener: TcpListener,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Receiver<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    /// The listener, for another process to go on with: who waits in its queue is answered by either.
    ///
    /// # Errors
    /// When the system gives no further descriptor.
    pub fn listener(&self) -> std::io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Ready when the service has ended though nobody told it to.
    pub async fn ended(&mut self) {
        match &mut self.stopped {
            // An answer and a sender lost in a panic say the same: it is over.
            Some(stopped) => {
                let _over = stopped.await;
                self.stopped = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Takes no new connection, lets running queries end for a few seconds, then stops.
    pub async fn shutdown(mut self) {
        if let (Some(stop), Some(stopped)) = (self.stop.take(), self.stopped.take())
            && stop.send(()).is_ok()
        {
            // An answer still under way after the drain is cut, which its client sees.
            let _cut = tokio::time::timeout(DRAIN, stopped).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Said where nothing is.
const ANSWERS: &str = "here are /sql (POST a statement, or GET with q=), /healthz and /readyz\n";

/// Starts the service: binds, and answers on threads of its own.
///
/// # Errors
/// [`StartError`].
pub fn start(plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    let addr = plan.listen;
    let refused = |source| StartError::Listen { addr, source };
    let listener = TcpListener::bind(addr).map_err(refused)?;
    start_on(listener, plan, folder)
}

/// The same on a listener that another process had.
///
/// # Errors
/// [`StartError`].
pub fn start_on(listener: TcpListener, plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    let addr = plan.listen;
    let refused = |source| StartError::Listen { addr, source };
    listener.set_nonblocking(true).map_err(refused)?;
    let kept = listener.try_clone().map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(plan.threads)
        .max_blocking_threads(usize::from(plan.config.concurrency_max) + BLOCKING_SPARE)
        .thread_name("analytics")
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let connections_max = plan.config.connections_max;
    let idle = Duration::from_millis(plan.config.timeout_ms) + IDLE;
    let engine = Arc::new(Engine::new(plan, folder)?);
    let verifier = Arc::clone(&engine);
    runtime.spawn(async move { verifier.verify_files().await });
    let follower = Arc::clone(&engine);
    runtime.spawn(async move { follower.follow_bucket().await });
    let app = Router::new()
        .route("/sql", get(by_get).post(by_post))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, ANSWERS) })
        .with_state(engine)
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(refused)?
    };
    let addr = listener.local_addr().map_err(refused)?;
    let door = Door::new(listener, connections_max, idle).tap_io(|visitor| visitor.send_at_once());
    let (stop, stopping) = oneshot::channel::<()>();
    let (ended, stopped) = oneshot::channel();
    runtime.spawn(async move {
        let served = axum::serve(door, app).with_graceful_shutdown(async {
            // A dropped sender never comes with a running runtime; waiting is right in both cases.
            if stopping.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "the analytics endpoint stopped");
        }
        // Nobody waits after a drop.
        let _nobody = ended.send(());
    });
    let (stop, stopped, runtime) = (Some(stop), Some(stopped), Some(runtime));
    Ok(Running { addr, listener: kept, stop, stopped, runtime })
}

/// Queries give way to the gateway on the same cores.
fn lower_priority() {
    // SAFETY: takes numbers only; 0 names the calling thread on Linux.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result != 0 {
        tracing::warn!(error = %std::io::Error::last_os_error(), "the priority of a query thread stays");
    }
}

async fn ready(State(engine): State<Arc<Engine>>) -> Response {
    match engine.ready().await {
        Ok(()) => Response::new(Body::from("ok\n")),
        Err(error) => failure(&error),
    }
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    q: Option<String>,
    format: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    query: String,
    #[serde(default)]
    params: Vec<Value>,
}

async fn by_get(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let question = match asked.q {
        Some(query) if query.len() as u64 > engine.query_bytes_max() => {
            Err(QueryError::TooLong(engine.query_bytes_max()))
        }
        Some(query) => Ok(Question { query, params: Vec::new() }),
        None => Err(QueryError::BadRequest("the parameter `q` is missing".into())),
    };
    respond(engine, question, asked.format.as_deref(), &headers, peer).await
}

async fn by_post(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let max = engine.query_bytes_max();
    let body = axum::body::to_bytes(request.into_body(), max as usize).await;
    let question = body.map_err(|_| QueryError::TooLong(max)).and_then(|body| question(&headers, &body));
    respond(engine, question, asked.format.as_deref(), &headers, peer).await
}

fn question(headers: &HeaderMap, body: &[u8]) -> Result<Question, QueryError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let parsed = serde_json::from_slice(body);
        return parsed.map_err(|error| QueryError::BadRequest(format!("the body is no question: {error}")));
    }
    match std::str::from_utf8(body) {
        Ok(query) => Ok(Question { query: query.to_owned(), params: Vec::new() }),
        Err(_) => Err(QueryError::BadRequest("the statement is not UTF-8".into())),
    }
}

async fn respond(
    engine: Arc<Engine>,
    question: Result<Question, QueryError>,
    format: Option<&str>,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let format = match format {
        Some(name) => {
            Format::by_name(name).ok_or_else(|| QueryError::BadRequest(format!("format `{name}` is unknown")))
        }
        None => Ok(Format::by_accept(accept).unwrap_or(Format::Json)),
    };
    let begun = async {
        let (question, format) = (question?, format?);
        let mut answer = engine.ask(&question.query, &question.params, peer.to_string()).await?;
        let encoder = Encoder::new(format, &answer.schema).inspect_err(|error| answer.fail(error))?;
        Ok::<_, QueryError>((answer, encoder, format))
    };
    match begun.await {
        Ok((answer, encoder, format)) => stream(answer, encoder, format),
        Err(error) => failure(&error),
    }
}

fn stream(answer: Answer, encoder: Encoder, format: Format) -> Response {
    let partial: Vec<&str> = answer.quarantined.iter().map(|bad| bad.path.as_str()).collect();
    let partial = HeaderValue::from_str(&partial.join(",")).ok().filter(|value| !value.is_empty());
    let (sender, receiver) = mpsc::channel::<Result<Bytes, QueryError>>(PIECES_MAX);
    tokio::spawn(produce(answer, encoder, format, sender));
    let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        if piece.is_err() {
            // hyper drops what it has not yet written when a body fails: let it write first.
            tokio::task::yield_now().await;
        }
        Some((piece, receiver))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    if let Some(partial) = partial {
        headers.insert("x-tollhouse-partial", partial);
    }
    response
}

type Pieces = mpsc::Sender<Result<Bytes, QueryError>>;

/// Runs the query as fast as its client reads. A client that went away ends it.
async fn produce(mut answer: Answer, encoder: Encoder, format: Format, pieces: Pieces) {
    let gone = pieces.clone();
    let deadline = answer.deadline();
    let result = tokio::select! {
        () = gone.closed() => return,
        result = tokio::time::timeout_at(deadline.into(), deliver(&mut answer, encoder, &pieces)) => result,
    };
    let error = match result {
        Ok(Ok(())) => return answer.finish(),
        Ok(Err(error)) => error,
        Err(_) => answer.timed_out(),
    };
    answer.fail(&error);
    drop(answer);
    if format == Format::NdJson {
        let line = format!("{}\n", error.to_json());
        // A client that reads no more misses the line and sees the cut.
        let _late = pieces.send_timeout(Ok(Bytes::from(line)), DRAIN).await;
    }
    let _late = pieces.send_timeout(Err(error), DRAIN).await;
}

async fn deliver(answer: &mut Answer, mut encoder: Encoder, pieces: &Pieces) -> Result<(), QueryError> {
    while let Some(batch) = answer.next().await? {
        let bytes = encoder.batch(&batch)?;
        send(answer, bytes, pieces).await;
    }
    let bytes = encoder.end()?;
    send(answer, bytes, pieces).await;
    Ok(())
}

async fn send(answer: &mut Answer, bytes: Vec<u8>, pieces: &Pieces) {
    let mut bytes = Bytes::from(bytes);
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
        answer.sent(piece.len() as u64);
        // A closed channel is seen by `produce`, which ends the query.
        if pieces.send(Ok(piece)).await.is_err() {
            return;
        }
    }
}

fn failure(error: &QueryError) -> Response {
    let (status, code) = error.status();
    if status.is_server_error() {
        tracing::warn!(%error, code, "a query failed");
    }
    let mut response = Response::new(Body::from(error.to_json().to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    response
}
