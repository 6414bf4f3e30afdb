//! OTLP receivers: the public `TraceService` over gRPC, and `POST /v1/traces` over HTTP.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::runtime::Runtime;

/// What a receiver does with a request; the last of a script is repeated.
#[derive(Clone, Debug)]
pub enum Act {
    Take,
    /// Takes all but so many spans.
    Partly(i64),
    /// Answers after a while.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Fails with a gRPC status.
    Status(tonic::Code, Vec<u8>),
    /// Fails with an HTTP status and `Retry-After`.
    Http(u16, Option<&'static str>),
}

/// What came.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that were taken.
    pub taken: Vec<ExportTraceServiceRequest>,
    /// When each request came, taken or not.
    pub arrivals: Vec<Instant>,
    /// Value of the header `x-tenant` of the last one.
    pub tenant: Option<String>,
}

impl Seen {
    pub fn spans(&self) -> Vec<Span> {
        let scopes =
            self.taken.iter().flat_map(|request| &request.resource_spans).flat_map(|r| &r.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

#[derive(Clone)]
struct Receiving {
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Receiving {
    async fn act(&self, tenant: Option<String>) -> Act {
        let act = {
            let mut seen = self.seen.lock().unwrap();
            seen.arrivals.push(Instant::now());
            seen.tenant = tenant;
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }.unwrap()
        };
        match &act {
            Act::Slow(pause) => tokio::time::sleep(*pause).await,
            Act::Hang => std::future::pending().await,
            _ => {}
        }
        act
    }

    fn take(&self, request: ExportTraceServiceRequest, rejected: i64) -> ExportTraceServiceResponse {
        self.seen.lock().unwrap().taken.push(request);
        let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: "no".into() };
        ExportTraceServiceResponse { partial_success: (rejected > 0).then_some(partial) }
    }
}

#[tonic::async_trait]
impl TraceService for Receiving {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let tenant = request.metadata().get("x-tenant").map(|value| value.to_str().unwrap().to_owned());
        let rejected = match self.act(tenant).await {
            Act::Partly(rejected) => rejected,
            Act::Status(code, details) => {
                return Err(tonic::Status::with_details(code, "as scripted", details.into()));
            }
            _ => 0,
        };
        Ok(tonic::Response::new(self.take(request.into_inner(), rejected)))
    }
}

async fn traces(State(receiving): State<Receiving>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let tenant = headers.get("x-tenant").map(|value| value.to_str().unwrap().to_owned());
    let rejected = match receiving.act(tenant).await {
        Act::Partly(rejected) => rejected,
        Act::Http(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap();
            return match retry_after {
                Some(value) => (status, [("retry-after", value)]).into_response(),
                None => status.into_response(),
            };
        }
        _ => 0,
    };
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    receiving.take(request, rejected).encode_to_vec().into_response()
}

/// A running receiver; ends when it is dropped.
pub struct Receiver {
    pub seen: Arc<Mutex<Seen>>,
    pub address: SocketAddr,
    /// The certificate of a receiver with TLS.
    pub ca_pem: String,
    runtime: Option<Runtime>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Receiver {
    pub fn grpc(script: &[Act]) -> Self {
        Self::grpc_on(listener(), script)
    }

    /// The same, on a listener that is there already.
    pub fn grpc_on(listener: StdListener, script: &[Act]) -> Self {
        Self::run(listener, script, |receiving, listener| async move {
            let service = TowerToHyperService::new(TraceServiceServer::new(receiving));
            while let Ok((stream, _)) = listener.accept().await {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service.clone()));
            }
        })
    }

    pub fn http(script: &[Act]) -> Self {
        Self::run(listener(), script, |receiving, listener| async move {
            let routes = Router::new().route("/base/v1/traces", post(traces)).with_state(receiving);
            axum::serve(listener, routes).await.unwrap();
        })
    }

    /// A receiver for `localhost` with a certificate of its own.
    pub fn tls(grpc: bool, script: &[Act]) -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![if grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let mut receiver = Self::run(listener(), script, move |receiving, listener| async move {
            let routes = Router::new().route("/base/v1/traces", post(traces)).with_state(receiving.clone());
            let routes = TowerToHyperService::new(routes);
            let service = TowerToHyperService::new(TraceServiceServer::new(receiving));
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust the certificate ends the handshake.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                if grpc {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(builder.serve_connection(TokioIo::new(stream), service.clone()));
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    tokio::spawn(builder.serve_connection(TokioIo::new(stream), routes.clone()));
                }
            }
        });
        receiver.ca_pem = own.cert.pem();
        receiver
    }

    fn run<F>(
        listener: StdListener,
        script: &[Act],
        serve: impl FnOnce(Receiving, tokio::net::TcpListener) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        drop(entered);
        let seen = Arc::default();
        let script = Arc::new(Mutex::new(script.iter().cloned().collect()));
        runtime.spawn(serve(Receiving { script, seen: Arc::clone(&seen) }, listener));
        Self { seen, address, ca_pem: String::new(), runtime: Some(runtime) }
    }
}

pub fn listener() -> StdListener {
    StdListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}
