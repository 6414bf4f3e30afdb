//! The sample services: five real HTTP servers on free ports of 127.0.0.1, each with its own habits. They call one
//! another through the gateway and hand on `traceparent`, which is all that the call graph needs.
//!
//! ```text
//! shop ──> catalog                shop ──> orders ──> payments                search ──> catalog
//! ```
//!
//! `payments` also goes away now and then: its port refuses connections for a moment.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::body::Payload;
use super::chance::Chance;
use super::client::{Answer, Client, Reading};
use super::world::{SERVICES, USER_AGENT};

/// `payments` is up for this long, then away.
const UP_FOR: Duration = Duration::from_millis(2_500);
/// It refuses connections for this long.
const AWAY_FOR: Duration = Duration::from_millis(250);
/// Ports are taken again within this time, or the service stays away and its callers get 502.
const REBIND_PAUSE: Duration = Duration::from_millis(20);

/// How the services reach the gateway, which starts after them: empty until it stands.
pub type Gateway = Arc<OnceLock<Arc<Client>>>;

/// The running services; they end with their runtime or when this is dropped.
pub struct Services {
    /// One address per entry of `SERVICES`.
    pub targets: [SocketAddr; SERVICES.len()],
    _servers: JoinSet<()>,
}

/// Binds and starts all services on the current runtime.
pub async fn start(gateway: &Gateway) -> io::Result<Services> {
    let mut servers = JoinSet::new();
    let mut targets = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); SERVICES.len()];
    for (service, target) in SERVICES.iter().zip(&mut targets) {
        let listener = TcpListener::bind(*target).await?;
        *target = listener.local_addr()?;
        let name = service.name;
        let gateway = Arc::clone(gateway);
        servers.spawn(async move {
            if name == "payments" {
                serve_with_outages(name, listener, gateway).await;
            } else {
                serve(name, &listener, &gateway, None).await;
            }
        });
    }
    Ok(Services { targets, _servers: servers })
}

async fn serve_with_outages(name: &'static str, mut listener: TcpListener, gateway: Gateway) {
    loop {
        let Ok(address) = listener.local_addr() else { return };
        serve(name, &listener, &gateway, Some(Instant::now() + UP_FOR)).await;
        drop(listener);
        sleep(AWAY_FOR).await;
        listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => sleep(REBIND_PAUSE).await,
            }
        };
    }
}

/// Accepts until `until`; then every open connection is closed, as when a process dies.
async fn serve(name: &'static str, listener: &TcpListener, gateway: &Gateway, until: Option<Instant>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = match until {
            None => listener.accept().await,
            Some(until) => match timeout_at(until, listener.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => return,
            },
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: do not spin.
            sleep(REBIND_PAUSE).await;
            continue;
        };
        let gateway = Arc::clone(gateway);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(name, request, Arc::clone(&gateway)));
            // A connection that the gateway closes in the middle of an answer is part of the demonstration.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    name: &str,
    request: Request<Incoming>,
    gateway: Gateway,
) -> Result<Response<Payload>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let mut received_bytes = 0;
    while let Some(frame) = body.frame().await {
        received_bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    let trace = head.headers.get("traceparent").cloned();
    let path = head.uri.path();
    let key = SERVICES.iter().find(|service| service.name == name).and_then(|service| service.key);
    let onward = Onward { name: name.to_owned(), key, gateway, trace };
    Ok(match (name, path) {
        ("shop", _) => shop(path, onward).await,
        ("search", _) => search(onward).await,
        ("orders", _) => orders(head.method == Method::POST, onward).await,
        ("payments", _) => payments().await,
        ("catalog", path) if path.starts_with("/export") => {
            stream(Payload::paced(3 * 1024 * 1024, Duration::from_millis(20)))
        }
        ("catalog", path) if path.starts_with("/images") => {
            stream(Payload::fill(Chance::new().between(200_000, 4_000_000)))
        }
        ("catalog", path) if path.starts_with("/import") => {
            text(StatusCode::CREATED, format!("{{\"imported_bytes\":{received_bytes}}}"))
        }
        ("catalog", path) if path.starts_with("/items/gone") => text(StatusCode::NOT_FOUND, "{}"),
        _ => {
            Chance::new().work(3.0, 0.5).await;
            text(StatusCode::OK, "{\"items\":[{\"id\":7,\"name\":\"lantern\",\"price\":1250}]}")
        }
    })
}

/// The front: asks the catalogue, and for a checkout the orders; one in a hundred fails by itself.
async fn shop(path: &str, onward: Onward) -> Response<Payload> {
    let mut chance = Chance::new();
    chance.work(2.0, 0.4).await;
    if chance.one_in(120) {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "{\"message\":\"template failed\"}");
    }
    let called = if path.starts_with("/checkout") {
        onward.call(Method::POST, "/orders/new", "{\"item\":7,\"count\":1}").await
    } else {
        onward.call(Method::GET, "/catalog/items/7", "").await
    };
    passed_on(&called)
}

async fn search(onward: Onward) -> Response<Payload> {
    let mut chance = Chance::new();
    chance.work(8.0, 0.7).await;
    if chance.one_in(4) {
        return passed_on(&onward.call(Method::GET, "/catalog/items", "").await);
    }
    text(StatusCode::OK, "{\"hits\":3}")
}

async fn orders(is_new: bool, onward: Onward) -> Response<Payload> {
    Chance::new().work(5.0, 0.5).await;
    if !is_new {
        return text(StatusCode::OK, "{\"orders\":[]}");
    }
    passed_on(&onward.call(Method::POST, "/payments/charge", "{\"amount\":1250}").await)
}

/// The slow one: a long tail, and one in forty charges fails.
async fn payments() -> Response<Payload> {
    let mut chance = Chance::new();
    chance.work(15.0, 0.8).await;
    if chance.one_in(40) {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "{\"message\":\"issuer did not answer\"}");
    }
    text(StatusCode::CREATED, "{\"charged\":true}")
}

/// What a service needs to call the next one.
struct Onward {
    name: String,
    key: Option<&'static str>,
    gateway: Gateway,
    trace: Option<HeaderValue>,
}

impl Onward {
    /// Calls through the gateway in a task of its own: when the caller goes away, this call is still finished and
    /// counted, so that the clients' ledger stays exact. Absent while the gateway does not stand yet.
    async fn call(self, method: Method, path: &'static str, body: &'static str) -> Option<Answer> {
        let client = Arc::clone(self.gateway.get()?);
        let mut request = Request::new(Payload::of(body));
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("demo.local"));
        if let Ok(agent) = HeaderValue::try_from(format!("{USER_AGENT}/{}", self.name)) {
            headers.insert(header::USER_AGENT, agent);
        }
        if let Some(key) = self.key {
            headers.insert("apikey", HeaderValue::from_static(key));
        }
        if let Some(trace) = self.trace {
            headers.insert("traceparent", trace);
        }
        tokio::spawn(async move { client.call(None, request, Reading::Whole).await }).await.ok()
    }
}

fn passed_on(called: &Option<Answer>) -> Response<Payload> {
    match called.as_ref().and_then(Answer::status) {
        Some(status @ 200..400) => {
            text(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), "{\"ok\":true}")
        }
        Some(404) => text(StatusCode::NOT_FOUND, "{}"),
        _ => text(StatusCode::BAD_GATEWAY, "{\"message\":\"a service behind this one failed\"}"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Payload> {
    let mut response = Response::new(Payload::of(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn stream(body: Payload) -> Response<Payload> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
