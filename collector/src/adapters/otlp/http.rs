//! OTLP/HTTP: `POST /v1/traces` with binary protobuf, over one connection that is kept and remade.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{OtlpConfig, parse_endpoint};
use super::export::{ExporterError, Sent};

/// Largest answer that is read; a receiver has no reason to say more.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// One receiver and the connection to it.
#[derive(Debug)]
pub(super) struct HttpSender {
    address: (String, u16),
    /// Path of the URL, ending in `/v1/traces`.
    target: Uri,
    headers: HeaderMap,
    tls: Option<Tls>,
    connection: Option<SendRequest<Full<Bytes>>>,
    timeout: Duration,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Hyper(#[from] hyper::Error),
    #[error("reading the answer: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
}

impl HttpSender {
    /// A sender to the endpoint of a configuration.
    pub(super) fn new(config: &OtlpConfig, endpoint: &str) -> Result<Self, ExporterError> {
        let (uri, tls) = parse_endpoint(endpoint).ok_or(ExporterError::Endpoint)?;
        let authority = uri.authority().ok_or(ExporterError::Endpoint)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut path = uri.path().trim_end_matches('/').to_owned();
        if !path.ends_with("/v1/traces") {
            path.push_str("/v1/traces");
        }
        let mut headers = HeaderMap::new();
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| ExporterError::Endpoint)?;
        headers.insert(HOST, host_header);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("tollhouse/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &config.headers {
            let refused = || ExporterError::Header(name.clone());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
            value.set_sensitive(name == AUTHORIZATION);
            headers.insert(name, value);
        }
        Ok(Self {
            target: path.parse().map_err(|_| ExporterError::Endpoint)?,
            tls: if tls { Some(Tls::new(config, &host)?) } else { None },
            address: (host, port),
            headers,
            connection: None,
            timeout: Duration::from_millis(u64::from(config.timeout_ms)),
        })
    }

    /// Sends one request.
    pub(super) async fn send(&mut self, message: &ExportTraceServiceRequest) -> Sent {
        let body = Bytes::from(message.encode_to_vec());
        // A connection in use when time runs out is in an unknown state: it has been taken out and is dropped.
        match tokio::time::timeout(self.timeout, self.exchange(body)).await {
            Err(_) => Sent::Retry { after: None, why: "no answer in time".to_owned() },
            Ok(Err(broken)) => Sent::Retry { after: None, why: broken.to_string() },
            Ok(Ok((status, headers, body))) => judge(status, &headers, &body),
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<(StatusCode, HeaderMap, Bytes), Broken> {
        let mut connection = match self.connection.take() {
            Some(kept) if !kept.is_closed() => kept,
            _ => self.connect().await?,
        };
        if connection.ready().await.is_err() {
            connection = self.connect().await?;
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        let (parts, answer) = connection.send_request(request).await?.into_parts();
        let answer = Limited::new(answer, ANSWER_BYTES_MAX).collect().await.map_err(Broken::Answer)?;
        self.connection = Some(connection);
        Ok((parts.status, parts.headers, answer.to_bytes()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        let stream = TcpStream::connect((self.address.0.as_str(), self.address.1)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => drive(TokioIo::new(stream)).await,
            Some(tls) => {
                let stream = tls.connector.connect(tls.name.clone(), stream).await?;
                drive(TokioIo::new(stream)).await
            }
        }
    }
}

async fn drive<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Broken>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(stream).await?;
    // Ends when the sender is dropped or the receiver closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "OTLP connection");
        }
    });
    Ok(sender)
}

impl Tls {
    fn new(config: &OtlpConfig, host: &str) -> Result<Self, ExporterError> {
        let mut roots = RootCertStore::empty();
        match &config.ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let unreadable = |source| ExporterError::CaFile { path: path.clone(), source };
                let certificates = CertificateDer::pem_file_iter(path)
                    .map_err(|error| unreadable(io::Error::other(error)))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| unreadable(io::Error::other(error)))?;
                    roots.add(certificate).map_err(|error| unreadable(io::Error::other(error)))?;
                }
            }
        }
        let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(ExporterError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ExporterError::Endpoint)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(client)), name })
    }
}

/// What an answer asks for (OTLP specification, "Failures" and "OTLP/HTTP Throttling").
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Sent {
    match status {
        // An answer that cannot be read reports no refusal; the spans were taken all the same.
        StatusCode::OK => Sent::accepted(ExportTraceServiceResponse::decode(body).unwrap_or_default()),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
            Sent::Retry { after, why: status.to_string() }
        }
        _ if status.is_success() => Sent::accepted(ExportTraceServiceResponse::default()),
        _ => Sent::Refused { why: status.to_string() },
    }
}

/// Seconds, or a date in the form that RFC 9110 tells senders to use (section 5.6.7).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = imf_date(value.trim())?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_date(value: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let fields: Vec<&str> = value.split(' ').collect();
    let [_, day, month, year, clock, "GMT"] = fields[..] else { return None };
    let month = MONTHS.iter().position(|known| *known == month)? as i64 + 1;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    // Days since the epoch by the civil calendar, with years that begin in March so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_as_seconds_and_as_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_secs(3600));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
        let date = imf_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
        let leap = imf_date("Thu, 29 Feb 2024 00:00:00 GMT").unwrap();
        assert_eq!(leap.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_709_164_800);
    }

    #[test]
    fn what_is_retried() {
        let retried = |code: u16| {
            let status = StatusCode::from_u16(code).unwrap();
            matches!(judge(status, &HeaderMap::new(), b""), Sent::Retry { .. })
        };
        assert!([429, 502, 503, 504].into_iter().all(retried));
        assert!(![200, 202, 301, 400, 401, 404, 413, 500, 501].into_iter().any(retried));
    }
}
