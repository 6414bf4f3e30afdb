//! The HTTP door: the console at `/`, `/sql`, `/queries`, `/graph`, `/session`, `/openapi.json`, `/healthz`, `/readyz`.
//!
//! Until the first batch an error is a JSON body with its status. After that the status is sent: an error ends NDJSON
//! with a line `{"error": ...}`, and in every format the connection is cut, so that no client takes half an answer
//! for a whole one.

mod console;

mod graph;

mod openapi;

mod names;

mod pages;

mod queries;

mod question;

mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use ::http::{HeaderMap, StatusCode};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRef, Query, Request, State};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::mpsc;

use crate::error::QueryError;
use crate::format::{Encoder, Format};
use crate::query::{Answer, Engine, Protocol, Question};
use pages::Pages;
use question::{Asked, Parameters, caller, question};

/// Encoded pieces that wait for a slow client.
const PIECES_MAX: usize = 4;
/// Largest piece, in bytes.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// How long a client may take for the last piece.
const DRAIN: Duration = Duration::from_secs(5);
/// Said where nothing is.
const ANSWERS: &str = "here are / (the console), /sql (POST a statement, or GET with q=), /queries/{id}, \
                       /queries/{id}/next, /graph, /session, /openapi.json, /healthz and /readyz\n";
/// The id of a query in `system.queries`, on each answer to one.
const QUERY_ID: &str = "x-tollhouse-query-id";

/// What the routes have in common.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    pages: Arc<Pages>,
}

impl FromRef<Shared> for Arc<Engine> {
    fn from_ref(shared: &Shared) -> Self {
        Self::clone(&shared.engine)
    }
}

impl FromRef<Shared> for Arc<Pages> {
    fn from_ref(shared: &Shared) -> Self {
        Self::clone(&shared.pages)
    }
}

/// The routes.
pub(crate) fn router(engine: Arc<Engine>) -> Router {
    let pages = Arc::new(Pages::new(engine.pages()));
    let shared = Shared { engine, pages };
    Router::new()
        .route("/sql", get(by_get).post(by_post))
        .route("/queries/{id}", get(queries::show).delete(queries::cancel))
        .route("/queries/{id}/next", get(pages::next))
        .route("/graph", get(graph::draw))
        .route("/session", get(session::tell))
        .route("/openapi.json", get(openapi::document))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(console::router())
        .fallback(|| async { (StatusCode::NOT_FOUND, ANSWERS) })
        .layer(axum::middleware::from_fn_with_state(shared.clone(), names::known))
        .with_state(shared)
}

async fn ready(State(engine): State<Arc<Engine>>) -> Response {
    match engine.ready().await {
        Ok(()) => Response::new(Body::from("ok\n")),
        Err(error) => failure(&error),
    }
}

async fn by_get(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(asked): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let question = match asked.q.clone() {
        Some(query) if query.len() as u64 > shared.engine.query_bytes_max() => {
            Err(QueryError::TooLong(shared.engine.query_bytes_max()))
        }
        Some(query) => Ok(Asked::new(query)),
        None => Err(QueryError::BadRequest("the parameter `q` is missing".into())),
    };
    respond(shared, question, Form::of(&asked), &headers, peer).await
}

async fn by_post(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(asked): Query<Parameters>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let max = shared.engine.query_bytes_max();
    let body = axum::body::to_bytes(request.into_body(), max as usize).await;
    let question = body.map_err(|_| QueryError::TooLong(max)).and_then(|body| question(&headers, &body));
    respond(shared, question, Form::of(&asked), &headers, peer).await
}

/// How an answer is wanted.
struct Form<'a> {
    format: Option<&'a str>,
    page_rows: Option<u32>,
}

impl<'a> Form<'a> {
    fn of(asked: &'a Parameters) -> Self {
        Self { format: asked.format.as_deref(), page_rows: asked.page_rows }
    }
}

/// The same with the id of the query.
fn name_query(mut response: Response, id: u64) -> Response {
    response.headers_mut().insert(QUERY_ID, HeaderValue::from(id));
    response
}

async fn respond(
    shared: Shared,
    question: Result<Asked, QueryError>,
    form: Form<'_>,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Response {
    let Shared { engine, pages } = shared;
    let id = engine.next_id();
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let format = match form.format {
        Some(name) => {
            Format::by_name(name).ok_or_else(|| QueryError::BadRequest(format!("format `{name}` is unknown")))
        }
        None => Ok(Format::by_accept(accept).unwrap_or(Format::Json)),
    };
    let begun = async {
        let caller = caller(&engine, headers)?;
        let (asked, format) = (question?, format?);
        let place = form.page_rows.map(|rows| pages.place(rows)).transpose()?;
        let question = Question {
            params: asked.params()?,
            sql: asked.query,
            caller: Arc::clone(&caller),
            protocol: Protocol::Http,
            client: peer.to_string(),
        };
        let mut answer = engine.ask_as(id, question).await?;
        if let (Some(place), Some(rows)) = (place, form.page_rows) {
            return Ok(pages.first(answer, format, rows, caller.name.clone(), place).await);
        }
        let encoder = Encoder::new(format, &answer.schema).inspect_err(|error| answer.fail(error))?;
        Ok::<_, QueryError>(stream(answer, encoder, format))
    };
    name_query(begun.await.unwrap_or_else(|error| failure(&error)), id)
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
    let (deadline, cancellation) = (answer.deadline(), answer.cancellation());
    let result = tokio::select! {
        () = gone.closed() => return,
        () = cancellation.cancelled() => Ok(Err(QueryError::Cancelled)),
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
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollhouse\""));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    response
}
