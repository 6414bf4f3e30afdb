//! Asks Tollhouse about itself, over the same HTTP that a reader uses: SQL at `/sql`, counters at `/metrics`. All
//! numbers of the view and of the report, except the clients' own ledger, come through here.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::Payload;

/// An answer may be this large.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// And may take this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One row of an answer in SQL.
pub type Row = Map<String, Value>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The connection failed.
    #[error("{address} does not answer: {source}")]
    Connect {
        /// Who was asked.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// HTTP failed on an open connection.
    #[error("the answer broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The body broke off or is too large.
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// An answer that says no.
    #[error("answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Body of the answer.
        message: String,
    },
    /// Not the JSON that `/sql` promises.
    #[error("the answer is not an array of rows: {0}")]
    Json(#[from] serde_json::Error),
}

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub struct Desk {
    /// The analytics' listener.
    pub sql: SocketAddr,
    /// The collector's listener.
    pub metrics: SocketAddr,
}

impl Desk {
    /// The rows that `statement` gives.
    pub async fn query(&self, statement: &str) -> Result<Vec<Row>, DeskError> {
        let answer = ask(self.sql, Method::POST, "/sql", statement.to_owned()).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The sum over all series of the counter `name`.
    pub async fn counter(&self, name: &str) -> Result<u64, DeskError> {
        let answer = ask(self.metrics, Method::GET, "/metrics", String::new()).await?;
        Ok(sum_of(&String::from_utf8_lossy(&answer), name))
    }

    /// True when the analytics say that they can answer.
    pub async fn is_ready(&self) -> bool {
        ask(self.sql, Method::GET, "/readyz", String::new()).await.is_ok()
            && ask(self.metrics, Method::GET, "/readyz", String::new()).await.is_ok()
    }
}

async fn ask(
    address: SocketAddr,
    method: Method,
    path: &'static str,
    body: String,
) -> Result<Vec<u8>, DeskError> {
    timeout(ANSWER_TIMEOUT, exchange(address, method, path, body)).await.map_err(|_| DeskError::Timeout)?
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &'static str,
    body: String,
) -> Result<Vec<u8>, DeskError> {
    let stream =
        TcpStream::connect(address).await.map_err(|source| DeskError::Connect { address, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::new(Payload::of(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    if path == "/sql" {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    }
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    let answer = answer.map_err(DeskError::Body)?.to_bytes();
    if status.is_success() {
        return Ok(answer.into());
    }
    Err(DeskError::Refused { status, message: String::from_utf8_lossy(&answer).into_owned() })
}

/// Sums the samples of one family in the text format: `name{labels} value [# exemplar]`.
fn sum_of(text: &str, name: &str) -> u64 {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let values = match rest.strip_prefix('{') {
            Some(labels) => &labels[labels_end(labels)?..],
            None => rest.strip_prefix(' ')?,
        };
        values.split_whitespace().next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(sample).sum::<f64>() as u64
}

/// Where the labels have ended: after the first brace that no quotes enclose.
fn labels_end(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// A number in a row; JSON may carry large ones as text. Absent, null or not a number: 0.
pub fn number(row: &Row, column: &str) -> f64 {
    match row.get(column) {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(0.0),
        Some(Value::String(text)) => text.parse().unwrap_or(0.0),
        _ => 0.0,
    }
}

/// A count in a row, see `number`.
pub fn whole(row: &Row, column: &str) -> u64 {
    row.get(column).and_then(Value::as_u64).unwrap_or_else(|| number(row, column).max(0.0) as u64)
}

/// A text in a row; null is empty.
pub fn word(row: &Row, column: &str) -> String {
    row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_series_with_and_without_exemplars() {
        let text = "# TYPE a_total counter\na_total{x=\"1 # 2\"} 3\na_total{x=\"}\"} 4 # {trace_id=\"ff\"} 1 1.5\na_total_more{} 9\na_total 1\n";
        assert_eq!(sum_of(text, "a_total"), 8);
    }

    #[test]
    fn cells_of_any_json_kind_are_read() {
        let row: Row = serde_json::from_str(r#"{"a":3,"b":"4","c":null,"d":2.5,"e":"x"}"#).unwrap();
        assert_eq!((whole(&row, "a"), whole(&row, "b"), whole(&row, "c"), whole(&row, "z")), (3, 4, 0, 0));
        assert!((number(&row, "d") - 2.5).abs() < 1e-9);
        assert_eq!((word(&row, "e"), word(&row, "c")), ("x".to_owned(), String::new()));
    }
}
