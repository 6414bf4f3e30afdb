//! One HTTP request to `/sql`, and its answer piece by piece.

use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, Uri, header, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::Stop;
use crate::cli::QueryArgs;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An error body beyond this is cut: only its message is shown.
const ERROR_BYTES_MAX: usize = 1 << 20;

/// Names the query, of which the service can be asked.
const QUERY_ID: &str = "x-tollhouse-query-id";
/// Files whose rows an answer lacks.
const PARTIAL: &str = "x-tollhouse-partial";

/// The body of an answer.
pub(super) struct Answer {
    body: Incoming,
    id: String,
    partial: Option<String>,
    args: QueryArgs,
}

impl Answer {
    /// The next piece, `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        while let Some(frame) = self.body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Err(Stop::Query(self.broke_off(&error).await)),
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// What the service says of rows that are missing.
    pub(super) fn partial(&self) -> Option<String> {
        let files = self.partial.as_ref()?;
        Some(format!("rows are missing: files cannot be read: {}", shown(files)))
    }

    /// Why the body ended before its end: the service knows it of a query that failed after its first rows.
    async fn broke_off(&self, error: &hyper::Error) -> String {
        let unknown = format!("the answer broke off: {error}");
        let Ok(mut to) = connect(&self.args).await else { return unknown };
        let path = to.path(&format!("/queries/{}", self.id));
        let Ok(request) = to.asking(Request::get(path), Full::default()) else { return unknown };
        let Ok(response) = to.sender.send_request(request).await else { return unknown };
        let Ok(body) = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await else {
            return unknown;
        };
        let said: Option<serde_json::Value> = serde_json::from_slice(&body.to_bytes()).ok();
        said.and_then(|said| Some(shown(said["error"].as_str()?))).unwrap_or(unknown)
    }
}

/// A connection to the service.
struct Connected {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    authority: Authority,
    token: Option<HeaderValue>,
}

impl Connected {
    /// The path of an endpoint, below that of the URL; which may be that of `/sql`.
    fn path(&self, endpoint: &str) -> String {
        let base = self.uri.path().trim_end_matches('/');
        format!("{}{endpoint}", base.strip_suffix("/sql").unwrap_or(base))
    }

    /// A request with what each of them says.
    fn asking(&self, request: request::Builder, body: Full<Bytes>) -> http::Result<Request<Full<Bytes>>> {
        let request = request.header(header::HOST, self.authority.as_str());
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        };
        request.body(body)
    }
}

/// Connects to the service that `--url` names.
async fn connect(args: &QueryArgs) -> Result<Connected, Stop> {
    let url = &args.url;
    let uri: Uri = url.parse().map_err(|error| Stop::Usage(format!("--url {url}: {error}")))?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => authority.clone(),
        (Some("https"), _) => {
            return Err(Stop::Usage("--url takes http://; reach a remote server through a tunnel".into()));
        }
        _ => return Err(Stop::Usage(format!("--url {url}: write it as http://127.0.0.1:8200"))),
    };
    let token = args.token.as_ref().map(|token| {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok::<_, InvalidHeaderValue>(value)
    });
    let token =
        token.transpose().map_err(|_| Stop::Usage("--token: not one that a header can hold".into()))?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = match timeout(
        CONNECT_TIMEOUT,
        TcpStream::connect((host, authority.port_u16().unwrap_or(80))),
    )
    .await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(args, &error.to_string())),
        Err(_) => return Err(unreachable(args, "connecting took longer than 5 s")),
    };
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(args, &error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // The body's reader sees the same error and reports it.
            tracing::debug!(%error, "query connection ended");
        }
    });
    Ok(Connected { sender, uri, authority, token })
}

fn unreachable(args: &QueryArgs, why: &str) -> Stop {
    Stop::Unreachable(format!(
        "no Tollhouse answers at {}: {why}\nstart one (`tollhouse run`) or name it with --url",
        args.url
    ))
}

/// Sends the statement. A refusal comes back as a text with a caret under its place.
pub(super) async fn ask(args: &QueryArgs, sql: &str, accept: &str) -> Result<Answer, Stop> {
    let mut to = connect(args).await?;
    let request = Request::post(to.path("/sql"))
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(header::ACCEPT, accept);
    let request = to
        .asking(request, Full::new(Bytes::copy_from_slice(sql.as_bytes())))
        .map_err(|error| Stop::Usage(format!("--url {}: {error}", args.url)))?;
    let response =
        to.sender.send_request(request).await.map_err(|error| unreachable(args, &error.to_string()))?;
    let status = response.status();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    if status.is_success() {
        let Some(id) = header(QUERY_ID) else {
            return Err(unreachable(args, "what answers there is not its SQL (the gateway's port?)"));
        };
        let partial = header(PARTIAL);
        return Ok(Answer { body: response.into_body(), id, partial, args: args.clone() });
    }
    let body = match Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Err(Stop::Query(format!("{status}, and its explanation broke off: {error}"))),
    };
    Err(Stop::Query(shown(&refusal(status, &body, sql))))
}

/// A text without what drives a terminal: errors repeat values, which come from the network.
pub(super) fn shown(text: &str) -> String {
    let harmless = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if harmless(letter) { letter } else { '\u{fffd}' }).collect()
}

/// `{"error": {"message", "line", "column"}}` or `{"message", ...}` as text, with the line of SQL and a caret.
fn refusal(status: StatusCode, body: &[u8], sql: &str) -> String {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else {
        return format!("{status}: {}", String::from_utf8_lossy(body).trim());
    };
    let about = answer.get("error").filter(|error| error.is_object()).unwrap_or(&answer);
    let text = about.get("message").or_else(|| answer.get("error")).and_then(|text| text.as_str());
    let Some(message) = text else { return format!("{status}: {answer}") };
    let place = |key: &str| {
        let value = about.get(key).or_else(|| about.get("position").and_then(|place| place.get(key)));
        value.and_then(|number| usize::try_from(number.as_u64()?).ok()).filter(|number| *number > 0)
    };
    match (place("line"), place("column")) {
        (Some(line), Some(column)) => match sql.lines().nth(line - 1) {
            Some(source) => {
                let gutter = line.to_string().len();
                let margin: String = source
                    .chars()
                    .take(column - 1)
                    .map(|letter| if letter == '\t' { '\t' } else { ' ' })
                    .collect();
                format!("{message}\n{line} | {source}\n{:gutter$} | {margin}^", "")
            }
            None => format!("{message} (line {line}, column {column})"),
        },
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{refusal, shown};
    use http::StatusCode;

    #[test]
    fn a_refusal_points_at_its_place() {
        let body = br#"{"error": {"message": "no column `x`", "line": 2, "column": 8}}"#;
        let text = refusal(StatusCode::BAD_REQUEST, body, "-- hm\nSELECT x");
        assert_eq!(text, "no column `x`\n2 | SELECT x\n  |        ^");
    }

    #[test]
    fn what_is_shown_drives_no_terminal() {
        assert_eq!(
            shown("no `\u{9b}2J\u{1b}[2J\u{7}`\n2 |\tx"),
            "no `\u{fffd}2J\u{fffd}[2J\u{fffd}`\n2 |\tx"
        );
    }

    #[test]
    fn refusals_without_a_place_or_without_json_are_shown_too() {
        assert_eq!(refusal(StatusCode::BAD_REQUEST, br#"{"message": "no"}"#, ""), "no");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"oops\n", ""), "502 Bad Gateway: oops");
    }
}
